"""The folder that a spool lies in: whose it is, which epochs were used in it, and what was put aside."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from tidegate_protocols.batch import EPOCH_MAX
from tidegate_protocols.errors import BadInput

from .. import durable
from ..clock import is_set

_ASIDE_MAX = 2  # damaged files that are kept


class Folder:
    """`claim` makes it and locks it; the lock ends with `release`, or with the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[bytes] | None = None

    def claim(self) -> None:
        """Raises BadInput when the folder cannot be used or another agent uses it."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / "lock").open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise BadInput("another agent uses this folder", where=str(self.path), hint="stop it first") from None
        except OSError as error:
            raise BadInput(f"cannot be used: {error.strerror}", where=str(self.path)) from None

    def release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def new_epoch(self, now_us: int) -> int:
        """Higher than any before: seconds since 1970 where the clock is set, so that it also is on a new card."""
        last = self._last_epoch()
        return min(EPOCH_MAX, max(last + 1, now_us // 1_000_000 if is_set(now_us) else 1))

    def _last_epoch(self) -> int:
        """The number is written twice: a damaged file is not believed."""
        try:
            words = (self.path / "epoch").read_text("ascii").split()
            return int(words[0]) if len(set(words)) == 1 else 0
        except (OSError, ValueError):
            return 0

    def write_epoch(self, epoch: int) -> None:
        """Note the epoch that is in use."""
        if self._last_epoch() != epoch:
            durable.replace(self.path / "epoch", b"%d %d" % (epoch, epoch))

    def exchange(self, database: Path, new: Path, now_us: int) -> None:
        """Put `new`, a whole and closed database, in the place of a damaged one, which is kept under another name.

        A kill in between is made good by `complete`.
        """
        durable.sync(new)
        ready = database.with_name(database.name + ".salvaged")
        new.replace(ready)
        self._put_aside(database, now_us)
        ready.replace(database)
        durable.sync(self.path)

    def complete(self, database: Path, now_us: int) -> None:
        """End an `exchange` that was cut short."""
        ready = database.with_name(database.name + ".salvaged")
        if ready.exists():
            self._put_aside(database, now_us)
            ready.replace(database)

    def _put_aside(self, database: Path, now_us: int) -> None:
        aside = f"{database.name}.damaged-{now_us // 1_000_000}"
        for suffix in ("", "-wal", "-shm"):
            file = database.with_name(database.name + suffix)
            if file.exists():
                file.replace(database.with_name(aside + suffix))
        old = sorted(
            (file for file in self.path.glob(f"{database.name}.damaged-*") if file.suffix[-4:] not in ("-wal", "-shm")),
            key=lambda file: file.stat().st_mtime,
        )
        for file in old[:-_ASIDE_MAX]:
            for suffix in ("", "-wal", "-shm"):
                file.with_name(file.name + suffix).unlink(missing_ok=True)
