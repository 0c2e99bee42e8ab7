"""Cursors: how far a stream has been processed, so that each scan counts once.

A stream is a device and a schema fingerprint. Scans are named (epoch, sequence number) when they become durable on the
edge, and names are compared as tuples, so one cursor per stream says all (rule B5):

- a batch of an older epoch, or wholly below the cursor: dropped;
- one that overlaps the cursor: trimmed to what is new;
- one that begins past it: taken, and its first scan is told that there is a gap.

The row of a device holds its cursors and what each operator remembers of it, so that they are written together. Layout,
little-endian::

    u8   1
    u16  number of cursors; each: fingerprint (8 bytes), i64 epoch, i64 next, i64 parked_to, i64 resumed_to, u8 flags
         (bit 0 broken, bit 1 estimated), in order of fingerprints
    u8   number of operators; each: u8 length of its name, its name, u32 length, its bytes
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate_protocols.batch import Batch
from tidegate_protocols.errors import BadInput

LAYOUT = 1
_HEAD = struct.Struct("<BH")
_CURSOR = struct.Struct("<8sqqqqB")
_LENGTH = struct.Struct("<I")


@dataclass(slots=True)
class Cursor:
    """How far a stream is.

    epoch, next  name of the first scan not processed yet; epoch -1: there was none
    parked_to    log offset of the last frame of the stream that was sent to the retry topic
    resumed_to   log offset of the last one that came back from there and was taken
    broken       the last frame was passed over: whatever comes next is told a gap
    estimated    the last scan's time was an estimate
    """

    epoch: int = -1
    next: int = 0
    parked_to: int = -1
    resumed_to: int = -1
    broken: bool = False
    estimated: bool = False

    @property
    def parked(self) -> bool:
        """Whether frames of the stream are in the retry topic. While there are any, all others queue behind them."""
        return self.resumed_to < self.parked_to

    def admit(self, batch: Batch) -> tuple[Batch | None, bool]:
        """What is new in `batch`, None for nothing, and whether there is a gap before it. The cursor moves past it."""
        end = batch.seq + len(batch)
        if (batch.epoch, end) <= (self.epoch, self.next):
            return None, False
        gap = self.broken or self.estimated != batch.time_estimated
        if batch.epoch != self.epoch or batch.seq > self.next:
            gap = True
        elif batch.seq < self.next:
            batch = batch.slice(self.next - batch.seq, len(batch))
        self.epoch, self.next = batch.epoch, end
        self.broken, self.estimated = False, batch.time_estimated
        return batch, gap


@dataclass(slots=True)
class DeviceRow:
    """What the engine itself keeps of a device: its partition, and its cursors by fingerprint."""

    partition: int
    cursors: dict[bytes, Cursor] = field(default_factory=dict)

    def cursor(self, fingerprint: bytes) -> Cursor:
        """The stream's cursor; a new one where there was none."""
        cursor = self.cursors.get(fingerprint)
        if cursor is None:
            cursor = self.cursors[fingerprint] = Cursor()
        return cursor


def pack(row: DeviceRow, operators: Mapping[str, bytes]) -> bytes:
    """A device's row as bytes; the same content gives the same bytes."""
    parts = [_HEAD.pack(LAYOUT, len(row.cursors))]
    for fingerprint, c in sorted(row.cursors.items()):
        flags = c.broken | c.estimated << 1
        parts.append(_CURSOR.pack(fingerprint, c.epoch, c.next, c.parked_to, c.resumed_to, flags))
    parts.append(bytes([len(operators)]))
    for name, state in operators.items():
        parts += (bytes([len(name)]), name.encode("ascii"), _LENGTH.pack(len(state)), state)
    return b"".join(parts)


def unpack(partition: int, data: bytes) -> tuple[DeviceRow, dict[str, bytes]]:
    """Read what `pack` wrote. Raises BadInput."""
    row = DeviceRow(partition)
    operators: dict[str, bytes] = {}
    try:
        layout, count = _HEAD.unpack_from(data)
        if layout != LAYOUT:
            raise BadInput(f"layout {layout}; this program reads {LAYOUT}", where="device row")
        place = _HEAD.size
        for _ in range(count):
            fingerprint, epoch, following, parked, resumed, flags = _CURSOR.unpack_from(data, place)
            row.cursors[fingerprint] = Cursor(epoch, following, parked, resumed, bool(flags & 1), bool(flags & 2))
            place += _CURSOR.size
        some = data[place]
        place += 1
        for _ in range(some):
            length = data[place]
            name = data[place + 1 : place + 1 + length].decode("ascii")
            place += 1 + length
            (size,) = _LENGTH.unpack_from(data, place)
            place += _LENGTH.size
            operators[name] = data[place : place + size]
            place += size
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise BadInput(f"damaged: {error}", where="device row") from None
    if place != len(data):
        raise BadInput(f"{len(data)} bytes, not {place}", where="device row")
    return row, operators
