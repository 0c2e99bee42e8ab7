"""Whole frames of the range coder: heads and residuals alike are decisions of one coder (see `ranging`).

A column, for the m of n scans that have a value (the times first, then each channel in the schema's order); names in
capitals are the slots of `heads`, `number` a bit length by a tree and the bits below plainly, `run` as below:

    FOLLOWS     only in frames that name priors: 1, and the column is as its prior says:
                  base as a run of one residual zigzag(base - prior base) of the prior's base class, without contexts,
                  in slots of its own; then the residuals in the prior's slots
    NULLS       1: a bit for each scan, 1 where there is a value. PLAIN_MASK 1: n plain bits; 0: n decisions, each in
                slot MASK + (the one before; at first 1). Where m is 0, the column ends here
    RAW         1: m words of 64 plain bits, and the column ends here
    KIND        a tree of 3 bits (float64)
    EXPONENT    a tree of 5 bits, for kinds that have one
    STRANGE     1: number of exceptions, then for each the number of places from the one before and 64 plain bits
    TRANSFORM   a tree of 2 bits. STRIDE: DECADE, a tree of 3 bits, number stride / 10**decade, number zigzag offset.
                DICTIONARY: number entries, number zigzag first, a run of the entries - 1 differences
    MODE        a tree of 3 bits, then number (BASE) zigzag base, and number (STEP) zigzag step where there is one
    run         of the residuals; NEAR_DECIMALS: a run of m zigzag second integers; SPLIT: m times 52 plain bits

A run: ZERO, 1 when all are zero; else BLOCKS, 1 for blocks of 64 of equal width, the width by the tree of OTHER; else
APART, 1 where decisions (OTHER_THAN_ZERO + the one before; at first 1) tell the zeros from the others, which then
follow less one; SIZE, a tree of 8 bits for the size class + 16; CONTEXTS; residuals.

Whatever a plan was thought to cost: a column that comes out longer than its raw words is rewound and written raw.
"""

# mypy: no-check-untyped-defs, allow-untyped-defs
from __future__ import annotations

import numpy as np
from numba import njit

from . import models as md
from . import plans as pl
from . import predict as pr
from . import ranging as rg
from .bits import unzigzag, zigzag
from .hazards import CLASS_MIN
from .heads import (
    APART,
    BASE,
    BLOCKS,
    CONTEXTS,
    DECADE,
    EXPONENT,
    FOLLOWS,
    KIND,
    MASK,
    MODE,
    NULLS,
    OTHER,
    OTHER_THAN_ZERO,
    PLAIN_MASK,
    RAW,
    SIZE,
    SLOTS,
    START_SEEN,
    STARTS,
    STEP,
    STRANGE,
    TRANSFORM,
    ZERO,
)  # fmt: skip
from .packing import packed_size

_ANY = CLASS_MIN + rg.SIZE_CLASSES - 1
_UNPLAIN = 7  # the largest size class without plain bits

BAD_HEAD, BAD_STRANGE, BAD_TRANSFORM, OVERRUN, BAD_VALUE, BAD_TIME, NOT_WHOLE = range(1, 8)

# A prior is a plan, and what follows the plan in its row.
PRIOR_SIZE_CLASS, PRIOR_CONTEXTS, PRIOR_BASE_CLASS, PRIOR_PRESENT = range(pl.PLAN_SIZE, pl.PLAN_SIZE + 4)
PRIOR_FIELDS = pl.PLAN_SIZE + 4

DECADES = 10 ** np.arange(8)  # a stride is so many times its number


@njit(cache=True)
def start_heads(p, seen):
    p[:] = 32768
    seen[:] = 0
    for i in range(len(STARTS)):
        p[STARTS[i, 0]] = STARTS[i, 1]
        seen[STARTS[i, 0]] = START_SEEN


