"""Residuals as bits of equal width, in blocks of 64.

A block: width u8 (0 to 64), then its values of `width` bits each, low bits first, zeros up to a whole byte.
"""

# mypy: no-check-untyped-defs, allow-untyped-defs
from __future__ import annotations

import numpy as np
from numba import njit

from .bits import bit_length, load64

BLOCK = 64
_ALL = ~np.uint64(0)


@njit(cache=True)
def packed_size(r, count):
    """The bytes that `pack` would write."""
    total = 0
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        union = np.uint64(0)
        for i in range(start, stop):
            union |= r[i]
        total += 1 + ((bit_length(union) * (stop - start) + 7) >> 3)
    return total


@njit(cache=True)
def pack(r, count, out, o):
    """Write `count` residuals at `o`; returns the place after them."""
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        union = np.uint64(0)
        for i in range(start, stop):
            union |= r[i]
        width = bit_length(union)
        out[o] = np.uint8(width)
        o = pack_bits(r, start, stop, width, out, o + 1)
    return o


@njit(cache=True)
def pack_bits(r, start, stop, width, out, o):
    """Write r[start:stop], `width` bits each; returns the place after them."""
    if width == 0:
        return o
    acc = np.uint64(0)
    filled = 0
    for i in range(start, stop):
        value = r[i]
        acc |= value << np.uint64(filled)
        filled += width
        if filled >= 64:
            for k in range(8):
                out[o + k] = np.uint8((acc >> np.uint64(8 * k)) & np.uint64(0xFF))
            o += 8
            filled -= 64
            acc = value >> np.uint64(width - filled) if filled > 0 else np.uint64(0)
    while filled > 0:
        out[o] = np.uint8(acc & np.uint64(0xFF))
        o += 1
        acc >>= np.uint64(8)
        filled -= 8
    return o


@njit(cache=True)
def unpack(data, o, end, r, count):
    """Read `count` residuals at `o`; returns the place after them, or -1 where they are not what `pack` writes.

    Reads, but does not use, up to 8 bytes past `end`: the caller's array must have them.
    """
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        if o >= end or data[o] > 64:
            return -1
        o = unpack_bits(data, o + 1, end, r, start, stop, np.int64(data[o]))
        if o < 0:
            return -1
    return o


@njit(cache=True)
def unpack_bits(data, o, end, r, start, stop, width):
    """Read r[start:stop], `width` bits each; returns the place after them, or -1 where they are cut short or spare bits
    are set. Reads up to 8 bytes past `end`.
    """
    if width == 0:
        for i in range(start, stop):
            r[i] = np.uint64(0)
        return o
    bits = width * (stop - start)
    size = (bits + 7) >> 3
    if size > end - o or (bits & 7 and data[o + size - 1] >> (bits & 7)):
        return -1
    mask = _ALL >> np.uint64(64 - width)
    bit = 0
    if width <= 57:
        for i in range(start, stop):
            r[i] = (load64(data, o + (bit >> 3)) >> np.uint64(bit & 7)) & mask
            bit += width
    else:
        for i in range(start, stop):
            place = o + (bit >> 3)
            shift = bit & 7
            value = load64(data, place) >> np.uint64(shift)
            if shift:
                value |= np.uint64(data[place + 8]) << np.uint64(64 - shift)
            r[i] = value & mask
            bit += width
    return o + size
