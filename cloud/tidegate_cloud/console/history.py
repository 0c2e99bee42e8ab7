"""The last hour of every device, in bounded memory, until a history store keeps more.

One ring per device and schema: arrival order, overwritten from its oldest scan. A ring starts small and doubles while
what it holds is younger than the hour, up to 65,536 scans (18 a second for an hour). All rings together stay within a
budget; once it is spent, rings stop growing, and a new one takes the place of the one that was silent longest.

Blocks of scans are put aside as they come, and dealt out to the rings once there are many, so that a ring is touched
once for what a device sent in half a minute and not for every scan. Who asks is given what is put aside as well.

A scan takes 8 bytes for its time and 8 per channel: every channel is kept as float64, NaN where there is no value, so
integers beyond 2**53 are rounded. 256 MiB hold 10,000 devices of four channels at one scan in 5 s for about 55 minutes.

Thread-safe: one thread appends, others read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tidegate_protocols.codec.bulk import Block
from tidegate_protocols.schema import Schema

HOUR_US = 3_600_000_000
BUDGET = 256 * 2**20
_SMALLEST = 16
_LARGEST = 65_536
_ASIDE_SCANS = 262_144
_ASIDE_SHARE = 8  # of the budget, one part in so many is for what is put aside


class Series(NamedTuple):
    """One channel of one device, by time. Values are NaN where there is none.

    `since_us`: the oldest scan that is remembered for it, None when there is none.
    """

    unit: str
    ts_us: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    since_us: int | None


class _Ring:
    """`rows` [1 + channels, capacity]: times as int64 bits in row 0 of `ts_us`, values below."""

    __slots__ = ("head", "schema", "size", "ts_us", "values")

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.ts_us = np.empty(_SMALLEST, np.int64)
        self.values = np.empty((len(schema.channels), _SMALLEST))
        self.head = 0  # where the next scan goes
        self.size = 0

    @property
    def nbytes(self) -> int:
        return self.ts_us.nbytes + self.values.nbytes

    @property
    def capacity(self) -> int:
        return len(self.ts_us)

    def order(self) -> npt.NDArray[np.intp]:
        """Places of the scans, in order of arrival."""
        return (self.head - self.size + np.arange(self.size)) % self.capacity

    def grow(self) -> None:
        order = self.order()
        fresh = np.empty(2 * self.capacity, np.int64)
        values = np.empty((len(self.values), 2 * self.capacity))
        fresh[: self.size] = self.ts_us[order]
        values[:, : self.size] = self.values[:, order]
        self.ts_us, self.values, self.head = fresh, values, self.size

    def append(self, ts_us: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
        """Add scans: times [n], values [channels, n]."""
        n = min(len(ts_us), self.capacity)
        places = (self.head + np.arange(n)) % self.capacity
        self.ts_us[places] = ts_us[-n:]
        self.values[:, places] = values[:, -n:]
        self.head = (self.head + n) % self.capacity
        self.size = min(self.size + n, self.capacity)


class _Aside(NamedTuple):
    """Scans of one schema that are not in rings yet: `slot` int32 [n] indexes the history's devices."""

    schema: Schema
    slot: npt.NDArray[np.int32]
    ts_us: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        return self.slot.nbytes + self.ts_us.nbytes + self.values.nbytes


