"""The spool's SQLite file, as functions that run in the database's thread. What stands in it: see `spool.spool`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

LAYOUT = 1
REJECTS_MAX = 100

T = TypeVar("T")

_TABLES = """
CREATE TABLE schema (fingerprint BLOB PRIMARY KEY, json BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE stream (
    number INTEGER PRIMARY KEY, device TEXT NOT NULL, fingerprint BLOB NOT NULL, epoch INTEGER NOT NULL,
    next_seq INTEGER NOT NULL, acknowledged INTEGER NOT NULL, evicted INTEGER NOT NULL,
    UNIQUE (device, fingerprint, epoch));
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, seq INTEGER NOT NULL, n INTEGER NOT NULL,
    flags INTEGER NOT NULL, committed_ms INTEGER NOT NULL, size INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE reject (
    id INTEGER PRIMARY KEY, source TEXT NOT NULL, at_us INTEGER NOT NULL, place TEXT NOT NULL, error TEXT NOT NULL,
    payload BLOB NOT NULL);
"""


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
    """

    chunks: list[tuple[Any, ...]] = field(default_factory=list)
    done: list[tuple[int]] = field(default_factory=list)
    streams: list[tuple[Any, ...]] = field(default_factory=list)
    schemas: list[tuple[bytes, bytes]] = field(default_factory=list)
    state: list[tuple[str, bytes]] = field(default_factory=list)
    dropped: list[tuple[str]] = field(default_factory=list)
    rejects: list[tuple[Any, ...]] = field(default_factory=list)
    bytes: int = 0
    excess: int = 0


@dataclass(slots=True)
class Evicted:
    """What a commit threw out: scans per stream, the last chunk's id, and the bytes that came free."""

    scans: dict[int, int] = field(default_factory=dict)
    upto: int = 0
    bytes: int = 0


class Database(aiosqlite.Connection):
    """An aiosqlite connection that also runs a whole transaction as one call in its thread.

    A statement at a time would cost a change of thread for each, several times the price of the statement.
    """

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Return ``function(connection)``, run in the connection's thread."""
        result: T = await self._execute(lambda: function(self._conn))  # type: ignore[no-untyped-call]
        return result


def open_database(path: Path) -> Database:
    """The database at `path`, to be awaited. It is made when it is not there."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, cached_statements=64)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        # What a burst left of the write-ahead log is given back at the next checkpoint.
        connection.execute("PRAGMA journal_size_limit=8388608")
        connection.execute("PRAGMA cache_size=-2000")
        return connection

    return Database(connect, iter_chunk_size=64)


def prepare(connection: sqlite3.Connection, epoch: int) -> dict[str, bytes]:
    """Make the tables of a new file, whose scans will be of `epoch`; return the rows of `state`.

    Raises sqlite3.DatabaseError when the file is damaged or of another layout.
    """
    (layout,) = connection.execute("PRAGMA user_version").fetchone()
    if layout == 0:
        connection.execute("BEGIN IMMEDIATE")
        for statement in _TABLES.split(";\n"):
            if statement.strip():
                connection.execute(statement)
        many = connection.executemany
        many("INSERT INTO state VALUES (?, ?)", [("epoch", b"%d" % epoch), ("settled", b"0"), ("bytes", b"0")])
        connection.execute(f"PRAGMA user_version={LAYOUT}")
        connection.execute("COMMIT")
    elif layout != LAYOUT:
        raise sqlite3.DatabaseError(f"its layout is {layout}, this program writes {LAYOUT}")
    return dict(connection.execute("SELECT key, value FROM state"))


def apply(connection: sqlite3.Connection, transaction: Transaction) -> Evicted:
    """Write `transaction` durably, or raise sqlite3.Error and have written nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        many = connection.executemany
        if transaction.schemas:
            many("INSERT OR IGNORE INTO schema VALUES (?, ?)", transaction.schemas)
        if transaction.streams:
            many("INSERT OR REPLACE INTO stream VALUES (?, ?, ?, ?, ?, ?, ?)", transaction.streams)
        if transaction.chunks:
            many("INSERT OR REPLACE INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?, ?)", transaction.chunks)
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
        evicted = _evict(connection, transaction.excess) if transaction.excess > 0 else Evicted()
        connection.execute(
            "UPDATE state SET value = ? WHERE key = 'bytes'", (b"%d" % (transaction.bytes - evicted.bytes),)
        )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return evicted


def _evict(connection: sqlite3.Connection, excess: int) -> Evicted:
    """Throw out the oldest chunks until `excess` bytes are free. The rows of `stream` are right: it was settled."""
    evicted = Evicted()
    stops: dict[int, int] = {}
    for number, stop, chunk, size in connection.execute("SELECT stream, seq + n, id, size FROM chunk ORDER BY id"):
        stops[number] = stop
        evicted.upto = chunk
        evicted.bytes += size
        if evicted.bytes >= excess:
            break
    connection.execute("DELETE FROM chunk WHERE id <= ?", (evicted.upto,))
    for number, stop in stops.items():
        (tail,) = connection.execute("SELECT acknowledged + evicted FROM stream WHERE number = ?", (number,)).fetchone()
        scans = max(0, stop - tail)
        connection.execute("UPDATE stream SET evicted = evicted + ? WHERE number = ?", (scans, number))
        evicted.scans[number] = scans
    return evicted


def read_chunks(connection: sqlite3.Connection, after: int, limit: int) -> list[tuple[Any, ...]]:
    """Rows of `chunk` with an id over `after`, in order, until their sizes reach `limit` bytes."""
    rows = []
    for row in connection.execute(
        "SELECT id, stream, seq, n, flags, committed_ms, size, data FROM chunk WHERE id > ? ORDER BY id", (after,)
    ):
        rows.append(row)
        limit -= row[6]
        if limit <= 0:
            break
    return rows
