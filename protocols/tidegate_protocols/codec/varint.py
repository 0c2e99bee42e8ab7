"""Variable-length integers of the frame: LEB128, 7 bits a byte, low bits first, at most 64 bits."""

from __future__ import annotations

from ..errors import BadInput

_U64 = (1 << 64) - 1


def zigzag(value: int) -> int:
    """Signed 64-bit to unsigned, small magnitudes first: 0, -1, 1, -2 … → 0, 1, 2, 3 …"""
    return ((value << 1) ^ (value >> 63)) & _U64


def unzigzag(value: int) -> int:
    """The inverse of `zigzag`."""
    return (value >> 1) ^ -(value & 1)


def put_varint(out: bytearray, value: int) -> None:
    """Append `value`, 0 to 2**64 - 1."""
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def take_varint(data: bytes | memoryview, pos: int, end: int, what: str) -> tuple[int, int]:
    """Read the varint at `pos`, which must end before `end`. Returns (value, position after it).

    Raises BadInput where it is cut short, over 64 bits, or longer than it needs to be (each value has one spelling).
    """
    value, shift, start = 0, 0, pos
    while True:
        if pos >= end:
            raise BadInput(f"{what} is cut short", where=f"byte {start}")
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise BadInput(f"{what} is over 64 bits", where=f"byte {start}")
    if value > _U64:
        raise BadInput(f"{what} is over 64 bits", where=f"byte {start}")
    if byte == 0 and shift:
        raise BadInput(f"{what} is longer than it needs to be", where=f"byte {start}")
    return value, pos
