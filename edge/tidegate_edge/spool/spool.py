"""The spool: scans are durable here from their source's acknowledgement until Kafka has them.

Limits
    `max_bytes` for the chunks that wait; when a commit exceeds it, chunks are evicted and counted: of the lowest
    priority first, and of that the oldest. The file may be larger by its pages' slack and by the write-ahead log
    (8 MiB after a burst), and does not shrink. Where less than `keep_free` bytes of the disk are free it does not
    grow (`room`). One process per folder.

Layout on disk: `spool.db`, SQLite in WAL mode with synchronous=FULL, one transaction per group of scans
    schema   what each fingerprint means
    stream   device, schema and epoch; how many of its scans were named, acknowledged, evicted; the epoch under which
             they are sent; its priority
    chunk    scans of one stream that became durable together, in the order of arrival (`id`): a blob that describes
             itself and carries a checksum (`rows`)
    state    "epoch"; "spool", a name that no other file has; "bytes" in the chunks; "source/NAME" the source's books;
             what sources keep to know repetitions by; "settled", the chunk id up to which the rows of `stream` are
             right; "lost", scans of which not even the names could be salvaged
    reject   the last 100 messages that could not be read, for inspection
    Beside it `streams`, the roster (`roster`); `epoch`, the highest epoch that was ever used in this folder; `lock`.

Invariants
    1. A scan is named (epoch, seq) in the transaction that stores it: from 0, without holes, per stream and epoch.
       The name never changes and is never given to another scan. A new file has a higher epoch than any before it.
    2. What is acknowledged to a source, was committed before. Marks by which a source knows a repetition are
       committed with the scans they speak of.
    3. Only the acknowledged prefix of a stream, or its oldest chunks by eviction, ever leave. So per stream
       next_seq = acknowledged + evicted + pending, by construction.
    4. Books move only with a commit. Those that the file holds are exact after any crash.
    5. Rows of `stream` are written when chunks leave ("settling"), not with every commit: that would rewrite a page
       per device each time. After a crash the chunks beyond "settled" tell the rest.
    6. Damage costs the chunks that it hit (`salvage`): they stay as names, and count as evicted when their turn comes.
       While the agent runs, its memory knows what was named, and goes on in the same epoch.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.scan import Value
from tidegate_protocols.schema import Schema

from ..clock import Clock
from .books import Books, SourceBook
from .folder import Folder
from .group import Commit, Group
from .opening import Connector, Loaded, check_log, load, salvage_at_start
from .recent import Recent
from .room import Room
from .roster import Roster
from .rows import PRIORITY, ROW_OVERHEAD, Chunk, Stream, encode_chunk, stream_row
from .salvage import rebuild
from .store import REJECTS_MAX, Database, Evicted, Transaction, apply, connect, is_damage, open_database, prepare
from .streams import Streams

log = logging.getLogger(__name__)

T = TypeVar("T")

_SETTLE_S = 1.0  # how long acknowledged chunks may stay, so that many leave in one transaction
_SETTLE_CHUNKS = 2_048
_OPEN_MAX = 16_384  # scans that may wait for the disk before sources are asked to hold
_GROUP_SCANS = 2_048  # a group of so many is committed without waiting for more
_PAYLOAD_KEPT = 4_096
_RETRY_S = (0.1, 5.0)


class Spool:
    """Use `open`. All methods belong to the event loop's thread.

    `group` numbers the group of scans that is being collected; it changes when a commit takes them. `generation`
    counts the files that this one was mended to: chunks that were read in an earlier one are void.
    """

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        max_bytes: int,
        commit_s: float,
        connector: Connector = connect,
        keep_free: int = 0,
    ) -> None:
        self.directory = directory
        self.clock = clock
        self.epoch = 0
        self.group = 0
        self.generation = 0
        self.books = Books()
        self.error = ""
        self.state: dict[str, bytes] = {}
        self.on_commit: Callable[[], None] = lambda: None
        self._path = directory / "spool.db"
        self.room = Room(directory, clock, max_bytes, keep_free)
        self._commit_s = commit_s
        self._connector = connector
        self._database: Database | None = None
        self._folder = Folder(directory)
        self._roster = Roster(directory / "streams")
        self._streams = Streams()
        self._live_books: dict[str, SourceBook] = {}
        self._next_id = 1
        self._searched: dict[int, int] = {}
        self._group = Group()
        self._acks: list[tuple[Stream, int, int, Sequence[Chunk], bool]] = []
        self._acks_since = 0.0
        self._done_chunks = 0
        self._stuck: Commit | None = None
        self._committing = asyncio.Lock()
        self._due = asyncio.Event()
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._recent = Recent()

    # ---- opening and closing

    @classmethod
    async def open(
        cls,
        directory: Path,
        clock: Clock,
        *,
        max_bytes: int = 256 * 2**20,
        commit_s: float = 0.1,
        connector: Connector = connect,
        keep_free: int = 0,
    ) -> Spool:
        """Open the spool in `directory`, which is made when it is not there.

        A file that is damaged is put aside as ``spool.db.damaged-…``, and what can be read of it goes on in a new one.
        Raises BadInput when the folder cannot be used or another agent uses it.
        """
        spool = cls(directory, clock, max_bytes, commit_s, connector, keep_free)
        spool._folder.claim()
        try:
            await spool._open_or_salvage()
        except (sqlite3.Error, OSError) as error:  # no space, no permission: the file itself may be sound
            await spool._release()
            raise BadInput(str(error), where=str(spool._path)) from None
        except BaseException:
            await spool._release()
            raise
        return spool

    async def _open_or_salvage(self) -> None:
        path, now_us = self._path, self.clock.wall_us()
        self._folder.complete(path, now_us)
        try:
            check_log(path)
            await self._open_file()
        except (sqlite3.DatabaseError, BadInput, msgspec.MsgspecError, KeyError, ValueError, TypeError) as error:
            if isinstance(error, sqlite3.OperationalError) or (
                isinstance(error, BadInput) and error.where == path.name  # written by a newer program
            ):
                raise
            await self._close_file()
            log.error("%s is damaged, what can be read is salvaged: %s", path, error)
            found = await asyncio.to_thread(
                salvage_at_start, path, self._folder, self._roster, self._connector, now_us
            )  # fmt: skip
            log.warning("%d scans were salvaged", found.scans)
            await self._open_file()

    async def _open_file(self) -> None:
        database = open_database(self._path, self._connector)
        await database
        self._database = database
        epoch = self._folder.new_epoch(self.clock.wall_us())
        loaded = await database.run(lambda c: load(c, prepare(c, epoch)))
        self._take(loaded)
        self._folder.write_epoch(self.epoch)
        every = self.every()
        if set(self._roster.load()) != {each.number for each in every} or self._roster.missing(every):
            self._roster.rewrite(every)

    def _take(self, loaded: Loaded) -> None:
        self.state, self.books = loaded.state, loaded.books
        self.epoch = int(self.state["epoch"])
        self._streams = Streams(self.epoch, loaded.streams)
        self._next_id = loaded.next_id
        self._live_books = {name: msgspec.structs.replace(book) for name, book in self.books.sources.items()}

    async def _close_file(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            try:
                await database.close()
            except sqlite3.Error as error:  # it could not tidy up; what was committed is there
                log.warning("%s was not closed in order: %s", self._path, error)

    async def _release(self) -> None:
        try:
            await self._close_file()
        finally:
            self._folder.release()

    async def mend(self, error: BaseException, *, force: bool = False) -> bool:
        """Where `error` says that the file is damaged (or with `force`), go on with a file made of what can be read.

        Returns whether the file is another one now; readers begin again then (`generation`).
        """
        if not force and not is_damage(error) and not isinstance(error, BadInput):
            return False
        generation = self.generation
        async with self._committing:
            if self.generation != generation:
                return True
            log.error("%s is damaged, what can be read is salvaged: %s", self._path, error)
            await self._close_file()
            try:
                await self._rebuild()
            finally:
                if self._database is None:
                    database = open_database(self._path, self._connector)
                    await database
                    self._database = database
        self.on_commit()
        return True

    async def _rebuild(self) -> None:
        """Make a sound file of the damaged one and of what memory knows, and put it in its place."""
        every = {stream.number: replace(stream) for stream in self._streams if stream.stored or stream.next_seq}
        left = list(self._acks)
        for stream, start, stop, _, gone in left:  # what left counts, and its chunks are not taken over
            self._move(every[stream.number], start, stop, lost=gone)
        stuck = self._stuck
        for chunk in reversed(stuck.chunks if stuck is not None else []):  # they have names, and are in no file yet
            every[chunk.stream.number].next_seq = chunk.seq
        lost = self.books.accepted - sum(stream.next_seq for stream in every.values())
        state = {**self.state, "epoch": b"%d" % self.epoch}
        state |= {f"source/{name}": msgspec.msgpack.encode(book) for name, book in self.books.sources.items()}
        new = self._path.with_name("spool.db.new")
        found = await asyncio.to_thread(rebuild, self._path, new, self._connector, every, state, [], upto=self.last_id)
        self._folder.exchange(self._path, new, self.clock.wall_us())

        self.generation += 1
        for number, mended in every.items():
            stream = self._streams.by_number[number]
            stream.acknowledged, stream.evicted = mended.acknowledged, mended.evicted
            stream.stored, stream.dirty = True, stuck is not None
        # What left while the file was made: its chunks are found and dropped by who reads them again.
        self._acks = [(stream, start, stop, (), gone) for stream, start, stop, _, gone in self._acks[len(left) :]]
        self._done_chunks = 0
        self._recent.clear()
        self._searched.clear()
        if stuck is not None:
            self._renew(stuck, found.bytes)
        self.books = Books(
            self.books.sources,
            self.books.accepted,
            sum(stream.acknowledged for stream in every.values()),
            sum(stream.evicted for stream in every.values()) + lost,
            found.bytes,
        )

    def configure(self, *, max_bytes: int, commit_s: float, keep_free: int = 0) -> None:
        """Change the limits. A smaller quota evicts at the next commit."""
        self.room.max_bytes, self.room.keep_free = max_bytes, keep_free
        self._commit_s = commit_s

    def _renew(self, commit: Commit, size: int) -> None:
        """Bring a transaction that is still to be written up to a file that was made anew under it."""
        out = commit.transaction
        out.done.clear()
        out.bytes = size + sum(chunk.size for chunk in commit.chunks)
        out.excess = out.bytes - self.room.limit(self.books.bytes)
        out.ranks, out.searched = self._streams.ranks(), {}
        out.streams = [stream_row(stream) for stream in self._streams if stream.next_seq]
        commit.acknowledged = commit.evicted = 0

    async def close(self) -> None:
        """Commit what is left and close the file."""
        self._closing = True
        self._due.set()
        try:
            await self.commit(settle=True)
        except (sqlite3.Error, OSError) as error:
            log.error("the last commit failed, unacknowledged scans come again: %s", error)
        if self._timer is not None:
            self._timer.cancel()
        await self._release()

    # ---- what sources do

    def book(self, source: str) -> SourceBook:
        """The running books of a source, to be changed together with what is put, and announced by `touch`."""
        return self._live_books.setdefault(source, SourceBook())

    def touch(self, source: str, book: SourceBook) -> None:
        """The next commit stores `book`."""
        group = self._group
        if source not in group.books:
            self._wake(group)
            group.books[source] = book

    def stream(self, device: str, schema: Schema, priority: int = PRIORITY) -> Stream:
        """The stream of a device's scans under a schema, new or known. Raises BadInput for no device id.

        `priority` is that of a new stream; a known one keeps its own.
        """
        return self._streams.of(device, schema, priority)

    def streams(self) -> list[Stream]:
        """All streams of this epoch, in the order in which they were first seen."""
        return self._streams.current()

    def every(self) -> list[Stream]:
        """All streams of the file, those of earlier epochs too."""
        return list(self._streams)

    def put(self, stream: Stream, ts_us: int, values: tuple[Value, ...], flags: int) -> None:
        """Add a scan to the group. `values` are of the channels' types, as `Scan` promises."""
        group = self._group
        chunk = group.open.get(stream.number)
        if chunk is None or chunk.flags != flags or len(chunk.ts) >= stream.chunk_max:
            if not group.chunks:
                self._wake(group)
            chunk = group.open[stream.number] = Chunk(0, stream, 0, 0, flags, 0, [], [])
            group.chunks.append(chunk)
        chunk.ts.append(ts_us)
        chunk.values.append(values)
        group.scans += 1
        if group.scans == _GROUP_SCANS:
            self._due.set()

    def keep(self, key: str, value: Callable[[], bytes]) -> None:
        """The next commit stores what `value` returns then under `key` in `state`. `value` may `drop` others."""
        self._wake(self._group)
        self._group.keep[key] = value

    def drop(self, keys: Iterable[str]) -> None:
        """The next commit forgets these keys of `state`."""
        self._wake(self._group)
        self._group.drop += keys

    def reject(self, source: str, place: str, error: str, payload: bytes) -> None:
        """Keep a message that could not be read, for inspection."""
        self._wake(self._group)
        if len(self._group.rejects) < REJECTS_MAX:
            self._group.rejects.append((source, self.clock.wall_us(), place, error, payload[:_PAYLOAD_KEPT]))

    def then(self, callback: Callable[[], None]) -> None:
        """Call `callback` once all that was put so far is durable."""
        self._wake(self._group)
        self._group.then.append(callback)

    def hurry(self) -> None:
        """Commit as soon as the disk is free: somebody waits for an acknowledgement."""
        self._due.set()

    @property
    def congested(self) -> bool:
        """Whether more waits for the disk than should: sources that can, hold."""
        return self._group.scans >= _OPEN_MAX

    # ---- what the uplink does

    def acknowledge(self, stream: Stream, start: int, stop: int, done: Sequence[Chunk]) -> None:
        """Kafka has scans `start` to `stop` (exclusive); `done` are the chunks that end in them."""
        self._leave(stream, start, stop, done, lost=False)

    def give_up(self, stream: Stream, start: int, stop: int, done: Sequence[Chunk]) -> None:
        """Scans `start` to `stop` cannot be sent: damaged, or refused by Kafka for good. They count as evicted."""
        self._leave(stream, start, stop, done, lost=True)

    def _leave(self, stream: Stream, start: int, stop: int, done: Sequence[Chunk], *, lost: bool) -> None:
        if not self._acks:
            self._acks_since = self.clock.monotonic()
            asyncio.get_running_loop().call_later(_SETTLE_S, self._due.set)
        self._acks.append((stream, start, stop, done, lost))
        self._done_chunks += len(done)
        if self._done_chunks >= _SETTLE_CHUNKS:
            self._due.set()

    def by_number(self, number: int) -> Stream:
        """The stream with this number in the file."""
        return self._streams.by_number[number]

    @property
    def database(self) -> Database:
        assert self._database is not None
        return self._database

    async def query(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Return ``function(connection)``, run in the database's thread while nothing else uses the file."""
        async with self._committing:
            return await self.database.run(function)

    def predecessors(self, stream: Stream) -> list[Stream]:
        """Streams of the same device and schema in earlier epochs: all of theirs goes out before any of this one's."""
        return self._streams.before(stream)

    async def claim(self, epochs: Mapping[Stream, int]) -> None:
        """Store under which epoch streams are sent, durably. Raises sqlite3.Error; then nothing has changed."""
        before = {stream: stream.sent_as for stream in epochs}
        for stream, epoch in epochs.items():
            stream.sent_as = epoch
        rows = [(epoch, stream.number) for stream, epoch in epochs.items()]

        def store(connection: sqlite3.Connection) -> None:
            self._roster.note(list(epochs))
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("UPDATE stream SET sent_as = ? WHERE number = ?", rows)
            connection.execute("COMMIT")

        try:
            await self.query(store)
        except BaseException:
            for stream, epoch_before in before.items():
                stream.sent_as = epoch_before
            raise

    @property
    def last_id(self) -> int:
        """Id of the newest committed chunk."""
        return self._next_id - 1 - (len(self._stuck.chunks) if self._stuck is not None else 0)

    def recent(self, after: int) -> list[Chunk]:
        """Chunks that follow the one with id `after` and are still in memory, once; empty when they are not."""
        return self._recent.take(after)

    # ---- committing

    async def run(self) -> None:
        """Commit group after group until `close`. A disk that fails is tried again for ever; sources wait."""
        pause = _RETRY_S[0]
        while not self._closing:
            await self._due.wait()
            self._due.clear()
            try:
                try:
                    await self.commit()
                except (sqlite3.Error, BadInput) as error:
                    if not await self.mend(error):
                        raise
                    self._due.set()
            except (sqlite3.Error, OSError) as error:
                if not self.error:
                    log.error("%s cannot be written, sources are held: %s", self._path, error)
                self.error = str(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _RETRY_S[1])
                self._due.set()
            else:
                if self.error:
                    log.warning("the spool can be written again")
                self.error, pause = "", _RETRY_S[0]

    async def commit(self, *, settle: bool = False) -> None:
        """Make durable what was put. With `settle`, also what left.

        Raises sqlite3.Error or OSError; then nothing is lost.
        """
        async with self._committing:
            while (commit := self._stuck or self._prepare(settle)) is not None:
                again = self._stuck is not None
                self._stuck = commit
                evicted = await self.database.run(partial(self._write, commit))
                self._stuck = None
                self._finish(commit, evicted)
                if not again and not settle:  # after one that had failed, what came meanwhile
                    break

    def _write(self, commit: Commit, connection: sqlite3.Connection) -> Evicted:
        self._roster.note(commit.new)
        return apply(connection, commit.transaction)

    def _wake(self, group: Group) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._commit_s, self._due.set)

    def _prepare(self, settle: bool) -> Commit | None:
        """Name the group's scans and turn it, and what left, into a transaction; None when there is nothing."""
        group = self._group
        kept = [(key, value()) for key, value in group.keep.items()]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        settle = settle or self._done_chunks >= _SETTLE_CHUNKS
        settle = settle or (bool(self._acks) and self.clock.monotonic() - self._acks_since >= _SETTLE_S)
        if group.is_empty() and not (settle and self._acks):
            return None
        self._group = Group()
        self.group += 1
        out = Transaction(bytes=self.books.bytes)
        rows: Iterable[Stream] = self._name(group.chunks, out)
        new = [stream for stream in rows if not stream.stored]
        limit = self.room.limit(self.books.bytes)
        out.excess = out.bytes - limit
        acknowledged = evicted = 0
        if settle or out.excess > 0:  # what is evicted takes its stream's last numbers with it
            acknowledged, evicted = self._settle(out)
            out.excess = out.bytes - limit
            rows = [stream for stream in self._streams if stream.dirty and stream.next_seq]
            out.state.append(("settled", b"%d" % (self._next_id - 1)))
            if out.excess > 0:
                out.ranks, out.searched = self._streams.ranks(), self._searched
        for stream in rows:
            out.streams.append(stream_row(stream))
            if not stream.stored:
                out.schemas.append((stream.schema.fingerprint, stream.schema.canonical_json))
            stream.dirty, stream.stored = False, True
        books = {name: msgspec.structs.replace(book) for name, book in group.books.items()}
        out.state += [(f"source/{name}", msgspec.msgpack.encode(book)) for name, book in books.items()]
        out.state += kept
        out.dropped += [(key,) for key in group.drop]
        out.rejects += group.rejects
        return Commit(out, group.chunks, new, books, group.then, acknowledged, evicted)

    def _name(self, chunks: list[Chunk], out: Transaction) -> list[Stream]:
        """Give the chunks their ids and names and write them into `out`; return the streams that are new."""
        now_s = self.clock.wall_us() // 1_000_000
        new: dict[int, Stream] = {}
        for chunk in chunks:
            stream = chunk.stream
            n = len(chunk.ts)
            data = encode_chunk(
                self._next_id, stream.number, stream.next_seq, chunk.flags, now_s, chunk.ts, chunk.values
            )  # fmt: skip
            chunk.id, chunk.seq, chunk.n, chunk.stored_s, chunk.size = (
                self._next_id, stream.next_seq, n, now_s, len(data) + ROW_OVERHEAD,
            )  # fmt: skip
            self._next_id += 1
            stream.next_seq += n
            stream.dirty = True
            if not stream.stored:
                new[stream.number] = stream
            out.bytes += chunk.size
            out.chunks.append((chunk.id, data))
        return list(new.values())

    def _settle(self, out: Transaction) -> tuple[int, int]:
        """Take what left out of the file; return how many scans were acknowledged and how many given up."""
        counts = [0, 0]
        for stream, start, stop, done, lost in self._acks:
            counts[lost] += self._move(stream, start, stop, lost=lost)
            for chunk in done:
                if chunk.id > stream.evicted_id:
                    out.done.append((chunk.id,))
                    out.bytes -= chunk.size
        self._acks.clear()
        self._done_chunks = 0
        return counts[0], counts[1]

    def _move(self, stream: Stream, start: int, stop: int, *, lost: bool) -> int:
        """Count scans that left; those that were evicted meanwhile were counted before."""
        scans = max(0, stop - max(start, stream.tail))
        if lost:
            stream.evicted += scans
        else:
            stream.acknowledged += scans
        stream.dirty = True
        return scans

    def _finish(self, commit: Commit, evicted: Evicted) -> None:
        """The transaction is durable: the books move, sources are told, the uplink may go on."""
        for number, scans in evicted.scans.items():
            stream = self._streams.by_number[number]
            stream.evicted += scans
            stream.evicted_id = evicted.last[number]
        self._searched.update(evicted.searched)
        gone = sum(evicted.scans.values())
        books = self.books
        self.books = Books(
            {**books.sources, **commit.books} if commit.books else books.sources,
            books.accepted + sum(chunk.n for chunk in commit.chunks),
            books.acknowledged + commit.acknowledged,
            books.evicted + commit.evicted + gone,
            commit.transaction.bytes - evicted.bytes,
        )
        if evicted.last:
            log.warning("the spool is full: %d scans evicted, the oldest of the lowest priority first", gone)
        self._recent.add(commit.chunks)
        for callback in commit.then:
            callback()
        self.on_commit()
