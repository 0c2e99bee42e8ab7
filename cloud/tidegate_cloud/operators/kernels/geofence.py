"""Which fences hold a device, and what changed with each fix."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .bare import bare, within
from .believe import PASSES, at, believe
from .held import add, finish, load, recount, sort_out, store, watch
from .lookup import PATH, lookup, on_earth
from .terms import (
    AT_ONCE,
    COUNT,
    ENTER,
    EVENTS,
    EVENTS_PER_ROW,
    LEAVE,
    MOVED,
    TODO,
    WATCHED,
    is_meant,
    why_gone,
)  # fmt: skip

Array = npt.NDArray[Any]


class Room(NamedTuple):
    """Room to work in, kept from call to call; what is in it is of no use, but for `stamp`.

    hits   int32 [fences + 1]
    path   int64 [lookup.PATH]; zero at each call
    blank  the same, always zero
    stack  int64 [., 4], for walking the tree
    met    int32 [fences + 1]
    mark   int64 by fence number, below stamp[0]
    stamp  int64 [1]
    first  int64 [1]; whether the fences may have been edited since the device's last fix
    """

    hits: Array
    path: Array
    blank: Array
    stack: Array
    met: Array
    mark: Array
    stamp: Array
    first: Array


def make_room(fences: int) -> Room:
    """Room for fence numbers below `fences`."""
    return Room(
        np.zeros(fences + 1, np.int32), np.zeros(PATH, np.int64), np.zeros(PATH, np.int64),
        np.zeros((256, 4), np.int64), np.zeros(fences + 1, np.int32),
        np.zeros(fences + 1, np.int64), np.zeros(1, np.int64),
        np.zeros(1, np.int64),
    )  # fmt: skip


@bare
def follow(at, fix, number, group, limits, row_of, fixes, rows, held, index, fences, manner, room, out):
    """Follow devices from fix `at` on; returns the fix at which room ran out (else n), and the number of events.

    fix             runs.FIX [n], one device after the other; one without a usable position is passed over
    number, group   by device of the block: its number in the rows, its group
    limits          float64 [., 2], by device of the block: highest speed and acceleration, m/s and m/s²
    row_of, fixes   by device of the block its row in `fixes` (motion.FIXES); with lines only
    rows, held      terms.STAY; see `held`
    manner          motion.Manner
    out             terms.EVENT
    """
    by_lines = manner.believe or manner.line_us > 0
    passes = PASSES if by_lines else 0
    needed = 2 if manner.believe else 1
    held.n[EVENTS] = 0
    i = at
    n = fix.shape[0]
    room.path[:] = 0
    while i < n:
        device = fix[i].device
        load(number[device], rows, held, fences)
        room.first[0] = 1
        while i < n and fix[i].device == device:
            if on_earth(fix[i].lon, fix[i].lat):
                m = lookup(fix[i].lon, fix[i].lat, index, room.path, room.hits)
                need = EVENTS_PER_ROW * (m + passes + held.n[COUNT])
                if m + passes > rows.top[0] or need + held.n[EVENTS] > out.shape[0]:
                    store(number[device], rows, held)
                    return i, held.n[EVENTS]
                speed = fix[i].speed
                if by_lines:
                    speed = believe(
                        i, m, fix[i], group[device], limits[device, 0], limits[device, 1], fixes[row_of[device]],
                        rows, held, index, fences, manner, room,
                    )  # fmt: skip
                else:
                    _point(i, m, fix[i], group[device], rows, held, fences, room)
                room.first[0] = 0
                if held.n[TODO]:
                    finish(fix[i].scan, rows, held, fences, out)
                    if by_lines:
                        recount(rows, held)
                if held.n[WATCHED] > 0:
                    watch(i, fix[i], speed, needed, rows, held, fences, out)
            i += 1
        store(number[device], rows, held)
    return i, held.n[EVENTS]


@within
def _point(i, m, fix, group, rows, held, fences, room):
    """What one fix by itself changes, that lies inside of room.hits[:m]."""
    same, others = sort_out(m, room.hits, i, held)
    first = room.first[0]
    if same < held.n[COUNT] or first or held.n[WATCHED] > 0:
        for s in range(held.n[COUNT]):
            why = why_gone(held.at[s].fence, group, fix.us, first, fences)
            if why != MOVED or held.at[s].seen != i:
                at(fix, rows.data[held.at[s].row])
                held.at[s].what = LEAVE
                held.at[s].why = why
                held.at[s].how = AT_ONCE
                held.n[TODO] = 1
    for j in range(others):
        f = room.hits[j]
        if is_meant(f, group, fix.us, fences):
            at(fix, rows.data[add(f, i, ENTER, AT_ONCE, rows, held, fences)])
