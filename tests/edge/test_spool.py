"""What the spool promises, case by case. The model test walks at random over the same ground."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from tidegate_edge.spool import Spool
from tidegate_edge.spool.reader import Reader
from tidegate_edge.spool.rows import TIME_FROM_AGENT, Chunk, Stream, decode_body, encode_chunk, to_batch
from tidegate_edge.spool.store import REJECTS_MAX
from tidegate_protocols.batch import Lane, batch_from_rows
from tidegate_protocols.errors import BadInput
from tidegate_protocols.schema import Channel, Schema

from tests.support.clock import ManualClock
from tests.support.wait import until_async

SCHEMA = Schema("things", (Channel("a"), Channel("n", "int64")))


def put(spool: Spool, device: str, values: Iterable[float], source: str = "s") -> None:
    book = spool.book(source)
    spool.touch(source, book)
    for value in values:
        spool.put(spool.stream(device, SCHEMA), 1_700_000_000_000_000 + int(value), (float(value), None), 0)
        book.received += 1
        book.accepted += 1


async def crash(spool: Spool) -> None:
    """End without a last commit, as a kill does."""
    await spool._release()


Open = Callable[..., Awaitable[Spool]]


@pytest.fixture
async def open_spool(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens spools in the test's folder and closes them, also when the test failed."""
    opened: list[Spool] = []

    async def open_one(clock: ManualClock | None = None, **options: Any) -> Spool:
        spool = await Spool.open(tmp_path, clock or ManualClock(), **options)
        opened.append(spool)
        return spool

    yield open_one
    for spool in opened:
        if spool._database is not None:
            await spool.close()


async def names(spool: Spool) -> list[tuple[str, int, float]]:
    reader = Reader(spool)
    found = []
    while chunks := await reader.read():
        for chunk in chunks:
            chunk.load()
            found += [(chunk.stream.device, chunk.seq + i, row[0]) for i, row in enumerate(chunk.values)]
    return found


async def test_names_are_not_given_twice_when_all_of_a_stream_was_evicted_before_a_crash(open_spool: Open) -> None:
    spool = await open_spool(max_bytes=280)
    put(spool, "a", [1])
    await spool.commit()
    put(spool, "a", [2, 3])
    await spool.commit()
    put(spool, "b", range(15))
    await spool.commit()
    assert spool.stream("a", SCHEMA).evicted == 3
    await crash(spool)

    spool = await open_spool(max_bytes=280)
    put(spool, "a", [4])
    await spool.commit()
    assert ("a", 3, 4) in await names(spool)
    assert spool.books.balance()
    await spool.close()


async def test_what_kafka_has_is_not_sent_again_after_an_orderly_end(open_spool: Open) -> None:
    spool = await open_spool()
    put(spool, "a", range(10))
    await spool.commit()
    put(spool, "a", range(10, 15))
    await spool.commit()
    first, second = await Reader(spool).read()
    spool.acknowledge(first.stream, 0, 10, [first])
    spool.acknowledge(first.stream, 10, 12, [])
    await spool.close()

    spool = await open_spool()
    assert (spool.books.accepted, spool.books.acknowledged, spool.books.pending) == (15, 12, 3)
    (left,) = await Reader(spool).read()
    assert (left.seq, left.stop, left.stream.tail) == (10, 15, 12)
    assert second.id == left.id
    await spool.close()


async def test_an_eviction_while_its_chunks_are_on_their_way_counts_each_scan_once(open_spool: Open) -> None:
    spool = await open_spool(max_bytes=250)
    put(spool, "a", range(5))
    await spool.commit()
    (chunk,) = await Reader(spool).read()
    put(spool, "a", range(5, 15))
    await spool.commit()
    assert spool.books.evicted == 5
    spool.acknowledge(chunk.stream, 0, 5, [chunk])
    await spool.commit(settle=True)
    assert (spool.books.acknowledged, spool.books.evicted, spool.books.pending) == (0, 5, 10)
    assert spool.books.bytes == sum([row.size for row in await Reader(spool).read()])
    await spool.close()


async def test_a_file_of_which_nothing_is_left_is_put_aside_and_a_higher_epoch_begins(
    open_spool: Open, tmp_path: Path
) -> None:
    spool = await open_spool()
    put(spool, "a", range(100))
    await spool.close()
    epoch = spool.epoch
    file = tmp_path / "spool.db"
    file.write_bytes(b"not a database" + bytes(5000))

    spool = await open_spool()
    assert spool.epoch > epoch
    assert sum(name.startswith("spool.db.damaged-") for name in os.listdir(tmp_path)) == 1
    put(spool, "a", [1])
    await spool.commit()
    assert await names(spool) == [("a", 0, 1)]
    assert spool.books.balance()
    await spool.close()


