"""Opening a spool's file: what stands in it, and what to do when it is damaged."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.schema import Schema

from .books import Books, SourceBook
from .folder import Folder
from .roster import Roster
from .rows import Stream, decode_head, stream_of
from .salvage import Salvaged, read_tables, rebuild
from .wal import read_log

log = logging.getLogger(__name__)

Connector = Callable[[Path], sqlite3.Connection]


@dataclass(slots=True)
class Loaded:
    """What a sound file says."""

    state: dict[str, bytes]
    streams: dict[int, Stream]
    next_id: int
    books: Books


def load(connection: sqlite3.Connection, state: dict[str, bytes]) -> Loaded:
    """Read all but the chunks that were there when the file was last settled. Raises BadInput for a damaged chunk."""
    schemas = {mark: Schema.from_json(text) for mark, text in connection.execute("SELECT * FROM schema")}
    streams: dict[int, Stream] = {}
    for row in connection.execute("SELECT * FROM stream"):
        streams[row[0]] = stream_of(row, schemas)
    settled = int(state["settled"])
    for chunk, data in connection.execute("SELECT id, data FROM chunk WHERE id > ? ORDER BY id", (settled,)):
        _, number, seq, n, _, _ = decode_head(data)
        streams[number].next_seq = max(streams[number].next_seq, seq + n)
        streams[number].dirty = True
        settled = chunk
    sources = {
        key.removeprefix("source/"): msgspec.msgpack.decode(value, type=SourceBook)
        for key, value in state.items()
        if key.startswith("source/")
    }
    every = streams.values()
    lost = int(state["lost"])
    books = Books(
        sources,
        sum(stream.next_seq for stream in every) + lost,
        sum(stream.acknowledged for stream in every),
        sum(stream.evicted for stream in every) + lost,
        int(state["bytes"]),
    )
    if not books.balance():
        raise BadInput("the books do not balance")
    return Loaded(state, streams, settled + 1, books)


def check_log(path: Path) -> None:
    """Raises BadInput when the write-ahead log was damaged: SQLite would forget what follows."""
    found = read_log(path.with_name(path.name + "-wal"))
    if found is not None and found.damaged is not None:
        raise BadInput(f"frame {found.damaged} of the write-ahead log is damaged")


def salvage_at_start(path: Path, folder: Folder, roster: Roster, connector: Connector, now_us: int) -> Salvaged:
    """Put a damaged file aside and make a sound one of what can be read, which begins a new epoch.

    What is salvaged keeps its names. Since nobody knows which names came after the last that is found, scans that
    come from now on are named in a higher epoch.
    """
    tables = read_tables(path)
    streams = {**roster.load(), **tables.streams}
    known = [stream.epoch for stream in streams.values()]
    state = {key: value for key, value in tables.state.items() if _is_sound(key, value)}
    epoch = max([folder.new_epoch(now_us), *(each + 1 for each in known)])
    state["epoch"] = b"%d" % epoch
    new = path.with_name("spool.db.new")
    found = rebuild(path, new, connector, streams, state, tables.rejects)
    folder.exchange(path, new, now_us)
    roster.rewrite(list(streams.values()))
    return found


def _is_sound(key: object, value: object) -> bool:
    """Whether a row of `state` can be kept."""
    if not isinstance(key, str) or not isinstance(value, bytes):
        return False
    if key in ("epoch", "settled", "bytes", "lost"):
        return False
    if not key.startswith("source/"):
        return True
    try:
        return msgspec.msgpack.decode(value, type=SourceBook).balances()
    except msgspec.MsgspecError:
        return False
