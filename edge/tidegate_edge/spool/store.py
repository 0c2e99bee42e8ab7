"""The spool's SQLite file, as functions that run in the database's thread. What stands in it: see `spool.spool`."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from .migrations import LAYOUT, TABLES, migrate
from .rows import ROW_OVERHEAD, decode_head

REJECTS_MAX = 100

_CORRUPT, _NOT_A_DATABASE = 11, 26  # SQLite's own codes

T = TypeVar("T")

Ranks = list[tuple[int, frozenset[int] | None]]  # priority and the streams that have it; None: all there are


@dataclass(slots=True)
class Transaction:
    """What one commit writes. Every value is absolute, so that a transaction that failed can be tried again.

    chunks   rows of `chunk`
    done     ids of chunks that Kafka has whole
    streams  rows of `stream`
    schemas  rows of `schema`
    state    rows of `state`
    dropped  keys of `state` to forget
    rejects  rows of `reject`, without the id
    bytes    what the pending chunks take of the quota, before evicting
    excess   bytes to evict so that the quota holds
    ranks    the streams by priority, those that leave first in front; set where `excess` is
    searched per priority the id up to which none of its chunks is left
    """

    chunks: list[tuple[int, bytes]] = field(default_factory=list)
    done: list[tuple[int]] = field(default_factory=list)
    streams: list[tuple[Any, ...]] = field(default_factory=list)
    schemas: list[tuple[bytes, bytes]] = field(default_factory=list)
    state: list[tuple[str, bytes]] = field(default_factory=list)
    dropped: list[tuple[str]] = field(default_factory=list)
    rejects: list[tuple[Any, ...]] = field(default_factory=list)
    bytes: int = 0
    excess: int = 0
    ranks: Ranks = field(default_factory=list)
    searched: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Evicted:
    """What a commit threw out: scans and last chunk per stream, the bytes that came free, and how far it searched."""

    scans: dict[int, int] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)
    bytes: int = 0
    searched: dict[int, int] = field(default_factory=dict)


class Database(aiosqlite.Connection):
    """An aiosqlite connection that also runs a whole transaction as one call in its thread.

    A statement at a time would cost a change of thread for each, several times the price of the statement.
    """

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Return ``function(connection)``, run in the connection's thread."""
        result: T = await self._execute(lambda: function(self._conn))  # type: ignore[no-untyped-call]
        return result


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the file at `path`, which is made when it is not there."""
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=64)
    configure(connection)
    return connection


def configure(connection: sqlite3.Connection) -> None:
    """What the spool promises of its file."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    # What a burst left of the write-ahead log is given back at the next checkpoint.
    connection.execute("PRAGMA journal_size_limit=8388608")
    connection.execute("PRAGMA cache_size=-1024")
    # Debian builds SQLite to overwrite what is deleted: each page of a spool would be written once more.
    connection.execute("PRAGMA secure_delete=OFF")


def open_database(path: Path, connector: Callable[[Path], sqlite3.Connection] = connect) -> Database:
    """The database at `path`, to be awaited. It is made when it is not there."""
    return Database(lambda: connector(path), iter_chunk_size=64)


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says that the file itself is damaged, rather than that it cannot be reached just now."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (_CORRUPT, _NOT_A_DATABASE)


def prepare(connection: sqlite3.Connection, epoch: int) -> dict[str, bytes]:
    """Make the tables of a new file, whose scans will be of `epoch`, or bring those of an older layout up to date.

    Returns the rows of `state`. Raises sqlite3.DatabaseError when the file is damaged, BadInput when a newer program
    wrote it.
    """
    (layout,) = connection.execute("PRAGMA user_version").fetchone()
    if layout == 0:
        connection.execute("BEGIN IMMEDIATE")
        for statement in TABLES:
            connection.execute(statement)
        values = [
            ("epoch", b"%d" % epoch), ("settled", b"0"), ("bytes", b"0"), ("lost", b"0"),
            ("spool", secrets.token_hex(8).encode()),
        ]  # fmt: skip
        connection.executemany("INSERT INTO state VALUES (?, ?)", values)
        connection.execute(f"PRAGMA user_version={LAYOUT}")
        connection.execute("COMMIT")
    else:
        migrate(connection, layout)
    return dict(connection.execute("SELECT key, value FROM state"))


