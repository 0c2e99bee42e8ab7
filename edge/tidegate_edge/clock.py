"""What time it is. Everything that needs to know is given a `Clock`, so that tests can move it by hand."""

from __future__ import annotations

import time
from typing import Protocol

# Nothing here ran before 2024: a wall clock that says so was not set since power-on.
_EARLIEST_US = 1_704_067_200_000_000


class Clock(Protocol):
    """Wall time for what is written down, monotonic time for what is measured."""

    def wall_us(self) -> int:
        """Microseconds since 1970-01-01 UTC, as far as this machine knows."""

    def monotonic(self) -> float:
        """Seconds that only go forward, from an arbitrary start."""


class SystemClock:
    """The machine's own clocks."""

    def wall_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()


def is_set(wall_us: int) -> bool:
    """Whether a wall clock that shows `wall_us` can have been set: many small computers start in 1970."""
    return wall_us >= _EARLIEST_US