@njit(cache=True)
def contexts_pay(r, count, size):
    """Whether residuals foretell the size of the next one well enough to be told apart by it."""
    if count < 24:
        return False
    shift = np.uint64(rg.plain_bits(size))
    total = np.zeros(rg.CONTEXTS)
    seen = np.zeros(rg.CONTEXTS)
    context = 1
    for i in range(count):
        q = min(r[i] >> shift, np.uint64(rg.BINS))
        total[context] += np.float64(q)
        seen[context] += 1.0
        context = rg.next_context(np.int64(q))
    apart = 0.0
    for c in range(rg.CONTEXTS):
        apart += _geometric_bits(total[c], seen[c])
    together = _geometric_bits(total.sum(), np.float64(count))
    return together - apart > 10.0 + 0.01 * count


@njit(cache=True)
def _geometric_bits(total, seen):
    if total == 0.0:
        return 0.0
    return seen * pl.geometric_bits(total / seen)


@njit(cache=True)
def _put_run(st, out, back, r, count, largest, hp, hs, p, seen):
    zeros = 0
    for i in range(count):
        zeros += r[i] == np.uint64(0)
    rg.put_bit(st, out, hp, hs, ZERO, 1 if zeros == count else 0)
    if zeros == count:
        return
    together = pl.entropy_together(r, count, 0)
    with_apart = pl.entropy_apart(r, count) if zeros else np.inf
    blocks = 8.0 * packed_size(r, count) < 0.97 * min(together, with_apart)
    rg.put_bit(st, out, hp, hs, BLOCKS, 1 if blocks else 0)
    if blocks:
        rg.put_blocks(st, out, back, hp, hs, OTHER, r, count)
        return
    apart = with_apart < 0.97 * together
    rg.put_bit(st, out, hp, hs, APART, 1 if apart else 0)
    if apart:
        others = np.empty(count - zeros, np.uint64)
        k = 0
        before = 1
        for i in range(count):
            other = 0 if r[i] == np.uint64(0) else 1
            rg.put_bit(st, out, hp, hs, OTHER_THAN_ZERO + before, other)
            before = other
            if other:
                others[k] = r[i] - np.uint64(1)
                k += 1
        r = others
        count = k
    size = min(rg.size_class(r, count), largest)
    contexts = contexts_pay(r, count, size)
    rg.put_tree(st, out, hp, hs, SIZE, 8, size - CLASS_MIN)
    rg.put_bit(st, out, hp, hs, CONTEXTS, 1 if contexts else 0)
    rg.start_slots(size, contexts, p, seen)
    rg.put_residuals(st, out, back, r, count, size, contexts, p, seen)


@njit(cache=True)
def _take_run(st, data, r, count, hp, hs, p, seen):
    if rg.take_bit(st, data, hp, hs, ZERO):
        for i in range(count):
            r[i] = np.uint64(0)
        return
    if rg.take_bit(st, data, hp, hs, BLOCKS):
        rg.take_blocks(st, data, hp, hs, OTHER, r, count)
        return
    apart = rg.take_bit(st, data, hp, hs, APART) == 1
    others = count
    if apart:
        others = 0
        before = 1
        for i in range(count):
            before = rg.take_bit(st, data, hp, hs, OTHER_THAN_ZERO + before)
            r[i] = np.uint64(before)
            others += before
    size = rg.take_tree(st, data, hp, hs, SIZE, 8) + CLASS_MIN
    contexts = rg.take_bit(st, data, hp, hs, CONTEXTS) == 1
    rg.start_slots(size, contexts, p, seen)
    if not apart:
        rg.take_residuals(st, data, r, count, size, contexts, p, seen)
        return
    values = np.empty(others, np.uint64)
    rg.take_residuals(st, data, values, others, size, contexts, p, seen)
    k = 0
    for i in range(count):
        if r[i] != np.uint64(0):
            r[i] = values[k] + np.uint64(1)
            k += 1


@njit(cache=True)
def has_exponent(kind):
    return kind == md.DECIMALS or kind == md.BINARY or kind == md.SINGLE_DECIMALS or kind == md.NEAR_DECIMALS


