"""The parts of the compiled codecs, each against a naive twin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_protocols.codec import varint
from tidegate_protocols.codec.kernels import bits, models, packing, predict, ranging

U64 = st.integers(0, 2**64 - 1)
I64 = st.integers(-(2**63), 2**63 - 1)
SMALL_OR_ANY = st.one_of(st.integers(0, 40), st.integers(0, 2**20), U64)
pytestmark = pytest.mark.usefixtures("compiled")


@given(U64)
def test_varints_agree_with_the_plain_ones(value: int) -> None:
    out = np.zeros(12, np.uint8)
    end = bits.put_varint(out, 0, np.uint64(value))
    plain = bytearray()
    varint.put_varint(plain, value)
    assert out[:end].tobytes() == plain
    assert bits.take_varint(out, 0, end) == (value, end)
    assert bits.take_varint(out, 0, end - 1)[1] == -1
    assert varint.take_varint(bytes(plain), 0, end, "it") == (value, end)


@given(st.binary(max_size=11))
def test_any_bytes_are_a_varint_to_both_or_to_neither(data: bytes) -> None:
    value, end = bits.take_varint(np.frombuffer(data + bytes(1), np.uint8), 0, len(data))
    try:
        assert varint.take_varint(data, 0, len(data), "it") == (value, end)
    except varint.BadInput:
        assert end == -1


@given(I64, st.floats(), st.floats())
def test_zigzag_and_the_order_of_floats(x: int, a: float, b: float) -> None:
    assert bits.zigzag(np.int64(x)) == varint.zigzag(x) == (2 * x if x >= 0 else -2 * x - 1)
    assert bits.unzigzag(np.uint64(varint.zigzag(x))) == x
    words = np.array([a, b]).view(np.uint64)
    places = [int(bits.ordered(word)) for word in words]
    assert [int(bits.unordered(np.int64(place))) for place in places] == words.tolist()
    if not math.isnan(a) and not math.isnan(b) and a != b:
        assert (places[0] < places[1]) == (a < b)


@given(st.lists(SMALL_OR_ANY, max_size=150))
def test_blocks_are_the_bits_of_their_values_laid_together(values: list[int]) -> None:
    r = np.array(values, np.uint64)
    out = np.zeros(9 * len(values) + 16, np.uint8)
    end = packing.pack(r, len(values), out, 0)
    naive = bytearray()
    for start in range(0, len(values), 64):
        part = values[start : start + 64]
        width = max(value.bit_length() for value in part)
        naive.append(width)
        naive += sum(value << i * width for i, value in enumerate(part)).to_bytes(
            (width * len(part) + 7) // 8, "little"
        )
    assert out[:end].tobytes() == naive
    assert packing.packed_size(r, len(values)) == end
    back = np.zeros_like(r)
    assert packing.unpack(out, 0, end, back, len(values)) == end
    assert back.tolist() == values
    if values:
        assert packing.unpack(out, 0, end - 1, back, len(values)) == -1


def signed(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


def foretold(x: list[int], mode: int, base: int, step: int) -> list[int]:
    """Residuals before zigzag by the definitions, one value at a time; the minimum's as they are."""
    out = []
    average = level = signed(base << 8)
    slope = 0
    for i, value in enumerate(x):
        if mode in (predict.MINIMUM, predict.CENTRE):
            out.append(signed(value - base))
        elif mode == predict.LINE:
            out.append(signed(value - base - (signed(step * i) >> 8)))
        elif mode == predict.DELTA and i > 0:
            out.append(signed(value - x[i - 1] - step))
        elif mode == predict.SLOPE and i > 1:
            out.append(signed(value - 2 * x[i - 1] + x[i - 2]))
        elif mode == predict.TREND and i > 0:
            level = signed(level + slope)
            out.append(signed(value - (signed(level + 128) >> 8)))
            error = signed((value << 8) - level)
            weights = {1: (0, 1), 2: (1, 3), 3: (1, 3)}.get(i, (2, 4))
            level, slope = signed(level + (error >> weights[0])), signed(slope + (error >> weights[1]))
        elif mode >= predict.AVERAGE_2 and i > 0:
            out.append(signed(value - (signed(average + 128) >> 8)))
            weight = min(i.bit_length(), {5: 1, 6: 4}[mode])
            average = signed(average + (signed((value << 8) - average) >> weight))
    return out


@given(st.integers(0, 7), st.one_of(st.lists(I64, min_size=1, max_size=20), st.lists(st.integers(-99, 99), min_size=1)))
@settings(max_examples=300)
def test_predictors_follow_their_definitions_and_come_back(mode: int, values: list[int]) -> None:
    x = np.array(values, np.int64)
    m = len(x)
    step = int(predict.choose_step(x, m, mode)) if predict.has_step(mode) else 0
    base = int(predict.choose_base(x, m, mode, step))
    r = np.zeros(m, np.uint64)
    count = predict.residuals(x, m, mode, base, step, r)
    naive = foretold(values, mode, base, step)
    assert count == len(naive) == predict.residual_count(mode, m)
    expected = [value % 2**64 for value in naive] if mode == predict.MINIMUM else [varint.zigzag(v) for v in naive]
    assert r[:count].tolist() == expected
    back = np.zeros(m, np.int64)
    predict.restore(r, m, mode, base, step, back)
    assert back.tolist() == values


