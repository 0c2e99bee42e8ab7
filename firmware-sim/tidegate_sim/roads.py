"""A town's streets: a grid turned a little, with every fourth street an arterial road, and ways through it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

RESIDENTIAL_MPS = 8.9  # 20 mph
ARTERIAL_MPS = 15.6  # 35 mph


@dataclass(frozen=True, slots=True)
class Leg:
    """A straight piece of road from one crossing to the next, metres on the plane; `turn_deg` is what follows it."""

    x0: float
    y0: float
    x1: float
    y1: float
    limit_mps: float
    turn_deg: float

    @property
    def length_m(self) -> float:
        return math.hypot(self.x1 - self.x0, self.y1 - self.y0)

    @property
    def heading_deg(self) -> float:
        return math.degrees(math.atan2(self.x1 - self.x0, self.y1 - self.y0)) % 360


class RoadGrid:
    """Crossings (column, row), 0 to `blocks`, `spacing_m` apart, the town's middle at the origin."""

    def __init__(self, blocks: int = 24, spacing_m: float = 170.0, bearing_deg: float = 18.0) -> None:
        self.blocks = blocks
        self.spacing_m = spacing_m
        self._cos, self._sin = math.cos(math.radians(bearing_deg)), math.sin(math.radians(bearing_deg))

    def position(self, crossing: tuple[int, int]) -> tuple[float, float]:
        """Where a crossing lies, metres on the plane."""
        x = (crossing[0] - self.blocks / 2) * self.spacing_m
        y = (crossing[1] - self.blocks / 2) * self.spacing_m
        return x * self._cos + y * self._sin, y * self._cos - x * self._sin

    def drive(self, rng: np.random.Generator, start: tuple[int, int] | None = None) -> Iterator[Leg]:
        """An endless drive that prefers to go straight on, keeps to the town and never turns on the spot."""
        here = start or (int(rng.integers(0, self.blocks + 1)), int(rng.integers(0, self.blocks + 1)))
        step = self._choose(rng, here, None)
        while True:
            after = (here[0] + step[0], here[1] + step[1])
            following = self._choose(rng, after, step)
            yield self._leg(here, after, step, following)
            here, step = after, following

    def _choose(self, rng: np.random.Generator, here: tuple[int, int], step: tuple[int, int] | None) -> tuple[int, int]:
        choices, weights = [], []
        for candidate in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            inside = 0 <= here[0] + candidate[0] <= self.blocks and 0 <= here[1] + candidate[1] <= self.blocks
            if inside and (step is None or candidate != (-step[0], -step[1])):
                choices.append(candidate)
                weights.append(3.0 if candidate == step else 1.0)
        return choices[int(rng.choice(len(choices), p=np.array(weights) / sum(weights)))]

    def _leg(self, a: tuple[int, int], b: tuple[int, int], step: tuple[int, int], following: tuple[int, int]) -> Leg:
        street = a[1] if step[0] else a[0]
        turn = math.degrees(
            math.atan2(step[1] * following[0] - step[0] * following[1], step[0] * following[0] + step[1] * following[1])
        )
        limit = ARTERIAL_MPS if street % 4 == 0 else RESIDENTIAL_MPS
        return Leg(*self.position(a), *self.position(b), limit, turn)
