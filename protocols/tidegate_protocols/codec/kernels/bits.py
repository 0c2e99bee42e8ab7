"""Small integers: bit lengths, zigzag, float bits in the order of their values, varints."""

# mypy: no-check-untyped-defs, allow-untyped-defs
from __future__ import annotations

import numpy as np
from numba import njit

from . import apart  # noqa: F401

_1 = np.uint64(1)
_7 = np.uint64(7)
_LOW7 = np.uint64(0x7F)
_MORE = np.uint64(0x80)
_SIGNLESS = np.int64(0x7FFFFFFFFFFFFFFF)


@njit(cache=True)
def bit_length(u):
    """The number of bits of uint64 `u`; 0 for 0."""
    n = 0
    if u >> np.uint64(32):
        u >>= np.uint64(32)
        n += 32
    if u >> np.uint64(16):
        u >>= np.uint64(16)
        n += 16
    if u >> np.uint64(8):
        u >>= np.uint64(8)
        n += 8
    if u >> np.uint64(4):
        u >>= np.uint64(4)
        n += 4
    if u >> np.uint64(2):
        u >>= np.uint64(2)
        n += 2
    if u >> _1:
        return n + 2
    return n + np.int64(u)


@njit(cache=True)
def zigzag(x):
    """int64 to uint64, small magnitudes first."""
    return np.uint64((x << 1) ^ (x >> 63))


@njit(cache=True)
def unzigzag(u):
    """The inverse of `zigzag`."""
    return np.int64(u >> _1) ^ -np.int64(u & _1)


@njit(cache=True)
def ordered(u):
    """The bits of a float64 as an int64 that sorts as the values do."""
    x = np.int64(u)
    return x if x >= 0 else x ^ _SIGNLESS


@njit(cache=True)
def unordered(x):
    """The inverse of `ordered`."""
    return np.uint64(x if x >= 0 else x ^ _SIGNLESS)


@njit(cache=True)
def put_varint(out, o, u):
    """Write `u` at `o`; returns the place after it."""
    while u >= _MORE:
        out[o] = np.uint8((u & _LOW7) | _MORE)
        o += 1
        u >>= _7
    out[o] = np.uint8(u)
    return o + 1


@njit(cache=True)
def take_varint(data, o, end):
    """(value, place after it); the place is -1 where the varint is cut short, over 64 bits or longer than needed."""
    u = np.uint64(0)
    shift = np.uint64(0)
    while True:
        if o >= end:
            return u, -1
        byte = np.uint64(data[o])
        o += 1
        if shift == np.uint64(63) and byte > _1:
            return u, -1
        u |= (byte & _LOW7) << shift
        if byte < _MORE:
            if byte == np.uint64(0) and shift != np.uint64(0):
                return u, -1
            return u, o
        shift += _7
        if shift > np.uint64(63):
            return u, -1


@njit(cache=True)
def load64(data, o):
    """The uint64 in the 8 bytes at `o`, low byte first."""
    return (
        np.uint64(data[o])
        | np.uint64(data[o + 1]) << np.uint64(8)
        | np.uint64(data[o + 2]) << np.uint64(16)
        | np.uint64(data[o + 3]) << np.uint64(24)
        | np.uint64(data[o + 4]) << np.uint64(32)
        | np.uint64(data[o + 5]) << np.uint64(40)
        | np.uint64(data[o + 6]) << np.uint64(48)
        | np.uint64(data[o + 7]) << np.uint64(56)
    )


@njit(cache=True)
def store64(out, o, u):
    """Write `u` in the 8 bytes at `o`, low byte first."""
    for k in range(8):
        out[o + k] = np.uint8((u >> np.uint64(8 * k)) & np.uint64(0xFF))
