"""How much the spool may hold just now: its quota, and less where the disk that it lies on runs short."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ..clock import Clock

log = logging.getLogger(__name__)

LEAST_BYTES = 1 << 20  # what the spool may hold however little is free
_LOOK_S = 1.0
_FILLED = 0.8  # share of the file that chunks take at least when it is full


class Room:
    """The limit of one spool in `directory`. A file of SQLite does not shrink, so where less than `keep_free` bytes
    are free the spool may fill the file that it has, and not make it larger, until there is space again."""

    def __init__(self, directory: Path, clock: Clock, max_bytes: int, keep_free: int) -> None:
        self.short = False
        self.max_bytes = max_bytes
        self.keep_free = keep_free
        self._directory = directory
        self._clock = clock
        self._looked = float("-inf")
        self._held = max_bytes

    def limit(self, pending_bytes: int) -> int:
        """Bytes that may wait, while `pending_bytes` do."""
        now = self._clock.monotonic()
        if self.keep_free and now - self._looked >= _LOOK_S:
            self._looked = now
            self._look(pending_bytes)
        return min(self.max_bytes, self._held) if self.short else self.max_bytes

    def _look(self, pending_bytes: int) -> None:
        try:
            disk = os.statvfs(self._directory)
            size = (self._directory / "spool.db").stat().st_size
        except OSError:  # whatever it is, the next commit meets it and says so
            return
        free = disk.f_bavail * disk.f_frsize
        short = free < self.keep_free
        if short and not self.short:
            self._held = max(LEAST_BYTES, pending_bytes, int(size * _FILLED))
            log.warning("%d MiB of the disk are free: the spool grows no further", free >> 20)
        elif self.short and not short:
            log.warning("the disk has space again")
        self.short = short