@njit(cache=True)
def _follows(u, m, prior, x, extra, strange, best, plan):
    if not pl.apply(u, m, prior, x, extra, strange, best, plan):
        return False
    if plan[pl.COUNT] == 0:
        return True
    # A column that has come to behave otherwise is better told afresh.
    return rg.size_class(best, plan[pl.COUNT]) <= prior[PRIOR_SIZE_CLASS] + 10


@njit(cache=True)
def worst_size(n, columns):
    """The bytes that `encode` may write to either stream, at most."""
    return columns * (64 * n + 16 * 1024) + 64


@njit(cache=True)
def _put_mask(st, out, back, mask, n, hp, hs, kept, kept_p, kept_s):
    _mark(st, out, hp, hs, kept, kept_p, kept_s)
    rg.put_bit(st, out, hp, hs, PLAIN_MASK, 0)
    before = 1
    for i in range(n):
        rg.put_bit(st, out, hp, hs, MASK + before, np.int64(mask[i]))
        before = np.int64(mask[i])
    if rg.written_bits(st) - rg.written_bits(kept) <= n:
        return
    _rewind(st, out, hp, hs, kept, kept_p, kept_s)
    rg.put_bit(st, out, hp, hs, PLAIN_MASK, 1)
    for i in range(n):
        rg.put_bits_32(st, back, np.uint64(mask[i]), 1)


@njit(cache=True)
def _mark(st, out, hp, hs, kept, kept_p, kept_s):
    rg.mark(st, out, kept)
    kept_p[:] = hp
    kept_s[:] = hs


@njit(cache=True)
def _rewind(st, out, hp, hs, kept, kept_p, kept_s):
    rg.rewind(st, out, kept)
    hp[:] = kept_p
    hs[:] = kept_s


@njit(cache=True)
def _put_following(st, out, back, m, prior, prior_p, prior_seen, r, best, plan, p, seen):
    size = prior[PRIOR_BASE_CLASS]
    rg.start_slots(size, False, p, seen)
    r[0] = zigzag(plan[pl.BASE] - prior[pl.BASE])
    rg.put_residuals(st, out, back, r, 1, size, False, p, seen)
    p[:] = prior_p
    seen[:] = prior_seen
    rg.put_residuals(st, out, back, best, plan[pl.COUNT], prior[PRIOR_SIZE_CLASS], prior[PRIOR_CONTEXTS] == 1, p, seen)


@njit(cache=True)
def _put_planned(st, out, back, values, m, column_type, extra, strange, r, best, table, plan, hp, hs, p, seen):
    """The m values as the plan says, which is not to write them raw."""
    kind = plan[pl.KIND]
    rg.put_bit(st, out, hp, hs, RAW, 0)
    if column_type == pl.FLOAT:
        rg.put_tree(st, out, hp, hs, KIND, 3, kind)
    if has_exponent(kind):
        rg.put_tree(st, out, hp, hs, EXPONENT, 5, plan[pl.EXPONENT])
    rg.put_bit(st, out, hp, hs, STRANGE, 1 if plan[pl.STRANGE] else 0)
    if plan[pl.STRANGE]:
        rg.put_number(st, out, back, hp, hs, OTHER, np.uint64(plan[pl.STRANGE]))
        before = 0
        for i in range(plan[pl.STRANGE]):
            rg.put_number(st, out, back, hp, hs, OTHER, np.uint64(strange[i] - before))
            before = strange[i]
            rg.put_bits(st, back, values[strange[i]], 64)
    rg.put_tree(st, out, hp, hs, TRANSFORM, 2, plan[pl.TRANSFORM])
    if plan[pl.TRANSFORM] == pl.STRIDE:
        stride = plan[pl.STRIDE_BY]
        decade = 0
        while decade < 7 and stride % 10 == 0:
            stride //= 10
            decade += 1
        rg.put_tree(st, out, hp, hs, DECADE, 3, decade)
        rg.put_number(st, out, back, hp, hs, OTHER, np.uint64(stride))
        rg.put_number(st, out, back, hp, hs, OTHER, zigzag(plan[pl.OFFSET]))
    elif plan[pl.TRANSFORM] == pl.DICTIONARY:
        d = plan[pl.ENTRIES]
        rg.put_number(st, out, back, hp, hs, OTHER, np.uint64(d))
        rg.put_number(st, out, back, hp, hs, OTHER, zigzag(table[0]))
        for i in range(1, d):
            r[i - 1] = np.uint64(table[i] - table[i - 1])
        _put_run(st, out, back, r, d - 1, _ANY, hp, hs, p, seen)
    rg.put_tree(st, out, hp, hs, MODE, 3, plan[pl.MODE])
    rg.put_number(st, out, back, hp, hs, BASE, zigzag(plan[pl.BASE]))
    if pr.has_step(plan[pl.MODE]):
        rg.put_number(st, out, back, hp, hs, STEP, zigzag(plan[pl.STEP]))
    # Few entries: no plain bits, so that the chance of each is learnt by itself.
    few = plan[pl.TRANSFORM] == pl.DICTIONARY and plan[pl.ENTRIES] <= pl.COUNTED_MAX
    _put_run(st, out, back, best, plan[pl.COUNT], _UNPLAIN if few else _ANY, hp, hs, p, seen)
    if kind == md.NEAR_DECIMALS:
        for i in range(m):
            r[i] = zigzag(extra[i])
        _put_run(st, out, back, r, m, _ANY, hp, hs, p, seen)
    elif kind == md.SPLIT:
        for i in range(m):
            rg.put_bits(st, back, values[i] & np.uint64((1 << 52) - 1), 52)


