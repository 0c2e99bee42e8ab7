"""Taking what can be read out of a damaged spool, and making a sound file of it.

Nothing of SQLite's structure is trusted: pages of the file and of its log are searched for chunks, which describe
themselves and carry a checksum. Who a chunk's stream is, and how far it had come, is read from the tables where they
can be read, and from the roster beside the file where not. Each hole between what was found and what was stored
becomes a chunk of names alone, so that its scans are counted as lost when their turn comes, and are named.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.schema import Schema

from .books import SourceBook
from .migrations import LAYOUT
from .rows import MAGIC, PREFIX, ROW_OVERHEAD, Stream, decode_head, encode_lost, is_sound, stream_of, stream_row
from .store import prepare
from .wal import PAGE_SIZE, Log, read_log

log = logging.getLogger(__name__)

_LEAST = PREFIX + 6
_NAMED_MAX = 200  # holes that are named in the log one by one


@dataclass(slots=True)
class Salvaged:
    """What came of it. `holes` are (stream, first scan, number of scans); `bytes` what the chunks take of the quota."""

    chunks: int = 0
    scans: int = 0
    bytes: int = 0
    last_id: int = 0
    holes: list[tuple[Stream, int, int]] = field(default_factory=list)


@dataclass(slots=True)
class Tables:
    """What the small tables of a damaged file still say."""

    streams: dict[int, Stream] = field(default_factory=dict)
    state: dict[str, bytes] = field(default_factory=dict)
    rejects: list[tuple[object, ...]] = field(default_factory=list)


def find_chunks(database: Path) -> Iterator[tuple[int, bytes]]:
    """(id, blob) of every sound chunk in the file and its log, some of them more than once, the newest copy first."""
    found = read_log(database.with_name(database.name + "-wal"))
    wal = found or Log(PAGE_SIZE, [], [], None)
    with database.open("rb") as file:
        log_file: IO[bytes] | None = database.with_name(database.name + "-wal").open("rb") if found else None
        try:
            pages = _Pages(file, log_file, wal)
            for place in reversed(range(len(wal.pages))):
                yield from pages.chunks(pages.of_log(place))
            for number in range(1, pages.count + 1):
                yield from pages.chunks(pages.of_file(number))
        finally:
            if log_file is not None:
                log_file.close()


class _Pages:
    """Pages of a file and its log. What the disk does not give is taken as zeros."""

    def __init__(self, file: IO[bytes], log_file: IO[bytes] | None, wal: Log) -> None:
        self._file, self._log_file, self._wal = file, log_file, wal
        self._newest = dict(zip(wal.pages, wal.offsets, strict=True))
        self.count = file.seek(0, 2) // PAGE_SIZE

    def of_file(self, number: int) -> bytes:
        return _read(self._file, (number - 1) * PAGE_SIZE)

    def of_log(self, place: int) -> bytes:
        assert self._log_file is not None
        return _read(self._log_file, self._wal.offsets[place])

    def newest(self, number: int) -> bytes:
        at = self._newest.get(number)
        if at is None or self._log_file is None:
            return self.of_file(number)
        return _read(self._log_file, at)

    def chunks(self, page: bytes) -> Iterator[tuple[int, bytes]]:
        at = page.find(MAGIC)
        while at >= 0:
            data = self._blob(page, at)
            if data is not None:
                yield decode_head(data)[0], data
            at = page.find(MAGIC, at + 1)

    def _blob(self, page: bytes, at: int) -> bytes | None:
        """The sound blob that begins at `at`, which may go on in overflow pages."""
        length = PREFIX + int.from_bytes(page[at + 2 : at + 5], "little")
        if length < _LEAST:
            return None
        data = page[at : at + length]
        if len(data) == length and is_sound(data):
            return data
        local = _local_bytes(length)
        if local >= length or at + local + 4 > len(page):
            return None
        parts = [page[at : at + local]]
        following = int.from_bytes(page[at + local : at + local + 4], "big")
        left = length - local
        while left > 0 and 1 <= following <= max(self.count, max(self._newest, default=0)):
            content = self.newest(following)
            following = int.from_bytes(content[:4], "big")
            parts.append(content[4 : 4 + left])
            left -= len(parts[-1])
        data = b"".join(parts)
        return data if is_sound(data) else None


def _read(file: IO[bytes], offset: int) -> bytes:
    try:
        file.seek(offset)
        return file.read(PAGE_SIZE).ljust(PAGE_SIZE, b"\0")
    except OSError:
        return bytes(PAGE_SIZE)


def _local_bytes(length: int) -> int:
    """How much of a blob stands in its leaf page (fileformat2.html, "B-tree Cells"). The record's head is before it:
    its own length, the type of the id (which the row's key stands for) and that of the blob."""
    head = 2 + _varint_size(2 * length + 12)
    payload = head + length
    most, least = PAGE_SIZE - 35, (PAGE_SIZE - 12) * 32 // 255 - 23
    if payload <= most:
        return length
    kept = least + (payload - least) % (PAGE_SIZE - 4)
    return (kept if kept <= most else least) - head


def _varint_size(number: int) -> int:
    return max(1, -(-number.bit_length() // 7))


def read_tables(database: Path) -> Tables:
    """The small tables, row by row as far as each can be read. Changes nothing."""
    out = Tables()
    try:
        connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error:
        return out
    try:
        if connection.execute("PRAGMA user_version").fetchone() != (LAYOUT,):
            return out
        schemas: dict[bytes, Schema] = {}
        for mark, text in _rows(connection, "SELECT fingerprint, json FROM schema"):
            try:
                schema = Schema.from_json(text)
            except (BadInput, TypeError):
                continue
            if schema.fingerprint == mark:
                schemas[mark] = schema
        for row in _rows(connection, "SELECT * FROM stream"):
            numbers = (row[0], *row[3:7], row[8])
            if row[2] in schemas and all(isinstance(each, int) and each >= 0 for each in numbers):
                out.streams[row[0]] = stream_of(row, schemas)
        out.state = dict(_rows(connection, "SELECT key, value FROM state"))
        out.rejects = list(_rows(connection, "SELECT source, at_us, place, error, payload FROM reject"))
    except sqlite3.Error:
        pass
    finally:
        connection.close()
    return out


def _rows(connection: sqlite3.Connection, query: str) -> Iterator[tuple]:  # type: ignore[type-arg]
    try:
        yield from connection.execute(query)
    except sqlite3.Error as error:
        log.warning("of the damaged file cannot be read: %s: %s", query.rpartition(" ")[2], error)


def rebuild(
    damaged: Path,
    new: Path,
    connector: Callable[[Path], sqlite3.Connection],
    streams: dict[int, Stream],
    state: dict[str, bytes],
    rejects: list[tuple[object, ...]],
    *,
    upto: int | None = None,
) -> Salvaged:
    """Write `new`, a sound spool of what `damaged` still holds of `streams`, beginning at each one's tail.

    `streams` are brought up to what was found. Of chunks beyond the id `upto` nothing is taken. What the disk refuses
    raises sqlite3.Error, and nothing is changed but the draft.
    """
    for suffix in ("", "-wal", "-shm"):
        new.with_name(new.name + suffix).unlink(missing_ok=True)
    connection = connector(new)
    try:
        prepare(connection, int(state["epoch"]))
        connection.execute("BEGIN IMMEDIATE")
        for chunk, data in find_chunks(damaged):
            _, number, seq, n, _, _ = decode_head(data)
            stream = streams.get(number)
            if stream is not None and seq + n > stream.tail and (upto is None or chunk <= upto):
                connection.execute("INSERT OR IGNORE INTO chunk VALUES (?, ?)", (chunk, data))
        out = _close_holes(connection, streams, upto)
        connection.executemany(
            "INSERT OR IGNORE INTO schema VALUES (?, ?)",
            {stream.schema.fingerprint: stream.schema.canonical_json for stream in streams.values()}.items(),
        )
        connection.executemany(
            "INSERT INTO stream VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [stream_row(each) for each in streams.values()]
        )
        connection.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", _state(state, streams, out).items())
        connection.executemany(
            "INSERT INTO reject (source, at_us, place, error, payload) VALUES (?, ?, ?, ?, ?)", rejects
        )
        connection.execute("COMMIT")
    finally:
        connection.close()
    for i, (stream, seq, n) in enumerate(out.holes):
        if i < _NAMED_MAX:
            log.error("%s: scans %d to %d are lost with the damaged file", stream.device, seq, seq + n - 1)
    if len(out.holes) > _NAMED_MAX:
        log.error("and %d more holes", len(out.holes) - _NAMED_MAX)
    return out


def _close_holes(connection: sqlite3.Connection, streams: dict[int, Stream], upto: int | None) -> Salvaged:
    """Put a chunk of names where a stream's chunks do not follow each other, and count."""
    out = Salvaged()
    ends: dict[int, tuple[int, int]] = {}  # per stream the next number, and the id after which it stands
    lost: list[tuple[int, Stream, int, int]] = []
    ids: set[int] = set()
    twice: list[tuple[int]] = []
    for chunk, data in connection.execute("SELECT id, data FROM chunk ORDER BY id"):
        _, number, seq, n, _, _ = decode_head(data)
        stream = streams[number]
        following, after = ends.get(number, (stream.tail, 0))
        if seq + n <= following:
            twice.append((chunk,))
            continue
        if seq > following:
            lost.append((after, stream, following, seq - following))
        ends[number] = seq + n, chunk
        ids.add(chunk)
        out.chunks, out.scans, out.bytes = out.chunks + 1, out.scans + n, out.bytes + len(data) + ROW_OVERHEAD
        out.last_id = chunk
    connection.executemany("DELETE FROM chunk WHERE id = ?", twice)
    for stream in streams.values():
        following, after = ends.get(stream.number, (stream.tail, 0))
        stream.next_seq = max(stream.next_seq, following)
        if stream.next_seq > following:
            lost.append((after, stream, following, stream.next_seq - following))
    for after, stream, seq, n in lost:
        # The lost chunk's own id is free, and stands between those of its neighbours.
        chunk = after + 1
        while chunk in ids:
            chunk += 1
        ids.add(chunk)
        data = encode_lost(chunk, stream.number, seq, n, 0)
        connection.execute("INSERT INTO chunk VALUES (?, ?)", (chunk, data))
        out.bytes += len(data) + ROW_OVERHEAD
        out.last_id = max(out.last_id, chunk)
        out.holes.append((stream, seq, n))
    return out


def _state(state: dict[str, bytes], streams: dict[int, Stream], found: Salvaged) -> dict[str, bytes]:
    """The rows of `state`, in which the books balance whatever is missing."""
    books = {
        key: msgspec.msgpack.decode(value, type=SourceBook) for key, value in state.items() if key.startswith("source/")
    }
    by_sources = sum(book.accepted for book in books.values())
    named = sum(stream.next_seq for stream in streams.values())
    lost = max(0, by_sources - named)  # accepted, and not even their names are left
    out = dict(state)
    if named > by_sources:  # the sources' books were damaged
        book = books.get("source/salvaged", SourceBook())
        book.received += named - by_sources
        book.accepted += named - by_sources
        out["source/salvaged"] = msgspec.msgpack.encode(book)
    out |= {"bytes": b"%d" % found.bytes, "settled": b"%d" % found.last_id, "lost": b"%d" % lost}
    return out
