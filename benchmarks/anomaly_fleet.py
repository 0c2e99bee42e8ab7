"""Simulated channels with known faults, for judging the anomaly operator: any sampling interval, exact truth.

A channel is a daily cycle (40 % of them quieter at weekends) in local time, noise that remembers, a slow wander and a
season; continuous, heavy-tailed, quantised, mostly constant or bursty. Readings come a little off their times, and
some are lost. Three of four channels carry three faults after two weeks; sizes are in standard deviations of the
channel's noise. Durations are in seconds, so that a fleet that is read every second has the same faults as one that is
read every five minutes; only a spike lasts a number of readings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

KINDS = ("spike", "step", "stuck", "drift", "noise", "gap")
WEEK_S = 604_800.0
BURN_S = 2 * WEEK_S
START_S = 1_767_571_200.0  # Monday, 5 January 2026
_FIVE_MINUTES = 300.0
# How long a fault lasts, seconds; a spike: readings.
_LASTS = {
    "spike": (1, 4), "step": (3 * 3600, 48 * 3600), "stuck": (3 * 3600, 24 * 3600), "drift": (86_400, 3 * 86_400),
    "noise": (3 * 3600, 24 * 3600), "gap": (3600, 8 * 3600),
}  # fmt: skip


class Fault(NamedTuple):
    """What was done to a channel, from `start` to `end` in seconds since 1970."""

    kind: str
    start: float
    end: float


class Made(NamedTuple):
    """One channel: times in seconds since 1970, values, which of them were lost, and the faults in it."""

    seconds: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    lost: npt.NDArray[np.bool_]
    faults: list[Fault]


@numba.njit(cache=True)
def _remember(noise: npt.NDArray[np.float64], phi: float) -> npt.NDArray[np.float64]:
    """First-order autoregressive noise of the variance of `noise`."""
    gain = np.sqrt(1 - phi * phi)
    last = 0.0
    for i in range(noise.size):
        last = phi * last + gain * noise[i]
        noise[i] = last
    return noise


def fleet(seed: int, channels: int, weeks: float, interval_s: float) -> Iterator[Made]:
    """Channels one after the other; the same arguments give the same fleet."""
    for c in range(channels):
        yield channel(np.random.default_rng((seed, c)), c, weeks, interval_s)


def channel(rng: np.random.Generator, c: int, weeks: float, interval_s: float) -> Made:
    """One channel; `c` decides which faults it gets."""
    n = int(weeks * WEEK_S / interval_s)
    kind = rng.choice(["plain", "heavy", "quantised", "constant", "bursty"], p=[0.5, 0.15, 0.2, 0.05, 0.1])
    seconds = START_S + np.arange(n) * interval_s + interval_s * rng.uniform(-1, 1, n) / 60
    days = seconds / 86400 + rng.uniform(0, 1)  # a time zone of its own
    weekday = (np.floor(days) + 4) % 7
    weekend = np.where((rng.random() < 0.4) & ((weekday == 0) | (weekday == 6)), rng.uniform(0.3, 0.7), 1.0)
    other = 6 * rng.random()
    cycle = np.sin(2 * np.pi * days) + 0.4 * np.sin(4 * np.pi * days + other)
    cycle *= weekend * rng.choice([0.0, 1.0, 3.0, 6.0])

    def phi(at_five_minutes: float) -> float:
        return at_five_minutes ** (interval_s / _FIVE_MINUTES) if at_five_minutes else 0.0

    raw = rng.standard_t(3, n) / np.sqrt(3) if kind == "heavy" else rng.normal(size=n)
    noise = _remember(raw, phi(rng.choice([0.0, 0.5, 0.8, 0.95])))
    wander = _remember(rng.normal(size=n), phi(0.9995)) * rng.choice([0.0, 0.5, 1.0])
    wander += rng.choice([0.0, 0.0, 4.0]) * np.sin(2 * np.pi * (days / 365 + rng.random()))
    if kind == "bursty":
        noise *= np.exp(0.5 * _remember(rng.normal(size=n), phi(0.99)))
    values = cycle + noise + wander
    if kind == "constant":
        rare = rng.random(n) < 0.002 * interval_s / _FIVE_MINUTES
        values = np.round((cycle + wander) / 4) * 4 + rare * rng.choice([-1, 1], n) * 2
    keep = rng.random(n) >= rng.choice([0.0, 0.002, 0.01])
    faults = list(_break(rng, c, values, seconds, keep, interval_s))
    if kind == "quantised":
        size = rng.choice([0.5, 1.0, 2.0])
        values = np.round(values / size) * size
    scale = 10 ** rng.uniform(-2, 3)
    values = (values + rng.choice([0.0, 100.0, 1e6])) * scale
    return Made(seconds, values, ~keep, faults)


def _break(
    rng: np.random.Generator, c: int, values: npt.NDArray[np.float64], seconds: npt.NDArray[np.float64],
    keep: npt.NDArray[np.bool_], interval_s: float,
) -> Iterator[Fault]:  # fmt: skip
    if c % 4 == 0:
        return
    n = len(values)
    slots = np.linspace(int(BURN_S / interval_s), n - int(86_400 / interval_s), 4).astype(int)
    for j in range(3):
        kind = KINDS[(c * 3 + j + c // 4) % 6]
        shortest, longest = _LASTS[kind]
        lasts = int(rng.integers(shortest, longest) / (1 if kind == "spike" else interval_s))
        a = int(rng.integers(slots[j], slots[j + 1] - int(3.5 * 86_400 / interval_s)))
        b = a + max(lasts, 1)
        sign = rng.choice([-1, 1])
        match kind:
            case "spike":
                values[a:b] += sign * rng.uniform(8, 14)
            case "step":
                values[a:b] += sign * rng.uniform(5, 9)
            case "stuck":
                values[a:b] = values[a]
            case "drift":
                values[a:b] += sign * rng.uniform(6, 10) * np.linspace(0, 1, b - a)
            case "noise":
                values[a:b] += rng.uniform(3, 5) * rng.normal(size=b - a)
            case _:
                keep[a:b] = False
        if kind != "gap":
            keep[a] = True
        yield Fault(kind, float(seconds[a]), float(seconds[b]))


class Judged:
    """How a detector did. A fault is found by an alarm inside it (spike, gap: up to an hour after its end).

    The first two weeks and the day after a fault count neither way; any other alarm is false.
    """

    def __init__(self) -> None:
        self.delays_s: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.false: list[int] = []
        self.weeks: list[float] = []

    def add(self, made: Made, alarms: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Judge one channel by the times of its alarms, ascending. Returns which of them are false."""
        begin, end = float(made.seconds[0]) + BURN_S, float(made.seconds[-1])
        free = alarms > begin
        clean_s = end - begin
        for kind, start, over in made.faults:
            late = 3600 if kind in ("spike", "gap") else 0
            inside = alarms[(alarms >= start - 1e-3) & (alarms <= over + late)]
            self.delays_s[kind].append(float(inside[0]) - start if inside.size else np.nan)
            free &= (alarms < start - 1e-3) | (alarms > over + 86_400)
            clean_s -= over + 86_400 - start
        self.false.append(int(free.sum()))
        self.weeks.append(clean_s / WEEK_S)
        return free

    @property
    def false_per_week(self) -> float:
        """False alarms per clean channel-week."""
        return sum(self.false) / sum(self.weeks)

    def noisy(self, rate: float) -> float:
        """The share of channels with more than `rate` false alarms per clean week."""
        return float(np.mean(np.array(self.false) / np.array(self.weeks) > rate))

    def recall(self, kind: str | None = None) -> float:
        """The share of faults that were found: of one kind, or of all."""
        return float(np.mean(np.isfinite(self._delays(kind))))

    def median_delay_s(self, kind: str | None = None) -> float:
        """Of the faults that were found, seconds from the beginning of the fault; NaN when none was."""
        delays = self._delays(kind)
        return float(np.nanmedian(delays)) if np.isfinite(delays).any() else np.nan

    def _delays(self, kind: str | None) -> npt.NDArray[np.float64]:
        kinds = [kind] if kind else list(self.delays_s)
        return np.concatenate([np.array(self.delays_s[name]) for name in kinds])
