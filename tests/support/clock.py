"""A clock that tests move by hand."""

from __future__ import annotations


class ManualClock:
    """`tidegate_edge.clock.Clock` that stands still until it is told otherwise; `now_us` is its wall time."""

    def __init__(self, wall_us: int = 1_790_000_000_000_000, *, synchronised: bool = True) -> None:
        self.now_us = wall_us
        self.elapsed = 1000.0
        self.since_boot_us = 20_000_000
        self.boot_id = "boot-1"
        self.synchronised = synchronised

    def wall_us(self) -> int:
        return self.now_us

    def monotonic(self) -> float:
        return self.elapsed

    def boot_us(self) -> int:
        return self.since_boot_us

    def is_synchronised(self) -> bool:
        return self.synchronised

    def reboot(self, boot_id: str, wall_us: int, *, synchronised: bool = False) -> None:
        """The machine starts again, with what its wall clock shows then."""
        self.boot_id, self.since_boot_us = boot_id, 20_000_000
        self.now_us, self.synchronised = wall_us, synchronised

    def advance(self, seconds: float) -> None:
        """All clocks go on by so much."""
        self.elapsed += seconds
        self.since_boot_us += int(seconds * 1e6)
        self.now_us += int(seconds * 1e6)
