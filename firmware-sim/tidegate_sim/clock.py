"""The time of a simulation: how long it has run, at any speed, and waiting for a moment of it."""

from __future__ import annotations

import asyncio
import math
import time


class Clock:
    """Elapsed seconds since `start`, running `speed` times as fast as life. With an infinite speed nothing waits."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self._began = time.monotonic()

    def start(self) -> None:
        """Count from now."""
        self._began = time.monotonic()

    def elapsed(self) -> float:
        """Simulated seconds since the start."""
        return (time.monotonic() - self._began) * self.speed if math.isfinite(self.speed) else math.inf

    async def until(self, elapsed_s: float) -> None:
        """Wait until so many simulated seconds have passed. Always lets others run."""
        wait_s = (elapsed_s - self.elapsed()) / self.speed if math.isfinite(self.speed) else 0.0
        await asyncio.sleep(max(wait_s, 0.0))
