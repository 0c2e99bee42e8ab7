"""Bounded error: no value further off than its channel allows, and what was not asked for stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_protocols.batch import Batch
from tidegate_protocols.codec.lossy import reduce_batch
from tidegate_protocols.errors import BadInput
from tidegate_protocols.frame import decode_frame, encode_frame
from tidegate_protocols.schema import Channel, Schema

SCHEMA = Schema("s", (Channel("v"), Channel("k", "int64"), Channel("on", "bool")))


def batch_of(values: list[float], counts: list[int]) -> Batch:
    n = len(values)
    columns = (np.array(values, np.float64), np.array(counts, np.int64), np.zeros(n, np.bool_))
    return Batch("d", SCHEMA, 0, 0, np.arange(n, dtype=np.int64) * 7, columns, (None, None, None))


@given(
    st.lists(st.tuples(st.floats(), st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=30),
    st.floats(1e-12, 1e12),
    st.floats(1, 1e19),
)
def test_no_value_is_further_off_than_allowed(rows: list[tuple[float, int]], bound: float, whole_bound: float) -> None:
    batch = batch_of([value for value, _ in rows], [count for _, count in rows])
    reduced = reduce_batch(batch, {"v": bound, "k": whole_bound})
    again = decode_frame(encode_frame(reduced), {SCHEMA.fingerprint: SCHEMA})
    for before, after in zip(batch.columns[0].tolist(), again.columns[0].tolist(), strict=True):
        assert before == after or abs(before - after) <= bound or (np.isnan(before) and np.isnan(after))
        assert np.isfinite(before) == np.isfinite(after)
    for before, after in zip(batch.columns[1].tolist(), again.columns[1].tolist(), strict=True):
        assert abs(before - after) <= whole_bound
    assert np.array_equal(again.ts_us, batch.ts_us)


def test_a_bound_makes_noise_small() -> None:
    noise = np.random.default_rng(3).normal(20, 1, 500)
    batch = batch_of(noise.tolist(), [0] * 500)
    exact, coarse = (len(encode_frame(b)) for b in (batch, reduce_batch(batch, {"v": 0.05})))
    assert coarse * 4 < exact


def test_a_grid_as_coarse_as_the_bound_allows_is_used() -> None:
    batch = batch_of([0.26, 1.74, -3.2], [0, 0, 0])
    assert reduce_batch(batch, {"v": 0.5}).columns[0].tolist() == [0.0, 2.0, -3.0]
    assert reduce_batch(batch, {"v": 0.1}).columns[0].tolist() == [0.2, 1.8, -3.2]


@pytest.mark.parametrize("bound", [1e308, 8.9e307, 5e15, 5e-324])
def test_a_bound_beyond_every_grid_leaves_the_values_as_they_are(bound: float) -> None:
    batch = batch_of([0.26, -1e300, 5e-324], [1, 2, 3])
    assert reduce_batch(batch, {"v": bound}).columns[0].tolist() == [0.26, -1e300, 5e-324]


@pytest.mark.parametrize(
    ("bounds", "match"), [({"w": 1.0}, "no such channel"), ({"v": -1.0}, "error bound"), ({"v": float("nan")}, "error"),
                          ({"v": float("inf")}, "error bound"), ({"v": 10**400}, "error bound"),
                          ({"on": 1.0}, "right or wrong")],
)  # fmt: skip
def test_a_bound_that_makes_no_sense_is_refused(bounds: dict[str, float], match: str) -> None:
    with pytest.raises(BadInput, match=match):
        reduce_batch(batch_of([1.0], [1]), bounds)
