"""An adaptive binary range coder, and residuals and small numbers as decisions through it.

A frame's columns are two streams in one run of bytes. The decisions are range-coded from the front: `low` and `range`
are 64 bits wide, a decision with chance p / 65536 of 1 takes `(range >> 16) * p` of the range, and whenever the range
falls below 2**32 the upper 32 bits of low go out, high byte first (a carry runs back into what was written; Martin,
"Range encoding", 1979). Bits that no model can foretell go from the back, byte by byte, low bits first.

Each decision's chance starts where its model says and moves to what was seen by 1 / (seen + 1.6), at least 1/64
(a Krichevsky-Trofimov estimate that forgets).
"""

# mypy: no-check-untyped-defs, allow-untyped-defs
from __future__ import annotations

import numpy as np
from numba import njit

from .bits import bit_length
from .hazards import BINS, CHANCES, CLASS_MAX, CLASS_MIN
from .packing import BLOCK

CONTEXTS = 3
SLOTS = BINS * CONTEXTS
SIZE_CLASSES = 256  # of a mean residual, 4 to an octave
CONTEXT_SPREAD = 3  # size classes between neighbouring contexts
START_SEEN = 7  # how many residuals the fitted start counts for

_SEEN_MAX = 62
_FLOOR, _CEILING = 96, 65440
RATES = np.array([655_360 // (10 * n + 16) for n in range(_SEEN_MAX + 1)], np.int64)

_16 = np.uint64(16)
_32 = np.uint64(32)
_FEW = np.uint64(1 << 32)
_LOW32 = np.uint64(0xFFFFFFFF)
_1 = np.uint64(1)

# The coder's state, uint64: the front stream …
LOW, RANGE, FRONT = 0, 1, 2  # the decoder keeps its code word in LOW
# … and the back stream: bits not yet a byte, how many, and the bytes written or read.
HELD, HELD_BITS, BACK = 3, 4, 5
START, STOP = 6, 7  # where the decoder's bytes begin and end
STATE_SIZE = 8


@njit(cache=True)
def _carry(out, o):
    o -= 1
    while out[o] == 255:
        out[o] = 0
        o -= 1
    out[o] += np.uint8(1)


@njit(cache=True)
def _emit(out, o, low):
    out[o] = np.uint8(low >> np.uint64(56))
    out[o + 1] = np.uint8((low >> np.uint64(48)) & np.uint64(0xFF))
    out[o + 2] = np.uint8((low >> np.uint64(40)) & np.uint64(0xFF))
    out[o + 3] = np.uint8((low >> np.uint64(32)) & np.uint64(0xFF))


@njit(cache=True)
def _next32(data, o, stop):
    """Four bytes, high byte first; zeros past the end."""
    word = np.uint64(0)
    for k in range(4):
        word <<= np.uint64(8)
        if o + k < stop:
            word |= np.uint64(data[o + k])
    return word


@njit(cache=True)
def start_encoder(st):
    st[:] = np.uint64(0)
    st[RANGE] = ~np.uint64(0)


@njit(cache=True)
def start_decoder(st, data, start, stop):
    st[:] = np.uint64(0)
    st[RANGE] = ~np.uint64(0)
    st[LOW] = (_next32(data, start, stop) << _32) | _next32(data, start + 4, stop)
    st[FRONT] = np.uint64(start + 8)
    st[START] = np.uint64(start)
    st[STOP] = np.uint64(stop)


@njit(cache=True)
def put_bits(st, back, value, width):
    """The low `width` bits (0 to 64) of `value` to the back stream."""
    if width > 32:
        put_bits_32(st, back, value & _LOW32, 32)
        put_bits_32(st, back, value >> _32, width - 32)
    else:
        put_bits_32(st, back, value, width)


@njit(cache=True)
def put_bits_32(st, back, value, width):
    held = st[HELD] | (value << st[HELD_BITS])
    bits = np.int64(st[HELD_BITS]) + width
    o = np.int64(st[BACK])
    while bits >= 8:
        back[o] = np.uint8(held & np.uint64(0xFF))
        o += 1
        held >>= np.uint64(8)
        bits -= 8
    st[HELD], st[HELD_BITS], st[BACK] = held, np.uint64(bits), np.uint64(o)


@njit(cache=True)
def take_bits(st, data, width):
    """`width` bits (0 to 64) from the back stream; zeros once it has passed the front of the bytes."""
    if width > 32:
        low = take_bits_32(st, data, 32)
        return low | take_bits_32(st, data, width - 32) << _32
    return take_bits_32(st, data, width)


@njit(cache=True)
def take_bits_32(st, data, width):
    held = st[HELD]
    bits = np.int64(st[HELD_BITS])
    back = np.int64(st[BACK])
    while bits < width:
        back += 1
        place = np.int64(st[STOP]) - back
        if place >= np.int64(st[START]):
            held |= np.uint64(data[place]) << np.uint64(bits)
        bits += 8
    value = held & ((_1 << np.uint64(width)) - _1)
    st[HELD], st[HELD_BITS], st[BACK] = held >> np.uint64(width), np.uint64(bits - width), np.uint64(back)
    return value


@njit(cache=True)
def finish(st, out, back):
    """End both streams and lay them together in `out`; returns the bytes in all."""
    o = np.int64(st[FRONT])
    low, range_ = st[LOW], st[RANGE]
    # As few bytes as leave the decoder inside the range, whatever it reads after them.
    for size in range(1, 9):
        rest = (_1 << np.uint64(64 - 8 * size)) - _1
        word = (low + rest) & ~rest
        if (word - low) + rest < range_ and word - low <= rest:
            if word < low:
                _carry(out, o)
            for k in range(size):
                out[o + k] = np.uint8((word >> np.uint64(56 - 8 * k)) & np.uint64(0xFF))
            o += size
            break
    behind = np.int64(st[BACK])
    if st[HELD_BITS]:
        back[behind] = np.uint8(st[HELD])
        behind += 1
    for i in range(behind):
        out[o + behind - 1 - i] = back[i]
    return o + behind


@njit(cache=True)
def written_bits(st):
    """How many bits both streams have taken so far."""
    return 8 * np.int64(st[FRONT] + st[BACK]) + np.int64(st[HELD_BITS]) + 64 - bit_length(st[RANGE])


@njit(cache=True)
def mark(st, out, kept):
    """Note in `kept`, uint64 [STATE_SIZE + 2], all that `rewind` needs."""
    kept[:STATE_SIZE] = st
    # What is written later may carry, once, into the last byte that is not 255.
    o = np.int64(st[FRONT]) - 1
    while o >= 0 and out[o] == 255:
        o -= 1
    kept[STATE_SIZE] = np.uint64(o + 1)
    if o >= 0:
        kept[STATE_SIZE + 1] = np.uint64(out[o])


@njit(cache=True)
def rewind(st, out, kept):
    """Forget what was written since `mark`."""
    st[:] = kept[:STATE_SIZE]
    o = np.int64(kept[STATE_SIZE])
    if o > 0:
        out[o - 1] = np.uint8(kept[STATE_SIZE + 1])
    for i in range(o, np.int64(st[FRONT])):
        out[i] = np.uint8(255)


@njit(cache=True)
def is_whole(st, start, end):
    """Whether what was read is all there is between the two places, as `finish` lays it together."""
    front = np.int64(st[FRONT]) - 8  # the decoder is 8 bytes ahead of the words that the encoder gave out
    rest = end - np.int64(st[BACK]) - front
    return 1 <= rest <= 8 and st[HELD] == np.uint64(0)


@njit(cache=True)
def put_bit(st, out, p, seen, slot, bit):
    """One decision, adaptively, with the chance of a 1 in p[slot]."""
    chance = p[slot]
    rate = RATES[seen[slot]]
    bound = (st[RANGE] >> _16) * np.uint64(chance)
    if bit:
        st[RANGE] = bound
        p[slot] = min(chance + (((65536 - chance) * rate) >> 16), _CEILING)
    else:
        low = st[LOW] + bound
        if low < bound:
            _carry(out, np.int64(st[FRONT]))
        st[LOW] = low
        st[RANGE] -= bound
        p[slot] = max(chance - ((chance * rate) >> 16), _FLOOR)
    if seen[slot] < _SEEN_MAX:
        seen[slot] += 1
    if st[RANGE] < _FEW:
        _emit(out, np.int64(st[FRONT]), st[LOW])
        st[FRONT] += np.uint64(4)
        st[LOW] <<= _32
        st[RANGE] <<= _32


@njit(cache=True)
def take_bit(st, data, p, seen, slot):
    """The inverse of `put_bit`."""
    chance = p[slot]
    rate = RATES[seen[slot]]
    bound = (st[RANGE] >> _16) * np.uint64(chance)
    if st[LOW] < bound:
        bit = 1
        st[RANGE] = bound
        p[slot] = min(chance + (((65536 - chance) * rate) >> 16), _CEILING)
    else:
        bit = 0
        st[LOW] -= bound
        st[RANGE] -= bound
        p[slot] = max(chance - ((chance * rate) >> 16), _FLOOR)
    if seen[slot] < _SEEN_MAX:
        seen[slot] += 1
    if st[RANGE] < _FEW:
        st[LOW] = (st[LOW] << _32) | _next32(data, np.int64(st[FRONT]), np.int64(st[STOP]))
        st[RANGE] <<= _32
        st[FRONT] += np.uint64(4)
    return bit


@njit(cache=True)
def put_tree(st, out, p, seen, first, bits, value):
    """A number of `bits` bits, high bit first, each bit's chance by the bits before it: 2**bits slots from `first`."""
    node = 1
    for k in range(bits - 1, -1, -1):
        bit = (value >> k) & 1
        put_bit(st, out, p, seen, first + node, bit)
        node = 2 * node + bit


@njit(cache=True)
def take_tree(st, data, p, seen, first, bits):
    node = 1
    for _ in range(bits):
        node = 2 * node + take_bit(st, data, p, seen, first + node)
    return node - (1 << bits)


@njit(cache=True)
def put_number(st, out, back, p, seen, first, value):
    """A uint64: its bit length by a tree of 128 slots, then the bits below its highest one plainly."""
    length = bit_length(value)
    put_tree(st, out, p, seen, first, 7, length)
    if length > 1:
        put_bits(st, back, value & ((_1 << np.uint64(length - 1)) - _1), length - 1)


@njit(cache=True)
def take_number(st, data, p, seen, first):
    """The inverse of `put_number`; a length over 64, which no encoder writes, reads as 64."""
    length = min(take_tree(st, data, p, seen, first, 7), 64)
    if length == 0:
        return np.uint64(0)
    return (_1 << np.uint64(length - 1)) | take_bits(st, data, length - 1)


@njit(cache=True)
def put_blocks(st, out, back, p, seen, first, r, count):
    """Residuals as plain bits of equal width in blocks of 64, the width by a tree of 128 slots."""
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        union = np.uint64(0)
        for i in range(start, stop):
            union |= r[i]
        width = bit_length(union)
        put_tree(st, out, p, seen, first, 7, width)
        for i in range(start, stop):
            put_bits(st, back, r[i], width)


@njit(cache=True)
def take_blocks(st, data, p, seen, first, r, count):
    """The inverse of `put_blocks`; a width over 64, which no encoder writes, reads as 64."""
    for start in range(0, count, BLOCK):
        width = min(take_tree(st, data, p, seen, first, 7), 64)
        for i in range(start, min(start + BLOCK, count)):
            r[i] = take_bits(st, data, width)


@njit(cache=True)
def size_class(r, count):
    """The class, CLASS_MIN to 239, of the mean of the residuals, large ones capped."""
    total = 0.0
    for i in range(count):
        total += np.float64(r[i])
    cap = 4.0 * total / count
    total = 0.0
    for i in range(count):
        total += min(np.float64(r[i]), cap)
    if total == 0.0:
        return CLASS_MIN
    return min(max(np.int64(np.rint(4.0 * np.log2(total / count))), CLASS_MIN), CLASS_MIN + SIZE_CLASSES - 1)


@njit(cache=True)
def plain_bits(size):
    """How many low bits of each residual of a size class go plainly to the back stream."""
    return max(0, (size >> 2) - 1)


@njit(cache=True)
def start_slots(size, spread, p, seen):
    """Fill the slots of CONTEXTS contexts for residuals of a size class. With `spread`, contexts differ in size."""
    fraction = size - 4 * plain_bits(size)
    for c in range(CONTEXTS):
        row = fraction + (c - 1) * CONTEXT_SPREAD if spread else fraction
        row = min(max(row, CLASS_MIN), CLASS_MAX) - CLASS_MIN
        for j in range(BINS):
            p[c * BINS + j] = CHANCES[row, j]
            seen[c * BINS + j] = START_SEEN


@njit(cache=True)
def next_context(q):
    """The context that the residual with unary count `q` leaves to the one after it."""
    return 0 if q == 0 else (1 if q < 4 else 2)


@njit(cache=True)
def put_residuals(st, out, back, r, count, size, contexts, p, seen):
    """`count` residuals of a size class: a unary count of decisions, then the plain low bits."""
    k = plain_bits(size)
    shift = np.uint64(k)
    low, range_, o = st[LOW], st[RANGE], np.int64(st[FRONT])
    context = 1 if contexts else 0
    for i in range(count):
        value = r[i]
        whole = value >> shift
        q = np.int64(whole) if whole < np.uint64(BINS) else BINS
        slot = context * BINS
        for j in range(min(q + 1, BINS)):
            chance = p[slot + j]
            n = seen[slot + j]
            bound = (range_ >> _16) * np.uint64(chance)
            if j == q:
                range_ = bound
                p[slot + j] = min(chance + (((65536 - chance) * RATES[n]) >> 16), _CEILING)
            else:
                low += bound
                if low < bound:
                    _carry(out, o)
                range_ -= bound
                p[slot + j] = max(chance - ((chance * RATES[n]) >> 16), _FLOOR)
            if n < _SEEN_MAX:
                seen[slot + j] = n + 1
            if range_ < _FEW:
                _emit(out, o, low)
                o += 4
                low <<= _32
                range_ <<= _32
        if q == BINS:
            over = whole - np.uint64(BINS - 1)
            length = bit_length(over)
            put_bits(st, back, np.uint64(length - 1), 6)
            put_bits(st, back, over & ((_1 << np.uint64(length - 1)) - _1), length - 1)
        if k:
            put_bits(st, back, value & ((_1 << shift) - _1), k)
        if contexts:
            context = next_context(q)
    st[LOW], st[RANGE], st[FRONT] = low, range_, np.uint64(o)


@njit(cache=True)
def take_residuals(st, data, r, count, size, contexts, p, seen):
    """The inverse of `put_residuals`."""
    k = plain_bits(size)
    shift = np.uint64(k)
    code, range_, o = st[LOW], st[RANGE], np.int64(st[FRONT])
    stop = np.int64(st[STOP])
    context = 1 if contexts else 0
    for i in range(count):
        slot = context * BINS
        q = 0
        while q < BINS:
            chance = p[slot + q]
            n = seen[slot + q]
            bound = (range_ >> _16) * np.uint64(chance)
            ends = code < bound
            if ends:
                range_ = bound
                p[slot + q] = min(chance + (((65536 - chance) * RATES[n]) >> 16), _CEILING)
            else:
                code -= bound
                range_ -= bound
                p[slot + q] = max(chance - ((chance * RATES[n]) >> 16), _FLOOR)
            if n < _SEEN_MAX:
                seen[slot + q] = n + 1
            if range_ < _FEW:
                code = (code << _32) | _next32(data, o, stop)
                range_ <<= _32
                o += 4
            if ends:
                break
            q += 1
        whole = np.uint64(q)
        if q == BINS:
            length = np.int64(take_bits(st, data, 6))
            whole = ((_1 << np.uint64(length)) | take_bits(st, data, length)) + np.uint64(BINS - 1)
        value = whole << shift
        if k:
            value |= take_bits(st, data, k)
        r[i] = value
        if contexts:
            context = next_context(q)
    st[LOW], st[RANGE], st[FRONT] = code, range_, np.uint64(o)
