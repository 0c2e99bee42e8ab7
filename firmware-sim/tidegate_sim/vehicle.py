"""A vehicle in traffic, and the receiver on its roof.

The vehicle moves in steps of 0.2 s of elapsed time: it accelerates to the street's limit, brakes for turns, halts at
stops and lights, and now and then parks for minutes. The receiver adds an error that wanders (first-order
Gauss-Markov, time constant 30 s) and a little white noise, and tells how good it thinks it is. A parked vehicle's
position therefore creeps, as real ones do. Where a vehicle is at a time depends on the seed alone, never on how often
it was asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .roads import Leg, RoadGrid

STEP_S = 0.2
_ACCELERATION = 1.3  # m/s², a bus with people standing
_BRAKING = 1.6
_TURN_MPS = 4.5
_HALT = 0.35  # share of crossings with a stop or a red light
_PARK = 0.01  # share of crossings where the driver takes a break
_WANDER_S = 30.0


@dataclass(frozen=True, slots=True)
class TrueState:
    """Where a vehicle really is: metres on the plane, m/s, degrees from north."""

    x_m: float
    y_m: float
    speed_mps: float
    heading_deg: float


@dataclass(frozen=True, slots=True)
class Fix:
    """What its receiver says. `accuracy_m` is the radius that holds 68 % of fixes; no heading while standing."""

    x_m: float
    y_m: float
    speed_mps: float
    heading_deg: float | None
    accuracy_m: float
    satellites: int


class Vehicle:
    """One vehicle. `parked_s` keeps it where it starts for that long."""

    def __init__(self, grid: RoadGrid, seed: tuple[int, ...], *, parked_s: float = 0.0) -> None:
        self._rng = np.random.default_rng(seed)
        self._legs: Iterator[Leg] = grid.drive(self._rng)
        self._leg = next(self._legs)
        self._along_m = 0.0
        self._speed = 0.0
        self._halt_s = parked_s
        self._halts_here = self._rng.random() < _HALT
        self._steps = 0
        self.receiver = Receiver(self._rng.spawn(1)[0])

    def advance(self, elapsed_s: float) -> Iterator[TrueState]:
        """Move to `elapsed_s` after the start and give every state on the way, 0.2 s apart."""
        while (self._steps + 1) * STEP_S <= elapsed_s + 1e-9:
            self._steps += 1
            self._step()
            self.receiver.step(self._speed > 0.3)
            yield self.state

    @property
    def elapsed_s(self) -> float:
        """How far it has come, seconds since the start."""
        return self._steps * STEP_S

    @property
    def state(self) -> TrueState:
        """Where it is now."""
        leg, share = self._leg, self._along_m / self._leg.length_m
        return TrueState(
            leg.x0 + (leg.x1 - leg.x0) * share, leg.y0 + (leg.y1 - leg.y0) * share, self._speed, leg.heading_deg
        )

    def fix(self) -> Fix:
        """What the receiver says now."""
        return self.receiver.fix(self.state)

    def _step(self) -> None:
        if self._halt_s > 0:
            self._halt_s -= STEP_S
            self._speed = 0.0
            return
        left = self._leg.length_m - self._along_m
        at_end = 0.0 if self._halts_here else (_TURN_MPS if self._leg.turn_deg else self._leg.limit_mps)
        allowed = min(self._leg.limit_mps, math.sqrt(at_end**2 + 2 * _BRAKING * max(left - 0.5, 0.0)))
        self._speed += min(max(allowed - self._speed, -2 * _BRAKING * STEP_S), _ACCELERATION * STEP_S)
        self._speed = max(self._speed, 0.3)
        self._along_m += self._speed * STEP_S
        if self._along_m >= self._leg.length_m - (0.5 if self._halts_here else 0.0):
            self._cross()

    def _cross(self) -> None:
        over = max(self._along_m - self._leg.length_m, 0.0)
        if self._halts_here:
            parks = self._rng.random() < _PARK / _HALT
            self._halt_s = self._rng.uniform(120, 600) if parks else self._rng.uniform(4, 35)
            self._speed = 0.0
        self._leg = next(self._legs)
        self._along_m = over
        self._halts_here = self._rng.random() < _HALT


class Receiver:
    """A GNSS receiver's errors."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.hdop = float(rng.uniform(0.7, 1.6))
        self._sigma = 1.6 * self.hdop
        self._ex, self._ey = (float(e) for e in rng.normal(0, self._sigma, 2))
        self._decay = math.exp(-STEP_S / _WANDER_S)
        self._kick = self._sigma * math.sqrt(1 - self._decay**2)
        self._white: list[float] = rng.normal(0, 0.25, 3).tolist()

    def step(self, moving: bool) -> None:
        """One step of the wandering error; reflections make it a little livelier on the move."""
        kick_x, kick_y, *white = self._rng.normal(0, 1, 5).tolist()
        stir = 1.5 if moving else 1.0
        self._ex = self._ex * self._decay + self._kick * stir * kick_x
        self._ey = self._ey * self._decay + self._kick * stir * kick_y
        self._white = [0.25 * kick for kick in white]

    def fix(self, true: TrueState) -> Fix:
        """What it says of a true state."""
        wx, wy, wv = self._white
        moving = true.speed_mps > 0.8
        speed = max(true.speed_mps + 0.4 * wv, 0.0)
        heading = (true.heading_deg + 20 * wv / max(true.speed_mps, 1.0)) % 360 if moving else None
        return Fix(
            true.x_m + self._ex + wx,
            true.y_m + self._ey + wy,
            speed,
            heading,
            3.0 * self.hdop,
            6 + round(8 / self.hdop),
        )
