"""The anomaly kernel says what its naive twin says, whatever is sent, however it is sampled, wherever the device is."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st
from tidegate_cloud.operators import Block, Control
from tidegate_cloud.operators.anomaly import SIGNALS, Anomaly
from tidegate_protocols.registry import Device, Feedback
from tidegate_protocols.schema import Channel, Schema

from tests.support import naive_anomaly as naive

US = 1_000_000
START_S = 1_774_483_200  # 26 March 2026, three days before clocks change in Europe
AUTUMN_S = 1_792_800_000  # 24 October 2026, the day before


def block_of(schema: Schema, us: np.ndarray, values: np.ndarray) -> Block:
    zero = np.zeros(len(us), np.int64)
    return Block(
        schema, ["a"], zero.astype(np.int32), us, (values,), (None,), np.arange(len(us)), zero, zero.astype(np.int32),
        np.zeros(len(us), np.bool_),
    )  # fmt: skip


def kernel_says(
    us: np.ndarray, values: np.ndarray, budget: float, channel: Channel, control: Control
) -> tuple[list[naive.Said], np.ndarray]:
    operator = Anomaly(budget)
    block, state, novelty = block_of(Schema("s", (channel,)), us, values), operator.new_state(), np.zeros(len(us))
    scan, kind, signal, numbers, _ = operator.watch(block, channel, state.numbers(["a"]), state, control, novelty)
    said = [
        naive.Said(i, naive.KINDS[k], SIGNALS[s], tuple(row))  # type: ignore[arg-type]
        for i, k, s, row in zip(scan.tolist(), kind.tolist(), signal.tolist(), numbers.tolist(), strict=True)
    ]
    return said, novelty


def check(
    us: np.ndarray, values: np.ndarray, budget: float, zone: str = "", alarms: tuple[float, ...] = (),
    low: float | None = None, high: float | None = None,
) -> list[naive.Said]:  # fmt: skip
    """Hold the kernel against the twin; returns what both say."""
    control = Control()
    control.put_device(Device(id="a", time_zone=zone))
    for i, value in enumerate(alarms):
        control.put_feedback(
            Feedback(id=str(i), device="a", operator="anomaly", subject="v", ts_us=0, who="kim", value=value)
        )
    found, novelty = kernel_says(us, values, budget, Channel("v", low=low, high=high), control)
    twin = naive.Channel(
        budget, zone, 1.5 ** len(alarms), (min(alarms, default=math.inf), max(alarms, default=-math.inf)),
        -math.inf if low is None else low, math.inf if high is None else high,
    )  # fmt: skip
    wanted, wanted_novelty = naive.watch(us, values, twin)
    assert [said[:3] for said in found] == [said[:3] for said in wanted]
    for one, other in zip(found, wanted, strict=True):
        # Peaks' heights are kept to 24 bits.
        np.testing.assert_allclose(
            one.numbers, other.numbers, rtol=1e-5, atol=1e-6 * np.ptp(values[np.isfinite(values)])
        )
    np.testing.assert_allclose(novelty, wanted_novelty, rtol=1e-4, atol=1e-6)
    return wanted


MANNERS = (
    "noise",
    "still",
    "wave",
    "spike",
    "step",
    "stuck",
    "drift",
    "restless",
    "nothing",
    "silence",
    "back",
    "coarse",
)


def stream(seed: int, manners: list[str], step_s: float, offset: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Readings, stretch by stretch: noise about a wave of a day, with this or that in it."""
    rng = np.random.default_rng(seed)
    t, parts, times = 0.0, [], []
    level = 0.0
    for manner in manners:
        n = int(rng.integers(40, 200))
        seconds = t + np.cumsum(step_s * rng.uniform(0.9, 1.1, n))
        values = level + rng.normal(size=n) + np.sin(2 * np.pi * seconds / 86400)
        match manner:
            case "still":
                values = np.full(n, level)
            case "wave":
                values += 4 * np.sin(2 * np.pi * seconds / 86400)
            case "spike":
                values[n // 2] += rng.choice([-1, 1]) * rng.uniform(5, 30)
            case "step":
                level += rng.normal(0, 6)
            case "stuck":
                values[n // 3 :] = values[n // 3]
            case "drift":
                values += np.linspace(0, 8, n)
            case "restless":
                values += rng.normal(0, 5, n)
            case "nothing":
                values[rng.random(n) < 0.5] = rng.choice([math.nan, math.inf, -math.inf, 1e200])
            case "silence":
                seconds[n // 2 :] += step_s * rng.uniform(3, 300)
            case "back":
                seconds[n // 2] -= step_s * rng.uniform(0, 5)
            case "coarse":
                values = np.round(values)
        parts.append(offset + scale * values)
        times.append(seconds)
        t = float(seconds[-1])
    return np.concatenate(times), np.concatenate(parts)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    manners=st.lists(st.sampled_from(MANNERS), min_size=4, max_size=8),
    step_s=st.sampled_from([0.01, 60.0, 300.0, 1800.0, 3600.0]),
    offset=st.sampled_from([0.0, 20.0, 1e6, -1e9]),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    start_s=st.sampled_from([START_S, AUTUMN_S, 0]),
    zone=st.sampled_from(["", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    budget=st.sampled_from([0.1, 100.0, 1e4]),
    alarms=st.lists(st.floats(-8, 8), max_size=2),
    ranged=st.booleans(),
)
def test_kernel_and_twin_agree(
    seed: int, manners: list[str], step_s: float, offset: float, scale: float, start_s: int, zone: str, budget: float,
    alarms: list[float], ranged: bool,
) -> None:  # fmt: skip
    seconds, values = stream(seed, manners, step_s, offset, scale)
    us = start_s * US + np.round(seconds * US).astype(np.int64)
    low, high = (offset - 12 * scale, offset + 10 * scale) if ranged else (None, None)
    said = check(us, values, budget, zone, tuple(offset + scale * value for value in alarms), low, high)
    for kind, signal in {found[1:3] for found in said}:
        event(f"{kind} {signal}")


def eventful(seed: int, step_s: float, weeks: float) -> tuple[np.ndarray, np.ndarray]:
    """A wave of a day in noise, and one after the other all that may happen to it."""
    rng = np.random.default_rng(seed)
    n = int(weeks * 7 * 86400 / step_s)
    seconds = np.arange(n) * step_s
    values = 20 + 3 * np.sin(seconds / 86400 * 2 * np.pi) + 0.5 * rng.normal(size=n)
    length = n // 60
    for i, a in enumerate((np.linspace(0.2, 0.97, 24) * n).astype(int).tolist()):
        b = a + length
        match i % 8:
            case 0:
                values[a] += 10
            case 1:
                values[a:b] += 6
            case 2:
                values[a:b] = values[a]
            case 3:
                values[a:b] += np.linspace(0, 4, length)
            case 4:
                values[a:b] += rng.normal(0, 1.5, length)
            case 5:
                values[a:b] = math.nan
            case 6:
                values[a : a + 3] += 2.5
            case _:
                values[a:b] += 1.2
    return seconds, values


def first_weekend() -> tuple[np.ndarray, np.ndarray]:
    """Four days, with a slow bump on the first Saturday: what is usual is known over all days, not yet at weekends."""
    seconds = np.arange(0, 4 * 86400, 300.0)
    days = seconds / 86400
    values = 3 * np.sin(days * 2 * np.pi) + 0.1 * np.random.default_rng(3).normal(size=len(days))
    return seconds, values + 2 * np.exp(-(((days - 2.6) / 0.15) ** 2))


def hours_of_unrest(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise that is a little more, then a little to one side, for half a day each."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(0, 14 * 86400, 300.0)
    days = seconds / 86400
    values = rng.normal(size=len(days))
    values += np.where((days > 10) & (days < 10.6), rng.choice([-1.6, 1.6], len(days)), 0)
    return seconds, values + np.where((days > 12) & (days < 12.6), 1.3, 0)


def test_kernel_and_twin_agree_over_weeks_and_every_signal_speaks() -> None:
    """All but `joint`, which is a device's, and `range`."""
    heard: set[str] = set()
    for seconds, values in (
        eventful(1, 300.0, 3), eventful(2, 1800.0, 10), eventful(3, 60.0, 0.5), first_weekend(), hours_of_unrest(2),
    ):  # fmt: skip
        us = START_S * US + np.round(seconds * US).astype(np.int64)
        for budget in (0.1, 1e3):
            heard |= {said.signal for said in check(us, values, budget, "Europe/Berlin")}
    assert heard >= set(SIGNALS) - {"joint", "range"}