@njit(cache=True)
def encode(cells, masks, types, priors, prior_p, prior_seen, out, back):
    """Write the columns of a frame; returns how many bytes.

    cells, masks, types as for `packed.encode`. priors int64 [c, PRIOR_FIELDS] with prior_p, prior_seen
    int64 [c, ranging.SLOTS], or all with c = 0. out, back uint8 [worst_size(n, c)].
    """
    c, n = cells.shape
    x = np.empty(n, np.int64)
    y = np.empty(n, np.int64)
    extra = np.empty(n, np.int64)
    strange = np.empty(n // 16 + 2, np.int64)
    r = np.empty(n, np.uint64)
    best = np.empty(n, np.uint64)
    values = np.empty(n, np.uint64)
    table = np.empty(pl.DICTIONARY_MAX + 1, np.int64)
    plan = np.zeros(pl.PLAN_SIZE, np.int64)
    p = np.empty(rg.SLOTS, np.int64)
    seen = np.empty(rg.SLOTS, np.int64)
    hp = np.empty(SLOTS, np.int64)
    hs = np.empty(SLOTS, np.int64)
    kept = np.empty(rg.STATE_SIZE + 2, np.uint64)
    kept_p = np.empty(SLOTS, np.int64)
    kept_s = np.empty(SLOTS, np.int64)
    start_heads(hp, hs)
    st = np.empty(rg.STATE_SIZE, np.uint64)
    rg.start_encoder(st)
    for j in range(c):
        m = 0
        for i in range(n):
            values[m] = cells[j, i]
            m += masks[j, i]
        if len(priors):
            follows = (
                m == n and priors[j, PRIOR_PRESENT] and _follows(values, m, priors[j], x, extra, strange, best, plan)
            )
            if follows:
                _mark(st, out, hp, hs, kept, kept_p, kept_s)
                rg.put_bit(st, out, hp, hs, FOLLOWS, 1)
                _put_following(st, out, back, m, priors[j], prior_p[j], prior_seen[j], r, best, plan, p, seen)
                if rg.written_bits(st) - rg.written_bits(kept) <= 64 * m:
                    continue
                _rewind(st, out, hp, hs, kept, kept_p, kept_s)
            rg.put_bit(st, out, hp, hs, FOLLOWS, 0)
        rg.put_bit(st, out, hp, hs, NULLS, 1 if m < n else 0)
        if m < n:
            _put_mask(st, out, back, masks[j], n, hp, hs, kept, kept_p, kept_s)
            if m == 0:
                continue
        pl.choose(values, m, types[j], True, x, y, extra, strange, r, best, table, plan)
        if not (plan[pl.KIND] == md.SPLIT and plan[pl.EXPONENT] == 1):
            _mark(st, out, hp, hs, kept, kept_p, kept_s)
            _put_planned(st, out, back, values, m, types[j], extra, strange, r, best, table, plan, hp, hs, p, seen)
            if rg.written_bits(st) - rg.written_bits(kept) <= 64 * m:
                continue
            _rewind(st, out, hp, hs, kept, kept_p, kept_s)
        rg.put_bit(st, out, hp, hs, RAW, 1)
        for i in range(m):
            rg.put_bits(st, back, values[i], 64)
    return rg.finish(st, out, back)


@njit(cache=True)
def _take_column(st, data, m, column_type, u, x, extra, r, table, hp, hs, p, seen):
    """Read the m values of a column that no prior describes; returns 0 or what was found."""
    if rg.take_bit(st, data, hp, hs, RAW):
        for i in range(m):
            u[i] = rg.take_bits(st, data, 64)
        return 0
    kind = md.INTEGERS
    if column_type == pl.FLOAT:
        kind = rg.take_tree(st, data, hp, hs, KIND, 3)
        if kind == md.INTEGERS:
            return BAD_HEAD
    exponent = rg.take_tree(st, data, hp, hs, EXPONENT, 5) if has_exponent(kind) else 0
    if exponent > (md.BINARY_MAX if kind == md.BINARY else md.DECIMAL_MAX):
        return BAD_HEAD
    exceptions = 0
    places = np.empty(0, np.int64)
    words = np.empty(0, np.uint64)
    if rg.take_bit(st, data, hp, hs, STRANGE):
        number = rg.take_number(st, data, hp, hs, OTHER)
        if number == np.uint64(0) or number > np.uint64(m):
            return BAD_STRANGE
        exceptions = np.int64(number)
        places = np.empty(exceptions, np.int64)
        words = np.empty(exceptions, np.uint64)
        place = np.int64(0)
        for i in range(exceptions):
            gap = rg.take_number(st, data, hp, hs, OTHER)
            if gap >= np.uint64(m - place) or (i > 0 and gap == np.uint64(0)):
                return BAD_STRANGE
            place += np.int64(gap)
            places[i] = place
            words[i] = rg.take_bits(st, data, 64)
    transform = rg.take_tree(st, data, hp, hs, TRANSFORM, 2)
    stride = offset = np.int64(0)
    entries = np.int64(0)
    if transform == pl.STRIDE:
        decade = rg.take_tree(st, data, hp, hs, DECADE, 3)
        stride = np.int64(rg.take_number(st, data, hp, hs, OTHER)) * DECADES[decade]
        offset = unzigzag(rg.take_number(st, data, hp, hs, OTHER))
    elif transform == pl.DICTIONARY:
        number = rg.take_number(st, data, hp, hs, OTHER)
        if number < np.uint64(2) or number > np.uint64(min(pl.DICTIONARY_MAX, m)):
            return BAD_TRANSFORM
        entries = np.int64(number)
        table[0] = unzigzag(rg.take_number(st, data, hp, hs, OTHER))
        _take_run(st, data, r, entries - 1, hp, hs, p, seen)
        if not pl.fill_table(table, r, entries):
            return BAD_TRANSFORM
    elif transform != pl.PLAIN:
        return BAD_TRANSFORM
    mode = rg.take_tree(st, data, hp, hs, MODE, 3)
    base = unzigzag(rg.take_number(st, data, hp, hs, BASE))
    step = np.int64(0)
    if pr.has_step(mode):
        step = unzigzag(rg.take_number(st, data, hp, hs, STEP))
    _take_run(st, data, r, pr.residual_count(mode, m), hp, hs, p, seen)
    pr.restore(r, m, mode, base, step, x)
    if transform and not pl.to_values(x, m, transform, stride, offset, table, entries):
        return BAD_TRANSFORM
    if kind == md.NEAR_DECIMALS:
        _take_run(st, data, r, m, hp, hs, p, seen)
        for i in range(m):
            extra[i] = unzigzag(r[i])
    md.from_integers(x, m, kind, exponent, extra, u)
    if kind == md.SPLIT:
        for i in range(m):
            u[i] |= rg.take_bits(st, data, 52)
    for i in range(exceptions):
        u[places[i]] = words[i]
    return 0


@njit(cache=True)
def _take_mask(st, data, mask, n, hp, hs):
    """Fill `mask`; returns how many values there are."""
    plain = rg.take_bit(st, data, hp, hs, PLAIN_MASK) == 1
    m = 0
    before = 1
    for i in range(n):
        before = np.int64(rg.take_bits_32(st, data, 1)) if plain else rg.take_bit(st, data, hp, hs, MASK + before)
        mask[i] = before
        m += before
    return m


@njit(cache=True)
def decode(data, o, end, n, types, priors, prior_p, prior_seen, cells, masks, first, fault):
    """Read the columns of a frame into cells[:, first:first + n] and masks. Values under nulls are 0.

    Returns 0, or what was found, with the column in `fault[1]`.
    """
    x = np.empty(n, np.int64)
    extra = np.empty(n, np.int64)
    r = np.empty(n, np.uint64)
    u = np.empty(n, np.uint64)
    table = np.empty(pl.DICTIONARY_MAX + 1, np.int64)
    p = np.empty(rg.SLOTS, np.int64)
    seen = np.empty(rg.SLOTS, np.int64)
    hp = np.empty(SLOTS, np.int64)
    hs = np.empty(SLOTS, np.int64)
    start_heads(hp, hs)
    st = np.empty(rg.STATE_SIZE, np.uint64)
    rg.start_decoder(st, data, o, end)
    fault[0] = 0
    fault[2] = o
    for j in range(len(types)):
        fault[1] = j
        mask = masks[j, first : first + n]
        if len(priors) and rg.take_bit(st, data, hp, hs, FOLLOWS):
            if not priors[j, PRIOR_PRESENT]:
                fault[0] = BAD_HEAD
                return fault[0]
            for i in range(n):
                mask[i] = 1
            m = n
            prior = priors[j]
            size = prior[PRIOR_BASE_CLASS]
            rg.start_slots(size, False, p, seen)
            rg.take_residuals(st, data, r, 1, size, False, p, seen)
            base = prior[pl.BASE] + unzigzag(r[0])
            p[:] = prior_p[j]
            seen[:] = prior_seen[j]
            rg.take_residuals(
                st, data, r, pr.residual_count(prior[pl.MODE], n), prior[PRIOR_SIZE_CLASS],
                prior[PRIOR_CONTEXTS] == 1, p, seen,
            )  # fmt: skip
            pr.restore(r, n, prior[pl.MODE], base, prior[pl.STEP], x)
            pl.to_values(x, n, prior[pl.TRANSFORM], prior[pl.STRIDE_BY], prior[pl.OFFSET], table, 0)
            md.from_integers(x, n, prior[pl.KIND], prior[pl.EXPONENT], extra, u)
        else:
            m = n
            for i in range(n):
                mask[i] = 1
            if rg.take_bit(st, data, hp, hs, NULLS):
                if types[j] == pl.TIME:
                    fault[0] = BAD_HEAD
                    return fault[0]
                m = _take_mask(st, data, mask, n, hp, hs)
                if m == n:
                    fault[0] = BAD_HEAD
                    return fault[0]
            if m:
                fault[0] = _take_column(st, data, m, types[j], u, x, extra, r, table, hp, hs, p, seen)
                if fault[0]:
                    return fault[0]
        if np.int64(st[rg.BACK]) > end - o:
            fault[0] = OVERRUN
            return fault[0]
        fault[0] = pl.spread(u, m, n, mask, types[j], cells[j], first)
        if fault[0]:
            fault[0] = BAD_TIME if types[j] == pl.TIME else BAD_VALUE
            return fault[0]
    if not rg.is_whole(st, o, end):
        fault[0] = NOT_WHOLE
    return fault[0]
