"""What a history store takes and answers. Times are microseconds since 1970 UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from tidegate_protocols.events import Event

Place = tuple[str, int]
"""A topic and a partition."""


class Stream(Struct, frozen=True):
    """Scans that one cursor counts: of a device under a schema, in order or as previews."""

    device: str
    fingerprint: bytes
    preview: bool


@dataclass(frozen=True, slots=True)
class Columns:
    """Readings of one channel name under one unit, of several devices: n of them.

    device  int32 [n], index into `devices`
    ts_us   int64 [n]
    value   float64 [n], finite
    """

    channel: str
    unit: str
    devices: Sequence[str]
    device: npt.NDArray[np.int32]
    ts_us: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]


@dataclass(slots=True)
class Portion:
    """What is kept in one transaction, or not at all.

    `previews` are readings that came ahead of their turn: they are shown until the ones in order have come so far, and
    never counted in a roll-up. `cursors`: the first name (epoch, sequence number) of each stream that has not been
    taken; `offsets`: the next offset of each partition; `reached`: how far in time the streams in order have come.
    """

    readings: list[Columns] = field(default_factory=list)
    previews: list[Columns] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    cursors: dict[Stream, tuple[int, int]] = field(default_factory=dict)
    offsets: dict[Place, int] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)


class Series(Struct):
    """One channel of one device over time, oldest first.

    `resolution_s` 0: every reading as it is, with `low`, `high` and `mean` the same. Else stretches of so many seconds:
    `ts_us` is where each begins, `n` how many readings are in it; a stretch without any is left out.
    """

    device: str
    channel: str
    unit: str
    resolution_s: float
    ts_us: list[int]
    low: list[float]
    high: list[float]
    mean: list[float]
    n: list[int]


@runtime_checkable  # the server checks what it is given
class HistoryStore(Protocol):
    """One owner; `keep`, `tidy` from one thread, the rest from any."""

    def offsets(self) -> Mapping[Place, int]:
        """The next offset of every partition that anything was kept of."""

    def cursors(self) -> Mapping[Stream, tuple[int, int]]:
        """See `Portion.cursors`."""

    def keep(self, portion: Portion) -> None:
        """Keep all of it with its offsets, or nothing. An offset that was kept is never kept again by the caller."""

    def tidy(self, now_us: int) -> None:
        """Make roll-ups and forget what is too old."""

    def series(self, device: str, channel: str, from_us: int, to_us: int, max_points: int) -> Series | None:
        """A channel in `max_points` at most, and one where the first stretch begins before `from_us`; without `to_us`.

        None where there is no such channel.
        """

    def channels(self, device: str) -> list[tuple[str, str]]:
        """(name, unit) of what is kept of a device."""

    def events(self, device: str, from_us: int, to_us: int, limit: int) -> list[Event]:
        """The newest events of a device, or of all with "", the newest first."""

    def close(self) -> None:
        """Put everything on disk and let go of it."""
