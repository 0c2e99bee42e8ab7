"""How a column is written: the model, transform and predictor that make it smallest.

A plan is an int64 array whose fields are named below. `choose` fills it and leaves the residuals; what is written,
and how, is up to `packed` and `ranged`.

Transforms of the integers: PLAIN none; STRIDE x = y * stride + offset; DICTIONARY x = table[y], the table ascending.
"""

# mypy: no-check-untyped-defs, allow-untyped-defs
from __future__ import annotations

import numpy as np
from numba import njit

from . import models as md
from . import predict as pr
from .bits import bit_length
from .packing import packed_size

FLOAT, INTEGER, BOOL, TIME = range(4)
PLAIN, STRIDE, DICTIONARY = range(3)

# Fields of a plan.
KIND, EXPONENT, TRANSFORM, MODE, BASE, STEP, STRIDE_BY, OFFSET, ENTRIES, STRANGE, COUNT, ZERO = range(12)
PLAN_SIZE = 12

DICTIONARY_MAX = 255
COUNTED_MAX = 20  # entries that the range coder's bins tell apart one by one
_DICTIONARY_FROM = 16  # values: fewer hold no repeats worth a table
_DICTIONARY_BITS = 2.0  # bits a value: below, no table can win by much
_DICTIONARY_SURE = 12.0
_DICTIONARY_SAMPLE = 32
_HASH = 1024


@njit(cache=True)
def geometric_bits(mean):
    """The entropy of a geometric distribution on 0, 1, 2 … of a mean over 0, in bits."""
    return np.log2(1.0 + mean) + mean * np.log1p(1.0 / mean) / np.log(2.0)


