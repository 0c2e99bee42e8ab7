"""float64 values as integers: what the numbers of a column have in common, found and undone.

| kind | the integer r stands for | exponent |
|---|---|---|
| INTEGERS | r itself: int64, bool and time columns | |
| DECIMALS | float64(r) / 10**e | 0 to 15 |
| BINARY | float64(r) / 2**e | 0 to 31 |
| SINGLE_DECIMALS | float64(float32(float64(r) / 10**e)) | 0 to 15 |
| SINGLES | the float32 whose bits, in the order of their values, are r | |
| NEAR_DECIMALS | float64(r) / 10**e, moved by a second integer of steps in the order of float64s | 0 to 15 |
| ORDERED | the float64 whose bits, in the order of their values, are r | |
| SPLIT | exponent 0: sign and exponent in r, 52 bits of mantissa beside; exponent 1: 64 raw bits, no r | 0 or 1 |

A value that the model does not give back bit for bit is an exception: it is kept raw beside the integers, in which
the integer before it is repeated. That decimals are the shortest name of most sensor values, and how they are found
by multiplying out and dividing back, is the idea of ALP (Afroozeh, Kuffo, Boncz, SIGMOD 2024).
"""

# mypy: no-check-untyped-defs, allow-untyped-defs
from __future__ import annotations

import numpy as np
from numba import njit

from .bits import ordered, unordered

INTEGERS, DECIMALS, BINARY, SINGLE_DECIMALS, SINGLES, NEAR_DECIMALS, ORDERED, SPLIT = range(8)
DECIMAL_MAX = 15
BINARY_MAX = 31
P10 = 10.0 ** np.arange(DECIMAL_MAX + 1)
P2 = 2.0 ** np.arange(BINARY_MAX + 1)

_EXACT = 2.0**53
_TELLING = 2.0**50  # beyond, the decimal grid is as fine as float64's own and any value would seem a decimal
_SINGLE_EXACT = 2.0**24
_SINGLE_TELLING = 2.0**21
_SAMPLE = 24
NEAR_MAX = 12  # and an exponent beyond: anything would be near something
_NEAR_TELLING = 2.0**42
_NEAR = 32  # steps of float64 that arithmetic on decimals may have added up


@njit(cache=True)
def _gives_back(x, kind, p, cap):
    r = np.rint(x * p)
    if not abs(r) < cap or (x == 0.0 and np.signbit(x)):
        return False
    if kind == SINGLE_DECIMALS:
        return np.float64(np.float32(r / p)) == x
    if kind == NEAR_DECIMALS:
        return abs(r / p - x) <= abs(x) * 6e-15
    return r / p == x


@njit(cache=True)
def find_exponent(v, m, kind):
    """The smallest exponent under which nearly all of a sample of `v` fits `kind`, or -1."""
    powers = P2 if kind == BINARY else P10
    top = BINARY_MAX if kind == BINARY else DECIMAL_MAX
    cap = _EXACT if kind == BINARY else _TELLING
    if kind == SINGLE_DECIMALS:
        cap = _SINGLE_TELLING
    elif kind == NEAR_DECIMALS:
        top = NEAR_MAX
        cap = _NEAR_TELLING
    step = (m // _SAMPLE) | 1  # odd, so as not to keep time with what repeats
    e = 0
    seen = 0
    strangers = 0
    for i in range(0, m, step):
        seen += 1
        k = e
        while k <= top and not _gives_back(v[i], kind, powers[k], cap):
            k += 1
        if k > top:
            strangers += 1
            if strangers * 8 > seen + 8:
                return -1
        else:
            e = k
    return -1 if strangers * 12 > seen else e


@njit(cache=True)
def to_integers(v, u, m, kind, e, x, extra, strange):
    """Fill `x` with the integers of `v` (bits `u`), `extra` with the second ones, `strange` with exceptions' places.

    Returns the number of exceptions, or -1 when they are too many for the model to pay.
    """
    most = m // 16 + 1
    count = 0
    last = np.int64(0)
    if kind == SINGLES:
        for i in range(m):
            if np.uint64(u[i]) & np.uint64((1 << 29) - 1):
                if count == most:
                    return -1
                strange[count] = i
                count += 1
            else:
                last = ordered(u[i]) >> 29
            x[i] = last
        return count
    if kind == ORDERED:
        for i in range(m):
            x[i] = ordered(u[i])
        return 0
    if kind == SPLIT:
        for i in range(m):
            x[i] = np.int64((u[i] >> np.uint64(51)) & np.uint64(0xFFE)) | np.int64(u[i] >> np.uint64(63))
        return 0
    p = P2[e] if kind == BINARY else P10[e]
    if kind == DECIMALS or kind == BINARY:  # noqa: SIM109 - numba has no tuple membership without a loop
        # First without a branch, so that the loop runs on vectors: nearly every column has no exception.
        odd = 0
        for i in range(m):
            r = np.rint(v[i] * p)
            odd |= not (abs(r) < _EXACT and r / p == v[i])
            odd |= u[i] == np.uint64(1 << 63)
        if not odd:
            for i in range(m):
                x[i] = np.int64(np.rint(v[i] * p))
            return 0
    quotient = extra.view(np.float64)
    for i in range(m):
        r = np.rint(v[i] * p)
        fits = abs(r) < _EXACT and u[i] != np.uint64(1 << 63)
        if fits:
            if kind == NEAR_DECIMALS:
                quotient[i] = (r + 0.0) / p  # as the decoder forms it from an integer: never -0.0
                near = ordered(u[i]) - ordered(np.uint64(extra[i]))
                fits = -_NEAR <= near <= _NEAR
                extra[i] = near if fits else 0
            elif kind == SINGLE_DECIMALS:
                fits = abs(r) < _SINGLE_EXACT and np.float64(np.float32(r / p)) == v[i]
            else:
                fits = r / p == v[i]
        elif kind == NEAR_DECIMALS:
            extra[i] = 0
        if fits:
            last = np.int64(r)
        else:
            if count == most:
                return -1
            strange[count] = i
            count += 1
        x[i] = last
    return count


@njit(cache=True)
def from_integers(x, m, kind, e, extra, out):
    """Fill uint64 `out` with the bits of the values that the integers `x` stand for."""
    v = out.view(np.float64)
    if kind == INTEGERS:
        for i in range(m):
            out[i] = np.uint64(x[i])
    elif kind == DECIMALS:
        p = P10[e]
        for i in range(m):
            v[i] = np.float64(x[i]) / p
    elif kind == BINARY:
        p = P2[e]
        for i in range(m):
            v[i] = np.float64(x[i]) / p
    elif kind == SINGLE_DECIMALS:
        p = P10[e]
        for i in range(m):
            v[i] = np.float64(np.float32(np.float64(x[i]) / p))
    elif kind == SINGLES:
        for i in range(m):
            # The 29 bits that a float32 lacks are zero in both orders: those of a negative one are set by `unordered`.
            word = unordered(x[i] << 29)
            out[i] = word & ~np.uint64((1 << 29) - 1)
    elif kind == NEAR_DECIMALS:
        p = P10[e]
        for i in range(m):
            v[i] = np.float64(x[i]) / p
            out[i] = unordered(ordered(out[i]) + extra[i])
    elif kind == ORDERED:
        for i in range(m):
            out[i] = unordered(x[i])
    else:
        for i in range(m):
            word = np.uint64(x[i])
            out[i] = ((word & np.uint64(0xFFE)) << np.uint64(51)) | (word & np.uint64(1)) << np.uint64(63)
