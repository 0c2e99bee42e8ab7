"""What operators read and write: a block of scans in columns, and the columns of events that were found in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tidegate_protocols.batch import Batch
from tidegate_protocols.errors import Misuse
from tidegate_protocols.events import Phase
from tidegate_protocols.schema import LAT, LON, Schema

PHASES: tuple[Phase, ...] = ("instant", "begin", "end")
INSTANT, BEGIN, END = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """All scans of one schema in a micro-batch, of any number of devices.

    Scans of one device stand in their order (epoch, then sequence number); how devices alternate does not matter.

    schema    the channels, in order
    devices   the devices of this block, each once
    device    int32 [n], index into `devices`
    ts_us     int64 [n], microseconds since 1970-01-01 UTC
    columns   one array [n] per channel, of the channel's dtype; the value under a null is unspecified
    valid     per channel bool [n], True where there is a value, or None when every scan has one
    seq       int64 [n], sequence number of the scan
    epoch     int64 [n], spool epoch of the scan
    message   int32 [n], which record of the micro-batch the scan came in
    gap       bool [n], True where scans are missing before this one: nothing may be assumed between it and the last
    """

    schema: Schema
    devices: Sequence[str]
    device: npt.NDArray[np.int32]
    ts_us: npt.NDArray[np.int64]
    columns: tuple[npt.NDArray[Any], ...]
    valid: tuple[npt.NDArray[np.bool_] | None, ...]
    seq: npt.NDArray[np.int64]
    epoch: npt.NDArray[np.int64]
    message: npt.NDArray[np.int32]
    gap: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ts_us)

    def column(self, name: str) -> npt.NDArray[np.float64] | None:
        """Channel `name` as float64 [n], NaN where there is no value; None when the schema has no such channel."""
        index = self.schema.index.get(name)
        if index is None:
            return None
        mask = self.valid[index]
        values = self.columns[index]
        if values.dtype == np.float64 and mask is None:
            return values
        out = values.astype(np.float64)
        if mask is not None:
            out[~mask] = np.nan
        return out

    def position(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Longitude and latitude, float64 [n] each, degrees; all NaN when the schema has no positions."""
        lon, lat = (self.column(LON), self.column(LAT)) if self.schema.is_position else (None, None)
        if lon is None or lat is None:
            nothing = np.full(len(self), np.nan)
            return nothing, nothing
        return lon, lat

    def take(self, rows: npt.NDArray[Any]) -> Block:
        """The block that holds only these scans (index array, or bool [n]). `devices` stays as it is."""
        return Block(
            self.schema, self.devices, self.device[rows], self.ts_us[rows],
            tuple(column[rows] for column in self.columns),
            tuple(None if mask is None else mask[rows] for mask in self.valid),
            self.seq[rows], self.epoch[rows], self.message[rows], self.gap[rows],
        )  # fmt: skip


def block_of(
    batches: Sequence[Batch], *, gaps: Sequence[bool] | None = None, messages: Sequence[int] | None = None
) -> Block:
    """Put batches of one schema together, in the order given.

    `gaps[i]`: scans are missing before the first scan of batch i. `messages[i]`: the record that batch i came in,
    i when left out. Raises Misuse for no batch, or for batches of different schemas.
    """
    if not batches:
        raise Misuse("a block of no batch")
    schema = batches[0].schema
    if any(batch.schema.fingerprint != schema.fingerprint for batch in batches):
        raise Misuse("a block of more than one schema")
    numbers: dict[str, int] = {}
    for batch in batches:
        numbers.setdefault(batch.device, len(numbers))
    sizes = np.array([len(batch) for batch in batches])
    first = np.cumsum(sizes) - sizes
    gap = np.zeros(int(sizes.sum()), np.bool_)
    if gaps is not None:
        gap[first] = gaps
    masks: list[npt.NDArray[np.bool_] | None] = []
    for i in range(len(schema.channels)):
        parts = [batch.valid[i] for batch in batches]
        if all(part is None for part in parts):
            masks.append(None)
        else:
            masks.append(
                np.concatenate(
                    [np.ones(size, np.bool_) if part is None else part for part, size in zip(parts, sizes, strict=True)]
                )
            )
    return Block(
        schema=schema,
        devices=list(numbers),
        device=np.repeat(np.array([numbers[batch.device] for batch in batches], np.int32), sizes),
        ts_us=np.concatenate([batch.ts_us for batch in batches]),
        columns=tuple(np.concatenate([batch.columns[i] for batch in batches]) for i in range(len(schema.channels))),
        valid=tuple(masks),
        seq=np.concatenate([batch.seq + np.arange(len(batch), dtype=np.int64) for batch in batches]),
        epoch=np.repeat(np.array([batch.epoch for batch in batches], np.int64), sizes),
        message=np.repeat(np.array(range(len(batches)) if messages is None else messages, np.int32), sizes),
        gap=gap,
    )


