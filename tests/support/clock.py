"""A clock that tests move by hand."""

from __future__ import annotations


class ManualClock:
    """`tidegate_edge.clock.Clock` that stands still until it is told otherwise."""

    def __init__(self, wall_us: int = 1_790_000_000_000_000) -> None:
        self.now_us = wall_us
        self.elapsed = 1000.0

    def wall_us(self) -> int:
        return self.now_us

    def monotonic(self) -> float:
        return self.elapsed

    def advance(self, seconds: float) -> None:
        """Both clocks go on by so much."""
        self.elapsed += seconds
        self.now_us += int(seconds * 1e6)
