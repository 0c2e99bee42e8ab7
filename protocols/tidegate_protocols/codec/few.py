"""The plain codec for batches of few scans, without numpy: the same bytes, in a tenth of the time.

A device that reports once a second travels one scan a frame, and numpy takes longer to set up its arrays than such a
frame takes altogether.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from ..scan import Value
from ..schema import Schema

SCANS = 8  # up to so many; beyond, numpy is faster

_INTEGERS, _DECIMALS, _WORDS, _BITS = range(4)
_NULLS = 0x80
_EXPONENTS = [10.0**exponent for exponent in range(16)]
_EXACT = 2**53
_WRAP = 2**64


def encode_columns(schema: Schema, ts_us: Sequence[int], rows: Sequence[Sequence[Value]]) -> bytearray:
    """The columns of a plain frame before they are deflated. `rows` are the values in the channels' order, None for a
    null, of the channels' types."""
    raw = bytearray([_INTEGERS])
    _put_integers(raw, ts_us)
    for channel, column in zip(schema.channels, zip(*rows, strict=True), strict=True):
        nulls = 0
        values: Sequence[Any] = column
        start = len(raw)
        raw.append(0)
        if None in column:
            nulls = _NULLS
            values = [value for value in column if value is not None]
            raw += _bits(value is not None for value in column)
            if not values:
                raw[start] = nulls
                continue
        if channel.type == "bool":
            raw[start] = nulls | _BITS
            raw += _bits(values)
        elif channel.type == "int64":
            raw[start] = nulls | _INTEGERS
            _put_first(raw, values)
        elif (scaled := _as_decimals(values)) is not None:
            raw[start] = nulls | _DECIMALS
            raw.append(scaled[0])
            _put_first(raw, scaled[1])
        else:
            raw[start] = nulls | _WORDS
            words = struct.pack(f"<{len(values)}d", *values)
            for plane in range(8):
                raw += words[plane::8]
    return raw


def _bits(values: Iterable[object]) -> bytes:
    packed = 0
    count = 0
    for value in values:
        packed |= bool(value) << count
        count += 1
    return packed.to_bytes((count + 7) // 8, "little")


def _as_decimals(values: Sequence[float]) -> tuple[int, list[int]] | None:
    """(exponent, integers) whose quotients are the values bit for bit, or None; as `plain` does it."""
    for exponent, scale in enumerate(_EXPONENTS):
        integers = []
        exact = True
        for value in values:
            scaled = value * scale
            if not -_EXACT < scaled < _EXACT:  # nor a NaN
                return None
            integer = round(scaled)
            if not -_EXACT < integer < _EXACT:
                return None
            exact = exact and integer / scale == value and (integer != 0 or math.copysign(1.0, value) > 0)
            integers.append(integer)
        if exact:
            return exponent, integers
    return None


def _put_first(raw: bytearray, values: Sequence[int]) -> None:
    raw += struct.pack("<q", values[0])
    _put_integers(raw, values)


def _put_integers(raw: bytearray, values: Sequence[int]) -> None:
    """The differences: their width, and their bytes in planes."""
    folded = []
    top = 0
    before = values[0]
    for value in values[1:]:
        step = (value - before) % _WRAP
        fold = ((step << 1) ^ -(step >> 63)) % _WRAP
        folded.append(fold)
        top = max(top, fold)
        before = value
    width = 0 if top == 0 else 1 if top < 1 << 8 else 2 if top < 1 << 16 else 4 if top < 1 << 32 else 8
    raw.append(width)
    if width:
        words = struct.pack(f"<{len(folded)}Q", *folded)
        for plane in range(width):
            raw += words[plane::8]
