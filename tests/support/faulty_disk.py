"""A disk that fails as disks do, under the real SQLite: a VFS over real files.

Between two syncs nothing is certain. A power cut keeps of the writes since the last sync of each file any subset,
sector by sector, in any order. A write may find no space, and any call may fail with an I/O error. What was synced
is kept.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apsw
from tidegate_edge.spool.store import configure

_SECTOR = 512


class _Tracked:
    """One file: what it holds for certain, and the sectors that were written since."""

    def __init__(self, durable: bytes) -> None:
        self.durable = durable
        self.sectors: list[tuple[int, bytes]] = []  # offset and content, in the order of writing

    def write(self, offset: int, data: bytes) -> None:
        for at in range(0, len(data), _SECTOR):
            self.sectors.append((offset + at, data[at : at + _SECTOR]))


class FaultyDisk:
    """Give `connect` to the spool. `full` and `broken` are the chances that a write or a sync fails."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.full = 0.0
        self.broken = 0.0
        self.files: dict[str, _Tracked] = {}
        self._name = f"faulty-{id(self)}"
        self._vfs = _Vfs(self._name, self)

    def connect(self, path: Path) -> Any:
        """A connection as the spool wants it."""
        # Alone on the file, SQLite keeps the index of its log in memory, which a VFS written in Python cannot share.
        with _said():
            inner = apsw.Connection(str(path), vfs=self._name)
            inner.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection = _Connection(inner)
        configure(connection)  # type: ignore[arg-type]
        return connection

    def power_cut(self) -> None:
        """Every file becomes what a power cut may leave of it. Nothing may be open."""
        for name, file in self.files.items():
            kept = bytearray(file.durable)
            sectors = list(file.sectors)
            if self.rng.random() < 0.5:
                self.rng.shuffle(sectors)
            chance = self.rng.choice([0.0, 0.5, 0.9, 1.0])
            for offset, data in sectors:
                if self.rng.random() < chance:
                    if len(kept) < offset:
                        kept += bytes(offset - len(kept))
                    kept[offset : offset + len(data)] = data
            Path(name).write_bytes(kept)
            self.files[name] = _Tracked(bytes(kept))

    def fails(self, *, writing: bool) -> None:
        """Raises what a call may meet just now."""
        if self.broken and self.rng.random() < self.broken:
            raise apsw.IOError("the disk does not answer")
        if writing and self.full and self.rng.random() < self.full:
            raise apsw.FullError("no space")

    def close(self) -> None:
        self._vfs.unregister()


class _Vfs(apsw.VFS):  # type: ignore[misc]
    def __init__(self, name: str, disk: FaultyDisk) -> None:
        self._disk = disk
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        return _File(self._disk, name, flags)

    def xDelete(self, name: str, sync_directory: bool) -> None:
        self._disk.files.pop(name, None)
        super().xDelete(name, sync_directory)


class _File(apsw.VFSFile):  # type: ignore[misc]
    def __init__(self, disk: FaultyDisk, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        if path not in disk.files:
            found = Path(path)
            disk.files[path] = _Tracked(found.read_bytes() if found.exists() else b"")
        self._path = path

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.fails(writing=True)
        super().xWrite(data, offset)
        self._disk.files[self._path].write(offset, bytes(data))

    def xTruncate(self, size: int) -> None:
        super().xTruncate(size)
        file = self._disk.files[self._path]
        file.durable = file.durable[:size]
        file.sectors = [(offset, data) for offset, data in file.sectors if offset < size]

    def xSync(self, flags: int) -> None:
        self._disk.fails(writing=False)
        file = self._disk.files[self._path]
        file.durable, file.sectors = Path(self._path).read_bytes(), []


class _said:
    """Turns apsw's exceptions into those of the standard library, which the spool knows."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
            damaged = sqlite3.DatabaseError(str(error))
            damaged.sqlite_errorcode = error.result  # type: ignore[misc]
            raise damaged from None
        if isinstance(error, apsw.Error):
            raise sqlite3.OperationalError(str(error)) from None


class _Cursor:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with _said():
            return next(self._inner)

    def fetchone(self) -> Any:
        with _said():
            return self._inner.fetchone()

    def fetchall(self) -> list[Any]:
        with _said():
            return list(self._inner.fetchall())


class _Connection:
    """As much of `sqlite3.Connection` as the spool uses."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def in_transaction(self) -> bool:
        return bool(self._inner.in_transaction)

    def execute(self, sql: str, parameters: tuple[Any, ...] = ()) -> _Cursor:
        with _said():
            return _Cursor(self._inner.execute(sql, parameters))

    def executemany(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> _Cursor:
        with _said():
            return _Cursor(self._inner.executemany(sql, rows))

    def close(self) -> None:
        with _said():
            self._inner.close()
