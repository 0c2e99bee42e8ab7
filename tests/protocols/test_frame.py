"""Frames: what goes in comes out bit for bit, and nothing hostile gets past the header."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from tidegate_protocols.batch import Batch, Lane, batch_from_rows
from tidegate_protocols.codec.varint import put_varint
from tidegate_protocols.errors import BadInput
from tidegate_protocols.frame import UnknownSchema, decode_frame, encode_frame, peek_header
from tidegate_protocols.schema import Channel, Schema

from tests.support.batches import batches

SCHEMA = Schema("engine", (Channel("temp", unit="Cel"), Channel("count", "int64"), Channel("on", "bool")))
KNOWN = {SCHEMA.fingerprint: SCHEMA}
BATCH = batch_from_rows(
    "bus-7", SCHEMA,
    [(1_700_000_000_000_000, (21.5, 7, True)), (1_700_000_001_000_000, (None, 8, None)),
     (1_700_000_002_000_003, (-0.0, None, False))],
    epoch=3, seq=1000, lane=Lane.BACKLOG, time_from_agent=True,
)  # fmt: skip


def sealed(data: bytes) -> bytes:
    """`data` with a checksum that fits, as an attacker would send it."""
    return data + crc32c(data).to_bytes(4, "little")


@given(batches())
def test_a_batch_comes_back_bit_for_bit(batch: Batch) -> None:
    data = encode_frame(batch)
    again = decode_frame(data, {batch.schema.fingerprint: batch.schema})
    assert again.equals(batch)
    assert batch.equals(again)


def test_the_header_says_whose_scans_these_are() -> None:
    header = peek_header(encode_frame(BATCH))
    assert (header.device, header.epoch, header.seq, header.n) == ("bus-7", 3, 1000, 3)
    assert header.fingerprint == SCHEMA.fingerprint
    assert header.base_ts_us == 1_700_000_000_000_000
    assert (header.lane, header.time_estimated, header.time_from_agent) == (Lane.BACKLOG, False, True)
    assert header.codec == "plain"


def test_values_under_nulls_are_zero() -> None:
    again = decode_frame(encode_frame(BATCH), KNOWN)
    assert again.columns[0][1] == 0.0
    assert again.columns[1][2] == 0


def test_an_unknown_schema_is_named() -> None:
    with pytest.raises(UnknownSchema) as caught:
        decode_frame(encode_frame(BATCH), {})
    assert caught.value.fingerprint == SCHEMA.fingerprint


def test_every_flipped_bit_is_refused() -> None:
    data = encode_frame(BATCH)
    for i in range(len(data) * 8):
        spoilt = bytearray(data)
        spoilt[i // 8] ^= 1 << i % 8
        with pytest.raises(BadInput):
            decode_frame(bytes(spoilt), KNOWN)


def test_every_cut_is_refused() -> None:
    data = encode_frame(BATCH)
    for size in range(len(data)):
        with pytest.raises(BadInput):
            decode_frame(data[:size], KNOWN)


@given(st.data())
def test_damage_under_a_fitting_checksum_raises_bad_input_or_decodes(data: st.DataObject) -> None:
    frame = bytearray(encode_frame(BATCH)[:-4])
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        batch = decode_frame(sealed(bytes(frame)), KNOWN)
    except BadInput:
        return
    assert len(batch) <= 65_536


@given(st.binary(max_size=60))
def test_any_bytes_after_the_magic_are_refused_with_a_place(tail: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        decode_frame(sealed(b"TG\x01" + tail), KNOWN)
    assert caught.value.where


def with_body(n: int, body: bytes, schema: Schema = SCHEMA) -> bytes:
    out = bytearray(b"TG\x01\x00" + schema.fingerprint + b"\x01x")
    for value in (0, 0, n, 0):
        put_varint(out, value)
    return sealed(bytes(out) + body)


def test_a_size_beyond_what_n_scans_need_is_refused_before_inflating() -> None:
    body = bytearray()
    put_varint(body, 1 << 40)
    with pytest.raises(BadInput, match="need at most"):
        decode_frame(with_body(1, bytes(body) + zlib.compress(bytes(1 << 20))), KNOWN)


def test_a_zlib_stream_longer_than_declared_is_not_inflated() -> None:
    body = bytearray()
    put_varint(body, 10)
    with pytest.raises(BadInput, match="10 bytes declared"):
        decode_frame(with_body(1, bytes(body) + zlib.compress(bytes(1 << 24))), KNOWN)


def test_more_cells_than_a_frame_may_hold_are_refused_on_both_sides() -> None:
    wide = Schema("wide", tuple(Channel(f"c{i}", "bool") for i in range(100)))
    n = 20_000
    ts = np.arange(n, dtype=np.int64)
    column = np.zeros(n, np.bool_)
    with pytest.raises(BadInput, match="cells"):
        encode_frame(Batch("x", wide, 0, 0, ts, (column,) * 100, (None,) * 100))
    with pytest.raises(BadInput, match="cells"):
        decode_frame(with_body(n, b"", wide), {wide.fingerprint: wide})


@pytest.mark.parametrize(
    ("n", "match"), [(0, "0 scans"), (65_537, "65537 scans"), (2**63, "9223372036854775808 scans")]
)
def test_n_is_capped(n: int, match: str) -> None:
    with pytest.raises(BadInput, match=match):
        decode_frame(with_body(n, b""), KNOWN)


def test_a_varint_has_one_spelling() -> None:
    frame = b"TG\x01\x00" + SCHEMA.fingerprint + b"\x01x" + b"\x80\x00"
    with pytest.raises(BadInput, match="longer than it needs"):
        decode_frame(sealed(frame), KNOWN)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 63, 64, 65])
def test_nan_payloads_and_signs_survive_at_every_size(size: int) -> None:
    schema = Schema("raw", (Channel("v"),))
    words = np.array([0x7FF8000000000001, 0xFFF4000000000002, 1 << 63, 0, 1], np.uint64)
    column = np.resize(words, size).view(np.float64)
    batch = Batch("d", schema, 0, 0, np.zeros(size, np.int64), (column,), (None,))
    again = decode_frame(encode_frame(batch), {schema.fingerprint: schema})
    assert again.columns[0].tobytes() == column.tobytes()


def test_int64_at_its_ends_survives() -> None:
    schema = Schema("ends", (Channel("v", "int64"),))
    column = np.array([2**63 - 1, -(2**63), 0, -(2**63), 2**63 - 1], np.int64)
    batch = Batch("d", schema, 0, 0, column.copy(), (column,), (None,))
    assert decode_frame(encode_frame(batch), {schema.fingerprint: schema}).equals(batch)


def test_arrays_with_strides_are_read_as_they_stand() -> None:
    schema = Schema("strided", (Channel("v"), Channel("w")))
    base = np.arange(40, dtype=np.float64) + 0.1
    odd = base.view(np.int64)[::2].view(np.float64) if base[::2].flags.c_contiguous else base[::2]
    noise = np.random.default_rng(1).normal(size=40)[::2]
    batch = Batch("d", schema, 0, 0, np.arange(40, dtype=np.int64)[::2], (odd, noise), (None, None))
    assert decode_frame(encode_frame(batch), {schema.fingerprint: schema}).equals(batch)


def test_decimals_are_smaller_than_their_words() -> None:
    schema = Schema("decimals", (Channel("v"),))
    n = 256
    column = (2000 + np.cumsum(np.random.default_rng(0).integers(-3, 4, n))) / 100
    batch = Batch("d", schema, 0, 0, np.arange(n, dtype=np.int64) * 1_000_000, (column,), (None,))
    assert len(encode_frame(batch)) < 2 * n
    assert struct.calcsize(f"{n}d") == column.nbytes
