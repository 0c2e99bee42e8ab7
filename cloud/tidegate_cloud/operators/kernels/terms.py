"""What is told about a stay: that it began and ended, how long it was, how fast the device went, at which hours."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

from .bare import bare, within

Array = npt.NDArray[Any]

ENTERED, EXITED, LEFT_CORRIDOR, CROSSED, DWELT, MOVED_ON, SPEEDING, SPED, OUT_OF_SCHEDULE, IN_SCHEDULE = range(10)
# Why a device is no longer inside, or a condition no longer holds.
MOVED, REMOVED, NOT_MEANT, OFF_HOURS, CHANGED = range(5)
# Of a fence. WATCH: each fix inside must be looked at.
NO_ENTER, NO_EXIT, CORRIDOR, DWELL, SPEED, PRESENCE, HOURS = (1 << k for k in range(7))
WATCH = DWELL | SPEED | PRESENCE | HOURS
# Of a stay: which begins were told.
TOLD_ENTERED, TOLD_DWELT, TOLD_SPEEDING, TOLD_LATE = (1 << k for k in range(4))
TOLD_TERMS = TOLD_DWELT | TOLD_SPEEDING | TOLD_LATE
# Status of a stay.
IN, ENTERING, PASSED, LEAVING = range(4)
# How an event came to be believed.
AT_ONCE, HELD, MOVING, THROUGH, CAME_BACK, TWICE, SO_LONG, BY_CLOCK = range(8)

EVENT = np.dtype(
    [
        ("scan", "<i4"), ("fence", "<i4"), ("kind", "u1"), ("why", "u1"), ("how", "u1"), ("us", "<i8"),
        ("lon", "<f8"), ("lat", "<f8"), ("value", "<f8"), ("limit", "<f8"),
    ],
    align=True,
)  # fmt: skip
# A fence that holds a device, or a change that waits to be believed. told: TOLD_ENTERED and others.
STAY = np.dtype(
    [
        ("since_us", "<i8"), ("status", "<i8"), ("n", "<i8"), ("quick", "<i8"), ("first_us", "<i8"),
        ("cross_us", "<i8"), ("cross_lon", "<f8"), ("cross_lat", "<f8"),
        ("out_us", "<i8"), ("out_lon", "<f8"), ("out_lat", "<f8"),
        ("told", "<i8"), ("dwelt_us", "<i8"), ("late_us", "<i8"), ("over_us", "<i8"), ("under_us", "<i8"),
        ("over_n", "<i8"), ("top_mps", "<f8"), ("top_lon", "<f8"), ("top_lat", "<f8"),
    ]
)  # fmt: skip
# The most that one row and one fix can lead to.
EVENTS_PER_ROW = 10

# held.n
COUNT, PENDING, WATCHED, EDITED, TODO, EVENTS = range(6)
# What to do about a held fence; the times and places are in its row: cross, then out.
NOTHING, ENTER, LEAVE, VISIT, AWAY, PASS, FORGET = range(7)

_MINUTE = 60_000_000
_WEEK = 7 * 1440 * _MINUTE
_MONDAY = 3 * 1440 * _MINUTE  # 1970-01-01 was a Thursday


# A fence by number: whether it is in force, NO_ENTER and so on, and where its lists are in the pools of `Fences`.
TERM = np.dtype(
    [
        ("active", "<i4"), ("flags", "<i4"), ("dwell_us", "<i8"), ("speed_mps", "<f8"),
        ("group_first", "<i4"), ("group_count", "<i4"), ("window_first", "<i4"), ("window_count", "<i4"),
        ("zone_first", "<i4"), ("zone_count", "<i4"),
    ]
)  # fmt: skip


class Fences(NamedTuple):
    """Stale after the next edit.

    term     TERM by fence number
    groups   int32, numbers of groups; a fence without any is valid for all
    windows  int32 [., 2], minutes of the local week
    zones    int64 [., 2], since when which offset holds, microseconds
    """

    term: Array
    groups: Array
    windows: Array
    zones: Array


@nb.njit(cache=True, inline="always")
def meant(fence, group, fences):
    """Whether a fence is valid for a group of devices; one without groups is valid for all."""
    n = fences.term[fence].group_count
    if n == 0:
        return True
    first = fences.term[fence].group_first
    found = False
    for i in range(first, first + n):
        found |= fences.groups[i] == group
    return found


@bare
def hours(term, us, fences):
    """Whether a moment lies in a fence's windows, and for how long it has been so, microseconds."""
    low = term.zone_first
    high = low + term.zone_count
    while high - low > 1:
        middle = (low + high) // 2
        if fences.zones[middle, 0] <= us:
            low = middle
        else:
            high = middle
    at = (us + fences.zones[low, 1] + _MONDAY) % _WEEK
    first = term.window_first
    n = term.window_count
    # The last window goes on into the next week when the first begins with it.
    closed = fences.windows[first + n - 1, 1] * _MINUTE - _WEEK
    for i in range(first, first + n):
        begin = fences.windows[i, 0] * _MINUTE
        end = fences.windows[i, 1] * _MINUTE
        if at < begin:
            break
        if at < end:
            if begin == 0 and closed == 0:
                begin = fences.windows[first + n - 1, 0] * _MINUTE - _WEEK
            return True, at - begin
        closed = end
    return False, at - closed


