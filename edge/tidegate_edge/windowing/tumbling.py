"""Tumbling windows over event time: one device's channels of one length.

A window [k·every, (k+1)·every) of the scans' times is closed when a scan comes whose time lies `late` or more beyond
its end, or when so much time has passed on the agent's own clock since it was opened plus `late`, whichever is first.
A scan that comes after its window was closed is **too late**: it is stored by itself, raw, so nothing is lost and no
window is told twice. A change of what is to be said of the times (`flags`) closes what is open.

Scans wait in a run until they are folded: when the window closes or is stored, so that a commit folds many at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import msgspec
import numpy as np
from tidegate_protocols.scan import Value

from .folding import Accumulator, fold
from .rules import Aggregate

_NEVER = -(2**63)


@dataclass(slots=True, eq=False)
class _Open:
    """One open window. `floats` and `longs` accumulate the channels of either kind; the rest is what is not folded."""

    start: int
    opened_s: float
    scans: int
    floats: Accumulator
    longs: Accumulator
    ts: list[int] = field(default_factory=list)
    rows: list[tuple[Value, ...]] = field(default_factory=list)


class _Stored(msgspec.Struct, array_like=True):
    start: int
    scans: int
    floats: bytes
    longs: bytes


class _Image(msgspec.Struct, array_like=True):
    flags: int
    closed: int
    latest: int
    windows: list[_Stored]


class Tumbling:
    """The windows of one device, schema and length."""

    def __init__(self, plan: Aggregate, types: tuple[str, ...]) -> None:
        self.plan = plan
        self.flags = 0
        self._types = types
        self._floats = [k for k, kind in enumerate(types) if kind == "float64"]
        self._longs = [k for k, kind in enumerate(types) if kind != "float64"]
        self._open: dict[int, _Open] = {}
        self._closed = self._latest = _NEVER  # end of the last window that was closed; the latest time that came

    def __len__(self) -> int:
        """How many windows are open."""
        return len(self._open)

    def take(self, ts: int, values: tuple[Value, ...], flags: int, now_s: float) -> bool:
        """Take a scan's values of the plan's channels; False when it is too late. Call `due` after it."""
        every = self.plan.every_us
        start = ts // every * every
        if start < self._closed:
            return False
        window = self._open.get(start)
        if window is None:
            self.flags = flags
            window = self._open[start] = _Open(
                start, now_s, 0, Accumulator(len(self._floats), np.float64), Accumulator(len(self._longs), np.int64)
            )
        self._latest = max(self._latest, ts)
        window.ts.append(ts)
        window.rows.append(values)
        window.scans += 1
        return True

    def due(self, now_s: float) -> list[tuple[int, tuple[Value, ...]]]:
        """Close what is due by the scans' times or by the clock; return the windows' starts and values, in order.

        Windows are closed in order: one that is due by either takes the older ones with it.
        """
        every, late = self.plan.every_us, self.plan.late_us
        last = None
        for start, window in self._open.items():
            by_scan = self._latest >= start + every + late
            by_clock = (now_s - window.opened_s) * 1e6 >= every + late
            if (by_scan or by_clock) and (last is None or start > last):
                last = start
        return [] if last is None else self._close(last)

    def close(self) -> list[tuple[int, tuple[Value, ...]]]:
        """Close everything."""
        return self._close(max(self._open)) if self._open else []

    def _close(self, last: int) -> list[tuple[int, tuple[Value, ...]]]:
        out = []
        for start in sorted(start for start in self._open if start <= last):
            window = self._open.pop(start)
            self._fold(window)
            out.append((start, self._values(window)))
        self._closed = max(self._closed, last + self.plan.every_us)
        return out

    def forget_time(self) -> None:
        """The times are told otherwise from here on: nothing is too late for them."""
        self._closed = self._latest = _NEVER

    # ---- what is stored

    def to_bytes(self) -> bytes:
        """Everything that is open, folded."""
        windows = []
        for window in self._open.values():
            self._fold(window)
            windows.append(
                _Stored(window.start, window.scans, window.floats.to_bytes(), window.longs.to_bytes())
            )  # fmt: skip
        return msgspec.msgpack.encode(_Image(self.flags, self._closed, self._latest, windows))

    def restore(self, data: bytes, now_s: float) -> None:
        """The reverse; windows count as opened now. Raises ValueError for what this plan did not store."""
        image = msgspec.msgpack.decode(data, type=_Image)
        self.flags, self._closed, self._latest = image.flags, image.closed, image.latest
        for stored in image.windows:
            floats = Accumulator.from_bytes(len(self._floats), np.float64, stored.floats)
            longs = Accumulator.from_bytes(len(self._longs), np.int64, stored.longs)
            self._open[stored.start] = _Open(stored.start, now_s, stored.scans, floats, longs)

    # ---- arithmetic

    def _fold(self, window: _Open) -> None:
        if not window.ts:
            return
        for accumulator, places in ((window.floats, self._floats), (window.longs, self._longs)):
            if places:
                fold(accumulator, window.ts, [[row[k] for k in places] for row in window.rows])
        window.ts, window.rows = [], []

    def _values(self, window: _Open) -> tuple[Value, ...]:
        out: list[Value] = []
        for k, stats in enumerate(self.plan.stats):
            floats = self._types[k] == "float64"
            places = self._floats if floats else self._longs
            accumulator = window.floats if floats else window.longs
            i = places.index(k)
            out += [_stat(accumulator, i, stat, self._types[k]) for stat in stats]
        return tuple(out)


def _stat(accumulator: Accumulator, i: int, stat: str, kind: str) -> Value:
    count = int(accumulator.count[i])
    if stat == "count":
        return count
    if count == 0:
        return None
    if stat == "mean":
        return _finite(float(accumulator.mean[i]))
    if stat == "std":
        return _finite(math.sqrt(float(accumulator.m2[i]) / (count - 1))) if count > 1 else None
    value = {"min": accumulator.low, "max": accumulator.high, "first": accumulator.first, "last": accumulator.last}[
        stat
    ][i]
    return bool(value) if kind == "bool" else int(value) if kind == "int64" else float(value)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
