"""How far the uplink is behind, without asking a wall clock: marks of which chunk was the newest when."""

from __future__ import annotations

from bisect import bisect_left

_STEP_S = 0.5
_MARKS_MAX = 4_096


class Lag:
    """`note` what was committed when; `age` tells how long ago a chunk became durable."""

    def __init__(self, before: int) -> None:
        """Chunks up to the id `before` were there before this start: they are as old as can be."""
        self._before = before
        self._ids: list[int] = []  # the newest id at …
        self._times: list[float] = []  # … each of these times, one each half second

    def note(self, newest: int, now: float) -> None:
        """The chunk `newest` is the newest that is durable."""
        if self._times and now - self._times[-1] < _STEP_S:
            self._ids[-1] = newest
            return
        self._ids.append(newest)
        self._times.append(now)
        if len(self._ids) > _MARKS_MAX:
            self._before = self._ids[_MARKS_MAX // 2]
            del self._ids[: _MARKS_MAX // 2], self._times[: _MARKS_MAX // 2]

    def age(self, chunk: int, now: float) -> float:
        """Seconds since the chunk with this id became durable; infinite for one from long ago."""
        if chunk <= self._before:
            return float("inf")
        at = bisect_left(self._ids, chunk)
        return now - self._times[at] if at < len(self._times) else 0.0
