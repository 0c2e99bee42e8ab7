"""Fences followed along the line between fixes, with changes held back until they can be believed."""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from .geofence import ENTERED, EXITED, MOVED, NOT_MEANT, REMOVED, meant
from .tree import CHUNK, CIRCLE, INSIDE, LEVELS, SIDE, cell_edges, crosses, ecef, lookup, touches, warm

# Status of a row (device, fence).
IN, ENTERING, PASSED, LEAVING = 0, 1, 2, 3

# How an event came to be believed.
AT_ONCE, HELD, MOVING, THROUGH, CAME_BACK = 0, 1, 2, 3, 4

_DEGREE_M = 111_195.0


@nb.njit(cache=True, inline="always")
def _metres(lon1, lat1, lon2, lat2):
    """Distance of near points, metres; within 0.3 per cent."""
    dx = lon2 - lon1
    if dx > 180.0:
        dx -= 360.0
    elif dx < -180.0:
        dx += 360.0
    dx *= _DEGREE_M * math.cos(math.radians(0.5 * (lat1 + lat2)))
    dy = (lat2 - lat1) * _DEGREE_M
    return math.sqrt(dx * dx + dy * dy)


@nb.njit(cache=True)
def to_border(lon, lat, fence, verts, last, where, circles, discs):
    """Distance from a point to the border of a fence, metres."""
    if circles[fence, 3] > 0.0:
        x, y, z = ecef(lon, lat)
        d = (x - circles[fence, 0]) ** 2 + (y - circles[fence, 1]) ** 2 + (z - circles[fence, 2]) ** 2
        return abs(math.sqrt(d) - discs[fence, 2])
    kx = _DEGREE_M * math.cos(math.radians(lat))
    best = np.inf
    for i in range(where[fence, 0], where[fence, 0] + where[fence, 1] - 1):
        if last[i]:
            continue
        ax = (verts[i, 0] - lon) * kx
        ay = (verts[i, 1] - lat) * _DEGREE_M
        dx = (verts[i + 1, 0] - lon) * kx - ax
        dy = (verts[i + 1, 1] - lat) * _DEGREE_M - ay
        length = dx * dx + dy * dy
        t = 0.0
        if length > 0.0:
            t = min(1.0, max(0.0, -(ax * dx + ay * dy) / length))
        ex = ax + t * dx
        ey = ay + t * dy
        best = min(best, ex * ex + ey * ey)
    return math.sqrt(best)


@nb.njit(cache=True)
def crossings(ax, ay, bx, by, fence, verts, last, where, circles, discs):
    """How often the line from A to B crosses a fence's border, and the first and last place, as parts of the line."""
    n = 0
    first = 2.0
    final = -1.0
    if circles[fence, 3] > 0.0:
        k = math.cos(math.radians(discs[fence, 1]))
        px = (ax - discs[fence, 0]) * k * _DEGREE_M
        py = (ay - discs[fence, 1]) * _DEGREE_M
        dx = (bx - ax) * k * _DEGREE_M
        dy = (by - ay) * _DEGREE_M
        a = dx * dx + dy * dy
        b = px * dx + py * dy
        c = px * px + py * py - discs[fence, 2] ** 2
        d = b * b - a * c
        if a > 0.0 and d > 0.0:
            root = math.sqrt(d)
            for t in ((-b - root) / a, (-b + root) / a):
                if 0.0 <= t <= 1.0:
                    n += 1
                    first = min(first, t)
                    final = max(final, t)
        return n, first, final
    for i in range(where[fence, 0], where[fence, 0] + where[fence, 1] - 1):
        if last[i]:
            continue
        cx = verts[i, 0]
        cy = verts[i, 1]
        dx = verts[i + 1, 0]
        dy = verts[i + 1, 1]
        if crosses(ax, ay, bx, by, cx, cy, dx, dy):
            o3 = (dx - cx) * (ay - cy) - (dy - cy) * (ax - cx)
            o4 = (dx - cx) * (by - cy) - (dy - cy) * (bx - cx)
            t = o3 / (o3 - o4)
            n += 1
            first = min(first, t)
            final = max(final, t)
    return n, first, final


