"""The compiled codecs: bit for bit there and back, the same as the plain-Python decoder, and safe from damage."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tidegate_protocols.batch import Batch
from tidegate_protocols.codec import reference
from tidegate_protocols.errors import BadInput
from tidegate_protocols.frame import decode_frame, encode_frame, peek_header
from tidegate_protocols.schema import Channel, Schema

from tests.support.batches import batches

pytestmark = pytest.mark.usefixtures("compiled")
CODECS: list[Literal["bitpack", "range"]] = ["bitpack", "range"]
BOTH = pytest.mark.parametrize("codec", CODECS)


def by_reference(frame: bytes, batch: Batch) -> Batch:
    """The frame as the plain-Python decoder reads it."""
    header = peek_header(frame)
    assert header.codec != "plain"
    ts_us, columns, valid = reference.decode_columns(
        frame[header.body : header.end], batch.schema, header.n, header.base_ts_us, header.codec
    )
    return Batch(
        header.device, batch.schema, header.epoch, header.seq, ts_us, columns, valid, header.lane,
        header.time_estimated, header.time_from_agent,
    )  # fmt: skip


@BOTH
@given(batch=batches())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_a_batch_comes_back_bit_for_bit_by_both_decoders(codec: Literal["bitpack", "range"], batch: Batch) -> None:
    frame = encode_frame(batch, codec=codec)
    again = decode_frame(frame, {batch.schema.fingerprint: batch.schema})
    assert again.equals(batch)
    assert by_reference(frame, batch).equals(batch)
    for mine, theirs in zip(again.columns, by_reference(frame, batch).columns, strict=True):
        assert mine.tobytes() == theirs.tobytes()  # under nulls too


def one(values: np.ndarray, kind: Literal["float64", "int64", "bool"] = "float64") -> Batch:
    schema = Schema("one", (Channel("v", kind),))
    return Batch("d", schema, 0, 0, np.arange(len(values), dtype=np.int64) * 1_000_000, (values,), (None,))


RNG = np.random.default_rng(20_260_723)
N = 600
WALK = np.cumsum(RNG.integers(-9, 10, N))
COLUMNS: dict[str, tuple[np.ndarray, float]] = {  # with the most bytes a value that they may cost
    "decimals": ((WALK + 2000) / 100, 0.8),
    "decimals with an odd one": (np.where(np.arange(N) == 300, np.pi, (WALK + 2000) / 100), 0.85),
    "decimals with NaN": (np.where(np.arange(N) % 50 == 7, np.nan, (WALK + 2000) / 100), 1.1),
    "quarters": (WALK * 25 / 100, 0.8),
    "binary fractions": (WALK / 4096 + 1 / 4096, 0.8),
    "single precision decimals": (((WALK + 2000) / 100).astype(np.float32).astype(np.float64), 0.8),
    "single precision": (np.cumsum(RNG.normal(size=N)).astype(np.float32).astype(np.float64), 4.1),
    "sums of decimals": (WALK / 10 + 0.1 + 0.2, 1.3),
    "a step below zero among decimals": (np.where(np.arange(N) == 9, -5e-324, WALK), 0.8),
    "random doubles": (RNG.normal(size=N), 7.3),
    "random words": (RNG.integers(0, 2**64, N, dtype=np.uint64).view(np.float64), 8.1),
    "a constant": (np.full(N, np.pi), 0.05),
    "few values": (RNG.choice(RNG.normal(size=6), N), 0.6),
    "a slow wave": (np.round(20 + 5 * np.sin(np.arange(N) / 40), 4), 1.0),
}


@BOTH
@pytest.mark.parametrize("name", COLUMNS)
def test_each_kind_of_column_is_as_small_as_it_should_be(codec: Literal["bitpack", "range"], name: str) -> None:
    values, most = COLUMNS[name]
    batch = one(values)
    frame = encode_frame(batch, codec=codec)
    assert decode_frame(frame, {batch.schema.fingerprint: batch.schema}).equals(batch)
    assert by_reference(frame, batch).equals(batch)
    header = peek_header(frame)
    assert (header.end - header.body) / N <= most


def most(batch: Batch) -> int:
    """Bytes that the columns of a batch may have: raw values, masks, and two bytes a column."""
    n = len(batch)
    masks = sum(1 + (n + 7) // 8 for mask in batch.valid if mask is not None)
    return 8 * n + 8 * batch.readings + 2 * (1 + len(batch.columns)) + masks


@given(batch=batches(max_scans=120))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_auto_is_never_worse_than_raw_values_and_two_bytes_a_column(batch: Batch) -> None:
    header = peek_header(encode_frame(batch, codec="auto"))
    assert header.end - header.body <= most(batch)


def _hostile(draw: Any, n: int) -> np.ndarray:
    """Words that look like something and then are not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    words = rng.integers(0, 2**64, n, dtype=np.uint64)
    calm = np.cumsum(rng.integers(0, 3, n)).astype(np.uint64)
    shape = draw(st.sampled_from(["random", "half", "stripes", "rare", "wide", "few", "narrow"]))
    if shape == "half":
        words[: n // 2] = calm[: n // 2]
    elif shape == "stripes":
        words = np.where(np.arange(n) // draw(st.integers(1, 80)) % 2, words, calm)
    elif shape == "rare":
        words = np.where(rng.random(n) < 0.05, words, calm)
    elif shape == "wide":
        words >>= rng.integers(0, 64, n).astype(np.uint64)
    elif shape == "few":
        words = rng.choice(words[: max(1, n // 3)], n)
    elif shape == "narrow":
        words >>= np.uint64(draw(st.integers(0, 63)))
    return words


@given(data=st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_the_range_coder_pays_two_bytes_for_a_column_that_it_cannot_foretell(data: st.DataObject) -> None:
    """Every column by itself: what one costs is not paid by another that is small."""
    n = data.draw(st.one_of(st.integers(1, 5), st.integers(1, 1500)))
    kinds = data.draw(st.lists(st.sampled_from(["float64", "int64"]), min_size=1, max_size=4))
    words = [_hostile(data.draw, n) for _ in kinds]
    columns = tuple(w.view(np.float64 if k == "float64" else np.int64) for w, k in zip(words, kinds, strict=True))
    density = data.draw(st.sampled_from([None, 0.5, 0.9]))
    rng = np.random.default_rng(n)
    valid = tuple(None if density is None else rng.random(n) < density for _ in kinds)
    schema = Schema("hostile", tuple(Channel(f"c{i}", kind) for i, kind in enumerate(kinds)))  # type: ignore[arg-type]
    ts = _hostile(data.draw, n).view(np.int64) if data.draw(st.booleans()) else np.arange(n, dtype=np.int64)
    batch = Batch("d", schema, 0, 0, ts, columns, valid)
    for codec in CODECS:
        frame = encode_frame(batch, codec=codec)
        header = peek_header(frame)
        assert header.end - header.body <= most(batch)
        assert decode_frame(frame, {schema.fingerprint: schema}).equals(batch)
    if n <= 200:
        assert by_reference(frame, batch).equals(batch)


@BOTH
def test_many_doubles_that_come_again_are_told_once(codec: Literal["bitpack", "range"]) -> None:
    """50 to 255 distinct values: a table of them and small indices."""
    rng = np.random.default_rng(3)
    for distinct in (50, 120, 255):
        batch = one(rng.choice(rng.normal(size=distinct), 2000))
        frame = encode_frame(batch, codec=codec)
        assert decode_frame(frame, {batch.schema.fingerprint: batch.schema}).equals(batch)
        assert by_reference(frame, batch).equals(batch)
        assert len(frame) < 8 * distinct + 2000 * 1.1 + 120


@BOTH
def test_counters_wrap_and_bools_cost_bits(codec: Literal["bitpack", "range"]) -> None:
    counter = (np.arange(N) * 7 + 65_000 & 0xFFFF).astype(np.int64)
    flags = np.arange(N) % 100 < 50
    for values, kind, most in ((counter, "int64", 60), (flags, "bool", 110)):
        batch = one(values, kind)  # type: ignore[arg-type]
        header = peek_header(encode_frame(batch, codec=codec))
        assert header.end - header.body < most + (1200 if kind == "int64" and codec == "bitpack" else 0)


@BOTH
def test_regular_times_cost_nothing_and_jittered_ones_their_jitter(codec: Literal["bitpack", "range"]) -> None:
    schema = Schema("one", (Channel("v"),))
    sizes = []
    for jitter in (0, 1000):
        ts = np.arange(N, dtype=np.int64) * 1_000_000 + RNG.integers(0, 2, N) * jitter
        batch = Batch("d", schema, 0, 0, ts, (np.zeros(N),), (None,))
        header = peek_header(encode_frame(batch, codec=codec))
        sizes.append(header.end - header.body)
    assert sizes[0] <= 16
    assert sizes[1] <= 16 + N * 2 / 8 + 20


@BOTH
@given(data=st.data())
@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_damage_under_a_fitting_checksum_raises_or_decodes_the_same_everywhere(
    codec: Literal["bitpack", "range"], data: st.DataObject
) -> None:
    batch = data.draw(batches(max_scans=40, max_channels=3))
    frame = bytearray(encode_frame(batch, codec=codec)[:-4])
    body = peek_header(encode_frame(batch, codec=codec)).body
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(min(body, len(frame) - 1), len(frame) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(body, len(frame)))
    spoilt = bytes(frame[:cut]) + crc32c(bytes(frame[:cut])).to_bytes(4, "little")
    outcomes = []
    for decode in (
        lambda: decode_frame(spoilt, {batch.schema.fingerprint: batch.schema}),
        lambda: by_reference(spoilt, batch),
    ):
        try:
            outcomes.append(decode())
        except BadInput as error:
            assert error.where  # noqa: PT017
            outcomes.append(None)
    assert (outcomes[0] is None) == (outcomes[1] is None)
    if outcomes[0] is not None and outcomes[1] is not None:
        assert outcomes[0].equals(outcomes[1])


@pytest.mark.parametrize("width", [0, 1, 7, 33, 52, 64])
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 200])
def test_the_reference_decoder_takes_packed_values_apart_block_by_block(width: int, count: int) -> None:
    values = [i * 0x9E3779B97F4A7C15 & (1 << width) - 1 for i in range(count)]
    run = sum(value << i * width for i, value in enumerate(values)).to_bytes((width * count + 7) // 8, "little")
    assert reference._Packed(run, count).packed(count, width) == values


def test_the_reference_decoder_stops_where_decisions_run_past_the_end() -> None:
    source = reference._Ranged(b"\xff" * 40, 1, None)
    with pytest.raises(BadInput, match="the bytes end before it does"):
        any(source.decide(reference._Slots([32768], [0]), 0) > 1 for _ in range(1_000_000))
    assert 40 + 12 < source.front <= 40 + 16


def test_auto_is_plain_where_values_come_again_in_the_same_order() -> None:
    cycle = np.tile(np.random.default_rng(1).normal(size=290), 4)
    schema = Schema("s", (Channel("v"),))
    batch = Batch("d", schema, 0, 0, np.arange(1160, dtype=np.int64), (cycle,), (None,))
    frame = encode_frame(batch, codec="auto")
    assert peek_header(frame).codec == "plain"
    assert len(frame) * 2 < min(len(encode_frame(batch, codec=codec)) for codec in CODECS)
    assert decode_frame(frame, {schema.fingerprint: schema}).equals(batch)
