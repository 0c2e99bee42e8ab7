"""The row of a device: its cursors and what each operator remembers of it, written together under one tag.

Layout, little-endian::

    u8   2
    i64  heard_us, i64 usual_us, u8 silent
    u16  number of streams; each: fingerprint (8 bytes), i64 epoch, i64 next, i64 parked_to, i64 resumed_to, u8 flags
         (bit 0 broken, bit 1 estimated, bit 2 a preview is open), in order of fingerprints
         and where a preview is open: i64 epoch, i64 next, u8 flags (bits 0 and 1) of its own cursor,
         u32 length and what people were told (MessagePack, previews.Told), operators as below
    u8   number of operators; each: u8 length of its name, its name, u32 length, its bytes
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate_protocols.errors import BadInput

LAYOUT = 2
_HEAD = struct.Struct("<BqqBH")
_CURSOR = struct.Struct("<8sqqqqB")
_SHOWN = struct.Struct("<qqB")
_LENGTH = struct.Struct("<I")
Rows = dict[str, bytes]


@dataclass(slots=True)
class Cursor:
    """How far a stream is.

    epoch, next  name of the first scan not processed yet; epoch -1: there was none
    parked_to    log offset of the last frame of the stream that was sent to the retry topic
    resumed_to   log offset of the last one that came back from there and was taken
    broken       the last frame was passed over: whatever comes next is told a gap
    estimated    the last scan's time was an estimate
    shown        the preview's cursor (parked_to and resumed_to mean nothing there), None when none is open
    told, rows   of the preview: what people were told, and what each operator remembers
    """

    epoch: int = -1
    next: int = 0
    parked_to: int = -1
    resumed_to: int = -1
    broken: bool = False
    estimated: bool = False
    shown: Cursor | None = None
    told: bytes = b""
    rows: Rows = field(default_factory=dict)


@dataclass(slots=True)
class DeviceRow:
    """What the engine itself keeps of a device.

    partition  where it belongs
    heard_us   append time of the newest frame, microseconds since 1970 UTC; 0: never
    usual_us   how long it usually pauses between two live frames
    silent     whether it was called silent since
    cursors    by schema fingerprint
    """

    partition: int
    heard_us: int = 0
    usual_us: int = 0
    silent: bool = False
    cursors: dict[bytes, Cursor] = field(default_factory=dict)


def pack(row: DeviceRow, operators: Mapping[str, bytes]) -> bytes:
    """A device's row as bytes; the same content gives the same bytes."""
    parts = [_HEAD.pack(LAYOUT, row.heard_us, row.usual_us, row.silent, len(row.cursors))]
    for fingerprint, c in sorted(row.cursors.items()):
        flags = c.broken | c.estimated << 1 | (c.shown is not None) << 2
        parts.append(_CURSOR.pack(fingerprint, c.epoch, c.next, c.parked_to, c.resumed_to, flags))
        if c.shown is not None:
            parts.append(_SHOWN.pack(c.shown.epoch, c.shown.next, c.shown.broken | c.shown.estimated << 1))
            parts += (_LENGTH.pack(len(c.told)), c.told)
            _pack_operators(parts, c.rows)
    _pack_operators(parts, operators)
    return b"".join(parts)


def _pack_operators(parts: list[bytes], operators: Mapping[str, bytes]) -> None:
    parts.append(bytes([len(operators)]))
    for name, state in operators.items():
        parts += (bytes([len(name)]), name.encode("ascii"), _LENGTH.pack(len(state)), state)


def unpack(partition: int, data: bytes) -> tuple[DeviceRow, Rows]:
    """Read what `pack` wrote. Raises BadInput."""
    row = DeviceRow(partition)
    try:
        layout, row.heard_us, row.usual_us, silent, count = _HEAD.unpack_from(data)
        if layout != LAYOUT:
            raise BadInput(f"layout {layout}; this program reads {LAYOUT}", where="device row")
        row.silent = bool(silent)
        place = _HEAD.size
        for _ in range(count):
            fingerprint, epoch, following, parked, resumed, flags = _CURSOR.unpack_from(data, place)
            place += _CURSOR.size
            cursor = Cursor(epoch, following, parked, resumed, bool(flags & 1), bool(flags & 2))
            if flags & 4:
                epoch, following, flags = _SHOWN.unpack_from(data, place)
                cursor.shown = Cursor(epoch, following, broken=bool(flags & 1), estimated=bool(flags & 2))
                place += _SHOWN.size
                cursor.told, place = _take(data, place)
                cursor.rows, place = _unpack_operators(data, place)
            row.cursors[fingerprint] = cursor
        operators, place = _unpack_operators(data, place)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise BadInput(f"damaged: {error}", where="device row") from None
    if place != len(data):
        raise BadInput(f"{len(data)} bytes, not {place}", where="device row")
    return row, operators


def _take(data: bytes, place: int) -> tuple[bytes, int]:
    (size,) = _LENGTH.unpack_from(data, place)
    place += _LENGTH.size
    return data[place : place + size], place + size


def _unpack_operators(data: bytes, place: int) -> tuple[Rows, int]:
    operators: Rows = {}
    some = data[place]
    place += 1
    for _ in range(some):
        length = data[place]
        name = data[place + 1 : place + 1 + length].decode("ascii")
        operators[name], place = _take(data, place + 1 + length)
    return operators, place