@nb.njit(cache=True)
def passed(ax, ay, bx, by, nodes, entries, edges, verts, circles, discs, stack, seen, stamp, out):
    """Fences whose border the line from A to B meets, into `out` (some of them may not be crossed); how many.

    seen  int64 [.], by fence: the last stamp it was met under; stamp: one that was not used yet
    """
    x0 = int((min(ax, bx) + 180.0) * (SIDE / 360.0))
    x1 = min(SIDE - 1, int((max(ax, bx) + 180.0) * (SIDE / 360.0)))
    y0 = int((min(ay, by) + 90.0) * (SIDE / 180.0))
    y1 = min(SIDE - 1, int((max(ay, by) + 90.0) * (SIDE / 180.0)))
    k = 0
    stack[0, 0] = 0
    stack[0, 1] = 0
    stack[0, 2] = 0
    stack[0, 3] = 0
    top = 1
    # A parent pushes at most 16 and is popped first: 16 * LEVELS places are enough.
    while top:
        top -= 1
        node = stack[top, 0]
        level = stack[top, 1]
        x = stack[top, 2]
        y = stack[top, 3]
        start = nodes[node, 1]
        for entry in range(start, start + nodes[node, 2]):
            f = entries[entry, 0]
            if seen[f] == stamp:
                continue
            how = entries[entry, 2]
            met = False
            if how == CIRCLE:
                r = discs[f, 2]
                kx = _DEGREE_M * math.cos(math.radians(discs[f, 1]))
                px = (ax - discs[f, 0]) * kx
                py = (ay - discs[f, 1]) * _DEGREE_M
                dx = (bx - ax) * kx
                dy = (by - ay) * _DEGREE_M
                length = dx * dx + dy * dy
                t = 0.0
                if length > 0.0:
                    t = min(1.0, max(0.0, -(px * dx + py * dy) / length))
                met = (px + t * dx) ** 2 + (py + t * dy) ** 2 <= r * r
            elif how != INSIDE:
                first, n, run = cell_edges(entries[entry, 1], how)
                for i in range(first, first + n):
                    e = i if run else edges[i]
                    if crosses(ax, ay, bx, by, verts[e, 0], verts[e, 1], verts[e + 1, 0], verts[e + 1, 1]):
                        met = True
                        break
            if met:
                seen[f] = stamp
                if k < out.shape[0]:
                    out[k] = f
                    k += 1
        base = nodes[node, 0]
        if base < 0:
            continue
        shift = 2 * (LEVELS - level - 1)
        ca = max(x0 >> shift, 4 * x)
        cb = min(x1 >> shift, 4 * x + 3)
        ra = max(y0 >> shift, 4 * y)
        rb = min(y1 >> shift, 4 * y + 3)
        w = 360.0 / (1 << (2 * (level + 1)))
        for j in range(ra, rb + 1):
            for i in range(ca, cb + 1):
                child = base + (i & 3) + 4 * (j & 3)
                if nodes[child, 0] < 0 and nodes[child, 2] == 0:
                    continue
                west = -180.0 + i * w
                south = -90.0 + 0.5 * j * w
                if cb - ca + rb - ra < 2 or touches(
                    ax, ay, bx, by, west - 1e-9, south - 1e-9, west + w + 1e-9, south + 0.5 * w + 1e-9
                ):
                    stack[top, 0] = child
                    stack[top, 1] = level + 1
                    stack[top, 2] = i
                    stack[top, 3] = j
                    top += 1
    return k


