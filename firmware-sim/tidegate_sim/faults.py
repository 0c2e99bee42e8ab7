"""Faults: what can go wrong with a measured quantity, when, and how it shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

FaultKind = Literal["spike", "step", "drift", "stuck", "over-limit"]
KINDS: tuple[FaultKind, ...] = ("spike", "step", "drift", "stuck", "over-limit")
_RISE_S = 20.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one channel, in seconds since the device's start.

    spike       `size` is added for as long as it lasts, which is one or two samples
    step        `size` is added
    drift       `size` is added little by little, all of it at the end
    stuck       the sensor repeats its last value
    over-limit  the quantity goes to `size` within 20 s and stays: a door left open, a fan that failed
    """

    kind: FaultKind
    channel: str
    start_s: float
    end_s: float
    size: float

    def active(self, elapsed_s: float) -> bool:
        """Whether it shows at this time."""
        return self.start_s <= elapsed_s < self.end_s

    def apply(self, value: float, last: float, elapsed_s: float) -> float:
        """What the sensor says instead of `value`; `last` is what it said before."""
        if self.kind == "stuck":
            return last
        if self.kind == "drift":
            return value + self.size * (elapsed_s - self.start_s) / (self.end_s - self.start_s)
        if self.kind == "over-limit":
            return value + (self.size - value) * min((elapsed_s - self.start_s) / _RISE_S, 1.0)
        return value + self.size


def random_faults(rng: np.random.Generator, scales: dict[str, tuple[float, float]], per_hour: float) -> Iterator[Fault]:
    """An endless stream of faults one after the other, `per_hour` on the average, each on one channel.

    `scales`: channel → (usual spread, a value over its limit).
    """
    at_s = 30.0
    while per_hour > 0:
        at_s += float(rng.exponential(3600 / per_hour))
        channel = list(scales)[int(rng.integers(len(scales)))]
        spread, over = scales[channel]
        kind = KINDS[int(rng.integers(len(KINDS)))]
        lasts = 1.5 if kind == "spike" else float(rng.uniform(30, 180))
        sign = 1.0 if rng.random() < 0.5 else -1.0
        size = over if kind == "over-limit" else sign * spread * float(rng.uniform(8, 14))
        yield Fault(kind, channel, at_s, at_s + lasts, size)
        at_s += lasts
