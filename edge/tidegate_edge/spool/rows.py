"""What the spool stores: streams, and chunks of their scans.

A chunk on the disk is one blob that describes itself, so that it can be found and believed in a damaged file:

    2   C1 54: a byte that MessagePack never uses, and a T
    3   length of what follows the checksum, little-endian
    4   CRC-32C of that
    1   length of the head
    …   head, MessagePack: [id, stream, seq, n, flags, stored_s]
    …   body, MessagePack: [times (µs): the first, then differences; rows of values], or nothing: the scans are lost
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, chain
from operator import sub
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from crc32c import crc32c
from tidegate_protocols.batch import Batch, Lane
from tidegate_protocols.errors import BadInput
from tidegate_protocols.scan import Value
from tidegate_protocols.schema import Schema

# Flags of a chunk: what its frames will say of its times.
TIME_FROM_AGENT = 1
TIME_ESTIMATED = 2
# The times count from the start of a boot, whose number in the spool stands in the bits from BOOT_SHIFT on.
TIME_SINCE_BOOT = 4
BOOT_SHIFT = 3

PRIORITY = 5  # of a stream of which nothing else is said

MAGIC = b"\xc1T"
PREFIX = 9  # magic, length, checksum

# What a row costs beside its data: its head and its share of the page's.
ROW_OVERHEAD = 16

_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(tuple[int, int, int, int, int, int]).decode
_decode_body = msgspec.msgpack.Decoder(tuple[list[int], list[tuple[Any, ...]]]).decode


@dataclass(slots=True, eq=False)
class Stream:
    """A device and a schema, and how far its scans have come. Scans are numbered from 0 within an epoch.

    epoch        the spool's when the stream began
    sent_as      the epoch that its frames name: the one that was claimed for its device; None until it was
    priority     the lowest leave first when the spool is full
    evicted_id   the newest of its chunks that was evicted since the start
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
    sent_as: int | None = None
    priority: int = PRIORITY
    evicted_id: int = 0
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


def stream_row(stream: Stream) -> tuple[Any, ...]:
    """A row of the table `stream`."""
    return (
        stream.number, stream.device, stream.schema.fingerprint, stream.epoch, stream.next_seq, stream.acknowledged,
        stream.evicted, stream.sent_as, stream.priority,
    )  # fmt: skip


def stream_of(row: tuple[Any, ...], schemas: Mapping[bytes, Schema]) -> Stream:
    """The reverse. Raises KeyError for a schema that is not there."""
    number, device, mark, epoch, next_seq, acknowledged, evicted, sent_as, priority = row
    return Stream(
        number, device, schemas[mark], epoch, next_seq, acknowledged, evicted, sent_as, priority,
        stored=True, dirty=False,
    )  # fmt: skip


@dataclass(slots=True, eq=False)
class Chunk:
    """Scans of one stream that were made durable together: one row of the spool.

    id        place in the order of arrival over all streams
    seq, n    number of the first scan in the stream, and how many there are
    flags     what is to be said of the times
    stored_s  the agent's wall time when it was stored, seconds
    ts        per scan its time (µs), empty until `load` where the chunk came from the disk
    values    per scan its values in the order of the channels
    data      the blob, where the chunk came from the disk
    size      bytes that it takes of the quota
    lost      what became of its scans, where they are lost and only their names are left
    """

    id: int
    stream: Stream
    seq: int
    n: int
    flags: int
    stored_s: int
    ts: list[int]
    values: list[tuple[Value, ...]]
    data: bytes = b""
    size: int = 0
    lost: str = ""

    def __len__(self) -> int:
        return self.n

    @property
    def stop(self) -> int:
        """Number after the last scan's."""
        return self.seq + self.n

    def load(self) -> None:
        """Take the scans out of the blob. Raises BadInput when it is not what its stream can hold."""
        if not self.ts:
            self.ts, self.values = decode_body(self.data, self.n, len(self.stream.schema.channels))
            self.data = b""


def encode_chunk(
    chunk_id: int, stream: int, seq: int, flags: int, stored_s: int, ts: list[int], values: list[tuple[Value, ...]]
) -> bytes:
    """A blob. Values are those of `Scan`: finite float, int64, bool or None."""
    head = _encode((chunk_id, stream, seq, len(ts), flags, stored_s))
    times = ts if len(ts) == 1 else [ts[0], *map(sub, ts[1:], ts)]
    return _seal(b"%c%b%b" % (len(head), head, _encode((times, values))))


def encode_lost(chunk_id: int, stream: int, seq: int, n: int, stored_s: int) -> bytes:
    """The blob of a chunk whose scans are lost, so that they are counted when their turn comes."""
    head = _encode((chunk_id, stream, seq, n, 0, stored_s))
    return _seal(b"%c%b" % (len(head), head))


def _seal(inner: bytes) -> bytes:
    return b"%b%b%b%b" % (MAGIC, len(inner).to_bytes(3, "little"), crc32c(inner).to_bytes(4, "little"), inner)


def is_sound(data: bytes) -> bool:
    """Whether a blob is whole and undamaged."""
    return (
        data[:2] == MAGIC
        and len(data) == PREFIX + int.from_bytes(data[2:5], "little")
        and crc32c(memoryview(data)[PREFIX:]) == int.from_bytes(data[5:PREFIX], "little")
    )


def decode_head(data: bytes) -> tuple[int, int, int, int, int, int]:
    """(id, stream, seq, n, flags, stored_s) of a blob. Raises BadInput when it is damaged."""
    if not is_sound(data):
        raise BadInput("a chunk is damaged")
    return _decode_head(data[PREFIX + 1 : PREFIX + 1 + data[PREFIX]])


def is_lost(data: bytes) -> bool:
    """Whether a sound blob has names only."""
    return len(data) == PREFIX + 1 + data[PREFIX]


def decode_body(data: bytes, n: int, channels: int) -> tuple[list[int], list[tuple[Value, ...]]]:
    """Times and values of a sound blob. Raises BadInput when they are not `n` scans of `channels` values."""
    try:
        times, values = _decode_body(data[PREFIX + 1 + data[PREFIX] :])
    except msgspec.DecodeError as error:
        raise BadInput(f"damaged: {error}") from None
    if len(times) != n or len(values) != n or any(len(row) != channels for row in values):
        raise BadInput(f"damaged: {len(times)} times and {len(values)} rows, where {n} scans should be")
    return (times if n == 1 else list(accumulate(times))), values


def to_batch(chunks: list[Chunk], start: int, stop: int, lane: Lane, *, shift_us: int = 0, flags: int = 0) -> Batch:
    """Scans `start` to `stop` (exclusive) of consecutive chunks of one stream, which have the same flags.

    `shift_us` is added to the times; `flags` say of them what the frame will. The stream has its claimed epoch.
    """
    first = chunks[0]
    stream = first.stream
    assert stream.sent_as is not None, "no frame goes out before its epoch is claimed"
    for chunk in chunks:
        chunk.load()
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
    times = np.array(ts, np.int64)
    return Batch(
        stream.device, stream.schema, stream.sent_as, start, times + shift_us if shift_us else times,
        tuple(columns), tuple(valid), lane, bool(flags & TIME_ESTIMATED), bool(flags & TIME_FROM_AGENT),
    )  # fmt: skip
