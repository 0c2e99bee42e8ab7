"""Anomaly: what is new is found once, what is usual is left alone, and no batching shows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_cloud.operators import Block, Control, Level
from tidegate_cloud.operators.anomaly import ROW, Anomaly
from tidegate_protocols.schema import Channel, Schema

from tests.support.blocks import block_of_rows, check_batching, run

SCHEMA = Schema("engine", (Channel("temp", unit="Cel"), Channel("rpm", "int64")))
US = 1_000_000
START_S = 1_767_571_200  # a Monday
WEEK_S = 7 * 86_400


def block_of(values: np.ndarray, step_s: float, seconds: np.ndarray | None = None) -> Block:
    n = len(values)
    t = START_S + (np.arange(n) * step_s if seconds is None else seconds)
    return Block(
        SCHEMA, ["a"], np.zeros(n, np.int32), (t * US).astype(np.int64), (values.astype(float), np.zeros(n, np.int64)),
        (None, np.zeros(n, bool)), np.arange(n), np.zeros(n, np.int64), np.zeros(n, np.int32), np.zeros(n, bool),
    )  # fmt: skip


def told(block: Block) -> list[tuple[int, str, str]]:
    events, _ = run(Anomaly(), [block], Control())
    return [(seq, event.kind, event.attrs["signal"]) for _, seq, event in events]


def daily(rng: np.random.Generator, weeks: float, step_s: float = 300.0) -> np.ndarray:
    t = np.arange(0, weeks * WEEK_S, step_s)
    return 20 + 3 * np.sin(t / 86400 * 2 * np.pi) + rng.normal(0, 0.5, len(t))


@pytest.mark.parametrize(("step_s", "weeks"), [(10.0, 0.3), (60.0, 1), (300.0, 3), (3600.0, 12)])
def test_a_spike_is_one_episode_at_any_sampling(step_s: float, weeks: float) -> None:
    values = daily(np.random.default_rng(1), weeks, step_s)
    at = int(0.8 * len(values))
    values[at] += 15
    found = told(block_of(values, step_s))
    assert (at, "anomalous") in [event[:2] for event in found]
    assert sum(kind == "anomalous" for _, kind, _ in found) <= 2


def test_eight_quiet_weeks_stay_within_the_budget() -> None:
    false = 0
    for seed in range(12):
        false += sum(kind == "anomalous" for _, kind, _ in told(block_of(daily(np.random.default_rng(seed), 8), 300.0)))
    assert false / (12 * 8) <= 0.1


def test_a_sensor_that_sticks() -> None:
    values = daily(np.random.default_rng(2), 3)
    at = 5000
    values[at : at + 200] = values[at]
    assert (at, "stuck") in [(at, signal) for seq, kind, signal in told(block_of(values, 300.0)) if at < seq < at + 30]


def test_a_channel_that_falls_silent_is_told_on_its_return() -> None:
    values = daily(np.random.default_rng(3), 2)
    seconds = np.arange(len(values)) * 300.0
    seconds[3000:] += 7200
    found = told(block_of(values, 300.0, seconds))
    assert (3000, "anomalous", "gap") in found


def test_noise_that_grows() -> None:
    rng = np.random.default_rng(4)
    values = daily(rng, 3)
    values[5000:5200] += rng.normal(0, 2, 200)
    assert any(kind == "anomalous" and 5000 <= seq < 5200 for seq, kind, _ in told(block_of(values, 300.0)))


def test_a_slow_drift() -> None:
    values = daily(np.random.default_rng(5), 4)
    values[7000:7600] += np.linspace(0, 5, 600)
    assert any(kind == "anomalous" and 7000 <= seq < 7600 for seq, kind, _ in told(block_of(values, 300.0)))


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e9])
def test_constants_and_large_offsets_do_no_harm(offset: float) -> None:
    assert told(block_of(np.full(3000, offset), 60.0)) == []
    quiet = daily(np.random.default_rng(6), 2)
    assert [e[1:] for e in told(block_of(quiet + offset, 300.0))] == [e[1:] for e in told(block_of(quiet, 300.0))]


def test_missing_and_infinite_values_are_as_if_not_sent() -> None:
    values = daily(np.random.default_rng(7), 1)
    spoilt = values.copy()
    spoilt[900:903] = (math.nan, math.inf, -math.inf)
    without = np.delete(np.arange(len(values)), [900, 901, 902])
    events, state = run(Anomaly(), [block_of(spoilt, 300.0)], Control())
    clean, other = run(Anomaly(), [block_of(values[without], 300.0, without * 300.0)], Control())
    assert len(events) == len(clean)
    assert state.to_bytes("a") == other.to_bytes("a")


def test_nothing_is_said_in_the_first_50_readings() -> None:
    values = np.zeros(50)
    values[40] = 1e9
    assert told(block_of(values, 1.0)) == []


def test_an_event_says_what_is_usual_in_words() -> None:
    values = daily(np.random.default_rng(8), 3)
    values[5600] += 20
    events, state = run(Anomaly(), [block_of(values[:5601], 300.0)], Control())
    event = events[-1][2]
    assert (event.kind, event.subject, event.unit, event.phase) == ("anomalous", "temp", "Cel", "begin")
    assert "Cel above the usual band for" in event.attrs["words"]
    assert event.limit is not None
    assert event.limit < values[5600]
    assert Anomaly().levels(state, "a") == [Level("anomalous", "temp", event.ts_us)]


def test_a_channel_costs_little() -> None:
    assert ROW.itemsize <= 1536


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.sampled_from([0, 1, 300, 20_000, -3]),
            st.one_of(st.none(), st.floats(allow_nan=True), st.floats(-1, 1)), st.one_of(st.none(), st.integers(-5, 5)),
        ),
        min_size=100, max_size=300,
    ),
    st.sets(st.integers(1, 299)), st.permutations([0, 1, 2]),
)  # fmt: skip
def test_no_batching_shows(
    rows: list[tuple[str, int, float | None, int | None]], cuts: set[int], order: list[int]
) -> None:
    clock = START_S
    made = []
    for device, step, temp, rpm in rows:
        clock += step
        made.append((device, clock * US, [temp, rpm]))
    block = block_of_rows(SCHEMA, made)
    check_batching(Anomaly(), block, Control(), cuts, [i for i in order if i < len(block.devices)])
