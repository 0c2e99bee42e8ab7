"""The uplink on a real Kafka: what is refused, what is damaged, and that the rest goes on in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from tidegate_edge.clock import SystemClock
from tidegate_edge.producer import settings
from tidegate_edge.spool import Spool
from tidegate_edge.uplink import Uplink
from tidegate_protocols.batch import Lane
from tidegate_protocols.schema import Channel, Schema
from tidegate_protocols.topics import FRAMES

from tests.support import frames
from tests.support.kafka import KafkaNode
from tests.support.wait import until_async

WIDE = Schema("wide", tuple(Channel(f"c{i}") for i in range(100)))
NARROW = Schema("narrow", (Channel("a"),))


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    opened = await Spool.open(tmp_path, SystemClock(), commit_s=0.01)
    run = asyncio.create_task(opened.run())
    yield opened
    await opened.close()
    await run


def put(spool: Spool, device: str, schema: Schema, n: int) -> None:
    book = spool.book("s")
    spool.touch("s", book)
    for i in range(n):
        # Incompressible, so that the size of a frame is known.
        row = tuple(((i * 1_000_003 + j * 7919) % 1_000_033) ** 0.5 for j in range(len(schema.channels)))
        spool.put(spool.stream(device, schema), 1_790_000_000_000_000 + i, row, 0)
    book.received += n
    book.accepted += n


def limit_record_size(kafka: KafkaNode, size: int | None) -> None:
    entry = ConfigEntry(
        "max.message.bytes", str(size or ""),
        incremental_operation=AlterConfigOpType.SET if size else AlterConfigOpType.DELETE,
    )  # fmt: skip
    resource = ConfigResource(ResourceType.TOPIC, FRAMES.name, incremental_configs=[entry])
    client = kafka.admin()
    for future in client.incremental_alter_configs([resource]).values():
        future.result(20)


async def test_a_frame_that_is_refused_is_split_and_a_scan_that_is_refused_is_given_up(
    fresh_kafka: KafkaNode, spool: Spool
) -> None:
    """Frames over 2 kB are refused by the broker: 64 wide scans are split, one of over 2 kB alone is given up."""
    huge = Schema("huge", tuple(Channel(f"c{i}") for i in range(1000)))
    uplink = Uplink(spool, settings(fresh_kafka.bootstrap, "t", {}), SystemClock(), max_scans=64, max_age_s=0.01)
    limit_record_size(fresh_kafka, 2000)
    try:
        put(spool, "first", NARROW, 5)
        put(spool, "big", WIDE, 64)
        put(spool, "huge", huge, 1)
        put(spool, "last", NARROW, 5)
        run = asyncio.create_task(uplink.run())
        await until_async(lambda: run.done() or (spool.books.accepted == 75 and spool.books.pending == 0), 60)
        assert not run.done(), run.exception()
        uplink.finish(1)
        await run
    finally:
        limit_record_size(fresh_kafka, None)
    assert (spool.books.acknowledged, spool.books.evicted) == (74, 1)
    found = frames.once(frames.batches(fresh_kafka.bootstrap))
    counts = {device: sum(name[0] == device for name in found) for device in ("first", "big", "huge", "last")}
    assert counts == {"first": 5, "big": 64, "huge": 0, "last": 5}


async def test_a_damaged_chunk_is_given_up_and_its_neighbours_arrive(fresh_kafka: KafkaNode, spool: Spool) -> None:
    """The damage is found while the uplink reads: the file is mended under it, and it goes on in the same epoch."""
    for _ in range(3):
        put(spool, "d", NARROW, 10)
        await spool.commit()
    spool.recent(0)  # as after a restart: everything is read from the disk
    await spool.database.run(lambda c: c.execute("UPDATE chunk SET data = x'00' WHERE id = 2").fetchall())
    uplink = Uplink(spool, settings(fresh_kafka.bootstrap, "t", {}), SystemClock(), max_scans=64, max_age_s=0.01)
    run = asyncio.create_task(uplink.run())
    await until_async(lambda: run.done() or spool.books.pending == 0, 60)
    assert not run.done(), run.exception()
    uplink.finish(1)
    await run
    assert (spool.books.acknowledged, spool.books.evicted) == (20, 10)
    found = [batch for batch in frames.batches(fresh_kafka.bootstrap) if batch.lane != Lane.PREVIEW]
    numbers = sorted(name[3] for name, _, _ in frames.scans(found))
    assert numbers == [*range(10), *range(20, 30)]