@njit(cache=True)
def entropy_together(r, count, skip):
    """About how many bits the residuals need as a geometric distribution of their mean.

    With `skip` 1, zeros are passed over and the others counted less one.
    """
    step = (count // 512) | 1  # odd, so as not to keep time with what repeats
    less = np.float64(skip)
    total = 0.0
    seen = 0
    every = 0
    for i in range(0, count, step):
        every += 1
        if not skip or r[i] != np.uint64(0):
            total += np.float64(r[i]) - less
            seen += 1
    if total == 0.0:
        return 0.0
    # A few large residuals escape to bits of their own: they must not speak for the rest.
    cap = 6.0 * total / seen
    total = 0.0
    over = 0.0
    for i in range(0, count, step):
        if not skip or r[i] != np.uint64(0):
            value = np.float64(r[i]) - less
            if value > cap:
                over += np.log2(value / cap)
                value = cap
            total += value
    return count * (seen / every) * (geometric_bits(total / seen) + over / seen)


@njit(cache=True)
def entropy_apart(r, count):
    """The same where a decision tells the zeros from the others; infinite where there are hardly any zeros."""
    step = (count // 512) | 1
    zeros = 0
    every = 0
    changes = 0
    before = False
    for i in range(0, count, step):
        zero = r[i] == np.uint64(0)
        zeros += zero
        changes += zero != before
        before = zero
        every += 1
    if zeros * 8 < every:
        return np.inf
    # By the zero before, or by their share: whichever tells more.
    bits = min(binary_bits(zeros / every), binary_bits(changes / every))
    return count * bits + entropy_together(r, count, 1) + 10.0


@njit(cache=True)
def binary_bits(share):
    """The entropy of a decision that is 1 so often, in bits."""
    if share <= 0.0 or share >= 1.0:
        return 0.0
    return -share * np.log2(share) - (1.0 - share) * np.log2(1.0 - share)


@njit(cache=True)
def entropy(r, count):
    """About how many bits the range coder needs for the residuals."""
    if count == 0:
        return 0.0
    together = entropy_together(r, count, 0)
    return min(together, entropy_apart(r, count)) if together > 0.0 else 0.0


@njit(cache=True)
def _cost(r, count, thorough):
    return entropy(r, count) if thorough else 8.0 * packed_size(r, count)


@njit(cache=True)
def choose_mode(x, m, thorough, timed, r, best, plan):
    """Fill MODE, BASE, STEP, COUNT and ZERO of the plan and `best` with the residuals; returns their cost in bits."""
    lowest = np.inf
    # These follow noise and cost time: only the range coder, which makes use of a tenth of a bit, tries them.
    last = pr.TREND if thorough else (pr.LINE if timed else pr.SLOPE)
    for mode in range(last + 1):
        if (mode == pr.MINIMUM and thorough and m > 2) or (mode == pr.LINE and not timed and not thorough):
            continue
        if (mode == pr.LINE and m < 4) or (mode == pr.SLOPE and m < 3):
            continue
        step = pr.choose_step(x, m, mode) if pr.has_step(mode) else np.int64(0)
        base = pr.choose_base(x, m, mode, step)
        count = pr.residuals(x, m, mode, base, step, r)
        cost = _cost(r, count, thorough) + bit_length(np.uint64(abs(step)))
        cost += 1.2 * bit_length(np.uint64(abs(base)))
        if cost < lowest:
            lowest = cost
            plan[MODE], plan[BASE], plan[STEP], plan[COUNT] = mode, base, step, count
            for i in range(count):
                best[i] = r[i]
    zero = 1
    for i in range(plan[COUNT]):
        if best[i] != np.uint64(0):
            zero = 0
            break
    plan[ZERO] = zero
    return lowest


@njit(cache=True)
def _stride(x, m):
    """The greatest common divisor of all x[i] - x[0]; 1 where their range is too wide to take differences."""
    low = high = x[0]
    for i in range(1, m):
        low = min(low, x[i])
        high = max(high, x[i])
    if np.uint64(high - low) >= np.uint64(1 << 62):
        return np.int64(1)
    g = np.int64(0)
    for i in range(1, m):
        a = abs(x[i] - x[0])
        while a:
            g, a = a, g % a
        if g == 1:
            return g
    return g


@njit(cache=True)
def _distinct(x, m, table):
    """Fill `table` with the distinct values, ascending; returns how many, or -1 where they are too many."""
    slots = np.full(_HASH, -1, np.int64)
    most = min(DICTIONARY_MAX, m // 2)
    d = 0
    for i in range(m):
        h = np.int64((np.uint64(x[i]) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(54))
        while slots[h] >= 0 and table[slots[h]] != x[i]:
            h = (h + 1) & (_HASH - 1)
        if slots[h] < 0:
            if d == most:
                return -1
            table[d] = x[i]
            slots[h] = d
            d += 1
    for i in range(1, d):
        value = table[i]
        j = i - 1
        while j >= 0 and table[j] > value:
            table[j + 1] = table[j]
            j -= 1
        table[j + 1] = value
    return d


@njit(cache=True)
def _repeats(x, m):
    """Whether at least half of a sample of values are there more than once: what a table is worth building for."""
    step = (m // _DICTIONARY_SAMPLE - 1) | 1 if m > _DICTIONARY_SAMPLE else 1
    count = min(m, _DICTIONARY_SAMPLE)
    again = 0
    for i in range(1, count):
        for j in range(i):
            if x[i * step] == x[j * step]:
                again += 1
                break
    return 2 * again >= count


@njit(cache=True)
def _counted_bits(y, m, d):
    """What the indices cost when each is coded by how often it was seen: their entropy, and learning it."""
    counts = np.zeros(d, np.int64)
    for i in range(m):
        counts[y[i]] += 1
    bits = 5.0 * d
    for k in range(d):
        bits += counts[k] * np.log2(m / np.float64(counts[k]))
    return bits


@njit(cache=True)
def find_entry(table, d, value):
    """The place of `value` in the ascending table."""
    low, high = 0, d
    while low < high:
        middle = (low + high) >> 1
        if table[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def choose_integers(x, m, thorough, timed, y, r, best, table, plan):
    """Choose transform and predictor for the integers `x`, which stay; returns the cost in bits."""
    plan[TRANSFORM] = PLAIN
    plan[STRIDE_BY] = plan[OFFSET] = plan[ENTRIES] = 0
    stride = _stride(x, m) if m > 2 else np.int64(1)
    if stride > 1:
        plan[TRANSFORM] = STRIDE
        plan[STRIDE_BY] = stride
        plan[OFFSET] = x[0]
        for i in range(m):
            y[i] = (x[i] - x[0]) // stride
        cost = choose_mode(y, m, thorough, timed, r, best, plan)
        cost += bit_length(np.uint64(stride)) + bit_length(np.uint64(abs(x[0]))) + 16
    else:
        cost = choose_mode(x, m, thorough, timed, r, best, plan)
    if m < _DICTIONARY_FROM or cost < _DICTIONARY_BITS * m or timed:
        return cost
    # Where values cost much, a table of a few hundred pays; where they do not, only one of few, which a sample shows.
    if cost < _DICTIONARY_SURE * m and not _repeats(x, m):
        return cost
    d = _distinct(x, m, table)
    if d < 2:
        return cost
    gaps = 0.0
    for i in range(1, d):
        gaps += bit_length(np.uint64(table[i] - table[i - 1])) + 2
    for i in range(m):
        y[i] = find_entry(table, d, x[i])
    trial = plan.copy()
    trial_best = np.empty(m, np.uint64)
    with_table = choose_mode(y, m, thorough, timed, r, trial_best, trial)
    if thorough and d <= COUNTED_MAX:
        counted = _counted_bits(y, m, d)
        if counted < with_table:
            with_table = counted
            trial[MODE], trial[COUNT], trial[ZERO] = pr.MINIMUM, m, 0
            trial[BASE] = trial[STEP] = 0
            for i in range(m):
                trial_best[i] = np.uint64(y[i])
    with_table += gaps + 32
    if with_table >= cost:
        return cost
    plan[:] = trial
    plan[TRANSFORM] = DICTIONARY
    plan[STRIDE_BY] = plan[OFFSET] = 0
    plan[ENTRIES] = d
    for i in range(plan[COUNT]):
        best[i] = trial_best[i]
    return with_table


@njit(cache=True)
def _near_pays(m, exceptions, near_exceptions, thorough):
    """Whether second integers cost less than the exceptions that they save."""
    saved = 70.0 * (exceptions - near_exceptions)
    if thorough:
        return saved > exceptions * (np.log2(m / max(exceptions, 1)) + 4.0) + 24.0
    return saved > 2.0 * min(m, 64 * exceptions) + 8.0 * (m // 64) + 16.0


@njit(cache=True)
def _model(v, u, m, thorough, x, extra, strange, plan):
    """Choose the number model of a float column: KIND, EXPONENT, STRANGE; fills x, extra, strange."""
    e = md.find_exponent(v, m, md.DECIMALS)
    if 0 <= e <= 9:
        for exponent in range(e, md.DECIMAL_MAX + 1):
            count = md.to_integers(v, u, m, md.DECIMALS, exponent, x, extra, strange)
            if count >= 0:
                plan[KIND], plan[EXPONENT], plan[STRANGE] = md.DECIMALS, exponent, count
                if count > 0:
                    near_count = md.to_integers(v, u, m, md.NEAR_DECIMALS, exponent, x, extra, strange)
                    if near_count >= 0 and _near_pays(m, count, near_count, thorough):
                        plan[KIND], plan[STRANGE] = md.NEAR_DECIMALS, near_count
                    else:
                        md.to_integers(v, u, m, md.DECIMALS, exponent, x, extra, strange)
                return
    binary = md.find_exponent(v, m, md.BINARY)
    single = md.find_exponent(v, m, md.SINGLE_DECIMALS)
    if binary >= 0 and (single < 0 or md.P2[binary] <= md.P10[single]):
        count = md.to_integers(v, u, m, md.BINARY, binary, x, extra, strange)
        if count >= 0:
            plan[KIND], plan[EXPONENT], plan[STRANGE] = md.BINARY, binary, count
            return
    if single >= 0:
        count = md.to_integers(v, u, m, md.SINGLE_DECIMALS, single, x, extra, strange)
        if count >= 0:
            plan[KIND], plan[EXPONENT], plan[STRANGE] = md.SINGLE_DECIMALS, single, count
            return
    count = md.to_integers(v, u, m, md.SINGLES, 0, x, extra, strange)
    if count >= 0:
        plan[KIND], plan[EXPONENT], plan[STRANGE] = md.SINGLES, 0, count
        return
    near = md.find_exponent(v, m, md.NEAR_DECIMALS)
    for exponent in range(max(near, 0), md.NEAR_MAX + 1 if near >= 0 and (e < 0 or near <= e) else 0):
        count = md.to_integers(v, u, m, md.NEAR_DECIMALS, exponent, x, extra, strange)
        if count >= 0:
            plan[KIND], plan[EXPONENT], plan[STRANGE] = md.NEAR_DECIMALS, exponent, count
            return
    if e >= 0:
        count = md.to_integers(v, u, m, md.DECIMALS, e, x, extra, strange)
        if count >= 0:
            plan[KIND], plan[EXPONENT], plan[STRANGE] = md.DECIMALS, e, count
            return
    md.to_integers(v, u, m, md.ORDERED, 0, x, extra, strange)
    plan[KIND], plan[EXPONENT], plan[STRANGE] = md.ORDERED, 0, 0


@njit(cache=True)
def choose(u, m, column_type, thorough, x, y, extra, strange, r, best, table, plan):
    """Choose everything for the `m` values whose bits are `u`. `m` is at least 1.

    x int64[m] integers, y int64[m] room, extra int64[m] second integers of NEAR_DECIMALS, strange int64[m // 16 + 1]
    places of exceptions, r and best uint64[m] room and the residuals, table int64[DICTIONARY_MAX + 1] the dictionary.
    """
    plan[:] = 0
    timed = column_type == TIME
    if column_type == FLOAT:
        _model(u.view(np.float64), u, m, thorough, x, extra, strange, plan)
    else:
        plan[KIND] = md.INTEGERS
        for i in range(m):
            x[i] = np.int64(u[i])
    cost = choose_integers(x, m, thorough, timed, y, r, best, table, plan)
    if plan[KIND] == md.ORDERED and cost > 50.0 * m:
        md.to_integers(u.view(np.float64), u, m, md.SPLIT, 0, x, extra, strange)
        plan[KIND] = md.SPLIT
        cost = 52.0 * m + choose_integers(x, m, thorough, timed, y, r, best, table, plan)
    if cost + 72.0 * plan[STRANGE] >= 64.0 * m:
        plan[:] = 0
        plan[KIND], plan[EXPONENT] = md.SPLIT, 1


@njit(cache=True)
def fill_table(table, gaps, entries):
    """Complete a dictionary whose first entry is there; False where it does not ascend."""
    for i in range(1, entries):
        table[i] = table[i - 1] + np.int64(gaps[i - 1])
        if table[i] <= table[i - 1]:
            return False
    return True


@njit(cache=True)
def spread(u, m, n, mask, column_type, row, first):
    """Lay the m values into row[first : first + n] where the mask says, zeros elsewhere.

    Returns 0, or 1 where a bool is neither 0 nor 1 or the first time is not 0.
    """
    if m == n:
        for i in range(n):
            row[first + i] = u[i]
    else:
        k = 0
        for i in range(n):
            if mask[i]:
                row[first + i] = u[k]
                k += 1
            else:
                row[first + i] = np.uint64(0)
    if column_type == TIME:
        return 1 if row[first] else 0
    if column_type == BOOL:
        for i in range(n):
            if row[first + i] > np.uint64(1):
                return 1
    return 0


@njit(cache=True)
def to_values(x, m, transform, stride, offset, table, entries):
    """Undo the transform in place. False where an index is not in the table."""
    if transform == STRIDE:
        for i in range(m):
            x[i] = x[i] * stride + offset
    elif transform == DICTIONARY:
        for i in range(m):
            if not 0 <= x[i] < entries:
                return False
            x[i] = table[x[i]]
    return True


@njit(cache=True)
def apply(u, m, given, x, extra, strange, best, plan):
    """Write the column as the plan `given` says, its base excepted; False where the values do not fit it.

    Only PLAIN and STRIDE plans without exceptions or second integers can be given.
    """
    plan[:] = given[:PLAN_SIZE]
    kind, mode = plan[KIND], plan[MODE]
    if kind == md.INTEGERS:
        for i in range(m):
            x[i] = np.int64(u[i])
    elif md.to_integers(u.view(np.float64), u, m, kind, plan[EXPONENT], x, extra, strange) != 0:
        return False
    if plan[TRANSFORM] == STRIDE:
        for i in range(m):
            y = (x[i] - plan[OFFSET]) // plan[STRIDE_BY]
            if y * plan[STRIDE_BY] + plan[OFFSET] != x[i]:
                return False
            x[i] = y
    if mode == pr.SLOPE and m > 1:
        return False
    plan[BASE] = pr.choose_base(x, m, mode, plan[STEP])
    plan[COUNT] = pr.residuals(x, m, mode, plan[BASE], plan[STEP], best)
    return True
