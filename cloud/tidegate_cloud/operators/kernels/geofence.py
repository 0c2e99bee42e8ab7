"""Which fences hold a device, and what changed with each fix."""

from __future__ import annotations

import numba as nb
import numpy as np

from .tree import CHUNK, lookup, warm

ENTERED, EXITED = 0, 1
# Why a device is no longer inside.
MOVED, REMOVED, NOT_MEANT = 0, 1, 2


@nb.njit(cache=True, inline="always")
def meant(fence, group, group_first, group_count, group_pool):
    """Whether a fence is valid for a group of devices; one without groups is valid for all."""
    n = group_count[fence]
    if n == 0:
        return True
    first = group_first[fence]
    found = False
    for i in range(first, first + n):
        found |= group_pool[i] == group
    return found


@nb.njit(cache=True)
def follow(
    at, device, number, group, ts_us, lon, lat,
    nodes, entries, edges, verts, circles, active, group_first, group_count, group_pool,
    since_us, status, item, after, head, free, top,
    ev_scan, ev_fence, ev_kind, ev_why,
):  # fmt: skip
    """Follow devices from scan `at` on; returns the scan at which room ran out (else n), and the number of events.

    device, ts_us, lon, lat  [n], the scans; a scan without a usable position is passed over
    number, group            by device of the block: its number in the rows, its group
    nodes … circles          the index (kernels/tree.py)
    active … group_pool      by fence number: whether it is in force, and the groups it is valid for
    since_us, status … top    the table of rows (device, fence) that hold (state.py)
    ev_*                     out: scan, fence, ENTERED or EXITED, why
    """
    hits = np.empty(circles.shape[0] + 1, np.int32)
    path = np.empty(CHUNK, np.int64)
    k = 0
    for i in range(at, ts_us.shape[0]):
        if (i - at) % CHUNK == 0:
            warm(i, min(i + CHUNK, ts_us.shape[0]), lon, lat, nodes, entries, verts, path)
        x = lon[i]
        y = lat[i]
        if not (-180.0 <= x <= 180.0 and -90.0 <= y <= 90.0):
            continue
        d = number[device[i]]
        n = lookup(x, y, nodes, entries, edges, verts, circles, hits)
        held = 0
        row = head[d]
        while row >= 0:
            held += 1
            row = after[row]
        if n > top[0] or k + n + held > ev_scan.shape[0]:
            return i, k
        # Rows whose fence still holds stay; -1 marks a hit that has its row.
        before = -1
        row = head[d]
        while row >= 0:
            following = after[row]
            f = item[row]
            why = MOVED
            stays = False
            if not active[f]:
                why = REMOVED
            elif not meant(f, group[device[i]], group_first, group_count, group_pool):
                why = NOT_MEANT
            else:
                for j in range(n):
                    if hits[j] == f:
                        hits[j] = -1
                        stays = True
                        break
            if stays:
                before = row
            else:
                if before < 0:
                    head[d] = following
                else:
                    after[before] = following
                free[top[0]] = row
                top[0] += 1
                ev_scan[k] = i
                ev_fence[k] = f
                ev_kind[k] = EXITED
                ev_why[k] = why
                k += 1
            row = following
        for j in range(n):
            f = hits[j]
            if f < 0 or not meant(f, group[device[i]], group_first, group_count, group_pool):
                continue
            top[0] -= 1
            row = free[top[0]]
            item[row] = f
            since_us[row] = ts_us[i]
            status[row] = 0
            after[row] = head[d]
            head[d] = row
            ev_scan[k] = i
            ev_fence[k] = f
            ev_kind[k] = ENTERED
            ev_why[k] = MOVED
            k += 1
    return ts_us.shape[0], k
