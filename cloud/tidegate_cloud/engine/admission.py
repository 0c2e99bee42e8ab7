"""Whose frames they are, whether they belong where they lie, and what is new in them.

Frames of known devices and streams are checked and admitted in columns. A frame that is the first of its device, that
is not where it belongs, or that cannot be read is looked at by itself.

A device has at most `ANNOUNCED_MAX` streams, and `UNKNOWN_MAX` of schemas that nobody has announced: what is beyond is
refused, so that junk under one device's key can neither grow its row beyond a record, nor keep the device's next real
schema out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from tidegate_protocols.batch import Lane
from tidegate_protocols.errors import BadInput
from tidegate_protocols.frame import NotYetReadable
from tidegate_protocols.ids import partition_of
from tidegate_protocols.schema import Schema

from .blocks import Bools, Frames, Ints
from .deadletters import Reason
from .kernels import admit as kernels
from .logic import Record
from .streams import Streams

UNKNOWN_MAX = 256
ANNOUNCED_MAX = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Admitted:
    """What became of k frames; `kernels.admit` says what the columns mean.

    device, stream  int64, int32 [k]; -1 = none
    refused         (record, why, the error), in order of the records
    parked          records that must wait in the retry topic, in order
    """

    device: Ints
    stream: npt.NDArray[np.int32]
    start: Ints
    gap: Bools
    round_of: Ints
    forks: Bools
    joins: Bools
    heard: Bools
    until_epoch: Ints
    until: Ints
    counts: Ints
    refused: list[tuple[int, Reason, BadInput]] = field(default_factory=list)
    parked: list[int] = field(default_factory=list)


class Admission:
    """Admits frames to `streams`. `schemas`: those announced, by fingerprint; it may change between calls."""

    def __init__(self, streams: Streams, partitions: int) -> None:
        self._streams = streams
        self._home = lru_cache(1 << 16)(lambda key: partition_of(key, partitions))
        self._turn = 0

    def admit(
        self, records: Sequence[Record], frames: Frames, schemas: Mapping[bytes, Schema], came_back: int
    ) -> Admitted:
        """Cursors move past what is admitted. The first `came_back` records have waited before."""
        k = len(records)
        start, round_of, until_epoch, until = np.empty((4, k), np.int64)
        gap, forks, joins, heard = np.empty((4, k), np.bool_)
        result = Admitted(
            *self._places(records, frames), start, gap, round_of, forks, joins, heard, until_epoch, until,
            np.zeros(kernels.COUNTS, np.int64),
        )  # fmt: skip
        schema = self._one_by_one(records, frames, result)
        self._find_streams(result, schema, schemas)
        waits = self._streams.parked(result.stream)
        waits[:came_back] = False
        unread = np.zeros(k, np.bool_)
        unread[list(frames.bad)] = True
        waits |= _from_first(result.stream, unread)
        result.parked.extend(np.flatnonzero(waits).tolist())
        live = frames.lane == Lane.LIVE
        live[:came_back] = False
        self._turn += 1
        kernels.admit(
            self._turn, result.device, np.where(waits, -1, result.stream), frames.block, frames.epoch, frames.seq,
            frames.n, frames.lane == Lane.PREVIEW, live, frames.estimated,
            np.fromiter((record.append_us for record in records), np.int64, k),
            self._streams.device, self._streams.stream,
            result.start, result.gap, result.round_of, result.forks, result.joins, result.until_epoch, result.until,
            result.heard, result.counts,
        )  # fmt: skip
        return result

    def _places(self, records: Sequence[Record], frames: Frames) -> tuple[Ints, npt.NDArray[np.int32]]:
        """The device of each frame that is known and where it belongs, -1 for every other; and no stream yet."""
        k = len(records)
        get: Any = self._streams.number_of.get
        by_key = np.fromiter((get(record.key, -1) for record in records), np.int64, k)
        by_name = np.array([*(get(name, -1) for name in frames.names), -1], np.int64)
        partition = np.fromiter((record.partition for record in records), np.int64, k)
        unread = [i for i, error in frames.bad.items() if not isinstance(error, NotYetReadable)]
        by_key[unread] = -1
        right = (by_key >= 0) & (by_key == by_name[frames.device])
        right &= self._streams.device["partition"][by_key] == partition
        return np.where(right, by_key, -1), np.full(k, -1, np.int32)

    def _one_by_one(self, records: Sequence[Record], frames: Frames, result: Admitted) -> Ints:
        """Look at every frame without a device; the schema's number of each frame that has one, -1 for the others."""
        schema = np.array([*(self._streams.schema_number(mark) for mark in frames.schemas), -1], np.int64)[
            frames.schema
        ]
        for i in np.flatnonzero(result.device < 0).tolist():
            record, error = records[i], frames.bad.get(i)
            if error is not None and not isinstance(error, NotYetReadable):
                result.refused.append((i, "unreadable", error))
                continue
            name = frames.names[frames.device[i]]
            refusal = self._check(record, name)
            if refusal is not None:
                result.refused.append((i, *refusal))
                continue
            number = self._streams.number_of.get(name)
            result.device[i] = self._streams.add_device(name, record.partition) if number is None else number
        schema[result.device < 0] = -1
        return schema

    def _check(self, record: Record, name: bytes) -> tuple[Reason, BadInput] | None:
        device = name.decode("ascii")
        if record.key != name:
            return "wrong-key", BadInput(f"the key is {record.key!r}, the frame is of device {device!r}")
        home = self._home(name)
        if home != record.partition:
            return "wrong-partition", BadInput(
                f"partition {record.partition}; key {device!r} belongs in {home}",
                hint="the producer must use the partitioner murmur2_random",
            )
        return None

    def _find_streams(self, result: Admitted, schema: Ints, schemas: Mapping[bytes, Schema]) -> None:
        """The stream of each frame; the first frame of a stream makes it, where there is room."""
        owned = np.flatnonzero(schema >= 0)
        result.stream[owned] = self._streams.find_streams(result.device[owned], schema[owned])
        for i in owned[result.stream[owned] < 0].tolist():
            device, number = int(result.device[i]), int(schema[i])
            stream = self._streams.stream_of(device, number)
            if stream < 0:
                if not self._has_room(device, self._streams.schemas[number] in schemas, schemas):
                    result.refused.append((i, "too-many-schemas", _TOO_MANY))
                    continue
                stream = self._streams.add_stream(device, number)
            result.stream[i] = stream
        result.refused.sort(key=lambda refusal: refusal[0])

    def _has_room(self, device: int, announced: bool, schemas: Mapping[bytes, Schema]) -> bool:
        streams = self._streams.of_device(device)
        if len(streams) < UNKNOWN_MAX:
            return True
        known = sum(self._streams.schemas[int(self._streams.stream["schema"][s])] in schemas for s in streams)
        return known < ANNOUNCED_MAX if announced else len(streams) - known < UNKNOWN_MAX


def _from_first(stream: npt.NDArray[np.int32], unread: Bools) -> Bools:
    """Of each stream the first frame that cannot be read yet, and every one after it."""
    chosen = np.flatnonzero(unread & (stream >= 0))
    if not len(chosen):
        return np.zeros(len(stream), np.bool_)
    streams, first = np.unique(stream[chosen], return_index=True)
    place = np.minimum(np.searchsorted(streams, stream), len(streams) - 1)
    return np.asarray((streams[place] == stream) & (np.arange(len(stream)) >= chosen[first[place]]))


_TOO_MANY = BadInput(
    f"the device has frames under more than {UNKNOWN_MAX} schemas that were never announced, or {ANNOUNCED_MAX} that "
    "were",
    hint="announce the schema on device.schemas before its first frame",
)