class History:
    """See the module's docstring. `budget` in bytes."""

    def __init__(self, budget: int = BUDGET) -> None:
        self._aside_max = budget // _ASIDE_SHARE
        self._budget = budget - self._aside_max
        self._used = 0
        self._rings: OrderedDict[tuple[str, bytes], _Ring] = OrderedDict()  # the longest silent first
        self._of_device: dict[str, list[_Ring]] = {}
        self._slots: dict[str, int] = {}
        self._names: list[str] = []
        self._aside: list[_Aside] = []
        self._aside_nbytes = self._aside_scans = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Memory that the scans take."""
        return self._used + self._aside_nbytes

    def append(self, block: Block, devices: Sequence[str]) -> None:
        """Remember a block whose scans' devices index `devices`."""
        values = np.empty((len(block.columns), len(block)))
        for row, column, mask in zip(values, block.columns, block.valid, strict=True):
            row[:] = column
            if mask is not None:
                row[~mask] = np.nan
        with self._lock:
            slots = np.array([self._slot(device) for device in devices], np.int32)
            aside = _Aside(block.schema, slots[block.device], block.ts_us, values)
            self._aside.append(aside)
            self._aside_nbytes += aside.nbytes
            self._aside_scans += len(block)
            if self._aside_nbytes > self._aside_max or self._aside_scans >= _ASIDE_SCANS:
                self._deal()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._rings.clear()
            self._of_device.clear()
            self._slots.clear()
            self._names.clear()
            self._aside.clear()
            self._used = self._aside_nbytes = self._aside_scans = 0

    def series(self, device: str, channel: str, from_us: int, to_us: int) -> Series | None:
        """What is remembered of a channel between two times, both included; None when there is no such channel.

        Scans that came twice (a preview and its original) are given once.
        """
        with self._lock:
            parts, newest = [], None
            for ring in self._of_device.get(device, ()):
                if channel in ring.schema.index:
                    order, newest = ring.order(), ring.schema
                    parts.append((ring.ts_us[order], ring.values[newest.index[channel], order]))
            slot = self._slots.get(device, -1)
            for aside in self._aside:
                if channel in aside.schema.index and len(mine := np.flatnonzero(aside.slot == slot)):
                    newest = aside.schema
                    parts.append((aside.ts_us[mine], aside.values[newest.index[channel], mine]))
        if newest is None:
            return None
        ts_us = np.concatenate([part[0] for part in parts])
        values = np.concatenate([part[1] for part in parts])
        since_us = int(ts_us.min()) if len(ts_us) else None
        inside = (ts_us >= from_us) & (ts_us <= to_us)
        ts_us, values = ts_us[inside], values[inside]
        order = np.argsort(ts_us, kind="stable")
        ts_us, values = ts_us[order], values[order]
        last = np.ones(len(ts_us), np.bool_)
        last[:-1] = ts_us[1:] != ts_us[:-1]
        return Series(newest.channels[newest.index[channel]].unit, ts_us[last], values[last], since_us)

    def _slot(self, device: str) -> int:
        slot = self._slots.get(device)
        if slot is None:
            slot = self._slots[device] = len(self._names)
            self._names.append(device)
        return slot

    def _deal(self) -> None:
        """Deal out to the rings what is put aside."""
        by_schema: dict[bytes, list[_Aside]] = {}
        for aside in self._aside:
            by_schema.setdefault(aside.schema.fingerprint, []).append(aside)
        self._aside.clear()
        self._aside_nbytes = self._aside_scans = 0
        for asides in by_schema.values():
            slot = np.concatenate([aside.slot for aside in asides])
            order = np.argsort(slot, kind="stable")
            slot, ts_us = slot[order], np.concatenate([aside.ts_us for aside in asides])[order]
            values = np.concatenate([aside.values for aside in asides], axis=1)[:, order]
            ends = np.flatnonzero(np.append(slot[1:] != slot[:-1], True)) + 1
            begins = np.append(0, ends[:-1])
            # In the order in which they were last heard: who is silent longest goes first.
            for at in np.argsort(order[ends - 1]).tolist():
                begin, end = int(begins[at]), int(ends[at])
                self._keep(self._names[slot[begin]], asides[0].schema, ts_us[begin:end], values[:, begin:end])

    def _keep(self, device: str, schema: Schema, ts_us: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
        ring = self._ring(device, schema)
        while ring.size + len(ts_us) > ring.capacity and self._may_grow(ring, ts_us):
            self._used += ring.nbytes
            ring.grow()
        ring.append(ts_us, values)

    def _ring(self, device: str, schema: Schema) -> _Ring:
        key = device, schema.fingerprint
        ring = self._rings.get(key)
        if ring is None:
            ring = _Ring(schema)
            while self._rings and self._used + ring.nbytes > self._budget:
                self._forget_longest_silent()
            self._rings[key] = ring
            self._of_device.setdefault(device, []).append(ring)
            self._used += ring.nbytes
        else:
            self._rings.move_to_end(key)
        return ring

    def _may_grow(self, ring: _Ring, fresh_us: npt.NDArray[np.int64]) -> bool:
        """Whether a ring that has no room for scans of these times would lose any of the hour before the last."""
        if ring.capacity >= _LARGEST or self._used + ring.nbytes > self._budget:
            return False
        kept = ring.capacity - len(fresh_us)  # of what it holds
        oldest = fresh_us[-ring.capacity] if kept <= 0 else ring.ts_us[(ring.head - kept) % ring.capacity]
        return bool(fresh_us[-1] - oldest < HOUR_US)

    def _forget_longest_silent(self) -> None:
        (device, _), ring = self._rings.popitem(last=False)
        rings = self._of_device[device]
        rings.remove(ring)
        if not rings:
            del self._of_device[device]
        self._used -= ring.nbytes


def decimate(
    ts_us: npt.NDArray[np.int64], values: npt.NDArray[np.float64], max_points: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """At most `max_points` points (2 or more) that draw the same picture: the least and the greatest of each stretch.

    Stretches hold equal numbers of scans. A stretch without any value gives one point without a value, so that a hole
    stays a hole; the first and the last scan are always kept.
    """
    n = len(ts_us)
    if n <= max_points:
        return ts_us, values
    stretches = max(1, (max_points - 2) // 2)
    edges = np.linspace(0, n, stretches + 1).astype(np.intp)[:-1]
    number = np.searchsorted(edges, np.arange(n), side="right") - 1
    void = np.isnan(values)
    by_value = np.lexsort((values, number))  # NaN sorts last within its stretch
    counts = np.bincount(number[~void], minlength=stretches)
    least = by_value[edges]
    greatest = by_value[edges + np.maximum(counts - 1, 0)]
    keep = np.unique(np.concatenate(([0, n - 1], least, greatest)))
    return ts_us[keep], values[keep]
