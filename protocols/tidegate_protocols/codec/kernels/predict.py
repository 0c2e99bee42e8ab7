"""Integers as small residuals: eight ways to foretell the next value of a column.

| mode | value i is foretold as | head | residuals |
|---|---|---|---|
| MINIMUM | base, and the residual is never negative | base | n |
| CENTRE | base | base | n |
| DELTA | the value before + step | base, step | n - 1 |
| SLOPE | the value before + the difference before it | base, step | n - 2 |
| LINE | base + (step * i >> 8) | base, step | n |
| AVERAGE_2, AVERAGE_16 | the average of the values before, of the last 2 or 16 exponentially | base | n - 1 |
| TREND | a level and its slope, each corrected by part of what was not foretold | base | n - 1 |

TREND is Holt's double exponential smoothing (1957) with weights 1/4 and 1/16, larger ones at the start.

All sums are modulo 2**64 and every shift to the right keeps the sign, so a decoder in any language gets the same.
Residuals are zigzag but in MINIMUM, where they are value - base.
"""

# mypy: no-check-untyped-defs, allow-untyped-defs
from __future__ import annotations

import numpy as np
from numba import njit

from .bits import unzigzag, zigzag

MINIMUM, CENTRE, DELTA, SLOPE, LINE, AVERAGE_2, AVERAGE_16, TREND = range(8)
_FRACTION = 8  # bits after the point of an average, a level and a slope
_HALF = 1 << (_FRACTION - 1)


@njit(cache=True)
def residual_count(mode, m):
    """How many residuals `m` integers leave."""
    if mode <= CENTRE or mode == LINE:
        return m
    if mode == SLOPE:
        return m - 2 if m > 2 else 0
    return m - 1


@njit(cache=True)
def has_step(mode):
    """Whether the mode's head carries a step."""
    return DELTA <= mode <= LINE


@njit(cache=True)
def _last_shift(mode):
    """Where the shift that is an average's weight ends; it begins at 1, and is bit_length(i) until then."""
    return 1 if mode == AVERAGE_2 else 4


@njit(cache=True)
def _median(x, first, last, lag):
    """The median of up to 33 of the differences x[i] - x[i - lag] (lag 1), or of the values (lag 0)."""
    step = ((last - first) // 33) | 1
    sample = np.empty(36, np.int64)
    k = 0
    for i in range(first, last, step):
        if k == 36:
            break
        sample[k] = x[i] - x[i - 1] if lag else x[i]
        k += 1
    for i in range(1, k):
        value = sample[i]
        j = i - 1
        while j >= 0 and sample[j] > value:
            sample[j + 1] = sample[j]
            j -= 1
        sample[j + 1] = value
    return sample[k // 2]


@njit(cache=True)
def choose_step(x, m, mode):
    """The step that a head of `mode` should carry."""
    if m < 2:
        return np.int64(0)
    if mode == DELTA:
        step = _median(x, 1, m, 1)
        # A small step saves less than its own byte costs.
        return step if abs(step) >= 4 else np.int64(0)
    if mode == SLOPE:
        return x[1] - x[0]
    slope = np.float64(x[m - 1] - x[0]) / (m - 1)
    if not abs(slope) < 2.0**54:
        return np.int64(0)
    for round_to in (1_000_000, 100_000, 1000, 100, 10, 1):
        near = np.int64(np.rint(slope / round_to)) * round_to
        # A clock that drifts a little is still a clock with a round period.
        if near != 0 and abs(slope - near) * m < abs(slope) * 0.05:
            return near << 8
    return np.int64(np.rint(slope * 256.0))


@njit(cache=True)
def choose_base(x, m, mode, step):
    """The base that a head of `mode` should carry."""
    if mode == MINIMUM:
        low = x[0]
        for i in range(1, m):
            low = min(low, x[i])
        return low
    if mode == CENTRE:
        return _median(x, 0, m, 0)
    if mode == LINE:
        total = 0.0
        for i in range(m):
            total += np.float64((x[i] - x[0]) - ((step * i) >> 8))
        mean = total / m
        return x[0] + np.int64(np.rint(mean)) if abs(mean) < 2.0**54 else x[0]
    return x[0]


@njit(cache=True)
def residuals(x, m, mode, base, step, r):
    """Fill uint64 `r`; returns how many. The first value is base in all modes but MINIMUM, CENTRE and LINE."""
    if mode == MINIMUM:
        for i in range(m):
            r[i] = np.uint64(x[i] - base)
        return m
    if mode == CENTRE:
        for i in range(m):
            r[i] = zigzag(x[i] - base)
        return m
    if mode == DELTA:
        for i in range(1, m):
            r[i - 1] = zigzag(x[i] - x[i - 1] - step)
        return m - 1
    if mode == SLOPE:
        for i in range(2, m):
            r[i - 2] = zigzag((x[i] - x[i - 1]) - (x[i - 1] - x[i - 2]))
        return m - 2 if m > 2 else 0
    if mode == LINE:
        for i in range(m):
            r[i] = zigzag(x[i] - base - ((step * i) >> 8))
        return m
    shift = 0
    if mode == TREND:
        level = base << _FRACTION
        slope = np.int64(0)
        for i in range(1, m):
            if shift < 3 and i >> shift:
                shift += 1
            level += slope
            r[i - 1] = zigzag(x[i] - ((level + _HALF) >> _FRACTION))
            error = (x[i] << _FRACTION) - level
            level += error >> (shift - 1)
            slope += error >> min(2 * shift - 1, 4)
        return m - 1
    last = _last_shift(mode)
    average = base << _FRACTION
    for i in range(1, m):
        if shift < last and i >> shift:
            shift += 1
        r[i - 1] = zigzag(x[i] - ((average + _HALF) >> _FRACTION))
        average += ((x[i] << _FRACTION) - average) >> shift
    return m - 1


@njit(cache=True)
def restore(r, m, mode, base, step, x):
    """The inverse: fill int64 `x` from the residuals."""
    if mode == MINIMUM:
        for i in range(m):
            x[i] = np.int64(r[i]) + base
    elif mode == CENTRE:
        for i in range(m):
            x[i] = unzigzag(r[i]) + base
    elif mode == DELTA:
        value = base
        x[0] = base
        for i in range(1, m):
            value += step + unzigzag(r[i - 1])
            x[i] = value
    elif mode == SLOPE:
        x[0] = base
        value = base + step
        if m > 1:
            x[1] = value
        slope = step
        for i in range(2, m):
            slope += unzigzag(r[i - 2])
            value += slope
            x[i] = value
    elif mode == LINE:
        for i in range(m):
            x[i] = base + ((step * i) >> 8) + unzigzag(r[i])
    elif mode == TREND:
        shift = 0
        level = base << _FRACTION
        trend = np.int64(0)
        x[0] = base
        for i in range(1, m):
            if shift < 3 and i >> shift:
                shift += 1
            level += trend
            value = unzigzag(r[i - 1]) + ((level + _HALF) >> _FRACTION)
            error = (value << _FRACTION) - level
            level += error >> (shift - 1)
            trend += error >> min(2 * shift - 1, 4)
            x[i] = value
    else:
        shift = 0
        last = _last_shift(mode)
        average = base << _FRACTION
        x[0] = base
        for i in range(1, m):
            if shift < last and i >> shift:
                shift += 1
            value = unzigzag(r[i - 1]) + ((average + _HALF) >> _FRACTION)
            average += ((value << _FRACTION) - average) >> shift
            x[i] = value
