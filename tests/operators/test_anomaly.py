"""Anomaly: what is new is found once, what is usual is left alone, and no batching shows."""

from __future__ import annotations

import math
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_cloud.operators import Block, Control, Level
from tidegate_cloud.operators.anomaly import ROW, Anomaly
from tidegate_cloud.operators.kernels import anomaly_tails as tails
from tidegate_protocols.registry import Device, Feedback, Rule
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


def told(block: Block, control: Control | None = None) -> list[tuple[int, str, str]]:
    events, _ = run(Anomaly(), [block], control or Control())
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


@pytest.mark.parametrize("seed", [0, 3])
def test_a_drift_that_pauses_is_one_episode_however_often_it_is_read(seed: int) -> None:
    """Three humps of 18 h, read each minute: between them it is nearly back."""
    values = 20 + np.random.default_rng(seed).normal(0, 0.5, 2 * 7 * 1440)
    values[14_000:17_240] += np.abs(np.sin(np.linspace(0, 3 * math.pi, 3240)))
    begun = [(seq, signal) for seq, kind, signal in told(block_of(values, 60.0)) if kind == "anomalous"]
    assert [signal for seq, signal in begun if 14_000 <= seq < 18_000] == ["drift"]


def test_thresholds_are_learnt_where_heavy_tails_are_read_each_second() -> None:
    """Something is beyond the bounds every minute: peaks must come to an end all the same."""
    values = np.random.default_rng(3).standard_t(3, 600_000)  # a week
    events, state = run(Anomaly(), [block_of(values, 1.0)], Control())
    assert state.tables["channels"].data["peaks"][:, tails.SPIKE].max() > 1000
    assert sum(event.kind == "anomalous" for _, _, event in events) <= 5


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e9])
def test_constants_and_large_offsets_do_no_harm(offset: float) -> None:
    assert told(block_of(np.full(3000, offset), 60.0)) == []
    quiet = daily(np.random.default_rng(6), 2)
    assert [e[1:] for e in told(block_of(quiet + offset, 300.0))] == [e[1:] for e in told(block_of(quiet, 300.0))]


def test_missing_and_infinite_values_are_as_if_not_sent() -> None:
    values = daily(np.random.default_rng(7), 1)
    spoilt = values.copy()
    spoilt[900:902] = (math.nan, math.inf)
    without = np.delete(np.arange(len(values)), [900, 901])
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
    assert "highest in at least 12 days" in event.attrs["words"]
    assert (event.kind, event.subject, event.unit, event.phase) == ("anomalous", "temp", "Cel", "begin")
    assert "°C above the usual band for" in event.attrs["words"]
    assert event.limit is not None
    assert event.limit < values[5600]
    assert Anomaly().levels(state, "a") == [Level("anomalous", "temp", event.ts_us)]


def device_of(values: dict[str, np.ndarray], step_s: float = 300.0, device: str = "a") -> Block:
    """A device whose channels are these; NaN = no value."""
    n = len(next(iter(values.values())))
    t = START_S + np.arange(n) * step_s
    schema = Schema("many", tuple(Channel(name) for name in values))
    zero = np.zeros(n, np.int64)
    return Block(
        schema, [device], np.zeros(n, np.int32), (t * US).astype(np.int64), tuple(values.values()),
        tuple(np.isfinite(column) for column in values.values()), np.arange(n), zero, zero.astype(np.int32),
        np.zeros(n, bool),
    )  # fmt: skip


def test_a_channel_that_is_silent_while_its_device_speaks_is_a_gap_after_three_missed_readings() -> None:
    rng = np.random.default_rng(9)
    silent = daily(rng, 1)
    silent[1000:1100] = np.nan
    found = told(device_of({"other": daily(rng, 1), "silent": silent}))
    assert found[0] == (1003, "anomalous", "gap")
    assert sum(kind == "anomalous" for _, kind, _ in found) == 1