@bare
def is_meant(f, group, us, fences):
    """Whether a fence is there for a group of devices at a moment."""
    if not meant(f, group, fences):
        return False
    term = fences.term[f]
    return not term.flags & HOURS or hours(term, us, fences)[0]


@bare
def why_gone(f, group, us, first, fences):
    """Why a fence is no longer there for a group; MOVED when it is."""
    term = fences.term[f]
    if first:
        if not term.active:
            return REMOVED
        if not meant(f, group, fences):
            return NOT_MEANT
    if term.flags & HOURS and not hours(term, us, fences)[0]:
        return OFF_HOURS
    return MOVED


@nb.njit(cache=True, inline="always")
def tell(out, n, scan, fence, kind, why, how, us, lon, lat, value, limit):
    """Write one more event. (Taken in where it is called: numba would compile it for every constant.)"""
    e = out[n[EVENTS]]
    n[EVENTS] += 1
    e.scan = scan
    e.fence = fence
    e.kind = kind
    e.why = why
    e.how = how
    e.us = us
    e.lon = lon
    e.lat = lat
    e.value = value
    e.limit = limit


@within
def enter(st, fence, term, out, n, scan, how, us, lon, lat):
    """Begin a stay."""
    st.since_us = us
    st.told = 0
    st.over_n = 0
    if not term.flags & NO_ENTER:
        st.told = TOLD_ENTERED
        tell(out, n, scan, fence, ENTERED, MOVED, how, us, lon, lat, np.nan, np.nan)


@bare
def leave(st, fence, term, out, n, scan, why, how, us, lon, lat):
    """End a stay and what was told about it."""
    flags = term.flags
    # Long enough between the last fix inside and the border.
    if why == MOVED and flags & DWELL and not st.told & TOLD_DWELT and us - st.since_us >= term.dwell_us:
        _tell_dwelt(st, fence, term, out, n, scan, lon, lat)
    told = st.told & TOLD_ENTERED
    if st.told & TOLD_TERMS:
        end_terms(st, st.told & TOLD_TERMS, fence, term, out, n, scan, why, us, lon, lat)
    if not flags & NO_EXIT and (why == MOVED or told):
        kind = LEFT_CORRIDOR if flags & CORRIDOR else EXITED
        tell(out, n, scan, fence, kind, why, how, us, lon, lat, np.nan, np.nan)
    st.told = 0


@bare
def end_terms(st, which, fence, term, out, n, scan, why, us, lon, lat):
    """End the conditions in `which` that were told."""
    which &= st.told
    if which & TOLD_DWELT:
        stayed = (us - st.since_us) * 1e-6
        tell(out, n, scan, fence, MOVED_ON, why, AT_ONCE, us, lon, lat, stayed, term.dwell_us * 1e-6)
    if which & TOLD_SPEEDING:
        tell(
            out, n, scan, fence, SPED, why, AT_ONCE, us, st.top_lon, st.top_lat, st.top_mps, term.speed_mps
        )  # fmt: skip
        st.over_n = 0
    if which & TOLD_LATE:
        tell(out, n, scan, fence, IN_SCHEDULE, why, AT_ONCE, us, lon, lat, np.nan, np.nan)
    st.told &= ~which


