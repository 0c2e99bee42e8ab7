"""The codec that needs nothing but numpy and zlib: for 32-bit devices, first boots and programs without numba.

Body, after the frame's header (integers little-endian):

    size    varint, bytes of the columns once inflated
    zlib    the columns: the times first, then each channel in the schema's order

A column, once inflated:

    form    u8: bits 0-1 kind (0 integers, 1 decimals, 2 words, 3 bits), bit 7 set when there are nulls
    mask    only with nulls: ceil(n / 8) bytes, bit i % 8 of byte i // 8 set where scan i has a value
    then for the m scans that have a value:
    integers  first i64 (not for the times: theirs is the header's), width u8 (0, 1, 2, 4 or 8), then m - 1
              differences to the value before, wrapping at 64 bits, zigzag, `width` bytes each, in planes: first the
              low byte of every difference, then the next byte of every difference …
    decimals  exponent u8 (0 to 15), then integers r as above; the value is float64(r) / 10**exponent
    words     8 planes of m bytes: the low byte of every value's 64 bits first
    bits      ceil(m / 8) bytes, packed as the mask is

The times are integers, bool channels bits, int64 channels integers, float64 channels decimals or words.
Where m is 0, nothing follows the mask.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from ..batch import Batch
from ..errors import BadInput
from ..schema import Schema
from . import few
from .varint import put_varint, take_varint

_INTEGERS, _DECIMALS, _WORDS, _BITS = range(4)
_NULLS = 0x80
_KINDS = 0x03
_WIDTHS = (0, 1, 2, 4, 8)
_EXPONENT_MAX = 15
_EXACT = float(2**53)
_COLUMN_HEAD = 16  # at most: form, exponent, first value, width
_LEVEL = 6

Columns = tuple[npt.NDArray[np.int64], tuple[npt.NDArray[Any], ...], tuple[npt.NDArray[np.bool_] | None, ...]]


def encode_columns(batch: Batch) -> bytes:
    """The body of a plain frame."""
    if len(batch) <= few.SCANS:
        rows = [
            column.tolist()
            if mask is None
            else [value if ok else None for value, ok in zip(column.tolist(), mask.tolist(), strict=True)]
            for column, mask in zip(batch.columns, batch.valid, strict=True)
        ]
        return deflate(few.encode_columns(batch.schema, batch.ts_us.tolist(), list(zip(*rows, strict=True))))
    return deflate(inflated_columns(batch))


def deflate(raw: bytes | bytearray) -> bytes:
    """Columns as they stand in the frame."""
    out = bytearray()
    put_varint(out, len(raw))
    return bytes(out) + zlib.compress(raw, _LEVEL)


def inflated_columns(batch: Batch) -> bytearray:
    """The columns before they are deflated, by numpy."""
    raw = bytearray([_INTEGERS])
    _put_integers(raw, batch.ts_us, first=False)
    for channel, column, mask in zip(batch.schema.channels, batch.columns, batch.valid, strict=True):
        values = column
        start = len(raw)
        raw.append(0)
        if mask is not None and not mask.all():
            values = column[mask]
            raw[start] = _NULLS
            raw += np.packbits(mask, bitorder="little").tobytes()
            if not len(values):
                continue
        if channel.type == "bool":
            raw[start] |= _BITS
            raw += np.packbits(values, bitorder="little").tobytes()
        elif channel.type == "int64":
            raw[start] |= _INTEGERS
            _put_integers(raw, values)
        elif (scaled := _as_decimals(values)) is not None:
            raw[start] |= _DECIMALS
            raw.append(scaled[0])
            _put_integers(raw, scaled[1])
        else:
            raw[start] |= _WORDS
            raw += np.ascontiguousarray(values).view(np.uint8).reshape(-1, 8).T.tobytes()
    return raw


def decode_columns(body: bytes | memoryview, schema: Schema, n: int, base_ts_us: int) -> Columns:
    """The times, columns and masks of a plain frame. Values under nulls are zero. Raises BadInput."""
    size, pos = take_varint(body, 0, len(body), "the inflated size")
    cap = (len(schema.channels) + 1) * (_COLUMN_HEAD + (n + 7) // 8 + 8 * n)
    if size > cap:
        raise BadInput(f"{size} bytes inflated; {n} scans need at most {cap}", where="columns")
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(body[pos:], size + 1)
    except zlib.error as error:
        raise BadInput(f"not zlib: {error}", where="columns") from None
    if len(raw) != size or not inflate.eof or inflate.unused_data:
        raise BadInput(f"does not inflate to the {size} bytes declared", where="columns")
    reader = _Reader(raw)
    ts_us = _take_column(reader.at("ts"), "time", n, base_ts_us)[0]
    columns, valid = [], []
    for channel in schema.channels:
        column, mask = _take_column(reader.at(channel.name), channel.type, n, None)
        columns.append(column)
        valid.append(mask)
    if reader.pos != size:
        raise BadInput(f"{size - reader.pos} bytes after the last column", where="columns")
    return ts_us, tuple(columns), tuple(valid)


class _Reader:
    """A cursor over the inflated columns that never reads past their end."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.pos = 0
        self.column = ""

    def at(self, column: str) -> _Reader:
        self.column = column
        return self

    def bad(self, what: str) -> BadInput:
        return BadInput(what, where=f"column {self.column}, inflated byte {self.pos}")

    def take(self, size: int) -> bytes:
        if size > len(self.raw) - self.pos:
            raise self.bad(f"{size} bytes are missing or cut short")
        self.pos += size
        return self.raw[self.pos - size : self.pos]

    def byte(self) -> int:
        return self.take(1)[0]

    def bits(self, count: int) -> npt.NDArray[np.bool_]:
        packed = np.frombuffer(self.take((count + 7) // 8), np.uint8)
        spare = -count % 8
        if spare and packed[-1] >> (8 - spare):
            raise self.bad("bits are set past the last scan")
        return np.unpackbits(packed, count=count, bitorder="little").astype(np.bool_)


def _take_column(
    reader: _Reader, kind_of: str, n: int, first: int | None
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    form = reader.byte()
    kind, nulls = form & _KINDS, form & _NULLS
    allowed = {"time": (_INTEGERS,), "int64": (_INTEGERS,), "bool": (_BITS,)}.get(kind_of, (_DECIMALS, _WORDS))
    mask = reader.bits(n) if nulls else None
    m = n if mask is None else int(np.count_nonzero(mask))
    fits = kind in allowed if m else kind == 0
    if not fits or form & ~(_KINDS | _NULLS) or (nulls and kind_of == "time"):
        raise reader.bad(f"form {form:#04x} does not suit a column of {kind_of}")
    dtype = {"time": np.int64, "int64": np.int64, "bool": np.bool_}.get(kind_of, np.float64)
    values: npt.NDArray[Any]
    if m == 0:
        values = np.zeros(0, dtype)
    elif kind == _BITS:
        values = reader.bits(m)
    elif kind == _INTEGERS:
        values = _take_integers(reader, m, first)
    elif kind == _DECIMALS:
        exponent = reader.byte()
        if exponent > _EXPONENT_MAX:
            raise reader.bad(f"exponent {exponent}; at most {_EXPONENT_MAX}")
        values = _take_integers(reader, m, None).astype(np.float64) / 10.0**exponent
    else:
        planes = np.frombuffer(reader.take(8 * m), np.uint8).reshape(8, m)
        values = np.ascontiguousarray(planes.T).view(np.float64).reshape(m)
    if mask is None:
        return values, None
    column: npt.NDArray[Any] = np.zeros(n, dtype)
    column[mask] = values
    return column, mask


def _as_decimals(values: npt.NDArray[np.float64]) -> tuple[int, npt.NDArray[np.int64]] | None:
    """(exponent, integers) whose quotients are the values bit for bit, or None."""
    if not np.isfinite(values).all():
        return None
    bits = values.view(np.int64) if values.flags.c_contiguous else values.copy().view(np.int64)
    for exponent in range(_EXPONENT_MAX + 1):
        scale = 10.0**exponent
        with np.errstate(over="ignore"):
            scaled = np.rint(values * scale)
        if not (np.abs(scaled) < _EXACT).all():
            return None
        integers = scaled.astype(np.int64)
        # The quotient as the decoder forms it: a -0.0 comes back as +0.0 and fails here, as it must.
        if np.array_equal((integers.astype(np.float64) / scale).view(np.int64), bits):
            return exponent, integers
    return None


def _put_integers(raw: bytearray, values: npt.NDArray[np.int64], *, first: bool = True) -> None:
    if first:
        raw += struct.pack("<q", int(values[0]))
    words = values.astype(np.int64).view(np.uint64)
    step = (words[1:] - words[:-1]).view(np.int64)
    folded = ((step << 1) ^ (step >> 63)).view(np.uint64)
    top = int(folded.max()) if len(folded) else 0
    width = next(w for w in _WIDTHS if top < 1 << (8 * w))
    raw.append(width)
    raw += folded.astype("<u8").view(np.uint8).reshape(-1, 8).T[:width].tobytes()


def _take_integers(reader: _Reader, m: int, first: int | None) -> npt.NDArray[np.int64]:
    if first is None:
        (first,) = struct.unpack("<q", reader.take(8))
    width = reader.byte()
    if width not in _WIDTHS:
        raise reader.bad(f"width {width}; 0, 1, 2, 4 or 8 are allowed")
    planes = np.zeros((m - 1, 8), np.uint8)
    planes[:, :width] = np.frombuffer(reader.take(width * (m - 1)), np.uint8).reshape(width, m - 1).T
    folded = planes.view("<u8").reshape(m - 1).astype(np.uint64)
    words = np.empty(m, np.uint64)
    words[0] = np.uint64(first % 2**64)
    words[1:] = (folded >> np.uint64(1)) ^ (np.uint64(0) - (folded & np.uint64(1)))
    return np.cumsum(words, dtype=np.uint64).view(np.int64)
