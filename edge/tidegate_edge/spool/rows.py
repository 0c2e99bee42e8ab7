"""What the spool stores: streams, and chunks of their scans."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from tidegate_protocols.batch import Batch, Lane
from tidegate_protocols.errors import BadInput
from tidegate_protocols.scan import Value
from tidegate_protocols.schema import Schema

# Flags of a chunk: what its frames will say of its times.
TIME_FROM_AGENT = 1
TIME_ESTIMATED = 2

# What a row costs beside its data: its other columns and its share of the page's head.
ROW_OVERHEAD = 32

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[list[int], list[tuple[Any, ...]]]).decode


@dataclass(slots=True, eq=False)
class Stream:
    """A device and a schema, and how far its scans have come. Scans are numbered from 0 within an epoch.

    chunk_max    scans that one of its chunks holds at most
    stored       whether the file has a row of it
    dirty        whether that row is behind
    """

    number: int
    device: str
    schema: Schema
    epoch: int
    next_seq: int = 0
    acknowledged: int = 0
    evicted: int = 0
    chunk_max: int = 0
    stored: bool = False
    dirty: bool = True

    def __post_init__(self) -> None:
        # A frame is cut from whole chunks where it can be, and holds some 100,000 values at most.
        self.chunk_max = max(1, min(1024, 65_536 // (len(self.schema.channels) + 1)))

    @property
    def tail(self) -> int:
        """Number of the oldest scan that is neither acknowledged by Kafka nor evicted: what is sent next."""
        return self.acknowledged + self.evicted


@dataclass(slots=True, eq=False)
class Chunk:
    """Scans of one stream that were made durable together: one row of the spool.

    id            place in the order of arrival over all streams; ids are given without holes
    seq           number of the first scan in the stream
    flags         what is to be said of the times
    committed_ms  the agent's wall time when it was stored
    ts, values    per scan its time (µs) and its values in the order of the channels
    size          bytes that it takes of the quota
    """

    id: int
    stream: Stream
    seq: int
    flags: int
    committed_ms: int
    ts: list[int]
    values: list[tuple[Value, ...]]
    size: int = 0
    damaged: str = ""

    def __len__(self) -> int:
        return len(self.ts)

    @property
    def stop(self) -> int:
        """Number after the last scan's."""
        return self.seq + len(self.ts)


def encode_chunk(ts: list[int], values: list[tuple[Value, ...]]) -> bytes:
    """Times and values as bytes (MessagePack). Values are those of `Scan`: finite float, int64, bool or None."""
    return _encode((ts, values))


def decode_chunk(data: bytes, n: int, channels: int) -> tuple[list[int], list[tuple[Value, ...]]]:
    """The reverse. Raises BadInput when the bytes are not a chunk of `n` scans of `channels` values."""
    try:
        ts, values = _decode(data)
    except msgspec.DecodeError as error:
        raise BadInput(f"damaged: {error}") from None
    if len(ts) != n or len(values) != n or any(len(row) != channels for row in values):
        raise BadInput(f"damaged: {len(ts)} times and {len(values)} rows, where {n} scans should be")
    return ts, values


def to_batch(chunks: list[Chunk], start: int, stop: int, lane: Lane) -> Batch:
    """Scans `start` to `stop` (exclusive) of consecutive chunks of one stream, which have the same flags."""
    first = chunks[0]
    stream = first.stream
    if len(chunks) == 1:
        ts, rows = first.ts, first.values
    else:
        ts = list(chain.from_iterable(chunk.ts for chunk in chunks))
        rows = list(chain.from_iterable(chunk.values for chunk in chunks))
    a, b = start - first.seq, stop - first.seq
    if a or b != len(ts):
        ts, rows = ts[a:b], rows[a:b]
    columns: list[npt.NDArray[Any]] = []
    valid: list[npt.NDArray[np.bool_] | None] = []
    for channel, values in zip(stream.schema.channels, zip(*rows, strict=True), strict=True):
        if None in values:
            valid.append(np.array([value is not None for value in values], np.bool_))
            columns.append(np.array([0 if value is None else value for value in values], channel.dtype))
        else:
            valid.append(None)
            columns.append(np.array(values, channel.dtype))
    return Batch(
        stream.device, stream.schema, stream.epoch, start, np.array(ts, np.int64), tuple(columns), tuple(valid),
        lane, bool(first.flags & TIME_ESTIMATED), bool(first.flags & TIME_FROM_AGENT),
    )  # fmt: skip