async def test_a_new_file_has_a_higher_epoch_even_where_the_clock_was_never_set(
    open_spool: Open, tmp_path: Path
) -> None:
    spool = await open_spool()
    await spool.close()
    (tmp_path / "spool.db").unlink()
    again = await open_spool(ManualClock(wall_us=5_000_000))
    assert again.epoch == spool.epoch + 1
    await again.close()


async def test_a_second_agent_on_the_same_folder_is_refused(open_spool: Open) -> None:
    spool = await open_spool()
    with pytest.raises(BadInput, match="another agent uses this folder"):
        await open_spool()
    await spool.close()


async def test_a_full_disk_holds_acknowledgements_and_loses_nothing(
    open_spool: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite's own limit on pages gives the same SQLITE_FULL as a disk without space."""
    spool = await open_spool(commit_s=0.001)
    pages = await spool.database.run(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    await spool.database.run(lambda c: c.execute(f"PRAGMA max_page_count={pages + 1}").fetchone())
    run = asyncio.create_task(spool.run())
    told: list[int] = []
    for i in range(5):
        put(spool, "a", range(i * 1000, (i + 1) * 1000))
        spool.then(lambda i=i: told.append(i))  # type: ignore[misc]
    with caplog.at_level(logging.CRITICAL, "tidegate_edge"):
        await until_async(lambda: "full" in spool.error)
    assert told == []
    assert spool.books.accepted == 0
    assert spool.books.balance()

    await spool.database.run(lambda c: c.execute("PRAGMA max_page_count=1000000").fetchone())
    await until_async(lambda: len(told) == 5)
    assert spool.books.accepted == 5000
    assert [value for _, _, value in await names(spool)] == list(range(5000))
    await spool.close()
    await run


async def test_messages_that_could_not_be_read_are_kept_within_bounds(open_spool: Open) -> None:
    spool = await open_spool()
    for i in range(3 * REJECTS_MAX):
        spool.reject("s", f"topic/{i}", "not JSON", b"x" * 100_000)
        if i % 70 == 0:
            await spool.commit()
    await spool.commit()
    rows = await spool.database.run(lambda c: c.execute("SELECT place, length(payload) FROM reject").fetchall())
    assert 0 < len(rows) <= REJECTS_MAX
    assert rows[-1][0].startswith("topic/2")
    assert all(size == 4096 for _, size in rows)
    await spool.close()


async def test_the_reader_takes_from_memory_while_live_and_from_the_disk_while_behind(open_spool: Open) -> None:
    spool = await open_spool()
    reader = Reader(spool)
    put(spool, "a", range(3))
    await spool.commit()
    await reader.read()
    assert not reader.behind
    for _ in range(20):  # more than is kept in memory
        put(spool, "a", range(1000))
        await spool.commit()
    seen = 3
    while chunks := await reader.read():
        for chunk in chunks:
            assert chunk.seq == seen
            seen = chunk.stop
    assert seen == 20_003
    await reader.rewind()
    assert (await reader.read())[0].seq == 0
    assert reader.behind
    await spool.close()


def test_a_chunk_becomes_the_batch_that_its_rows_make() -> None:
    schema = Schema("mixed", (Channel("f"), Channel("n", "int64"), Channel("b", "bool")))
    stream = Stream(1, "dev", schema, epoch=8, sent_as=9)
    rows = [(10, (1.5, -(2**63), None)), (11, (None, 2**63 - 1, True)), (12, (3.0, None, False)), (13, (0.1, 5, True))]
    first = Chunk(1, stream, 40, 3, 0, 0, [ts for ts, _ in rows[:3]], [values for _, values in rows[:3]])
    data = encode_chunk(2, 1, 43, 0, 0, [13], [rows[3][1]])
    second = Chunk(2, stream, 43, 1, 0, 0, [], [], data)
    whole = encode_chunk(1, 1, 40, 0, 0, first.ts, first.values)
    assert decode_body(whole, 3, 3) == (first.ts, first.values)
    batch = to_batch([first, second], 41, 44, Lane.BACKLOG, flags=TIME_FROM_AGENT)
    assert batch.equals(
        batch_from_rows("dev", schema, rows[1:], epoch=9, seq=41, lane=Lane.BACKLOG, time_from_agent=True)
    )
