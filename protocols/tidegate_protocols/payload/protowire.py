"""The wire format of Protocol Buffers: fields of varints, fixed numbers and lengths, each checked.

Only the encoding (protobuf.dev, "Encoding"); what the fields mean is up to the caller. Groups, which proto3 does not
have, are refused. Nothing is allocated on the word of a length that the input does not bear out.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias

from ..errors import BadInput

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_F32 = struct.Struct("<f")
_F64 = struct.Struct("<d")
FieldValue: TypeAlias = int | bytes


def read_fields(data: bytes) -> Iterator[tuple[int, int, FieldValue]]:
    """Each field of a message as (number, wire type, value), in order.

    The value is an int for VARINT (unsigned 64 bits), 8 bytes for FIXED64, 4 for FIXED32, the content for LENGTH.
    Raises BadInput that names the byte.
    """
    at, size = 0, len(data)
    while at < size:
        start = at
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if not 1 <= number < 1 << 29:
            raise BadInput(f"field number {number}", where=f"byte {start}")
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, kind, value
            continue
        if kind == LENGTH:
            length, at = _varint(data, at)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise BadInput(f"wire type {kind}", where=f"byte {start}")
        if length > size - at:
            raise BadInput(f"field {number} wants {length} bytes, {size - at} are left", where=f"byte {start}")
        yield number, kind, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    start = at
    while True:
        if at == len(data):
            raise BadInput("ends inside a number", where=f"byte {start}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise BadInput("a number of more than 10 bytes", where=f"byte {start}")
    if value >> 64:
        raise BadInput("a number of more than 64 bits", where=f"byte {start}")
    return value, at


def float32(value: FieldValue) -> float:
    """A FIXED32 field as a float."""
    result: float = _F32.unpack(_bytes(value, 4))[0]
    return result


def float64(value: FieldValue) -> float:
    """A FIXED64 field as a double."""
    result: float = _F64.unpack(_bytes(value, 8))[0]
    return result


def text(value: FieldValue) -> str:
    """A LENGTH field as UTF-8."""
    try:
        return _bytes(value).decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput("text is not UTF-8") from None


def number(value: FieldValue) -> int:
    """A VARINT field."""
    if not isinstance(value, int):
        raise BadInput("a number is not of the wire type of numbers")
    return value


def message(value: FieldValue) -> bytes:
    """A LENGTH field as bytes."""
    return _bytes(value)


def _bytes(value: FieldValue, size: int | None = None) -> bytes:
    if isinstance(value, int) or (size is not None and len(value) != size):
        raise BadInput("a field is not of its wire type")
    return value


def put_varint(field: int, value: int) -> bytes:
    """A VARINT field; `value` is unsigned, up to 64 bits."""
    return _put(field << 3 | VARINT) + _put(value)


def put_bytes(field: int, value: bytes) -> bytes:
    """A LENGTH field."""
    return _put(field << 3 | LENGTH) + _put(len(value)) + value


def put_float(field: int, value: float) -> bytes:
    """A FIXED32 field."""
    return _put(field << 3 | FIXED32) + _F32.pack(value)


def put_double(field: int, value: float) -> bytes:
    """A FIXED64 field."""
    return _put(field << 3 | FIXED64) + _F64.pack(value)


def _put(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
