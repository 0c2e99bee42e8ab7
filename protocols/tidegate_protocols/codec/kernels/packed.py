"""Whole frames of the bit-packed codec: every column a few bytes of head, then blocks of equal width.

A column, for the m of n scans that have a value (the times first, then each channel in the schema's order):

    form     u8: bits 0-2 kind, bit 3 nulls, bits 4-5 transform, bit 6 exceptions, bit 7 all residuals zero
    mask     only with nulls: u8 0, then ceil(n / 8) bytes, bit i % 8 of byte i // 8 set where scan i has a value;
             or u8 1, then varint run lengths that sum up to n, beginning with values, then nulls, and so on
             (where m is 0, the column ends here)
    mode     u8: bits 0-2 mode, bits 3-7 exponent
             SPLIT with exponent 1: m words of 8 bytes, and the column ends here
    exceptions   varint count, then for each the varint distance to the one before (the first: from place 0) and 8 bytes
    transform    STRIDE: varint stride, varint zigzag offset
                 DICTIONARY: varint entries, varint zigzag first, then blocks of the entries - 1 differences
    base     varint zigzag
    step     varint zigzag, in the modes that have one
    blocks   the residuals (not when all are zero)
             NEAR_DECIMALS: blocks of m zigzag second integers
             SPLIT with exponent 0: m mantissas of 52 bits, low bits first, zeros up to a whole byte

The times are differences to the first time, which the header carries.
"""

# mypy: no-check-untyped-defs, allow-untyped-defs
from __future__ import annotations

import numpy as np
from numba import njit

from . import models as md
from . import plans as pl
from . import predict as pr
from .bits import load64, put_varint, store64, take_varint, unzigzag, zigzag
from .packing import pack, pack_bits, unpack, unpack_bits

NULLS, EXCEPTIONS, ZERO = 0x08, 0x40, 0x80

# What a decoder found: 0, or one of these.
CUT_SHORT, BAD_FORM, BAD_MASK, BAD_EXCEPTION, BAD_TRANSFORM, TRAILING, BAD_VALUE, BAD_TIME = range(1, 9)