def test_one_fault_in_many_channels_is_one_event_that_names_them() -> None:
    rng = np.random.default_rng(10)
    values = {f"c{i}": daily(rng, 2) for i in range(6)}
    for i, column in enumerate(values.values()):
        column[3500 + i // 4 : 3520] += 12
    events, state = run(Anomaly(), [device_of(values)], Control())
    begun = [event for _, seq, event in events if event.kind == "anomalous" and 3500 <= seq < 3520]
    assert len(begun) == 1
    assert set(begun[0].attrs["channels"].split(", ")) == {"c0", "c1", "c2", "c3"}
    spread = [event for _, _, event in events if event.kind == "spreads"]
    assert [(event.subject, event.attrs["channels"]) for event in spread] == [(begun[0].subject, "c4, c5")]
    ended = [event for _, seq, event in events if event.kind == "settled" and 3520 <= seq < 3720]
    assert [event.subject for event in ended] == [begun[0].subject]
    assert Anomaly().levels(state, "a") == []


def test_channels_that_are_all_a_little_unusual_speak_together() -> None:
    rng = np.random.default_rng(11)
    values = {f"c{i}": rng.normal(0, 1, 4032) for i in range(40)}
    for column in values.values():
        column[3000] += 4.5
    events, _ = run(Anomaly(), [device_of(values)], Control())
    begun = [event for _, seq, event in events if event.kind == "anomalous" and seq == 3000]
    assert len(begun) == 1


def test_a_value_beyond_a_registered_limit_is_the_limits_to_tell() -> None:
    values = daily(np.random.default_rng(12), 2)
    values[3500] = 60.0
    control = Control()
    control.put_rule(Rule(id="hot", name="Hot", channel="temp", high=50.0))
    assert (3500, "anomalous") in [event[:2] for event in told(block_of(values, 300.0))]
    assert told(block_of(values, 300.0), control) == []


def test_a_value_out_of_the_declared_range_is_told_at_once_and_not_learnt() -> None:
    schema = Schema("s", (Channel("t", low=-40.0, high=85.0),))
    rows = [("a", (START_S + i) * US, [850.0 if i in (3, 4, 5) else 20.0 + i % 3]) for i in range(40)]
    events, state = run(Anomaly(), [block_of_rows(schema, rows)], Control())
    (found,) = events
    assert (found[1], found[2].kind, found[2].attrs["signal"], found[2].limit) == (3, "anomalous", "range", 85.0)
    assert "850 is out of the range -40 to 85" in found[2].attrs["words"]
    assert state.tables["channels"].data["hi"].max() < 100


def test_a_false_alarm_widens_what_is_usual_until_it_is_taken_back() -> None:
    values = daily(np.random.default_rng(13), 2)
    values[3500] += 15
    control = Control()
    block = block_of(values, 300.0)
    assert (3500, "anomalous") in [event[:2] for event in told(block, control)]
    control.put_feedback(
        Feedback(id="a", device="a", operator="anomaly", subject="temp", ts_us=0, who="kim", value=float(values[3500]))
    )
    assert told(block, control) == []
    control.remove_feedback("a")
    assert (3500, "anomalous") in [event[:2] for event in told(block, control)]


def test_what_is_usual_follows_local_time_over_a_change_of_the_clocks() -> None:
    """A machine that is switched on from nine to five, local time: no event when the clocks go forward."""
    t = 1_772_409_600 + np.arange(0, 8 * WEEK_S, 300)  # from 2 March 2026; the change is on 29 March
    zone = ZoneInfo("Europe/Berlin")
    hour = np.array([datetime.fromtimestamp(int(at), zone).hour for at in t])
    values = np.where((hour >= 9) & (hour < 17), 30.0, 0.0) + np.random.default_rng(14).normal(0, 0.3, len(t))
    block = block_of(values, 300.0, t - START_S)
    local, utc = Control(), Control()
    local.put_device(Device(id="a", time_zone="Europe/Berlin"))
    new_york = Control()
    new_york.put_device(Device(id="a", time_zone="America/New_York"))
    after = int(np.searchsorted(t, 1_774_746_000))

    def false(control: Control) -> int:
        return sum(kind == "anomalous" and seq >= after for seq, kind, _ in told(block, control))

    assert false(local) == 0
    assert false(utc) > 0


def test_a_schema_that_gains_a_channel_forgets_nothing() -> None:
    rng = np.random.default_rng(15)
    first, more = daily(rng, 2), rng.normal(size=4032)
    later = first.copy()
    later[3500] += 15
    one = device_of({"t": later[:3000]})
    two = device_of({"extra": more, "t": later}).take(np.arange(3000, 4032))
    events, _ = run(Anomaly(), [one, two], Control())
    assert (3500, "anomalous") in [(seq, event.kind) for _, seq, event in events]


@pytest.mark.parametrize("step_s", [0.01, 1.0])
def test_fast_sampling_learns_in_seconds_and_finds_a_step(step_s: float) -> None:
    rng = np.random.default_rng(16)
    values = rng.normal(5, 1, 400_000)
    values[350_000:] += 12 if step_s >= 1 else 30  # of an hour's knowledge more is asked
    found = [seq for seq, kind, _ in told(block_of(values, step_s)) if kind == "anomalous"]
    assert any(350_000 <= seq < 350_010 for seq in found)
    assert len(found) <= 3


def test_on_the_first_weekend_all_days_are_what_is_usual() -> None:
    """Saturday evening is as warm as a morning: nothing is known of weekends yet, and the day had such values."""
    at = np.arange(0, 6 * 86_400, 300.0)  # Monday to Saturday
    values = 3 * np.sin(at / 86_400 * 2 * np.pi) + np.random.default_rng(18).normal(0, 0.1, len(at))
    assert told(block_of(values, 300.0)) == []
    values[1656:1680] += 4
    assert told(block_of(values, 300.0))[0] == (1656, "anomalous", "time of day, all days")


@pytest.mark.parametrize("much", [1e200, 1.7e308, -1.7e308])
def test_values_that_cannot_be_squared_are_as_if_not_sent(much: float) -> None:
    values = daily(np.random.default_rng(19), 1)
    clean, state = run(
        Anomaly(), [block_of(np.delete(values, [900]), 300.0, np.delete(np.arange(2016.0) * 300, 900))], Control()
    )
    values[900] = much
    events, other = run(Anomaly(), [block_of(values, 300.0)], Control())
    assert len(events) == len(clean)
    assert state.to_bytes("a") == other.to_bytes("a")


def test_a_value_that_never_changed_and_then_does_is_heard_once() -> None:
    values = np.full(2016, 7.0)
    values[1500:] = 8.0
    found = told(block_of(values, 300.0))
    assert [(seq, kind) for seq, kind, _ in found if kind == "anomalous"] == [(1500, "anomalous")]


def test_times_that_go_backwards_and_1970_do_no_harm() -> None:
    values = daily(np.random.default_rng(17), 1)
    seconds = np.arange(len(values)) * 300.0
    seconds[700:] -= 3 * 86_400
    events, state = run(Anomaly(), [block_of(values, 300.0, seconds)], Control())
    assert state.tables["channels"].data["n"].max() == len(values) - 3 * 288
    assert len(events) <= 2
    assert told(block_of(np.arange(100.0), 1.0, np.arange(100.0) - START_S)) == []


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
