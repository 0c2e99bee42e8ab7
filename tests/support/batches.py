"""Hypothesis strategies for schemas and batches, with the values that codecs get wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from tidegate_protocols.batch import EPOCH_MAX, Batch, Lane
from tidegate_protocols.codec.bulk import Block
from tidegate_protocols.schema import Channel, Schema

DEVICE_IDS = st.text("ABCXYZabcxyz019._:-", min_size=1, max_size=64)
I64 = st.integers(-(2**63), 2**63 - 1)
# Payload NaNs, signed zeros, infinities, subnormals: as 64-bit patterns.
AWKWARD_BITS = st.sampled_from(
    [0, 1 << 63, 0x7FF0 << 48, 0xFFF0 << 48, 0x7FF8 << 48, 0xFFF8000000000001, 0x7FF4000000000123, 1, (1 << 63) | 1,
     0x000FFFFFFFFFFFFF, 0x7FEFFFFFFFFFFFFF]
)  # fmt: skip
WORDS = st.one_of(AWKWARD_BITS, st.integers(0, 2**64 - 1))


def _floats(draw: Any, n: int) -> np.ndarray:
    shape = draw(st.sampled_from(["words", "decimal", "binary", "single", "constant", "walk", "repeats", "spoilt"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if shape == "words":
        return np.array(draw(st.lists(WORDS, min_size=n, max_size=n)), np.uint64).view(np.float64)
    if shape == "constant":
        return np.full(n, draw(WORDS), np.uint64).view(np.float64)
    if shape == "binary":
        return rng.integers(-(2**20), 2**20, n) / 2.0 ** draw(st.integers(0, 20))
    if shape == "single":
        return rng.normal(0, 10.0 ** draw(st.integers(-5, 5)), n).astype(np.float32).astype(np.float64)
    if shape == "repeats":
        return rng.choice(rng.normal(0, 1e3, 5), n)
    exponent = draw(st.integers(0, 9))
    walk = np.cumsum(rng.integers(-50, 51, n)) + draw(st.integers(-(10**6), 10**6))
    values = walk / 10.0**exponent
    if shape == "spoilt":  # decimals with a few strangers among them
        places = rng.integers(0, n, max(1, n // 16))
        values[places] = np.array([draw(WORDS) for _ in places], np.uint64).view(np.float64)
    elif shape == "decimal":
        values = rng.integers(-(10**6), 10**6, n) / 10.0**exponent
    return values


def _integers(draw: Any, n: int) -> np.ndarray:
    shape = draw(st.sampled_from(["any", "counter", "wrap", "constant", "flags"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if shape == "any":
        return np.array(draw(st.lists(I64, min_size=n, max_size=n)), np.int64)
    if shape == "constant":
        return np.full(n, draw(I64), np.int64)
    if shape == "flags":
        return rng.choice(np.array([0, 1, 2, 64, 2**40]), n).astype(np.int64)
    start = draw(I64)
    steps = np.cumsum(rng.integers(0, draw(st.sampled_from([2, 100, 10**6])), n)).astype(np.uint64)
    words = np.uint64(start % 2**64) + steps  # wraps at 64 bits
    return (words & np.uint64(0xFFFF)).astype(np.int64) if shape == "wrap" else words.view(np.int64)


def _times(draw: Any, n: int) -> np.ndarray:
    shape = draw(st.sampled_from(["any", "regular", "jittered", "irregular"]))
    if shape == "any":
        return np.array(draw(st.lists(I64, min_size=n, max_size=n)), np.int64)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    period = draw(st.sampled_from([1, 1000, 1_000_000, 60_000_000]))
    base = draw(st.integers(0, 2**52))
    ts = base + period * np.arange(n, dtype=np.int64)
    if shape == "jittered":
        ts += rng.integers(-period // 100 - 1, period // 100 + 1, n)
    if shape == "irregular":
        ts += np.cumsum(rng.integers(0, 10 * period + 1, n))
    return ts.astype(np.int64)


@st.composite
def schemas(draw: Any, max_channels: int = 5) -> Schema:
    kinds = draw(st.lists(st.sampled_from(["float64", "int64", "bool"]), min_size=1, max_size=max_channels))
    return Schema("things", tuple(Channel(f"c{i}", kind) for i, kind in enumerate(kinds)))


@st.composite
def batches(draw: Any, max_scans: int = 200, max_channels: int = 5) -> Batch:
    schema = draw(schemas(max_channels))
    n = draw(st.one_of(st.integers(1, 4), st.integers(1, max_scans)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    columns, valid = [], []
    for channel in schema.channels:
        if channel.type == "float64":
            columns.append(_floats(draw, n))
        elif channel.type == "int64":
            columns.append(_integers(draw, n))
        else:
            columns.append(rng.random(n) < draw(st.sampled_from([0.0, 0.02, 0.5, 1.0])))
        density = draw(st.sampled_from([None, None, 0.0, 0.03, 0.5, 1.0]))
        valid.append(None if density is None else rng.random(n) >= density)
    return Batch(
        draw(DEVICE_IDS), schema, draw(st.integers(0, EPOCH_MAX)), draw(st.integers(0, 2**62)), _times(draw, n),
        tuple(columns), tuple(valid), draw(st.sampled_from(list(Lane))), draw(st.booleans()), draw(st.booleans()),
    )  # fmt: skip


# A batch for scripts that tests run in interpreters of their own.
SCRIPT_BATCH = """
import numpy as np
from tidegate_protocols.batch import Batch
from tidegate_protocols.codec import backend
from tidegate_protocols.frame import decode_frame, encode_frame, peek_header
from tidegate_protocols.schema import Channel, Schema

schema = Schema("s", (Channel("a"), Channel("b", "int64"), Channel("c", "bool")))
known = {schema.fingerprint: schema}
n = 100
rng = np.random.default_rng(1)
batch = Batch(
    "d", schema, 1, 2, np.arange(n, dtype=np.int64) * 1_000_000,
    (np.round(rng.normal(20, 1, n), 2), rng.integers(0, 9, n), rng.random(n) < 0.5),
    (None, rng.random(n) < 0.9, None),
)
"""


def as_block(batches: Sequence[Batch]) -> Block:
    """Batches of one schema as `decode_many` gives them; devices are numbered in the order in which they come."""
    sizes = [len(batch) for batch in batches]
    numbers = {name: i for i, name in enumerate(dict.fromkeys(batch.device for batch in batches))}
    masks = []
    for channel in range(len(batches[0].schema.channels)):
        parts = [batch.valid[channel] for batch in batches]
        mask = np.concatenate(
            [np.ones(n, np.bool_) if part is None else part for n, part in zip(sizes, parts, strict=True)]
        )
        masks.append(None if mask.all() else mask)
    return Block(
        batches[0].schema,
        np.concatenate([batch.ts_us for batch in batches]),
        tuple(np.concatenate(columns) for columns in zip(*(batch.columns for batch in batches), strict=True)),
        tuple(masks),
        np.repeat(np.arange(len(batches), dtype=np.int32), sizes),
        np.repeat(np.array([numbers[batch.device] for batch in batches], np.int32), sizes),
        np.repeat(np.array([batch.epoch for batch in batches], np.int64), sizes),
        np.concatenate([batch.seq + np.arange(n) for batch, n in zip(batches, sizes, strict=True)]),
    )
