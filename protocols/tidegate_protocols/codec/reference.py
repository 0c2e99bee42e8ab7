"""A decoder of the compiled codecs in plain Python, written from docs/frame.md line by line. Never imports numba.

It is slow (some microseconds a reading) and serves three ends: to read frames where numba is missing or not yet
compiled, to check the compiled decoders, and to show anybody who writes a decoder what the specification means.
Section numbers are those of docs/frame.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import BadInput
from ..schema import Schema
from .kernels.hazards import BINS, CHANCES, CLASS_MAX, CLASS_MIN
from .kernels.heads import STARTS
from .plain import Columns
from .priors import Prior
from .varint import take_varint, unzigzag

_U64 = 2**64 - 1
_INTEGERS, _DECIMALS, _BINARY, _SINGLE_DECIMALS, _SINGLES, _NEAR_DECIMALS, _ORDERED, _SPLIT = range(8)
_MINIMUM, _CENTRE, _DELTA, _SLOPE, _LINE, _AVERAGE_2, _AVERAGE_16, _TREND = range(8)
_DICTIONARY_MAX = 255
_CHANCES: list[list[int]] = CHANCES.tolist()
_STARTS: list[list[int]] = STARTS.tolist()


def decode_columns(
    body: bytes | memoryview,
    schema: Schema,
    n: int,
    base_ts_us: int,
    codec: Literal["bitpack", "range"],
    priors: Sequence[Prior | None] | None = None,
) -> Columns:
    """The times, columns and masks of a body. Values under nulls are zero. Raises BadInput."""
    types = ["time"] + [channel.type for channel in schema.channels]
    names = ["ts"] + [channel.name for channel in schema.channels]
    source: _Source = _Packed(bytes(body), n) if codec == "bitpack" else _Ranged(bytes(body), n, priors)
    words: list[npt.NDArray[np.uint64]] = []
    masks: list[npt.NDArray[np.bool_] | None] = []
    for index, (kind_of, name) in enumerate(zip(types, names, strict=True)):
        mask, values = source.column(index, kind_of, name)
        if kind_of == "bool" and any(value > 1 for value in values):
            raise BadInput("a bool is neither 0 nor 1", where=f"column {name}")
        if kind_of == "time" and values[0]:
            raise BadInput("the first time is not the header's", where=f"column {name}")
        cell = np.zeros(n, np.uint64)
        if mask is None:
            cell[:] = values
            masks.append(None)
        else:
            held = np.array(mask, np.bool_)
            cell[held] = values
            masks.append(held)
        words.append(cell)
    source.finish()
    ts_us = words[0] + np.uint64(base_ts_us & _U64)
    columns: list[npt.NDArray[Any]] = []
    for channel, cell in zip(schema.channels, words[1:], strict=True):
        columns.append(cell.astype(np.bool_) if channel.type == "bool" else cell.view(channel.dtype))
    return ts_us.view(np.int64), tuple(columns), tuple(masks[1:])


class _Source(Protocol):
    def column(self, index: int, kind_of: str, name: str) -> tuple[list[bool] | None, list[int]]:
        """The mask (None without nulls) and the words of the values that are there."""

    def finish(self) -> None:
        """Refuse what follows the last column."""


# Section 4: integers from residuals, and values from integers.


def _signed(value: int) -> int:
    value &= _U64
    return value - 2**64 if value >> 63 else value


def _residual_count(mode: int, m: int) -> int:
    if mode in (_MINIMUM, _CENTRE, _LINE):
        return m
    return max(m - 2, 0) if mode == _SLOPE else m - 1


def _has_step(mode: int) -> bool:
    return _DELTA <= mode <= _LINE


def _restore(r: list[int], m: int, mode: int, base: int, step: int) -> list[int]:
    if mode == _MINIMUM:
        return [_signed(value + base) for value in r]
    if mode == _CENTRE:
        return [_signed(unzigzag(value) + base) for value in r]
    if mode == _LINE:
        return [_signed(base + (_signed(step * i) >> 8) + unzigzag(value)) for i, value in enumerate(r)]
    x = [base]
    if mode == _DELTA:
        for value in r:
            x.append(_signed(x[-1] + step + unzigzag(value)))
    elif mode == _SLOPE:
        if m > 1:
            x.append(_signed(base + step))
        for value in r:
            step = _signed(step + unzigzag(value))
            x.append(_signed(x[-1] + step))
    elif mode == _TREND:
        level, slope = _signed(base << 8), 0
        for i, value in enumerate(r, 1):
            level = _signed(level + slope)
            x.append(_signed(unzigzag(value) + (_signed(level + 128) >> 8)))
            error = _signed((x[-1] << 8) - level)
            k = min(i.bit_length(), 3)
            level = _signed(level + (error >> k - 1))
            slope = _signed(slope + (error >> min(2 * k - 1, 4)))
    else:
        average = _signed(base << 8)
        for i, value in enumerate(r, 1):
            x.append(_signed(unzigzag(value) + (_signed(average + 128) >> 8)))
            shift = min(i.bit_length(), 1 if mode == _AVERAGE_2 else 4)
            average = _signed(average + (_signed((x[-1] << 8) - average) >> shift))
    return x


def _turned(x: int) -> int:
    """Between an int64 in the order of float64 values and the bits of the float64: its own inverse."""
    return (x if x >= 0 else x ^ (2**63 - 1)) & _U64


def _words(x: list[int], kind: int, exponent: int, extra: list[int]) -> list[int]:
    if kind == _INTEGERS:
        return [value & _U64 for value in x]
    if kind in (_DECIMALS, _NEAR_DECIMALS):
        words = [_bits(float(value) / 10.0**exponent) for value in x]
        if kind == _DECIMALS:
            return words
        return [_turned(_signed(_signed(_turned(_signed(w))) + more)) for w, more in zip(words, extra, strict=True)]
    if kind == _BINARY:
        return [_bits(float(value) / 2.0**exponent) for value in x]
    if kind == _SINGLE_DECIMALS:
        with np.errstate(over="ignore"):
            return [_bits(float(np.float32(float(value) / 10.0**exponent))) for value in x]
    if kind == _SINGLES:
        return [_turned(_signed(value << 29)) >> 29 << 29 for value in x]
    if kind == _ORDERED:
        return [_turned(value) for value in x]
    return [(value & 0xFFE) << 51 | (value & 1) << 63 for value in x]


def _bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def _undo_transform(x: list[int], stride: int, offset: int, table: list[int] | None, where: str) -> list[int]:
    if table is None:
        return [_signed(value * stride + offset) for value in x]
    if any(not 0 <= value < len(table) for value in x):
        raise BadInput("its transform is damaged", where=where)
    return [table[value] for value in x]


def _table(first: int, gaps: list[int], bad: Callable[[str], BadInput]) -> list[int]:
    table = [first]
    for gap in gaps:
        table.append(_signed(table[-1] + _signed(gap)))
        if table[-1] <= table[-2]:
            raise bad("its transform is damaged")
    return table


def _exceptions(
    m: int, number: Callable[[], int], word: Callable[[], int], bad: Callable[[str], BadInput]
) -> list[tuple[int, int]]:
    """(place, word) of each value that the model does not give back."""
    count = number()
    if not 1 <= count <= m:
        raise bad("its exceptions are damaged")
    found: list[tuple[int, int]] = []
    place = 0
    for i in range(count):
        gap = number()
        if gap >= m - place or (i and gap == 0):
            raise bad("its exceptions are damaged")
        place += gap
        found.append((place, word()))
    return found


# Section 5: the bit-packed codec.


class _Packed:
    def __init__(self, data: bytes, n: int) -> None:
        self.data, self.n, self.pos = data, n, 0
        self.name = ""

    def bad(self, what: str) -> BadInput:
        return BadInput(what, where=f"column {self.name}, body byte {self.pos}")

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.pos:
            raise self.bad("cut short")
        self.pos += size
        return self.data[self.pos - size : self.pos]

    def number(self) -> int:
        value, self.pos = take_varint(self.data, self.pos, len(self.data), f"a number of column {self.name}")
        return value

    def packed(self, count: int, width: int) -> list[int]:
        run = self.take((width * count + 7) // 8)
        if width * count % 8 and run[-1] >> width * count % 8:
            raise self.bad("spare bits are set")
        if width == 0:
            return [0] * count
        # 64 values end with a byte: shifting one integer of the whole run would take the square of its length.
        words = [int.from_bytes(run[at : at + 8 * width], "little") for at in range(0, len(run), 8 * width)]
        return [words[i >> 6] >> (i & 63) * width & (1 << width) - 1 for i in range(count)]

    def blocks(self, count: int) -> list[int]:
        values: list[int] = []
        while len(values) < count:
            width = self.take(1)[0]
            if width > 64:
                raise self.bad(f"a width of {width} bits")
            values += self.packed(min(64, count - len(values)), width)
        return values

    def mask(self) -> list[bool]:
        form = self.take(1)[0]
        if form > 1:
            raise self.bad("its nulls are damaged")
        if form == 0:
            size = (self.n + 7) // 8
            run = int.from_bytes(self.take(size), "little")
            if run >> self.n:
                raise self.bad("its nulls are damaged")
            return [bool(run >> i & 1) for i in range(self.n)]
        mask: list[bool] = []
        value = True
        while len(mask) < self.n:
            length = self.number()
            if length > self.n - len(mask) or (length == 0 and mask):
                raise self.bad("its nulls are damaged")
            mask += [value] * length
            value = not value
        return mask

    def column(self, index: int, kind_of: str, name: str) -> tuple[list[bool] | None, list[int]]:
        self.name = name
        form = self.take(1)[0]
        mask, m = None, self.n
        if form & 0x08:
            if kind_of == "time":
                raise self.bad("the times have nulls")
            mask = self.mask()
            m = sum(mask)
            if m == 0:
                if form != 0x08:
                    raise self.bad("its form does not suit the column")
                return mask, []
            if m == self.n:
                raise self.bad("its nulls are damaged")
        head = self.take(1)[0]
        kind, transform, mode, exponent = form & 7, form >> 4 & 3, head & 7, head >> 3
        if kind == _SPLIT and exponent == 1:
            if mode or form & 0xF0:
                raise self.bad("its form does not suit the column")
            return mask, [int.from_bytes(self.take(8), "little") for _ in range(m)]
        cap = {_BINARY: 31, _INTEGERS: 0, _SINGLES: 0, _ORDERED: 0, _SPLIT: 0}.get(kind, 15)
        if exponent > cap or (kind == _INTEGERS) != (kind_of != "float64") or transform > 2:
            raise self.bad("its form does not suit the column")
        strangers: list[tuple[int, int]] = []
        if form & 0x40:
            strangers = _exceptions(m, self.number, lambda: int.from_bytes(self.take(8), "little"), self.bad)
        stride = offset = 0
        table = None
        if transform == 1:
            stride, offset = self.number(), unzigzag(self.number())
        elif transform == 2:
            entries = self.number()
            if not 2 <= entries <= _DICTIONARY_MAX:
                raise self.bad("its transform is damaged")
            table = _table(unzigzag(self.number()), self.blocks(entries - 1), self.bad)
        base = unzigzag(self.number())
        step = unzigzag(self.number()) if _has_step(mode) else 0
        count = _residual_count(mode, m)
        x = _restore([0] * count if form & 0x80 else self.blocks(count), m, mode, base, step)
        if transform:
            x = _undo_transform(x, stride, offset, table, f"column {name}")
        extra = [unzigzag(value) for value in self.blocks(m)] if kind == _NEAR_DECIMALS else []
        words = _words(x, kind, exponent, extra)
        if kind == _SPLIT:
            words = [word | mantissa for word, mantissa in zip(words, self.packed(m, 52), strict=True)]
        for place, word in strangers:
            words[place] = word
        return mask, words

    def finish(self) -> None:
        if self.pos != len(self.data):
            raise self.bad("bytes after the last column")


# Section 6: the range coder.

_CONTEXTS, _SPREAD = 3, 3
_FOLLOWS, _NULLS, _MASK, _RAW, _PLAIN_MASK, _STRANGE, _ZERO, _IN_CONTEXT = 0, 1, 2, 4, 5, 6, 7, 8
_APART, _OTHER_THAN_ZERO, _BLOCKS = 9, 10, 12
_KIND, _TRANSFORM, _MODE, _EXPONENT, _SIZE, _BASE, _STEP, _OTHER, _DECADE = 16, 24, 28, 36, 68, 324, 452, 580, 708
_SLOTS = 716


class _Slots:
    """Chances of a 1 in 65,536ths, and how many decisions each counts for."""

    def __init__(self, chances: list[int], seen: list[int]) -> None:
        self.chances, self.seen = chances, seen

    @classmethod
    def heads(cls) -> _Slots:
        slots = cls([32768] * _SLOTS, [0] * _SLOTS)
        for slot, chance in _STARTS:
            slots.chances[slot], slots.seen[slot] = chance, 2
        return slots

    @classmethod
    def residuals(cls, size: int, contexts: bool) -> _Slots:
        slots = cls([], [])
        for context in range(_CONTEXTS):
            row = size - 4 * _plain_bits(size) + ((context - 1) * _SPREAD if contexts else 0)
            slots.chances += _CHANCES[min(max(row, CLASS_MIN), CLASS_MAX) - CLASS_MIN]
        slots.seen = [7] * len(slots.chances)
        return slots


def _plain_bits(size: int) -> int:
    return max(0, (size >> 2) - 1)


class _Ranged:
    def __init__(self, data: bytes, n: int, priors: Sequence[Prior | None] | None) -> None:
        self.data, self.n, self.priors = data, n, priors
        self.code = int.from_bytes(data[:8].ljust(8, b"\0"), "big")
        self.range = _U64
        self.front = 8
        self.back = 0  # bits taken from the back
        self.heads = _Slots.heads()
        self.name = ""

    def bad(self, what: str) -> BadInput:
        return BadInput(what, where=f"column {self.name}")

    def decide(self, slots: _Slots, slot: int) -> int:
        chance = slots.chances[slot]
        rate = 655_360 // (10 * slots.seen[slot] + 16)
        bound = (self.range >> 16) * chance
        if self.code < bound:
            bit = 1
            self.range = bound
            slots.chances[slot] = min(chance + ((65536 - chance) * rate >> 16), 65440)
        else:
            bit = 0
            self.code -= bound
            self.range -= bound
            slots.chances[slot] = max(chance - (chance * rate >> 16), 96)
        slots.seen[slot] = min(slots.seen[slot] + 1, 62)
        if self.range < 2**32:
            more = self.data[self.front : self.front + 4].ljust(4, b"\0")
            self.code = (self.code << 32 | int.from_bytes(more, "big")) & _U64
            self.range = self.range << 32
            self.front += 4
            if self.front > len(self.data) + 12:
                raise self.bad("the bytes end before it does")
        return bit

    def plain(self, width: int) -> int:
        if self.back + width > 8 * len(self.data):
            raise self.bad("the bytes end before it does")
        value = 0
        for i in range(width):
            byte = self.data[len(self.data) - 1 - (self.back + i >> 3)]
            value |= (byte >> (self.back + i & 7) & 1) << i
        self.back += width
        return value

    def finish(self) -> None:
        """The decisions gave out whole words of 4 bytes and 1 to 8 bytes at the end; plain bits fill whole bytes."""
        rest = len(self.data) - (self.back + 7) // 8 - (self.front - 8)
        if not 1 <= rest <= 8 or self.plain(-self.back % 8):
            raise self.bad("the bytes are not those of the columns alone")

    def flag(self, slot: int) -> int:
        return self.decide(self.heads, slot)

    def tree(self, first: int, bits: int) -> int:
        node = 1
        for _ in range(bits):
            node = 2 * node + self.flag(first + node)
        return node - (1 << bits)

    def number(self, first: int) -> int:
        length = min(self.tree(first, 7), 64)
        return 1 << (length - 1) | self.plain(length - 1) if length else 0

    def residuals(self, count: int, size: int, contexts: bool, slots: _Slots) -> list[int]:
        k = _plain_bits(size)
        context = 1 if contexts else 0
        values = []
        for _ in range(count):
            q = 0
            while q < BINS and not self.decide(slots, context * BINS + q):
                q += 1
            whole = q
            if q == BINS:
                length = self.plain(6)
                whole = (1 << length | self.plain(length)) + BINS - 1
            values.append((whole << k | self.plain(k)) & _U64)
            if contexts:
                context = 0 if q == 0 else (1 if q < 4 else 2)
        return values

    def run(self, count: int) -> list[int]:
        if self.flag(_ZERO):
            return [0] * count
        if self.flag(_BLOCKS):
            values: list[int] = []
            while len(values) < count:
                width = min(self.tree(_OTHER, 7), 64)
                values += [self.plain(width) for _ in range(min(64, count - len(values)))]
            return values
        others: list[int] | None = None
        if self.flag(_APART):
            others = []
            before = 1
            for _ in range(count):
                before = self.flag(_OTHER_THAN_ZERO + before)
                others.append(before)
        size = self.tree(_SIZE, 8) + CLASS_MIN
        contexts = bool(self.flag(_IN_CONTEXT))
        slots = _Slots.residuals(size, contexts)
        if others is None:
            return self.residuals(count, size, contexts, slots)
        less = iter(self.residuals(sum(others), size, contexts, slots))
        return [next(less) + 1 & _U64 if other else 0 for other in others]

    def column(self, index: int, kind_of: str, name: str) -> tuple[list[bool] | None, list[int]]:
        self.name = name
        mask: list[bool] | None = None
        if self.priors is not None and self.flag(_FOLLOWS):
            prior = self.priors[index] if index < len(self.priors) else None
            if prior is None:
                raise self.bad("its head does not suit the column")
            words = self.following(prior)
        else:
            m = self.n
            if self.flag(_NULLS):
                if kind_of == "time":
                    raise self.bad("its head does not suit the column")
                mask = self.mask()
                m = sum(mask)
                if m == self.n:
                    raise self.bad("its head does not suit the column")
            words = self.values(m, kind_of) if m else []
        return mask, words

    def mask(self) -> list[bool]:
        if self.flag(_PLAIN_MASK):
            return [bool(self.plain(1)) for _ in range(self.n)]
        mask: list[bool] = []
        before = 1
        for _ in range(self.n):
            before = self.flag(_MASK + before)
            mask.append(bool(before))
        return mask

    def following(self, prior: Prior) -> list[int]:
        step = int(prior.step)
        first = self.residuals(1, prior.base_size, False, _Slots.residuals(prior.base_size, False))
        base = _signed(int(prior.base) + unzigzag(first[0]))
        slots = _Slots(list(prior.chances), list(prior.seen))
        r = self.residuals(_residual_count(prior.mode, self.n), prior.size, prior.contexts, slots)
        x = _restore(r, self.n, prior.mode, base, step)
        if prior.transform:
            x = _undo_transform(x, int(prior.stride), int(prior.offset), None, "")
        return _words(x, prior.kind, prior.exponent, [])

    def values(self, m: int, kind_of: str) -> list[int]:
        if self.flag(_RAW):
            return [self.plain(64) for _ in range(m)]
        kind = self.tree(_KIND, 3) if kind_of == "float64" else _INTEGERS
        if kind_of == "float64" and kind == _INTEGERS:
            raise self.bad("its head does not suit the column")
        exponent = self.tree(_EXPONENT, 5) if kind in (_DECIMALS, _BINARY, _SINGLE_DECIMALS, _NEAR_DECIMALS) else 0
        if exponent > (31 if kind == _BINARY else 15):
            raise self.bad("its head does not suit the column")
        strangers: list[tuple[int, int]] = []
        if self.flag(_STRANGE):
            strangers = _exceptions(m, lambda: self.number(_OTHER), lambda: self.plain(64), self.bad)
        transform = self.tree(_TRANSFORM, 2)
        stride = offset = 0
        table = None
        if transform == 1:
            decade = self.tree(_DECADE, 3)
            stride = _signed(self.number(_OTHER) * 10**decade)
            offset = unzigzag(self.number(_OTHER))
        elif transform == 2:
            entries = self.number(_OTHER)
            if not 2 <= entries <= min(_DICTIONARY_MAX, m):
                raise self.bad("its transform is damaged")
            table = _table(unzigzag(self.number(_OTHER)), self.run(entries - 1), self.bad)
        elif transform:
            raise self.bad("its transform is damaged")
        mode = self.tree(_MODE, 3)
        base = unzigzag(self.number(_BASE))
        step = unzigzag(self.number(_STEP)) if _has_step(mode) else 0
        x = _restore(self.run(_residual_count(mode, m)), m, mode, base, step)
        if transform:
            x = _undo_transform(x, stride, offset, table, f"column {self.name}")
        extra = [unzigzag(value) for value in self.run(m)] if kind == _NEAR_DECIMALS else []
        words = _words(x, kind, exponent, extra)
        if kind == _SPLIT:
            words = [word | self.plain(52) for word in words]
        for place, word in strangers:
            words[place] = word
        return words
