"""The spool against a simple model in memory, over random puts, commits, deliveries, evictions and crashes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tidegate_edge.spool import Spool, Stream
from tidegate_edge.spool.reader import Reader
from tidegate_edge.spool.rows import ROW_OVERHEAD, decode_head
from tidegate_protocols.schema import Channel, Schema

from tests.support.clock import ManualClock

SCHEMAS = [Schema("one", (Channel("a"),)), Schema("two", (Channel("a"), Channel("n", "int64"), Channel("b", "bool")))]
VALUES: list[Any] = [
    st.tuples(st.one_of(st.none(), st.floats(allow_nan=False))),
    st.tuples(
        st.one_of(st.none(), st.floats(allow_nan=False)),
        st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        st.one_of(st.none(), st.booleans()),
    ),
]
QUOTA = 1_500
PRIORITIES = {"a": 5, "b": 1, "c": 5}
Key = tuple[str, int]


class SpoolMachine(RuleBasedStateMachine):
    """Model: per stream every scan ever named, and how many of the oldest have left and how."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="spool-"))
        self.clock = ManualClock()
        self.stored: dict[Key, list[tuple[Any, ...]]] = {}
        self.open: list[tuple[Key, tuple[Any, ...]]] = []
        self.open_ends = 0  # scans of the open group that are of the last flags
        self.acknowledged: dict[Key, int] = {}
        self.told = 0
        self.received = 0
        self.epoch: int | None = None
        self.do(self._open())

    def do(self, work: Any) -> Any:
        return self.runner.run(work)

    async def _open(self) -> None:
        self.spool = await Spool.open(self.folder, self.clock, max_bytes=QUOTA)
        self.reader = Reader(self.spool)
        self.read: dict[Key, list[tuple[int, Any]]] = {}
        self.unread: list[Any] = []
        assert self.epoch in (None, self.spool.epoch), "the same file keeps its epoch"
        self.epoch = self.spool.epoch

    def _stream(self, key: Key) -> Stream:
        return self.spool.stream(key[0], SCHEMAS[key[1]], PRIORITIES[key[0]])

    @rule(device=st.sampled_from("abc"), kind=st.integers(0, 1), data=st.data(), n=st.integers(1, 40))
    def put(self, device: str, kind: int, data: Any, n: int) -> None:
        rows = data.draw(st.lists(VALUES[kind], min_size=1, max_size=4))
        flags = data.draw(st.integers(0, 3))

        async def work() -> None:
            book = self.spool.book("s")
            self.spool.touch("s", book)
            for i in range(n):
                row = (self.received + i, *rows[i % len(rows)])
                self.spool.put(self._stream((device, kind)), row[0], row[1:], flags)
                self.open.append(((device, kind), row))
            book.received += n
            book.accepted += n

        self.do(work())
        self.received += n

    @rule(settle=st.booleans())
    def commit(self, settle: bool) -> None:
        told: list[int] = []

        async def work() -> None:
            if self.open:
                self.spool.then(lambda: told.append(1))
            await self.spool.commit(settle=settle)

        self.do(work())
        assert bool(told) == bool(self.open), "sources are told once what they gave is durable"
        for key, row in self.open:
            self.stored.setdefault(key, []).append(row)
        self.open.clear()

    @rule()
    def read_some(self) -> None:
        async def work() -> None:
            for chunk in await self.reader.read():
                kind = 1 if chunk.stream.schema.name == "two" else 0
                rows = self.stored[chunk.stream.device, kind]
                chunk.load()
                assert [(ts, *values) for ts, values in zip(chunk.ts, chunk.values, strict=True)] == rows[
                    chunk.seq : chunk.stop
                ], "a name means the same scan for ever"
                self.unread.append(chunk)

        self.do(work())

    @precondition(lambda self: self.unread)
    @rule(lost=st.booleans(), part=st.floats(0, 1))
    def deliver(self, lost: bool, part: float) -> None:
        chunk = self.unread.pop(0)

        async def work() -> None:
            leave = self.spool.give_up if lost else self.spool.acknowledge
            middle = chunk.seq + int(part * len(chunk))
            if chunk.seq < middle < chunk.stop:
                leave(chunk.stream, chunk.seq, middle, [])
                self.spool.acknowledge(chunk.stream, middle, chunk.stop, [chunk])
            else:
                leave(chunk.stream, chunk.seq, chunk.stop, [chunk])

        self.do(work())

    @rule()
    def crash(self) -> None:
        """What was not committed is gone, and so is what was delivered since the spool settled."""

        async def work() -> None:
            database = self.spool.database
            self.spool._folder.release()
            await database.close()
            if self.spool._timer is not None:
                self.spool._timer.cancel()

        self.do(work())
        self.open.clear()
        self.do(self._open())

    @rule()
    def stop_and_start(self) -> None:
        self.do(self.spool.close())
        for key, row in self.open:
            self.stored.setdefault(key, []).append(row)
        self.open.clear()
        self.do(self._open())

    @invariant()
    def books_balance(self) -> None:
        books = self.spool.books
        assert books.balance(), books
        assert books.accepted == sum(len(rows) for rows in self.stored.values())
        streams = self.spool._streams.by_number.values()
        settled = sum(stream.acknowledged + stream.evicted for stream in streams)
        assert books.acknowledged + books.evicted == settled
        (count, size) = self.do(
            self.spool.database.run(
                lambda connection: connection.execute(
                    f"SELECT count(*), coalesce(sum(length(data) + {ROW_OVERHEAD}), 0) FROM chunk"
                ).fetchone()
            )
        )
        assert size == books.bytes
        assert size <= QUOTA
        assert bool(count) or books.pending == 0

    @invariant()
    def every_pending_scan_can_be_read(self) -> None:
        """Of each stream the file holds exactly what follows the tail, in order."""
        rows = self.do(
            self.spool.database.run(
                lambda connection: connection.execute("SELECT data FROM chunk ORDER BY id").fetchall()
            )
        )
        ends: dict[int, int] = {}
        for (data,) in rows:
            _, number, seq, n, _, _ = decode_head(data)
            stream = self.spool._streams.by_number[number]
            if number in ends:
                assert seq == ends[number]
            else:
                assert seq <= stream.tail < seq + n
            ends[number] = seq + n
        for stream in self.spool._streams.by_number.values():
            assert ends.get(stream.number, stream.tail) == stream.next_seq

    def teardown(self) -> None:
        self.do(self.spool.close())
        self.runner.close()
        shutil.rmtree(self.folder, ignore_errors=True)


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