def apply(connection: sqlite3.Connection, transaction: Transaction) -> Evicted:
    """Write `transaction` durably, or raise sqlite3.Error and have written nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        many = connection.executemany
        if transaction.schemas:
            many("INSERT OR IGNORE INTO schema VALUES (?, ?)", transaction.schemas)
        if transaction.streams:
            many("INSERT OR REPLACE INTO stream VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", transaction.streams)
        if transaction.chunks:
            many("INSERT OR REPLACE INTO chunk VALUES (?, ?)", transaction.chunks)
        if transaction.done:
            many("DELETE FROM chunk WHERE id = ?", transaction.done)
        if transaction.state:
            many("INSERT OR REPLACE INTO state VALUES (?, ?)", transaction.state)
        if transaction.dropped:
            many("DELETE FROM state WHERE key = ?", transaction.dropped)
        if transaction.rejects:
            many(
                "INSERT INTO reject (source, at_us, place, error, payload) VALUES (?, ?, ?, ?, ?)", transaction.rejects
            )
            connection.execute("DELETE FROM reject WHERE id <= (SELECT max(id) FROM reject) - ?", (REJECTS_MAX,))
        evicted = _evict(connection, transaction) if transaction.excess > 0 else Evicted()
        connection.execute(
            "UPDATE state SET value = ? WHERE key = 'bytes'", (b"%d" % (transaction.bytes - evicted.bytes),)
        )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return evicted


def _evict(connection: sqlite3.Connection, transaction: Transaction) -> Evicted:
    """Throw out chunks until `excess` bytes are free: the lowest priority first, of it the oldest.

    The rows of `stream` are right: it was settled.
    """
    evicted = Evicted(searched=dict(transaction.searched))
    stops: dict[int, int] = {}
    gone: list[tuple[int]] = []
    for priority, streams in transaction.ranks:
        at = evicted.searched.get(priority, 0)
        rows = connection.execute("SELECT id, data FROM chunk WHERE id > ? ORDER BY id", (at,))
        for at, data in rows:
            _, number, seq, n, _, _ = decode_head(data)
            if streams is not None and number not in streams:
                continue
            stops[number] = seq + n
            evicted.last[number] = at
            evicted.bytes += len(data) + ROW_OVERHEAD
            gone.append((at,))
            if evicted.bytes >= transaction.excess:
                break
        evicted.searched[priority] = at
        if evicted.bytes >= transaction.excess:
            break
    connection.executemany("DELETE FROM chunk WHERE id = ?", gone)
    for number, stop in stops.items():
        (tail,) = connection.execute("SELECT acknowledged + evicted FROM stream WHERE number = ?", (number,)).fetchone()
        scans = max(0, stop - tail)
        connection.execute("UPDATE stream SET evicted = evicted + ? WHERE number = ?", (scans, number))
        evicted.scans[number] = scans
    return evicted


def read_chunks(connection: sqlite3.Connection, after: int, limit: int) -> list[tuple[int, bytes]]:
    """Rows of `chunk` with an id over `after`, in order, until they have `limit` bytes."""
    rows = []
    for row in connection.execute("SELECT id, data FROM chunk WHERE id > ? ORDER BY id", (after,)):
        rows.append(row)
        limit -= len(row[1])
        if limit <= 0:
            break
    return rows


def find_head(connection: sqlite3.Connection, newest: int) -> int:
    """The id after which the oldest chunk stands; `newest` where there is none."""
    (oldest,) = connection.execute("SELECT min(id) FROM chunk").fetchone()
    return newest if oldest is None else int(oldest) - 1


def find_tail(connection: sqlite3.Connection, limit: int) -> int:
    """The id after which the newest chunks stand, of some `limit` bytes together."""
    for chunk, size in connection.execute("SELECT id, length(data) FROM chunk ORDER BY id DESC"):
        limit -= size
        if limit < 0:
            return int(chunk)
    return 0
