"""A batch: n scans of one device under one schema, in columns."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BadInput, Misuse
from .ids import check_device_id
from .schema import Schema

SCANS_MAX = 65_536
EPOCH_MAX = 2**32 - 1
SEQ_MAX = 2**63 - 1


class Lane(enum.IntEnum):
    """How a frame travels: in order (`LIVE`, or `BACKLOG` while behind), or as a disposable copy (`PREVIEW`)."""

    LIVE = 0
    BACKLOG = 1
    PREVIEW = 2


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """n scans of one device under one schema.

    device          device id
    schema          the channels, in order
    epoch           number of the spool that named these scans, 0 to 2**32-1
    seq             sequence number of the first scan; scan i is named (epoch, seq + i)
    ts_us           int64 [n], microseconds since 1970-01-01 UTC
    columns         one array [n] per channel, of the channel's dtype; the value under a null is unspecified
    valid           per channel bool [n], True where there is a value, or None when every scan has one
    lane            how the batch travels
    time_estimated  the times are an estimate: the clock was not synchronised
    time_from_agent the times are the agent's, since the device gave none that was plausible
    """

    device: str
    schema: Schema
    epoch: int
    seq: int
    ts_us: npt.NDArray[np.int64]
    columns: tuple[npt.NDArray[Any], ...]
    valid: tuple[npt.NDArray[np.bool_] | None, ...]
    lane: Lane = Lane.LIVE
    time_estimated: bool = False
    time_from_agent: bool = False

    def __post_init__(self) -> None:
        check_device_id(self.device)
        n = len(self.ts_us)
        if not 1 <= n <= SCANS_MAX:
            raise BadInput(f"{n} scans; a batch holds 1 to {SCANS_MAX}", where=f"batch of {self.device}")
        if not (0 <= self.epoch <= EPOCH_MAX and 0 <= self.seq <= SEQ_MAX - n):
            raise BadInput(f"name ({self.epoch}, {self.seq}) is out of range", where=f"batch of {self.device}")
        if self.ts_us.dtype != np.int64 or self.ts_us.ndim != 1:
            raise Misuse(f"ts_us is {self.ts_us.dtype}[{self.ts_us.ndim} axes], not int64[n]")
        count = len(self.schema.channels)
        if len(self.columns) != count or len(self.valid) != count:
            raise Misuse(f"{len(self.columns)} columns, {len(self.valid)} masks for {count} channels")
        for channel, column, mask in zip(self.schema.channels, self.columns, self.valid, strict=True):
            if column.dtype != channel.dtype or column.shape != (n,):
                raise Misuse(f"{channel.name}: {column.dtype}{column.shape}, not {channel.dtype}({n},)")
            if mask is not None and (mask.dtype != np.bool_ or mask.shape != (n,)):
                raise Misuse(f"{channel.name}: its mask is {mask.dtype}{mask.shape}, not bool({n},)")

    def __len__(self) -> int:
        return len(self.ts_us)

    @property
    def readings(self) -> int:
        """How many values are not null."""
        n = len(self)
        return sum(n if mask is None else int(np.count_nonzero(mask)) for mask in self.valid)

    def slice(self, start: int, stop: int) -> Batch:
        """Scans `start` to `stop` (exclusive) under their own names. The arrays are views."""
        return replace(
            self,
            seq=self.seq + start,
            ts_us=self.ts_us[start:stop],
            columns=tuple(column[start:stop] for column in self.columns),
            valid=tuple(None if mask is None else mask[start:stop] for mask in self.valid),
        )

    def equals(self, other: Batch) -> bool:
        """Whether both carry the same scans under the same names, bit for bit where there is a value."""
        if (self.device, self.schema, self.epoch, self.seq, self.lane, self.time_estimated, self.time_from_agent) != (
            other.device, other.schema, other.epoch, other.seq, other.lane, other.time_estimated,
            other.time_from_agent,
        ) or not np.array_equal(self.ts_us, other.ts_us):  # fmt: skip
            return False
        n = len(self)
        for mine, theirs, mask_a, mask_b in zip(self.columns, other.columns, self.valid, other.valid, strict=True):
            a = np.ones(n, np.bool_) if mask_a is None else mask_a
            b = np.ones(n, np.bool_) if mask_b is None else mask_b
            if not np.array_equal(a, b) or mine[a].tobytes() != theirs[a].tobytes():
                return False
        return True


def batch_from_rows(
    device: str,
    schema: Schema,
    rows: Sequence[tuple[int, Sequence[float | int | bool | None]]],
    *,
    epoch: int = 0,
    seq: int = 0,
    lane: Lane = Lane.LIVE,
    time_estimated: bool = False,
    time_from_agent: bool = False,
) -> Batch:
    """Turn rows ``(ts_us, values in channel order, None for a null)`` into a batch."""
    columns: list[npt.NDArray[Any]] = []
    valid: list[npt.NDArray[np.bool_] | None] = []
    for i, channel in enumerate(schema.channels):
        values = [row[1][i] for row in rows]
        if None in values:
            valid.append(np.array([value is not None for value in values], np.bool_))
            columns.append(np.array([0 if value is None else value for value in values], channel.dtype))
        else:
            valid.append(None)
            columns.append(np.array(values, channel.dtype))
    return Batch(
        device, schema, epoch, seq, np.array([row[0] for row in rows], np.int64), tuple(columns), tuple(valid),
        lane, time_estimated, time_from_agent,
    )  # fmt: skip
