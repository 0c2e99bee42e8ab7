"""How far behind reality is what is shown: worked out from where partitions end and how far they have been read.

An end that was asked for at a time T and has been reached proves that everything appended before T has been read.
Nothing here asks a clock or Kafka: both are told. Thread-safe.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from tidegate_cloud.kafka import Part

# Ends are asked for once a second; while the newest answer is younger than this, what has reached it is not behind.
FRESH_US = 3_000_000


class Lag:
    """The lag of one reader of some partitions.

    `read(part, offset, append_us)`: everything below `offset` has been read, and the newest of it was appended then.
    `ends(at_us, ends)`: what Kafka said when asked at `at_us`.
    """

    def __init__(self, begin_us: int) -> None:
        self._begin_us = begin_us  # nothing before it is waited for
        self._offsets: dict[Part, int] = {}
        self._append_us: dict[Part, int] = {}
        self._proven_us: dict[Part, int] = {}  # everything appended before this has been read
        self._ends: dict[Part, int] = {}
        self._asked_us = begin_us
        self._lock = threading.Lock()

    def read(self, part: Part, offset: int, append_us: int | None = None) -> None:
        with self._lock:
            if offset > self._offsets.get(part, -1):
                self._offsets[part] = offset
            if append_us is not None:
                self._append_us[part] = max(append_us, self._append_us.get(part, 0))
            self._prove(part)

    def ends(self, at_us: int, ends: Mapping[Part, int]) -> None:
        with self._lock:
            self._asked_us = at_us
            self._ends = dict(ends)
            for part in ends:
                self._prove(part)

    def behind_us(self, now_us: int) -> int:
        """How old the oldest record is that has not been read, at most; 0 when all have been, by the newest answer."""
        with self._lock:
            waiting = [part for part, end in self._ends.items() if self._offsets.get(part, 0) < end]
            if waiting:
                oldest = min(
                    max(self._proven_us.get(part, self._begin_us), self._append_us.get(part, 0)) for part in waiting
                )
                return max(0, now_us - oldest)
            age = now_us - self._asked_us
            return age if age > FRESH_US else 0

    def _prove(self, part: Part) -> None:
        if self._offsets.get(part, 0) >= self._ends.get(part, 1 << 62):
            self._proven_us[part] = self._asked_us
