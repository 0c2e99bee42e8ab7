"""The folder that a spool lies in: whose it is, and which epochs were used in it."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from tidegate_protocols.errors import BadInput

from ..clock import is_set


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
        try:
            last = int((self.path / "epoch").read_text("ascii"))
        except (OSError, ValueError):
            last = 0
        return max(last + 1, now_us // 1_000_000 if is_set(now_us) else 1)

    def write_epoch(self, epoch: int) -> None:
        """Note the epoch that is in use."""
        path = self.path / "epoch"
        if not path.exists() or path.read_text("ascii") != str(epoch):
            draft = path.with_suffix(".new")
            draft.write_text(str(epoch), "ascii")
            draft.replace(path)

    def put_aside(self, database: Path, now_us: int) -> None:
        """Rename a damaged database and what belongs to it."""
        aside = f"{database.name}.damaged-{now_us // 1_000_000}"
        for suffix in ("", "-wal", "-shm"):
            file = database.with_name(database.name + suffix)
            if file.exists():
                file.rename(database.with_name(aside + suffix))
