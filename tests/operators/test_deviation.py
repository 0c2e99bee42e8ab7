"""Deviation: finds what is unusual, leaves the usual alone, at any sampling interval and under every batching."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_cloud.operators import Block, Control, Level
from tidegate_cloud.operators.deviation import Deviation
from tidegate_protocols.schema import Channel, Schema

from tests.support.blocks import block_of_rows, check_batching, run

SCHEMA = Schema("engine", (Channel("temp", unit="Cel"), Channel("rpm", "int64")))
US = 1_000_000


def series(values: np.ndarray, step_s: float, gaps: tuple[int, ...] = ()) -> Block:
    rows = [("a", int(i * step_s * US), [None if math.isnan(v) else float(v), None]) for i, v in enumerate(values)]
    return block_of_rows(SCHEMA, rows, gaps)


def brief(values: np.ndarray, step_s: float) -> list[tuple[int, str]]:
    events, _ = run(Deviation(), [series(values, step_s)], Control())
    return [(seq, event.kind) for _, seq, event in events]


@pytest.mark.parametrize("step_s", [0.1, 1.0, 60.0, 300.0])
def test_a_spike_is_found_and_settles(step_s: float) -> None:
    rng = np.random.default_rng(3)
    n = max(600, int(1200 / step_s))
    values = 20 + rng.normal(0, 1, n)
    values[n // 2 + 200 : n // 2 + 203] += 40
    found = brief(values, step_s)
    assert found[0] == (n // 2 + 200, "anomalous")
    assert found[1][1] == "settled"
    assert len(found) == 2


@pytest.mark.parametrize("step_s", [1.0, 300.0])
def test_noise_and_a_daily_cycle_are_usual(step_s: float) -> None:
    rng = np.random.default_rng(4)
    t = np.arange(0, 3 * 86400, step_s if step_s > 1 else 10)
    values = 20 + 5 * np.sin(t / 86400 * 2 * np.pi) + rng.normal(0, 1, len(t))
    assert brief(values, t[1]) == []


def test_a_step_is_told_once_and_becomes_usual() -> None:
    rng = np.random.default_rng(5)
    values = np.r_[rng.normal(0, 1, 2000), 60 + rng.normal(0, 1, 20000)]
    assert [kind for _, kind in brief(values, 30.0)] == ["anomalous", "settled"]


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e12])
def test_constants_and_large_offsets_do_no_harm(offset: float) -> None:
    assert brief(np.full(2000, offset), 10.0) == []
    values = np.full(2000, offset)
    values[1500] += 1e4
    assert [kind for _, kind in brief(values, 10.0)] == ["anomalous", "settled"]


def test_missing_and_infinite_values_change_nothing() -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(0, 1, 1000)
    values[500:520] = math.nan
    values[700] = math.inf
    assert brief(values, 10.0) == []


def test_nothing_is_said_while_warming_up() -> None:
    values = np.zeros(50)
    values[30] = 1e6
    assert brief(values, 60.0) == []


def test_an_event_says_what_was_usual() -> None:
    rng = np.random.default_rng(7)
    values = np.r_[20 + rng.normal(0, 1, 500), 90]
    events, state = run(Deviation(), [series(values, 10.0)], Control())
    event = events[0][2]
    assert (event.subject, event.value, event.unit, event.phase) == ("temp", 90.0, "Cel", "begin")
    assert event.limit is not None
    assert 24 < event.limit < 40
    assert abs(float(event.attrs["usual"]) - 20) < 1
    assert Deviation().levels(state, "a") == [Level("anomalous", "temp", 5_000_000_000)]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from([0, 1, 40, 5000, -3]),
            st.one_of(st.none(), st.floats(allow_nan=True), st.floats(-1, 1)), st.one_of(st.none(), st.integers(-5, 5)),
        ),
        min_size=80, max_size=300,
    ),
    st.sets(st.integers(1, 299)), st.permutations([0, 1, 2]),
)  # fmt: skip
def test_any_sequence_under_every_batching(
    rows: list[tuple[str, int, float | None, int | None]], cuts: set[int], order: list[int]
) -> None:
    clock = 0
    made = []
    for device, step, temp, rpm in rows:
        clock += step * US
        made.append((device, clock, [temp, rpm]))
    block = block_of_rows(SCHEMA, made, {cut for cut in cuts if cut < len(made)})
    check_batching(Deviation(), block, Control(), cuts, [i for i in order if i < len(block.devices)])
