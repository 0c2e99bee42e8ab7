"""The newest chunks, kept in memory for the uplink, so that what is live is not read back from the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from .rows import Chunk

_SCANS = 4_096


class Recent:
    """Holds the last 4,096 scans, or fewer, in whole chunks."""

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self._scans = 0

    def add(self, chunks: Iterable[Chunk]) -> None:
        """Chunks that became durable, in the order of their ids."""
        for chunk in chunks:
            self._chunks.append(chunk)
            self._scans += chunk.n
        while self._scans > _SCANS:
            self._scans -= self._chunks.popleft().n

    def take(self, after: int) -> list[Chunk]:
        """Those that follow the one with id `after`, once; empty when they are not all here."""
        chunks = self._chunks
        while chunks and chunks[0].id <= after:
            self._scans -= chunks.popleft().n
        if not chunks or chunks[0].id != after + 1:
            return []
        out = [chunk for chunk in chunks if chunk.id > chunk.stream.evicted_id]
        if out:
            self.clear()
        return out

    def clear(self) -> None:
        self._chunks.clear()
        self._scans = 0
