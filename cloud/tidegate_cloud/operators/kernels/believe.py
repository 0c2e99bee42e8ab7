"""Changes along the lines between fixes, held back until they can be believed; `operators.geofence` has the rules.

What is decided here about a fence stands in `held.at` and in its row; `held.finish` does it.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .bare import bare, within
from .border import beyond, crossings, holds
from .held import add, known, sort_out
from .lookup import passed
from .motion import remember, weigh
from .terms import (
    AT_ONCE,
    AWAY,
    CAME_BACK,
    COUNT,
    ENTER,
    ENTERING,
    FORGET,
    HELD,
    IN,
    LEAVE,
    LEAVING,
    MOVED,
    MOVING,
    NOTHING,
    PASS,
    PASSED,
    PENDING,
    THROUGH,
    TODO,
    VISIT,
    WATCHED,
    is_meant,
    why_gone,
)  # fmt: skip

# Fences that one line may be found to pass.
PASSES = 512


@within
def believe(i, m, fix, group, top_mps, top_mps2, old, rows, held, index, fences, manner, room):
    """What fix number i (runs.FIX) changes, that lies inside of room.hits[:m], after the last ones in `old`.

    Returns the speed there, m/s, NaN = not known.
    """
    # A receiver that has no fix yet likes to say 0, 0.
    if manner.believe and fix.lon == 0.0 and fix.lat == 0.0:
        return np.nan
    w = weigh(fix, old, manner, top_mps, top_mps2)
    if not w.use:
        return np.nan
    same, others = sort_out(m, room.hits, i, held)
    first = room.first[0]
    if first or same < held.n[COUNT] or held.n[PENDING] > 0 or held.n[WATCHED] > 0:
        for s in range(held.n[COUNT]):
            why = why_gone(held.at[s].fence, group, fix.us, first, fences)
            st = rows.data[held.at[s].row]
            inside = held.at[s].seen == i
            if st.status == IN and inside and why == MOVED:
                continue
            held.n[TODO] = 1
            held.at[s].why = why
            held.at[s].what = _judge(s, st, inside, fix, w, old, held, index, manner)
            if held.at[s].what in (FORGET, PASS) and inside and why == MOVED:
                room.hits[others] = held.at[s].fence
                others += 1
    for j in range(others):
        f = room.hits[j]
        if is_meant(f, group, fix.us, fences):
            _begin_entering(i, f, fix, w, old, rows, held, index, fences, manner)
    if w.drawn and (w.bx != fix.lon or old.b_lat != fix.lat):
        _pass_through(i, fix, group, w, old, rows, held, index, fences, manner, room)
    remember(fix, old, w)
    return w.speed


@within
def _judge(s, st, inside, fix, w, old, held, index, manner):
    """What is to be done about a held fence that did not just go on: see terms.NOTHING and so on."""
    f = held.at[s].fence
    held.at[s].how = AT_ONCE
    # What a spike began is forgotten; this fix may begin it anew.
    undone = w.spike and st.n == 1 and st.first_us == w.spike_us
    if undone and st.status == LEAVING:
        st.status = IN
    if held.at[s].why != MOVED:
        if st.status == IN or st.status == LEAVING:
            at(fix, st)
            return LEAVE
        return FORGET
    if st.status == IN:
        if inside:
            return NOTHING
    elif undone:
        return FORGET
    elif st.status == PASSED:
        held.at[s].how = THROUGH
        return FORGET if w.spike else PASS
    elif inside == (st.status == LEAVING):
        return _taken_back(s, st, fix, w, old, held, index, manner)
    else:
        return _go_on(s, st, fix, w, held, index, manner)
    if manner.believe and not beyond(fix.lon, fix.lat, _clear_m(w.moving, w, manner), f, index, w.kx):
        return NOTHING
    st.cross_us, st.cross_lon, st.cross_lat = _crossing(f, inside, fix, w, old, index, manner)
    if not manner.believe:
        return LEAVE
    st.status = LEAVING
    _wait(st, fix, w)
    return NOTHING


@nb.njit(cache=True, inline="always")
def at(fix, st):
    """A change takes place at a fix."""
    st.cross_us = fix.us
    st.cross_lon = fix.lon
    st.cross_lat = fix.lat


@bare
def _crossing(f, entering, fix, w, old, index, manner):
    """When and where the line to this fix comes in for good, or first goes out; the fix itself without a line."""
    if w.drawn:
        m, u, v = crossings(w.bx, old.b_lat, fix.lon, fix.lat, f, index)
        if m:
            return _along(v if entering else u, fix, w, old)
        if w.moving and _was_near(w.bx, f, w, old, index, manner):
            # It was on this side already, but too near to the border to count.
            return _along(0.0, fix, w, old)
    return fix.us, fix.lon, fix.lat


@within
def _along(u, fix, w, old):
    lon = w.bx + u * (fix.lon - w.bx)
    if lon > 180.0:
        lon -= 360.0
    elif lon < -180.0:
        lon += 360.0
    return old.b_us + np.int64(u * (fix.us - old.b_us)), lon, old.b_lat + u * (fix.lat - old.b_lat)


@nb.njit(cache=True, inline="always")
def _clear_m(moving, w, manner):
    """How far from the border a fix must be to count."""
    return w.accuracy_m if moving else max(manner.still_m, 2.0 * w.accuracy_m)


@within
def _begin_entering(i, f, fix, w, old, rows, held, index, fences, manner):
    if manner.believe and not beyond(fix.lon, fix.lat, _clear_m(w.moving, w, manner), f, index, w.kx):
        # Too near to the border to count by itself. The line to it may have been deep inside.
        if not (w.moving and w.drawn):
            return
        n, u, _ = crossings(w.bx, old.b_lat, fix.lon, fix.lat, f, index)
        if not _is_deep(f, u if n & 1 else 0.0, 1.0, w.bx, fix.lon, fix, w, old, index, manner):
            return
    st = rows.data[add(f, i, NOTHING if manner.believe else ENTER, AT_ONCE, rows, held, fences)]
    inside = held.at[held.n[COUNT] - 1].seen == i
    st.cross_us, st.cross_lon, st.cross_lat = _crossing(f, inside, fix, w, old, index, manner)
    if manner.believe:
        st.status = ENTERING
        _wait(st, fix, w)


@within
def _wait(st, fix, w):
    """Let a change wait to be believed."""
    st.first_us = fix.us
    st.n = 1
    st.quick = 1 if w.moving else 0


@within
def _go_on(s, st, fix, w, held, index, manner):
    """A change that waits and goes on: whether it is believed by now."""
    leaving = st.status == LEAVING
    # The same position again says nothing but that time has passed.
    if not w.repeated:
        st.n += 1
    if w.moving:
        st.quick = 1
    held.at[s].how = MOVING
    if not (st.quick == 1 and st.n >= 2):
        held.at[s].how = HELD
        still_m = max(manner.still_m, 2.0 * w.accuracy_m)
        if not beyond(fix.lon, fix.lat, still_m, held.at[s].fence, index, w.kx):
            # Too near to the border to count: begin again.
            st.status = IN
            return NOTHING if leaving else FORGET
        if fix.us - st.first_us < manner.still_us:
            return NOTHING
    st.status = IN
    return LEAVE if leaving else ENTER


@within
def _taken_back(s, st, fix, w, old, held, index, manner):
    """A change that waits, and the device is back: a short visit if it really moved, else noise."""
    leaving = st.status == LEAVING
    st.status = IN
    if st.quick == 0 or w.spike:
        return NOTHING if leaving else FORGET
    held.at[s].how = CAME_BACK
    st.out_us, st.out_lon, st.out_lat = _crossing(held.at[s].fence, leaving, fix, w, old, index, manner)
    return AWAY if leaving else VISIT


@bare
def _pass_through(i, fix, group, w, old, rows, held, index, fences, manner, room):
    """Fences that the line to this fix goes through, and that hold neither end, or none so that it counted."""
    room.stamp[0] += 1
    stamp = room.stamp[0]
    for s in range(held.n[COUNT]):
        room.mark[held.at[s].fence] = stamp
    beyond_edge = abs(w.bx) > 180.0
    added = 0
    # Over the antimeridian: once as seen from this fix, once from the last one.
    for frame in range(2 if beyond_edge else 1):
        shift = 0.0 if frame == 0 else (-360.0 if w.bx > 0.0 else 360.0)
        path = room.blank if beyond_edge else room.path
        ax = w.bx + shift
        bx = fix.lon + shift
        met = passed(ax, old.b_lat, bx, fix.lat, index, path, room.stack, room.mark, stamp, room.met)
        for j in range(met):
            f = room.met[j]
            if added >= PASSES or known(f, held) >= 0 or not is_meant(f, group, fix.us, fences):
                continue
            n, u, v = crossings(ax, old.b_lat, bx, fix.lat, f, index)
            if n & 1:
                # The last fix was inside, but too near to the border to count.
                if not (manner.believe and holds(ax, old.b_lat, f, index) and _was_near(ax, f, w, old, index, manner)):
                    continue
                u = 0.0
            if v <= u or not _is_deep(f, u, v, ax, bx, fix, w, old, index, manner):
                continue
            added += 1
            st = rows.data[add(f, i, NOTHING if manner.believe else PASS, THROUGH, rows, held, fences)]
            st.status = PASSED
            st.cross_us, st.cross_lon, st.cross_lat = _along(u, fix, w, old)
            st.out_us, st.out_lon, st.out_lat = _along(v, fix, w, old)
            st.first_us = fix.us
            st.n = 1
            st.quick = 1


@bare
def _was_near(ax, f, w, old, index, manner):
    """Whether the last fix was so near to a fence's border that it may not have counted."""
    return not beyond(ax, old.b_lat, max(manner.still_m, 2.0 * old.b_accuracy), f, index, w.kx)


@bare
def _is_deep(f, u, v, ax, bx, fix, w, old, index, manner):
    """Whether a line is in a fence between parts u and v of it, and deeper than its ends are accurate."""
    if manner.believe and not w.moving:
        return False
    # Below 0 any depth will do.
    deep_m = max(w.accuracy_m, old.b_accuracy) if manner.believe else -1.0
    for q in range(1, 8):
        t = u + q / 8.0 * (v - u)
        lon = ax + t * (bx - ax)
        lat = old.b_lat + t * (fix.lat - old.b_lat)
        if holds(lon, lat, f, index) and (deep_m < 0.0 or beyond(lon, lat, deep_m, f, index, w.kx)):
            return True
    return False