@given(
    st.integers(-16, 239),
    st.booleans(),
    st.lists(st.one_of(st.integers(0, 25), SMALL_OR_ANY), min_size=1, max_size=60),
    st.lists(st.tuples(U64, st.integers(0, 64)), max_size=10),
)
@settings(max_examples=200)
def test_residuals_and_plain_bits_come_back_through_the_range_coder(
    size: int, contexts: bool, values: list[int], plain: list[tuple[int, int]]
) -> None:
    r = np.array(values, np.uint64)
    out, back = np.zeros(64 * len(r) + 256, np.uint8), np.zeros(64 * len(r) + 256, np.uint8)
    p, seen = np.zeros(ranging.SLOTS, np.int64), np.zeros(ranging.SLOTS, np.int64)
    st_ = np.zeros(ranging.STATE_SIZE, np.uint64)
    ranging.start_encoder(st_)
    ranging.start_slots(size, contexts, p, seen)
    ranging.put_residuals(st_, out, back, r, len(r), size, contexts, p, seen)
    for word, width in plain:
        ranging.put_bits(st_, back, np.uint64(word % 2**width), width)
    end = ranging.finish(st_, out, back)
    ranging.start_decoder(st_, out, 0, end)
    ranging.start_slots(size, contexts, p, seen)
    got = np.zeros_like(r)
    ranging.take_residuals(st_, out, got, len(r), size, contexts, p, seen)
    assert got.tolist() == values
    assert [int(ranging.take_bits(st_, out, width)) for _, width in plain] == [word % 2**w for word, w in plain]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=40), st.integers(0, 9))
def test_decimals_are_found_at_the_exponent_they_were_rounded_to(values: list[float], e: int) -> None:
    v = np.round(np.clip(values, -1e4, 1e4), e) + 0.0
    exponent = models.find_exponent(v, len(v), models.DECIMALS)
    assert 0 <= exponent <= e
    sampled = all(float(round(x * 10**exponent)) / 10.0**exponent == x for x in v.tolist())
    assert sampled or len(v) > 24


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 3), st.booleans(), U64), max_size=40), min_size=1, max_size=6),
    st.data(),
)
@settings(max_examples=150)
def test_what_is_rewound_leaves_no_trace(parts: list[list[tuple[int, bool, int]]], data: st.DataObject) -> None:
    """Parts of which some are written, taken back and followed by others give the bytes of the others alone."""
    dropped = [data.draw(st.booleans()) for _ in parts]

    def write(parts: list[tuple[bool, list[tuple[int, bool, int]]]]) -> bytes:
        out, back = np.zeros(20_000, np.uint8), np.zeros(20_000, np.uint8)
        state, kept = np.zeros(ranging.STATE_SIZE, np.uint64), np.zeros(ranging.STATE_SIZE + 2, np.uint64)
        # Chances that hardly move make carries, which reach back into what was written before.
        p, seen = np.full(4, 96, np.int64), np.full(4, 62, np.int64)
        ranging.start_encoder(state)
        for drop, part in parts:
            ranging.mark(state, out, kept)
            before = p.copy()
            for slot, bit, word in part:
                ranging.put_bit(state, out, p, seen, slot, bit)
                ranging.put_bits(state, back, np.uint64(word), word % 65 if word % 65 == 64 else 0)
            if drop:
                ranging.rewind(state, out, kept)
                p[:] = before
        return out[: ranging.finish(state, out, back)].tobytes()

    given_parts = list(zip(dropped, parts, strict=True))
    assert write(given_parts) == write([(False, part) for drop, part in given_parts if not drop])


@given(st.lists(SMALL_OR_ANY, max_size=150))
def test_blocks_come_back_through_the_range_coder(values: list[int]) -> None:
    r = np.array(values, np.uint64)
    out, back = np.zeros(4096, np.uint8), np.zeros(4096, np.uint8)
    state = np.zeros(ranging.STATE_SIZE, np.uint64)

    def slots() -> tuple[np.ndarray, np.ndarray]:
        return np.full(128, 32768, np.int64), np.zeros(128, np.int64)

    ranging.start_encoder(state)
    ranging.put_blocks(state, out, back, *slots(), 0, r, len(r))
    end = ranging.finish(state, out, back)
    ranging.start_decoder(state, out, 0, end)
    got = np.zeros_like(r)
    ranging.take_blocks(state, out, *slots(), 0, got, len(r))
    assert got.tolist() == values
    assert ranging.is_whole(state, 0, end)
    assert end <= packing.packed_size(r, len(r)) + 8
