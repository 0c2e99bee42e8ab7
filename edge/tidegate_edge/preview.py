"""Copies of the newest scans, sent beside a backlog so that the present is seen before the past.

They may be lost and may be thinned: the scans stay in the spool and follow in order. Per stream the newest
`max_scans` that were not copied yet are kept, and go out together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .spool import Chunk, Stream

PERIOD_S = 0.25  # how often a stream's newest scans are sent, while they come

Send = Callable[[Stream, list[Chunk], int, int], bool]


@dataclass(slots=True, eq=False)
class _Newest:
    stream: Stream
    chunks: deque[Chunk] = field(default_factory=deque)
    scans: int = 0
    copied: int = 0  # number after the last scan that was sent as a copy


class Preview:
    """`take` what became durable, `send` what is due."""

    def __init__(self, max_scans: int) -> None:
        self._max_scans = max_scans
        self._streams: dict[int, _Newest] = {}
        self._due: dict[int, _Newest] = {}
        self._next = 0.0

    def take(self, chunks: Iterable[Chunk]) -> None:
        """Note chunks in the order in which they became durable."""
        for chunk in chunks:
            if chunk.lost:
                continue
            number = chunk.stream.number
            newest = self._streams.get(number)
            if newest is None:
                newest = self._streams[number] = _Newest(chunk.stream)
            if chunk.stop <= newest.copied:
                continue
            if newest.chunks and (newest.chunks[-1].stop != chunk.seq or newest.chunks[-1].flags != chunk.flags):
                newest.chunks.clear()
                newest.scans = 0
            newest.chunks.append(chunk)
            newest.scans += chunk.n
            while newest.scans - newest.chunks[0].n >= self._max_scans:
                newest.scans -= newest.chunks.popleft().n
            self._due[number] = newest

    def wait(self, now: float) -> float | None:
        """Seconds until something is due; None when nothing waits."""
        return max(0.0, self._next - now) if self._due else None

    def send(self, now: float, send: Send) -> None:
        """Give `send` each stream's newest scans, as (stream, chunks, start, stop), until it returns False."""
        if not self._due or now < self._next:
            return
        for number, newest in list(self._due.items()):
            stop = newest.chunks[-1].stop
            start = max(newest.copied, newest.chunks[0].seq, stop - self._max_scans)
            while newest.chunks[0].stop <= start:
                newest.chunks.popleft()
            if not send(newest.stream, list(newest.chunks), start, stop):
                return
            newest.copied = stop
            newest.chunks.clear()
            newest.scans = 0
            del self._due[number]
        self._next = now + PERIOD_S
