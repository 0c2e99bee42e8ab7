"""Machines: reefers (refrigerated trailers) and generators. Temperatures, vibration, oil pressure, battery.

A quantity is a level with a daily cycle, the machine's own duty cycle, and noise that remembers (first-order
autoregressive), so that neighbouring samples agree as they do in reality. Faults come on top. All of it follows from
the seed, the time of day and the elapsed time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .faults import Fault, random_faults
from .vehicle import STEP_S, Receiver, TrueState

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Quantity:
    """One measured quantity of a kind of machine.

    level, daily, duty   the mean, and the amplitudes of the daily and of the duty cycle, in `unit`
    spread               standard deviation of the noise
    over                 a value that a fault drives it to, beyond the limit that people set
    resolution           what the sensor's converter can tell
    """

    name: str
    unit: str
    level: float
    daily: float
    duty: float
    spread: float
    over: float
    resolution: float


REEFER = (
    Quantity("temperature", "Cel", -18.0, 0.6, 1.1, 0.12, -4.0, 0.1),
    Quantity("return_air", "Cel", -16.5, 0.8, 1.3, 0.15, -2.0, 0.1),
    Quantity("vibration", "mm/s", 2.2, 0.0, 0.5, 0.15, 9.0, 0.01),
    Quantity("battery", "V", 12.9, 0.15, 0.1, 0.03, 11.2, 0.01),
)
GENERATOR = (
    Quantity("coolant", "Cel", 84.0, 2.0, 2.5, 0.3, 112.0, 0.1),
    Quantity("oil_pressure", "kPa", 390.0, 6.0, 12.0, 3.0, 130.0, 1.0),
    Quantity("vibration", "mm/s", 4.0, 0.0, 0.4, 0.2, 14.0, 0.01),
    Quantity("battery", "V", 27.4, 0.2, 0.05, 0.04, 22.8, 0.01),
)


class Machine:
    """One machine that stands at (x_m, y_m). `first_fault` comes for certain; others by chance, `faults_per_hour`."""

    def __init__(
        self,
        quantities: tuple[Quantity, ...],
        x_m: float,
        y_m: float,
        seed: tuple[int, ...],
        *,
        first_fault: Fault | None = None,
        faults_per_hour: float = 6.0,
    ) -> None:
        self.quantities = quantities
        rng = np.random.default_rng(seed)
        self._rng, fault_rng, receiver_rng = rng.spawn(3)
        self._period_s = float(rng.uniform(400, 900))
        self._phase = float(rng.uniform(0, 2 * math.pi))
        self._noise = rng.normal(0, 1, len(quantities))
        scales = {quantity.name: (quantity.spread, quantity.over) for quantity in quantities}
        self._later: Iterator[Fault] = random_faults(fault_rng, scales, faults_per_hour)
        self._fault: Fault | None = first_fault or next(self._later, None)
        self._steps = 0
        self._state = TrueState(x_m, y_m, 0.0, 0.0)
        self._receiver = Receiver(receiver_rng)
        self.values: dict[str, float] = {}

    def advance(self, elapsed_s: float, midnight_s: float) -> list[Fault]:
        """Move to `elapsed_s` after the start, which was `midnight_s` after midnight. Returns the faults that began."""
        began: list[Fault] = []
        while (self._steps + 1) * STEP_S <= elapsed_s + 1e-9:
            self._steps += 1
            at_s = self._steps * STEP_S
            self._noise = 0.97 * self._noise + math.sqrt(1 - 0.97**2) * self._rng.normal(0, 1, len(self.quantities))
            self._receiver.step(False)
            while self._fault is not None and at_s >= self._fault.end_s:
                self._fault = next((fault for fault in self._later if fault.start_s > at_s), None)
            if self._fault is not None and self._fault.start_s <= at_s < self._fault.start_s + STEP_S:
                began.append(self._fault)
            self._sense(at_s, midnight_s + at_s)
        return began

    def position(self) -> tuple[float, float, float]:
        """(x, y, accuracy) in metres, as its receiver says."""
        fix = self._receiver.fix(self._state)
        return fix.x_m, fix.y_m, fix.accuracy_m

    def _sense(self, at_s: float, of_day_s: float) -> None:
        day = math.sin(2 * math.pi * (of_day_s / _DAY_S - 0.375))  # warmest at three in the afternoon
        duty = math.sin(2 * math.pi * at_s / self._period_s + self._phase)
        for i, quantity in enumerate(self.quantities):
            value = quantity.level + quantity.daily * day + quantity.duty * duty + quantity.spread * self._noise[i]
            if self._fault is not None and self._fault.channel == quantity.name and self._fault.active(at_s):
                value = self._fault.apply(value, self.values.get(quantity.name, value), at_s)
            steps = round(float(value) / quantity.resolution)
            self.values[quantity.name] = round(steps * quantity.resolution, 6)