class Found(NamedTuple):
    """One event of `EventColumns` as a row; fields as in `tidegate_protocols.events.Event`. None = not stated."""

    scan: int
    kind: str
    phase: Phase
    subject: str
    ts_us: int
    value: float | None
    limit: float | None
    unit: str
    lat: float | None
    lon: float | None
    attrs: dict[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class EventColumns:
    """k events that an operator found in a block, ordered by scan, then in an order of the operator's own.

    scan      int32 [k], the scan (row of the block) in which it was found
    kind      uint8 [k], index into `kinds`
    phase     uint8 [k], index into `PHASES`
    subject   int32 [k], index into `subjects`
    ts_us     int64 [k], when it happened: the scan's time, or earlier
    value     float64 [k], NaN = none
    limit     float64 [k], NaN = none
    lat, lon  float64 [k], where it happened, degrees, NaN = not known
    unit      unit of value and limit, one per event
    attrs     what else there is to say, one per event
    """

    kinds: Sequence[str]
    subjects: Sequence[str]
    scan: npt.NDArray[np.int32]
    kind: npt.NDArray[np.uint8]
    phase: npt.NDArray[np.uint8]
    subject: npt.NDArray[np.int32]
    ts_us: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    limit: npt.NDArray[np.float64]
    lat: npt.NDArray[np.float64]
    lon: npt.NDArray[np.float64]
    unit: Sequence[str] = field(default_factory=list)
    attrs: Sequence[dict[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.scan)

    def __iter__(self) -> Iterator[Found]:
        for i in range(len(self.scan)):
            yield Found(
                int(self.scan[i]), self.kinds[self.kind[i]], PHASES[self.phase[i]], self.subjects[self.subject[i]],
                int(self.ts_us[i]), _number(self.value[i]), _number(self.limit[i]), self.unit[i],
                _number(self.lat[i]), _number(self.lon[i]), self.attrs[i],
            )  # fmt: skip


def _number(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)


def no_events() -> EventColumns:
    """Nothing was found."""
    f = np.empty(0)
    return EventColumns(
        (), (), np.empty(0, np.int32), np.empty(0, np.uint8), np.empty(0, np.uint8), np.empty(0, np.int32),
        np.empty(0, np.int64), f, f, f, f, [], [],
    )  # fmt: skip


def events_of(
    kinds: Sequence[str],
    names: Sequence[str],
    *,
    scan: npt.NDArray[np.int32],
    kind: npt.NDArray[np.uint8],
    phase: npt.NDArray[np.uint8],
    ts_us: npt.NDArray[np.int64],
    value: npt.NDArray[np.float64] | None = None,
    limit: npt.NDArray[np.float64] | None = None,
    lat: npt.NDArray[np.float64] | None = None,
    lon: npt.NDArray[np.float64] | None = None,
    unit: Sequence[str] | None = None,
    attrs: Sequence[dict[str, str]],
) -> EventColumns:
    """Events in their canonical order: by scan, time, subject, then as given. `names`: the subject of each event.

    Kernels find what one scan leads to in an order that depends on the history of edits; this one does not.
    """
    k = len(scan)
    subjects = sorted(set(names))
    rank = {name: i for i, name in enumerate(subjects)}
    subject = np.array([rank[name] for name in names], np.int32)
    order = np.lexsort((np.arange(k), subject, ts_us, scan))
    none = np.full(k, np.nan)
    return EventColumns(
        kinds, subjects, scan[order], kind[order], phase[order], subject[order], ts_us[order],
        none if value is None else value[order], none if limit is None else limit[order],
        none if lat is None else lat[order], none if lon is None else lon[order],
        [""] * k if unit is None else [unit[i] for i in order.tolist()],
        [attrs[i] for i in order.tolist()],
    )  # fmt: skip
