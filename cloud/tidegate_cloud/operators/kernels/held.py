"""The fences that hold the device at hand, side by side while its fixes are looked at; its rows before and after."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .bare import within
from .terms import (
    AWAY,
    COUNT,
    EDITED,
    ENTER,
    FORGET,
    IN,
    NOTHING,
    PENDING,
    TODO,
    TOLD_TERMS,
    WATCH,
    WATCHED,
    act,
    stay,
)  # fmt: skip

Array = npt.NDArray[Any]


class Rows(NamedTuple):
    """A `state.Table` of stays (terms.STAY): see there."""

    data: Array
    item: Array
    after: Array
    head: Array
    free: Array
    top: Array


# seen: the last fix that lay inside; what: what is to be done about it (terms.NOTHING …); why, how: what to say;
# watch: whether each fix inside must be looked at.
HELD = np.dtype(
    [("fence", "<i4"), ("row", "<i4")] + [(name, "<i8") for name in ("seen", "watch", "what", "why", "how")]
)  # fmt: skip


class Held(NamedTuple):
    """Room for one device's rows, as long as there are fence numbers.

    at    HELD, the first n[COUNT] of them
    slot  int32 by fence number, its place in `at`; of use only if that place names it
    n     int64 [6], terms.COUNT …: how many; how many wait to be believed; how many are watched; whether rows
                came or went; whether there is something to do; events found so far
    """

    at: Array
    slot: Array
    n: Array


@within
def load(d, rows, held, fences):
    """Lay the rows of device number d side by side."""
    n = 0
    pending = 0
    watched = 0
    row = rows.head[d]
    while row >= 0:
        f = rows.item[row]
        held.at[n].fence = f
        held.at[n].row = row
        held.at[n].seen = -1
        held.slot[f] = n
        held.at[n].what = NOTHING
        pending += rows.data[row].status != IN
        watch = 1 if fences.term[f].flags & WATCH or rows.data[row].told & TOLD_TERMS else 0
        held.at[n].watch = watch
        watched += watch
        n += 1
        row = rows.after[row]
    held.n[COUNT] = n
    held.n[PENDING] = pending
    held.n[WATCHED] = watched
    held.n[EDITED] = 0
    held.n[TODO] = 0


@within
def store(d, rows, held):
    """Make the device's list of rows what is held."""
    if not held.n[EDITED]:
        return
    following = -1
    for s in range(held.n[COUNT]):
        row = held.at[s].row
        rows.after[row] = following
        following = row
    rows.head[d] = following


@within
def recount(rows, held):
    """Count again what waits to be believed."""
    pending = 0
    for s in range(held.n[COUNT]):
        pending += rows.data[held.at[s].row].status != IN
    held.n[PENDING] = pending


@within
def known(f, held):
    """The place of a fence among the held ones, -1 when it is none."""
    s = held.slot[f]
    return s if s < held.n[COUNT] and held.at[s].fence == f else -1


@within
def add(f, fix, what, how, rows, held, fences):
    """A row for one more fence, seen at this fix; returns its number. The caller fills it."""
    rows.top[0] -= 1
    row = rows.free[rows.top[0]]
    rows.item[row] = f
    s = held.n[COUNT]
    held.at[s].fence = f
    held.at[s].row = row
    held.at[s].seen = fix
    held.slot[f] = s
    held.at[s].what = what
    held.at[s].why = 0
    held.at[s].how = how
    held.at[s].watch = 1 if fences.term[f].flags & WATCH else 0
    held.n[WATCHED] += held.at[s].watch
    held.n[COUNT] = s + 1
    held.n[EDITED] = 1
    held.n[TODO] = 1
    st = rows.data[row]
    st.since_us = 0
    st.status = IN
    st.n = 0
    st.quick = 0
    st.first_us = 0
    st.cross_us = 0
    st.cross_lon = 0.0
    st.cross_lat = 0.0
    st.out_us = 0
    st.out_lon = 0.0
    st.out_lat = 0.0
    st.told = 0
    st.dwelt_us = 0
    st.late_us = 0
    st.over_us = 0
    st.under_us = 0
    st.over_n = 0
    st.top_mps = 0.0
    st.top_lon = 0.0
    st.top_lat = 0.0
    return row


@within
def drop(s, rows, held):
    """Give back the row at place s; the last one takes its place."""
    rows.free[rows.top[0]] = held.at[s].row
    rows.top[0] += 1
    last = held.n[COUNT] - 1
    held.n[WATCHED] -= held.at[s].watch
    held.at[s].watch = held.at[last].watch
    held.at[s].fence = held.at[last].fence
    held.at[s].row = held.at[last].row
    held.at[s].seen = held.at[last].seen
    held.at[s].what = held.at[last].what
    held.at[s].why = held.at[last].why
    held.at[s].how = held.at[last].how
    held.slot[held.at[s].fence] = s
    held.n[COUNT] = last
    held.n[EDITED] = 1


@within
def sort_out(n, hits, fix, held):
    """Mark the held fences among hits[:n] as seen at this fix; the others go to the front.

    Returns how many held ones there were, and how many others.
    """
    others = 0
    for j in range(n):
        f = hits[j]
        s = held.slot[f]
        if s < held.n[COUNT] and held.at[s].fence == f:
            held.at[s].seen = fix
        else:
            hits[others] = f
            others += 1
    return n - others, others


@within
def finish(scan, rows, held, fences, out):
    """Do what is to be done about the held fences."""
    # Backwards: what takes a dropped row's place has been dealt with.
    for s in range(held.n[COUNT] - 1, -1, -1):
        what = held.at[s].what
        if what == NOTHING:
            continue
        held.at[s].what = NOTHING
        if what != FORGET:
            h = held.at[s]
            act(rows.data[h.row], what, h.why, h.how, h.fence, fences.term[h.fence], out, held.n, scan)
        if what not in (ENTER, AWAY):
            drop(s, rows, held)
    held.n[TODO] = 0


@within
def watch(i, fix, speed, needed, rows, held, fences, out):
    """Look at the stays that fix number i goes on with; see terms.stay."""
    for s in range(held.n[COUNT]):
        st = rows.data[held.at[s].row]
        if held.at[s].watch and st.status == IN and held.at[s].seen == i:
            f = held.at[s].fence
            stay(st, f, fences.term[f], fences, needed, out, held.n, fix.scan, fix.us, fix.lon, fix.lat, speed)
