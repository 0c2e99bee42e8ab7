"""The layouts that a spool's file has had, and how an older one becomes the present one with all that waits in it.

A migration is one transaction: killed in the middle, it begins again.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec
from tidegate_protocols.errors import BadInput

from .rows import ROW_OVERHEAD, encode_chunk, encode_lost

LAYOUT = 2

TABLES = (
    "CREATE TABLE schema (fingerprint BLOB PRIMARY KEY, json BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE stream (number INTEGER PRIMARY KEY, device TEXT NOT NULL, fingerprint BLOB NOT NULL,"
    " epoch INTEGER NOT NULL, next_seq INTEGER NOT NULL, acknowledged INTEGER NOT NULL, evicted INTEGER NOT NULL,"
    " sent_as INTEGER, priority INTEGER NOT NULL)",
    "CREATE TABLE chunk (id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE reject (id INTEGER PRIMARY KEY, source TEXT NOT NULL, at_us INTEGER NOT NULL, place TEXT NOT NULL,"
    " error TEXT NOT NULL, payload BLOB NOT NULL)",
)


def migrate(connection: sqlite3.Connection, layout: int) -> None:
    """Bring a file of `layout` up to date. Raises BadInput when this program is too old for it."""
    if layout > LAYOUT:
        raise BadInput(
            f"its layout is {layout}, this program knows {LAYOUT}", where="spool.db", hint="run the newer program"
        )
    if layout == 1:
        connection.execute("BEGIN IMMEDIATE")
        try:
            _from_1(connection)
            connection.execute("PRAGMA user_version=2")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _from_1(connection: sqlite3.Connection) -> None:
    """Layout 1 kept what a chunk's head says in columns, and had neither checksums nor claimed epochs."""
    connection.execute("ALTER TABLE chunk RENAME TO old_chunk")
    connection.execute("ALTER TABLE stream RENAME TO old_stream")
    connection.execute(TABLES[1])
    connection.execute(TABLES[2])
    # What was sent so far named the spool's own epoch: that is its claim.
    connection.execute("INSERT INTO stream SELECT *, epoch, 5 FROM old_stream")
    size = 0

    def rows() -> Iterator[tuple[int, bytes]]:
        nonlocal size
        for row in connection.execute("SELECT id, stream, seq, n, flags, committed_ms, data FROM old_chunk"):
            data = _chunk_from_1(*row)
            size += len(data) + ROW_OVERHEAD
            yield row[0], data

    connection.executemany("INSERT INTO chunk VALUES (?, ?)", rows())
    connection.execute("DROP TABLE old_chunk")
    connection.execute("DROP TABLE old_stream")
    connection.executemany(
        "INSERT OR REPLACE INTO state VALUES (?, ?)",
        [("bytes", b"%d" % size), ("lost", b"0"), ("spool", secrets.token_hex(8).encode())],
    )


def _chunk_from_1(chunk: int, stream: int, seq: int, n: int, flags: int, committed_ms: int, data: bytes) -> bytes:
    try:
        ts, values = msgspec.msgpack.decode(data, type=tuple[list[int], list[tuple[Any, ...]]])
    except msgspec.DecodeError:
        ts, values = [], []
    if not n == len(ts) == len(values):
        return encode_lost(chunk, stream, seq, n, committed_ms // 1000)
    return encode_chunk(chunk, stream, seq, flags, committed_ms // 1000, ts, values)
