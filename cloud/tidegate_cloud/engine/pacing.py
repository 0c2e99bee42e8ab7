"""How many records to take at once.

A record waits for the micro-batch under way and then for its own, so a micro-batch may last half the wanted latency.
While the input is behind, latency is lost anyway and larger micro-batches, which share the price of a transaction
among more records, get it back sooner. Where a commit takes most of the wanted latency by itself, smaller micro-batches
would only commit more often: processing gets at least as much time as committing, and the latency is not held.
"""

from __future__ import annotations

SMALLEST = 32
LARGEST = 20_000
_CATCHING_UP = 4  # times the usual budget


class Pacing:
    """Adapts `size`, in records, to hold `latency_s` from arrival to commit."""

    def __init__(self, latency_s: float, *, size: int = 500) -> None:
        self.size = size
        self._budget_s = latency_s / 2
        self._behind_s = 2 * latency_s

    def took(self, records: int, seconds: float, commit_s: float, age_s: float) -> None:
        """A micro-batch of `records` lasted `seconds`, `commit_s` of them to commit.

        Its newest record was `age_s` old when it was taken.
        """
        budget = self._budget_s * (_CATCHING_UP if age_s > self._behind_s else 1)
        room = max(budget - commit_s, commit_s)
        work = seconds - commit_s
        if records >= self.size or work > room:
            change = min(2.0, max(0.5, room / max(work, 1e-4)))
            self.size = min(LARGEST, max(SMALLEST, int(self.size * change)))
