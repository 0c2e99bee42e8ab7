"""What time it is. Everything that needs to know is given a `Clock`, so that tests can move it by hand."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Protocol

# Nothing here ran before 2024: a wall clock that says so was not set since power-on.
EARLIEST_US = 1_704_067_200_000_000

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIMESYNCD = Path("/run/systemd/timesync/synchronized")  # it makes the file once it has set the clock
_TIMEX_BYTES = 512  # larger than struct timex anywhere
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised


class Clock(Protocol):
    """Wall time for what is written down, monotonic time for what is measured."""

    @property
    def boot_id(self) -> str:
        """Names this boot of the machine; no other boot has the same."""

    def wall_us(self) -> int:
        """Microseconds since 1970-01-01 UTC, as far as this machine knows."""

    def monotonic(self) -> float:
        """Seconds that only go forward, from an arbitrary start."""

    def boot_us(self) -> int:
        """Microseconds since this boot began, time asleep included; nobody sets it."""

    def is_synchronised(self) -> bool:
        """Whether something that knows the time (NTP, GPS, PTP) has set the wall clock."""


class SystemClock:
    """The machine's own clocks."""

    def __init__(self) -> None:
        try:
            self.boot_id = _BOOT_ID.read_text("ascii").strip()
        except OSError:
            self.boot_id = f"unknown-{time.time_ns()}"
        self._kernel = _kernel_clock()

    def wall_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        return time.monotonic()

    def boot_us(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000

    def is_synchronised(self) -> bool:
        """As the kernel says, which NTP clients tell. Where it cannot be asked, a clock that is set is believed."""
        if self._kernel is None:
            return is_set(self.wall_us())
        return self._kernel() or _TIMESYNCD.exists()


def _kernel_clock() -> _Ask | None:
    """What asks the kernel whether its clock is synchronised; None where it cannot be asked."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    state = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes = 0: only ask

    def ask() -> bool:
        return bool(0 <= adjtimex(state) < _TIME_ERROR)

    return ask if adjtimex(state) >= 0 else None


class _Ask(Protocol):
    def __call__(self) -> bool: ...


def is_set(wall_us: int) -> bool:
    """Whether a wall clock that shows `wall_us` can have been set: many small computers start in 1970."""
    return wall_us >= EARLIEST_US
