"""Conditions that must hold for a while."""

from __future__ import annotations

import numba as nb

NO, PENDING, HOLDS = 0, 1, 2
BEGUN, CEASED = 0, 1


@nb.njit(cache=True)
def hold(device, row, ts_us, gap, true, for_us, edition, stage, since_us, version, ev_scan, ev_kind, ev_since):
    """Follow one rule through a block; returns the number of events.

    device, ts_us, gap, true  [n]
    row                       by device of the block: its row in the columns of state, -1 = the rule is not for it
    edition                   of the rule: what is pending under another begins anew
    stage, since_us, version  int64, state. since_us: since when it has been true, or has held
    ev_scan, ev_kind          out [n]
    ev_since                  out [n], since when it had been true, or had held
    """
    k = 0
    for i in range(ts_us.shape[0]):
        r = row[device[i]]
        if r < 0:
            continue
        if stage[r] == PENDING and (gap[i] or version[r] != edition):
            stage[r] = NO
        version[r] = edition
        if not true[i]:
            if stage[r] == HOLDS:
                ev_scan[k] = i
                ev_kind[k] = CEASED
                ev_since[k] = since_us[r]
                k += 1
            stage[r] = NO
            since_us[r] = 0
            continue
        if stage[r] == NO:
            stage[r] = PENDING
            since_us[r] = ts_us[i]
        if stage[r] == PENDING and ts_us[i] - since_us[r] >= for_us:
            ev_scan[k] = i
            ev_kind[k] = BEGUN
            ev_since[k] = since_us[r]
            k += 1
            stage[r] = HOLDS
            since_us[r] = ts_us[i]
    return k
