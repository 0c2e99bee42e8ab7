"""A disk that fills up under the agent: a small file system of the test's own, so that ENOSPC is the kernel's."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tidegate_edge.spool import Spool
from tidegate_edge.spool.rows import Stream
from tidegate_protocols.schema import Channel, Schema

from tests.edge.running import Publisher, RunningAgent
from tests.support import frames
from tests.support.clock import ManualClock
from tests.support.kafka import KafkaNode
from tests.support.mqtt import MqttBroker
from tests.support.wait import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
SIZE = 16 << 20
SCHEMA = Schema("things", (Channel("a"),))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    found = tmp_path / "disk"
    found.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", found], check=True)
    yield found
    subprocess.run(["umount", "--lazy", found], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Take all of the disk but `leave` bytes."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file:
        try:
            while (free := _free(disk) - leave) > 0:
                file.write(bytes(min(free, 1 << 16)))
        except OSError:
            pass
    return ballast


def _free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def test_a_disk_that_is_full_at_any_moment_holds_the_stream_and_loses_nothing(
    fresh_kafka: KafkaNode, mqtt_broker: MqttBroker, disk: Path
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    agent = RunningAgent(disk, fresh_kafka.bootstrap, mqtt_broker, extra="[spool]\nkeep_free_bytes = 0\n")
    agent.log = disk.with_name("agent.log")
    agent.start()
    publisher = Publisher(mqtt_broker)
    try:
        until(lambda: "mqtt: connected" in agent.output(), what="the session")
        for outage in range(3):
            publisher.publish(rng.randrange(2000))
            ballast = fill(disk, rng.randrange(1 << 16))
            publisher.publish(3000)  # more than the file has room for between its pages
            until(lambda: agent.output().count("sources are held") > outage, what="the disk to be missed")  # noqa: B023
            assert agent.books()["accepted"] < publisher.sent
            ballast.unlink()
            until(lambda: agent.books()["accepted"] == publisher.sent, what="what was held")
        until(lambda: agent.books()["pending"] == 0)
        books = agent.books()
    finally:
        publisher.close()
        agent.kill()
    assert (books["acknowledged"], books["evicted"]) == (publisher.sent, 0)
    found = frames.once(frames.batches(fresh_kafka.bootstrap))
    assert sorted(row[0] for _, row in found.values()) == list(range(publisher.sent))


async def test_where_the_disk_runs_short_the_spool_grows_no_further_and_evicts_the_oldest(disk: Path) -> None:
    clock = ManualClock()
    spool = await Spool.open(disk / "spool", clock, max_bytes=12 << 20, keep_free=4 << 20)
    stream = spool.stream("d", SCHEMA)
    await _store(spool, stream, clock, 3 << 20)
    assert (spool.books.evicted, spool.room.short) == (0, False)

    ballast = fill(disk, 3 << 20)
    await _store(spool, stream, clock, 3 << 20)
    assert spool.room.short
    assert spool.books.evicted > 0
    assert 2 << 20 < spool.books.bytes < 4 << 20, "what it held when the disk ran short"
    assert _free(disk) > 2 << 20, "no more of the disk is taken than the log needs"

    ballast.unlink()
    await _store(spool, stream, clock, 1 << 17)  # it looks once a second
    gone = spool.books.evicted
    await _store(spool, stream, clock, 3 << 20)
    assert not spool.room.short
    assert spool.books.evicted == gone
    assert spool.books.bytes > 5 << 20
    assert spool.books.balance()
    await spool.close()


async def _store(spool: Spool, stream: Stream, clock: ManualClock, size: int) -> None:
    """Put scans of `size` bytes into the spool, over some seconds."""
    book = spool.book("s")
    stored = 0
    while stored < size:
        before = spool.books.accepted
        for i in range(400):
            spool.put(stream, 1_790_000_000_000_000 + i, (i**0.5,), 0)
        spool.touch("s", book)
        book.received += 400
        book.accepted += 400
        await spool.commit()
        clock.advance(0.1)
        stored += 400 * 12 if spool.books.accepted > before else 0