@njit(cache=True)
def _put_mask(mask, n, out, o):
    runs = 1
    for i in range(1, n):
        runs += mask[i] != mask[i - 1]
    if runs * 2 < (n + 7) // 8:
        out[o] = 1
        o += 1
        value = 1
        length = 0
        for i in range(n):
            if mask[i] != value:
                o = put_varint(out, o, np.uint64(length))
                value = 1 - value
                length = 0
            length += 1
        return put_varint(out, o, np.uint64(length))
    out[o] = 0
    o += 1
    for i in range((n + 7) // 8):
        out[o + i] = 0
    for i in range(n):
        out[o + (i >> 3)] |= np.uint8(mask[i] << (i & 7))
    return o + (n + 7) // 8


@njit(cache=True)
def _take_mask(data, o, end, mask, n):
    if o >= end:
        return -1
    form = data[o]
    o += 1
    if form == 1:
        value = 1
        i = 0
        while i < n:
            length, o = take_varint(data, o, end)
            if o < 0 or length > np.uint64(n - i) or (length == np.uint64(0) and i > 0):
                return -1
            for j in range(i, i + np.int64(length)):
                mask[j] = value
            i += np.int64(length)
            value = 1 - value
        return o
    size = (n + 7) // 8
    if form or size > end - o:
        return -1
    for i in range(n):
        mask[i] = (data[o + (i >> 3)] >> (i & 7)) & 1
    if n & 7 and data[o + size - 1] >> (n & 7):
        return -1
    return o + size


@njit(cache=True)
def _put_column(u, m, nulls, mask, n, column_type, x, y, extra, strange, r, best, table, plan, out, o):
    start = o
    out[o] = NULLS if nulls else 0
    o += 1
    if nulls:
        o = _put_mask(mask, n, out, o)
        if m == 0:
            return o
    pl.choose(u, m, column_type, False, x, y, extra, strange, r, best, table, plan)
    head = o
    kind, exponent = plan[pl.KIND], plan[pl.EXPONENT]
    if not (kind == md.SPLIT and exponent == 1):
        out[o] = np.uint8(plan[pl.MODE] | exponent << 3)
        o += 1
        if plan[pl.STRANGE]:
            o = put_varint(out, o, np.uint64(plan[pl.STRANGE]))
            before = 0
            for j in range(plan[pl.STRANGE]):
                o = put_varint(out, o, np.uint64(strange[j] - before))
                before = strange[j]
                store64(out, o, u[strange[j]])
                o += 8
        if plan[pl.TRANSFORM] == pl.STRIDE:
            o = put_varint(out, o, np.uint64(plan[pl.STRIDE_BY]))
            o = put_varint(out, o, zigzag(plan[pl.OFFSET]))
        elif plan[pl.TRANSFORM] == pl.DICTIONARY:
            d = plan[pl.ENTRIES]
            o = put_varint(out, o, np.uint64(d))
            o = put_varint(out, o, zigzag(table[0]))
            for i in range(1, d):
                r[i - 1] = np.uint64(table[i] - table[i - 1])
            o = pack(r, d - 1, out, o)
        o = put_varint(out, o, zigzag(plan[pl.BASE]))
        if pr.has_step(plan[pl.MODE]):
            o = put_varint(out, o, zigzag(plan[pl.STEP]))
        if not plan[pl.ZERO]:
            o = pack(best, plan[pl.COUNT], out, o)
        if kind == md.NEAR_DECIMALS:
            for i in range(m):
                r[i] = zigzag(extra[i])
            o = pack(r, m, out, o)
        elif kind == md.SPLIT:
            for i in range(m):
                r[i] = u[i] & np.uint64((1 << 52) - 1)
            o = pack_bits(r, 0, m, 52, out, o)
        if o - head <= 8 * m + 1:
            out[start] |= np.uint8(
                kind
                | plan[pl.TRANSFORM] << 4
                | (EXCEPTIONS if plan[pl.STRANGE] else 0)
                | (ZERO if plan[pl.ZERO] else 0)
            )
            return o
    out[start] |= np.uint8(md.SPLIT)
    out[head] = np.uint8(1 << 3)
    o = head + 1
    for i in range(m):
        store64(out, o, u[i])
        o += 8
    return o


@njit(cache=True)
def worst_size(n, columns):
    """The bytes that `encode` may write, at most, on the way to a smaller result."""
    return columns * (11 * n + (n >> 3) + 4 * 1024) + 64


@njit(cache=True)
def encode(cells, masks, types, out):
    """Write the columns of a frame; returns how many bytes.

    cells uint64 [c, n]: the bits of every value, the times (less the first) in row 0. masks uint8 [c, n]: 1 where there
    is a value. types uint8 [c]: `plans.FLOAT` and so on. out uint8 [worst_size(n, c)].
    """
    c, n = cells.shape
    x = np.empty(n, np.int64)
    y = np.empty(n, np.int64)
    extra = np.empty(n, np.int64)
    strange = np.empty(n // 16 + 2, np.int64)
    room = max(n, pl.DICTIONARY_MAX)
    r = np.empty(room, np.uint64)
    best = np.empty(room, np.uint64)
    values = np.empty(n, np.uint64)
    table = np.empty(pl.DICTIONARY_MAX + 1, np.int64)
    plan = np.zeros(pl.PLAN_SIZE, np.int64)
    o = 0
    for j in range(c):
        m = 0
        for i in range(n):
            values[m] = cells[j, i]
            m += masks[j, i]
        o = _put_column(values, m, m < n, masks[j], n, types[j], x, y, extra, strange, r, best, table, plan, out, o)
    return o


@njit(cache=True)
def _take_column(data, o, end, column_type, u, x, extra, r, table, mask, n, fault):
    """Read one column into the first m of `u`; returns (place after it, m), or the place -1 and `fault[0]` set."""
    if o >= end:
        fault[0] = CUT_SHORT
        return -1, 0
    form = np.int64(data[o])
    o += 1
    m = n
    if form & NULLS:
        if column_type == pl.TIME:
            fault[0] = BAD_FORM
            return -1, 0
        o = _take_mask(data, o, end, mask, n)
        if o < 0:
            fault[0] = BAD_MASK
            return -1, 0
        m = 0
        for i in range(n):
            m += mask[i]
        if m == 0:
            if form != NULLS:
                fault[0] = BAD_FORM
                return -1, 0
            return o, 0
        if m == n:
            fault[0] = BAD_MASK
            return -1, 0
    else:
        for i in range(n):
            mask[i] = 1
    if o >= end:
        fault[0] = CUT_SHORT
        return -1, 0
    kind = form & 7
    transform = (form >> 4) & 3
    mode = np.int64(data[o]) & 7
    exponent = np.int64(data[o]) >> 3
    o += 1
    is_raw = kind == md.SPLIT and exponent == 1
    good = is_raw or ((kind == md.INTEGERS) != (column_type == pl.FLOAT))
    if kind == md.INTEGERS or kind == md.SINGLES or kind == md.ORDERED:
        good &= exponent == 0
    elif kind == md.SPLIT:
        good &= exponent <= 1
    elif kind != md.BINARY:
        good &= exponent <= md.DECIMAL_MAX
    if is_raw:
        good &= mode == 0 and form & (0xF0 & ~NULLS) == 0
    if not good or transform > pl.DICTIONARY:
        fault[0] = BAD_FORM
        return -1, 0
    if is_raw:
        if 8 * m > end - o:
            fault[0] = CUT_SHORT
            return -1, 0
        for i in range(m):
            u[i] = load64(data, o)
            o += 8
        return o, m
    exceptions = np.int64(0)
    first_exception = o
    if form & EXCEPTIONS:
        number, o = take_varint(data, o, end)
        if o < 0 or number > np.uint64(m) or number == np.uint64(0):
            fault[0] = BAD_EXCEPTION
            return -1, 0
        exceptions = np.int64(number)
        first_exception = o
        place = np.int64(0)
        for i in range(exceptions):
            gap, o = take_varint(data, o, end)
            if o < 0 or gap >= np.uint64(m - place) or (i > 0 and gap == np.uint64(0)) or end - o < 8:
                fault[0] = BAD_EXCEPTION
                return -1, 0
            place += np.int64(gap)
            o += 8
    stride = offset = np.int64(0)
    entries = 0
    if transform == pl.STRIDE:
        number, o = take_varint(data, o, end)
        if o >= 0:
            stride = np.int64(number)
            number, o = take_varint(data, o, end)
            offset = unzigzag(number)
    elif transform == pl.DICTIONARY:
        number, o = take_varint(data, o, end)
        if o >= 0 and np.uint64(2) <= number <= np.uint64(pl.DICTIONARY_MAX):
            entries = np.int64(number)
            number, o = take_varint(data, o, end)
            if o >= 0:
                table[0] = unzigzag(number)
                o = unpack(data, o, end, r, entries - 1)
                if o >= 0 and not pl.fill_table(table, r, entries):
                    o = -1
        else:
            o = -1
    if o < 0:
        fault[0] = BAD_TRANSFORM
        return -1, 0
    number, o = take_varint(data, o, end)
    if o < 0:
        fault[0] = CUT_SHORT
        return -1, 0
    base = unzigzag(number)
    step = np.int64(0)
    if pr.has_step(mode):
        number, o = take_varint(data, o, end)
        if o < 0:
            fault[0] = CUT_SHORT
            return -1, 0
        step = unzigzag(number)
    count = pr.residual_count(mode, m)
    if form & ZERO:
        for i in range(count):
            r[i] = np.uint64(0)
    else:
        o = unpack(data, o, end, r, count)
        if o < 0:
            fault[0] = CUT_SHORT
            return -1, 0
    pr.restore(r, m, mode, base, step, x)
    if transform and not pl.to_values(x, m, transform, stride, offset, table, entries):
        fault[0] = BAD_TRANSFORM
        return -1, 0
    if kind == md.NEAR_DECIMALS:
        o = unpack(data, o, end, r, m)
        if o < 0:
            fault[0] = CUT_SHORT
            return -1, 0
        for i in range(m):
            extra[i] = unzigzag(r[i])
    md.from_integers(x, m, kind, exponent, extra, u)
    if kind == md.SPLIT:
        o = unpack_bits(data, o, end, r, 0, m, 52)
        if o < 0:
            fault[0] = CUT_SHORT
            return -1, 0
        for i in range(m):
            u[i] |= r[i]
    place = np.int64(0)
    p = first_exception
    for _ in range(exceptions):
        gap, p = take_varint(data, p, end)
        place += np.int64(gap)
        u[place] = load64(data, p)
        p += 8
    return o, m


@njit(cache=True)
def decode(data, o, end, n, types, cells, masks, first, fault):
    """Read the columns of a frame into cells[:, first:first + n] and masks. Values under nulls are 0.

    Returns 0, or what was found, with the column in `fault[1]` and the place where its reading began in `fault[2]`.
    `data` must have 8 bytes after `end`.
    """
    x = np.empty(n, np.int64)
    extra = np.empty(n, np.int64)
    room = max(n, pl.DICTIONARY_MAX)
    r = np.empty(room, np.uint64)
    u = np.empty(n, np.uint64)
    table = np.empty(pl.DICTIONARY_MAX + 1, np.int64)
    fault[0] = 0
    for j in range(len(types)):
        fault[1] = j
        fault[2] = o
        mask = masks[j, first : first + n]
        o, m = _take_column(data, o, end, types[j], u, x, extra, r, table, mask, n, fault)
        if o < 0:
            return fault[0]
        if pl.spread(u, m, n, mask, types[j], cells[j], first):
            fault[0] = BAD_TIME if types[j] == pl.TIME else BAD_VALUE
            return fault[0]
    fault[2] = o
    if o != end:
        fault[0] = TRAILING
    return fault[0]