@bare
def _tell_dwelt(st, fence, term, out, n, scan, lon, lat):
    st.told |= TOLD_DWELT
    st.dwelt_us = st.since_us + term.dwell_us
    s = term.dwell_us * 1e-6
    tell(out, n, scan, fence, DWELT, MOVED, SO_LONG, st.dwelt_us, lon, lat, s, s)


@within
def act(st, what, why, how, fence, term, out, n, scan):
    """Tell what a row's verdict asks for: LEAVE and AWAY leave first, ENTER, VISIT, PASS and AWAY enter, VISIT and PASS
    leave then."""
    for step in range(3):
        at_cross = step == 0 or (what != AWAY and step == 1)
        us = st.cross_us if at_cross else st.out_us
        lon = st.cross_lon if at_cross else st.out_lon
        lat = st.cross_lat if at_cross else st.out_lat
        if step == 1:
            if what != LEAVE:
                enter(st, fence, term, out, n, scan, how, us, lon, lat)
        elif (step == 0) == (what in (LEAVE, AWAY)) and what != ENTER:
            leave(st, fence, term, out, n, scan, why, how, us, lon, lat)
    if what == PASS and not (term.flags & NO_ENTER and term.flags & NO_EXIT):
        inside_s = (st.out_us - st.cross_us) * 1e-6
        tell(out, n, scan, fence, CROSSED, MOVED, how, st.out_us, st.out_lon, st.out_lat, inside_s, np.nan)


@within
def stay(st, fence, term, fences, needed, out, n, scan, us, lon, lat, speed):
    """Look at a fix inside a fence that is watched.

    needed  so many fixes one after the other must say that a speed is over the limit, or no longer
    speed   m/s, NaN = not known
    """
    flags = term.flags
    # An edit may have taken away what was told.
    gone = 0
    if not flags & DWELL:
        gone |= TOLD_DWELT
    if not flags & SPEED:
        gone |= TOLD_SPEEDING
    if not flags & PRESENCE:
        gone |= TOLD_LATE
    if flags & DWELL and not st.told & TOLD_DWELT and us - st.since_us >= term.dwell_us:
        _tell_dwelt(st, fence, term, out, n, scan, lon, lat)
    if flags & PRESENCE:
        is_open, for_us = hours(term, us, fences)
        if not is_open and not st.told & TOLD_LATE:
            st.told |= TOLD_LATE
            st.late_us = max(st.since_us, us - for_us)
            tell(out, n, scan, fence, OUT_OF_SCHEDULE, MOVED, BY_CLOCK, st.late_us, lon, lat, np.nan, np.nan)
        elif is_open and st.told & TOLD_LATE:
            at = max(st.late_us, us - for_us)
            st.told &= ~TOLD_LATE
            tell(out, n, scan, fence, IN_SCHEDULE, MOVED, BY_CLOCK, at, lon, lat, np.nan, np.nan)
    if gone & st.told:
        end_terms(st, gone, fence, term, out, n, scan, CHANGED, us, lon, lat)
    if flags & SPEED and speed >= 0.0:
        _judge_speed(st, fence, term, needed, out, n, scan, us, lon, lat, speed)


@bare
def _judge_speed(st, fence, term, needed, out, n, scan, us, lon, lat, speed):
    limit = term.speed_mps
    over = speed > limit
    told = (st.told & TOLD_SPEEDING) != 0
    if over and ((st.over_n == 0 and not told) or speed > st.top_mps):
        st.top_mps = speed
        st.top_lon = lon
        st.top_lat = lat
    if over == told:
        st.over_n = 0
        return
    if st.over_n == 0:
        if over:
            st.over_us = us
        else:
            st.under_us = us
    st.over_n += 1
    if st.over_n < needed:
        return
    st.over_n = 0
    how = TWICE if needed > 1 else AT_ONCE
    if over:
        st.told |= TOLD_SPEEDING
        tell(out, n, scan, fence, SPEEDING, MOVED, how, st.over_us, lon, lat, st.top_mps, limit)
    else:
        st.told &= ~TOLD_SPEEDING
        tell(out, n, scan, fence, SPED, MOVED, how, st.under_us, st.top_lon, st.top_lat, st.top_mps, limit)
