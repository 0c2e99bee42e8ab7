"""Frames and readings a second, over the last few seconds. Written by one thread, read by another."""

from __future__ import annotations

from collections import deque

_WINDOW_S = 5.0


class Rates:
    """Counts by whole seconds of a monotonic time that the caller gives."""

    def __init__(self) -> None:
        self._seconds: deque[list[float]] = deque(maxlen=int(_WINDOW_S) + 2)  # [second, frames, readings]
        self.frames = 0
        self.readings = 0

    def add(self, now_s: float, frames: int, readings: int) -> None:
        self.frames += frames
        self.readings += readings
        second = float(int(now_s))
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0.0, 0.0])
        self._seconds[-1][1] += frames
        self._seconds[-1][2] += readings

    def per_second(self, now_s: float) -> tuple[float, float]:
        """Frames and readings a second, over the last five whole seconds."""
        end = float(int(now_s))
        inside = [row for row in list(self._seconds) if end - _WINDOW_S <= row[0] < end]
        return sum(row[1] for row in inside) / _WINDOW_S, sum(row[2] for row in inside) / _WINDOW_S