@nb.njit(cache=True)
def follow_lines(
    at, device, number, group, ts_us, lon, lat, accuracy, speed, gap, scratch,
    nodes, entries, edges, verts, circles, discs, where, last,
    active, group_first, group_count, group_pool,
    row_of, fixes, rows, item, after, head, free, top,
    line_us, line_m, believe, default_m, still_m, still_us, top_mps,
    ev_scan, ev_fence, ev_kind, ev_why, ev_how, ev_us, ev_lon, ev_lat,
):  # fmt: skip
    """Follow devices from scan `at` on; returns the scan at which room ran out (else n), and the number of events.

    As `geofence.follow`, and:

    accuracy, speed     [n], metres and m/s, NaN = not known
    gap                 bool [n], no line is drawn to this scan
    scratch             int64 [., 4], room for walking the tree
    discs               by fence number: longitude, latitude, radius of a circle in metres along the chord
    where               by fence number: first vertex and number of vertices
    last                by vertex: whether it ends its ring
    row_of, fixes       by device of the block its row in `fixes`: the two last fixes (geofence.FIXES)
    rows                records of (device, fence) (geofence.MEMBER)
    line_us, line_m     longest line between fixes; 0: none is drawn
    believe             False: every change is reported at once
    default_m           accuracy of a fix that does not state it
    still_m, still_us   a change without movement needs this distance from the border, for so long
    top_mps             a faster move is not believed
    ev_us, ev_lon, ev_lat  out: when and where it happened; ev_how: how it came to be believed
    """
    anchor_us = 15_000_000
    hits = np.empty(circles.shape[0] + 1, np.int32)
    path = np.empty(CHUNK, np.int64)
    met = np.empty(256, np.int32)
    seen = np.zeros(circles.shape[0] + 1, np.int64)
    stamp = 0
    k = 0
    for i in range(at, ts_us.shape[0]):
        if (i - at) % CHUNK == 0:
            warm(i, min(i + CHUNK, ts_us.shape[0]), lon, lat, nodes, entries, verts, path)
        x = lon[i]
        y = lat[i]
        # A receiver that has no fix yet likes to say 0, 0.
        if not (-180.0 <= x <= 180.0 and -90.0 <= y <= 90.0) or (x == 0.0 and y == 0.0):
            continue
        t = ts_us[i]
        d = number[device[i]]
        fix = fixes[row_of[device[i]]]
        room = ev_scan.shape[0] - k
        held = 0
        row = head[d]
        while row >= 0:
            held += 1
            row = after[row]
        n = lookup(x, y, nodes, entries, edges, verts, circles, hits)
        if n + met.shape[0] > top[0] or 2 * (n + held + met.shape[0]) > room:
            return i, k
        accuracy_m = accuracy[i] if accuracy[i] >= 0.0 else default_m
        # The last fix was a spike if this one is back where the one before it was, and nothing says it moved.
        spike = False
        spike_us = fix.b_us
        if believe and fix.have == 2 and t - fix.a_us <= line_us:
            out_m = _metres(fix.a_lon, fix.a_lat, fix.b_lon, fix.b_lat)
            back_m = _metres(fix.a_lon, fix.a_lat, x, y)
            spike = out_m > 2.0 * still_m and back_m < 0.5 * out_m and not fix.b_speed >= 1.5
        if spike:
            if fix.c_us == fix.b_us:
                fix.c_us = fix.a_us
                fix.c_lon = fix.a_lon
                fix.c_lat = fix.a_lat
                fix.c_accuracy = fix.a_accuracy
            fix.b_us = fix.a_us
            fix.b_lon = fix.a_lon
            fix.b_lat = fix.a_lat
            fix.b_accuracy = fix.a_accuracy
            fix.b_speed = fix.a_speed
            fix.have = 1
        drawn = False
        moving = False
        leap = False
        bx = fix.b_lon
        if fix.have:
            far_m = _metres(fix.b_lon, fix.b_lat, x, y)
            slack_m = accuracy_m + fix.b_accuracy
            if believe and not gap[i] and t > fix.b_us:
                leap = far_m - 2.0 * slack_m > top_mps * (t - fix.b_us) * 1e-6 and t - fix.b_us <= line_us
                # Nothing moves like this. After two such fixes the jump is taken: it was the old place that was wrong.
                if leap and fix.jumps < 2:
                    fix.jumps += 1
                    continue
            # Movement shows against a fix that is some time old: at 1 Hz the last one is too near to tell.
            moved_m = _metres(fix.c_lon, fix.c_lat, x, y)
            moving = moved_m > 10.0 + 2.0 * (accuracy_m + fix.c_accuracy) or speed[i] >= 2.0
            drawn = line_us > 0 and not gap[i] and not leap and 0 < t - fix.b_us <= line_us and far_m <= line_m
            # Over the antimeridian the line goes on beyond 180 degrees.
            if bx - x > 180.0:
                bx -= 360.0
            elif bx - x < -180.0:
                bx += 360.0
        fix.jumps = 0

        before = -1
        row = head[d]
        while row >= 0:
            following = after[row]
            f = item[row]
            st = rows[row]
            why = MOVED
            inside = False
            undone = spike and st.n == 1 and st.first_us == spike_us
            if not active[f]:
                why = REMOVED
            elif not meant(f, group[device[i]], group_first, group_count, group_pool):
                why = NOT_MEANT
            else:
                for j in range(n):
                    if hits[j] == f:
                        inside = True
                        # What a spike began is forgotten; this fix may begin it anew, below.
                        if not (undone and st.status == ENTERING):
                            hits[j] = -1
                        break
            gone = False
            if undone and st.status == LEAVING:
                st.status = IN
            cross_us = t
            cx = x
            cy = y
            was_in = st.status == IN or st.status == ENTERING
            if why == MOVED and drawn and st.status != PASSED and inside != was_in:
                # Where this line leaves or enters the fence, for whoever needs it below.
                m, u, v = crossings(bx, fix.b_lat, x, y, f, verts, last, where, circles, discs)
                if m:
                    u = v if inside else u
                    cross_us = fix.b_us + np.int64(u * (t - fix.b_us))
                    cx = bx + u * (x - bx)
                    cy = fix.b_lat + u * (y - fix.b_lat)
            if why != MOVED:
                gone = True
                if st.status == IN or st.status == LEAVING:
                    ev_scan[k] = i
                    ev_fence[k] = f
                    ev_kind[k] = EXITED
                    ev_why[k] = why
                    ev_how[k] = AT_ONCE
                    ev_us[k] = t
                    ev_lon[k] = x
                    ev_lat[k] = y
                    k += 1
            elif undone and st.status != IN:
                gone = True
            elif st.status == PASSED:
                gone = True
                if not spike:
                    for j in range(2):
                        ev_scan[k] = i
                        ev_fence[k] = f
                        ev_kind[k] = ENTERED if j == 0 else EXITED
                        ev_why[k] = MOVED
                        ev_how[k] = THROUGH
                        ev_us[k] = st.cross_us if j == 0 else st.out_us
                        ev_lon[k] = st.cross_lon if j == 0 else st.out_lon
                        ev_lat[k] = st.cross_lat if j == 0 else st.out_lat
                        k += 1
                    # It may have come back by this fix: seen as new below, at the next fix at the latest.
            elif st.status == IN:
                if not inside:
                    quick = moving
                    clear = not believe
                    if believe:
                        border_m = to_border(x, y, f, verts, last, where, circles, discs)
                        clear = border_m > (accuracy_m if quick else max(still_m, 2.0 * accuracy_m))
                    if clear:
                        st.status = LEAVING
                        st.cross_us = cross_us
                        st.cross_lon = cx
                        st.cross_lat = cy
                        st.first_us = t
                        st.n = 1
                        st.quick = 1 if quick else 0
                        if not believe:
                            gone = True
                            ev_scan[k] = i
                            ev_fence[k] = f
                            ev_kind[k] = EXITED
                            ev_why[k] = MOVED
                            ev_how[k] = AT_ONCE
                            ev_us[k] = cross_us
                            ev_lon[k] = cx
                            ev_lat[k] = cy
                            k += 1
            else:
                leaving = st.status == LEAVING
                if inside != leaving:
                    # The change goes on.
                    st.n += 1
                    if moving:
                        st.quick = 1
                    sure = st.quick == 1 and st.n >= 2
                    how = MOVING
                    if not sure:
                        border_m = to_border(x, y, f, verts, last, where, circles, discs)
                        if border_m <= max(still_m, 2.0 * accuracy_m):
                            # Too near to the border to count: begin again.
                            if leaving:
                                st.status = IN
                            else:
                                gone = True
                        elif t - st.first_us >= still_us and st.n >= 2:
                            sure = True
                            how = HELD
                    if sure:
                        ev_scan[k] = i
                        ev_fence[k] = f
                        ev_kind[k] = EXITED if leaving else ENTERED
                        ev_why[k] = MOVED
                        ev_how[k] = how
                        ev_us[k] = st.cross_us
                        ev_lon[k] = st.cross_lon
                        ev_lat[k] = st.cross_lat
                        k += 1
                        st.since_us = st.cross_us
                        st.status = IN
                        gone = leaving
                else:
                    # It is taken back: a short visit if the device really moved, else noise.
                    if st.quick == 1 and not spike:
                        for j in range(2):
                            ev_scan[k] = i
                            ev_fence[k] = f
                            ev_kind[k] = EXITED if (j == 0) == leaving else ENTERED
                            ev_why[k] = MOVED
                            ev_how[k] = CAME_BACK
                            ev_us[k] = st.cross_us if j == 0 else cross_us
                            ev_lon[k] = st.cross_lon if j == 0 else cx
                            ev_lat[k] = st.cross_lat if j == 0 else cy
                            k += 1
                        if leaving:
                            st.since_us = cross_us
                    if leaving:
                        st.status = IN
                    else:
                        gone = True
            if gone:
                if before < 0:
                    head[d] = following
                else:
                    after[before] = following
                free[top[0]] = row
                top[0] += 1
            else:
                before = row
            row = following

        for j in range(n):
            f = hits[j]
            if f < 0 or not meant(f, group[device[i]], group_first, group_count, group_pool):
                continue
            if believe:
                border_m = to_border(x, y, f, verts, last, where, circles, discs)
                if border_m <= (accuracy_m if moving else max(still_m, 2.0 * accuracy_m)):
                    continue
            cross_us = t
            cx = x
            cy = y
            if drawn:
                m, u, v = crossings(bx, fix.b_lat, x, y, f, verts, last, where, circles, discs)
                if m:
                    cross_us = fix.b_us + np.int64(v * (t - fix.b_us))
                    cx = bx + v * (x - bx)
                    cy = fix.b_lat + v * (y - fix.b_lat)
            top[0] -= 1
            row = free[top[0]]
            item[row] = f
            after[row] = head[d]
            head[d] = row
            st = rows[row]
            st.status = ENTERING if believe else IN
            st.since_us = cross_us
            st.cross_us = cross_us
            st.cross_lon = cx
            st.cross_lat = cy
            st.out_us = 0
            st.out_lon = 0.0
            st.out_lat = 0.0
            st.first_us = t
            st.n = 1
            st.quick = 1 if moving else 0
            if not believe:
                ev_scan[k] = i
                ev_fence[k] = f
                ev_kind[k] = ENTERED
                ev_why[k] = MOVED
                ev_how[k] = AT_ONCE
                ev_us[k] = cross_us
                ev_lon[k] = cx
                ev_lat[k] = cy
                k += 1

        if drawn and (bx != x or fix.b_lat != y) and -180.0 <= bx <= 180.0:
            stamp += 1
            # Those that hold this fix are dealt with above, and so are those that have a row.
            row = head[d]
            while row >= 0:
                seen[item[row]] = stamp
                row = after[row]
            count = passed(bx, fix.b_lat, x, y, nodes, entries, edges, verts, circles, discs, scratch, seen, stamp, met)
            for j in range(count):
                f = met[j]
                if not meant(f, group[device[i]], group_first, group_count, group_pool):
                    continue
                m, u, v = crossings(bx, fix.b_lat, x, y, f, verts, last, where, circles, discs)
                if m < 2 or (m & 1):
                    continue
                if believe:
                    w = 0.5 * (u + v)
                    deep_m = to_border(
                        bx + w * (x - bx), fix.b_lat + w * (y - fix.b_lat), f, verts, last, where, circles, discs
                    )
                    if deep_m <= max(accuracy_m, fix.b_accuracy) or not moving:
                        continue
                    top[0] -= 1
                    row = free[top[0]]
                    item[row] = f
                    after[row] = head[d]
                    head[d] = row
                    st = rows[row]
                    st.status = PASSED
                    st.since_us = 0
                    st.cross_us = fix.b_us + np.int64(u * (t - fix.b_us))
                    st.cross_lon = bx + u * (x - bx)
                    st.cross_lat = fix.b_lat + u * (y - fix.b_lat)
                    st.out_us = fix.b_us + np.int64(v * (t - fix.b_us))
                    st.out_lon = bx + v * (x - bx)
                    st.out_lat = fix.b_lat + v * (y - fix.b_lat)
                    st.first_us = t
                    st.n = 1
                    st.quick = 1
                else:
                    for p in range(2):
                        w = u if p == 0 else v
                        ev_scan[k] = i
                        ev_fence[k] = f
                        ev_kind[k] = ENTERED if p == 0 else EXITED
                        ev_why[k] = MOVED
                        ev_how[k] = THROUGH
                        ev_us[k] = fix.b_us + np.int64(w * (t - fix.b_us))
                        ev_lon[k] = bx + w * (x - bx)
                        ev_lat[k] = fix.b_lat + w * (y - fix.b_lat)
                        k += 1

        if fix.have == 0 or t - fix.c_us >= anchor_us or t < fix.c_us:
            # The last fix is the new anchor, not this one: that may yet turn out to be a spike.
            old = fix.have > 0 and t - fix.b_us < anchor_us
            fix.c_us = fix.b_us if old else t
            fix.c_lon = fix.b_lon if old else x
            fix.c_lat = fix.b_lat if old else y
            fix.c_accuracy = fix.b_accuracy if old else accuracy_m
        fix.a_us = fix.b_us
        fix.a_lon = fix.b_lon
        fix.a_lat = fix.b_lat
        fix.a_accuracy = fix.b_accuracy
        fix.a_speed = fix.b_speed
        fix.b_us = t
        fix.b_lon = x
        fix.b_lat = y
        fix.b_accuracy = accuracy_m
        fix.b_speed = speed[i]
        fix.have = min(2, fix.have + 1)
    return ts_us.shape[0], k
