"""Links that go silent, Kafkas that refuse: nothing is lost, the newest comes first, the status says what is wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Message
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)
from tidegate_cloud.admin import topics as topic_admin
from tidegate_edge.clock import SystemClock
from tidegate_edge.producer import settings
from tidegate_edge.spool import Spool
from tidegate_edge.uplink import Uplink
from tidegate_protocols.batch import Lane
from tidegate_protocols.frame import peek_header
from tidegate_protocols.schema import Channel, Schema
from tidegate_protocols.topics import FRAMES, REPORTED

from tests.support import frames
from tests.support.kafka import KafkaNode, consume_all, produce
from tests.support.wait import until_async

SCHEMA = Schema("things", (Channel("n"),))
DEVICES = 3


class Sending:
    """A spool and an uplink, and numbered scans that are put into them."""

    def __init__(self, spool: Spool, uplink: Uplink) -> None:
        self.spool, self.uplink, self.count = spool, uplink, 0
        self.run = asyncio.create_task(uplink.run())

    async def put(self, scans: int) -> None:
        book = self.spool.book("s")
        self.spool.touch("s", book)
        for _ in range(scans):
            stream = self.spool.stream(f"d{self.count % DEVICES}", SCHEMA)
            self.spool.put(stream, time.time_ns() // 1000, (float(self.count),), 0)
            self.count += 1
        book.received += scans
        book.accepted += scans
        await self.spool.commit()

    async def all_acknowledged(self, within_s: float = 60) -> None:
        await until_async(
            lambda: self.run.done() or (self.spool.books.acknowledged == self.count), within_s,
            f"{self.count} scans acknowledged; {self.spool.books}, {self.uplink.status}",
        )  # fmt: skip
        assert not self.run.done(), self.run.exception()


@pytest.fixture
async def send(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Sending]:
    node: KafkaNode = request.getfixturevalue(getattr(request, "param", "proxied_kafka"))
    spool = await Spool.open(tmp_path / "spool", SystemClock(), commit_s=0.01)
    run = asyncio.create_task(spool.run())
    uplink = Uplink(spool, settings(node.bootstrap, "t", {}), SystemClock(), max_scans=64, max_age_s=0.02, agent="t")
    sending = Sending(spool, uplink)
    yield sending
    uplink.finish(0)
    await asyncio.gather(sending.run, return_exceptions=True)
    await spool.close()
    await run


def in_order_of_arrival(node: KafkaNode) -> list[Message]:
    return sorted(consume_all(node.bootstrap, FRAMES.name), key=lambda message: message.timestamp()[1])


@pytest.mark.parametrize("outages", [1, pytest.param(10, marks=pytest.mark.full)])
async def test_after_a_silent_link_the_newest_scans_are_seen_first_and_none_is_missing(
    proxied_kafka: KafkaNode, send: Sending, outages: int
) -> None:
    proxy = proxied_kafka.proxy
    assert proxy is not None
    await send.put(30)
    await send.all_acknowledged()
    for _ in range(outages):
        before = send.count
        proxy.blackhole()
        await send.put(300)
        await until_async(lambda: send.uplink.status != "up", 60, "the silence to be noticed")
        await until_async(lambda: send.uplink.status != "up" and send.spool.books.pending >= 300, 60)
        await send.put(3)
        newest = send.count - 1
        proxy.restore()
        await send.all_acknowledged(90)
        assert await asyncio.to_thread(_newest_came_first, proxied_kafka, before, newest)
    found = frames.batches(proxied_kafka.bootstrap)
    assert sorted(row[0] for _, row in frames.once(found).values()) == list(range(send.count))


def _newest_came_first(node: KafkaNode, before: int, newest: int) -> bool:
    """Whether a copy of the newest scans came before the backlog's own last frame."""
    headers = [peek_header(message.value()) for message in in_order_of_arrival(node)]
    late = [header for header in headers if header.seq + header.n > before // DEVICES]
    previews = [i for i, header in enumerate(late) if header.lane == Lane.PREVIEW]
    last = [i for i, h in enumerate(late) if h.lane != Lane.PREVIEW and h.seq + h.n > newest // DEVICES]
    return bool(previews) and previews[0] < min(last)


@pytest.fixture
def guarded_kafka(tmp_path: Path) -> Iterator[KafkaNode]:
    """A Kafka that asks what its users may do; where nothing is said, everything."""
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    node = KafkaNode(tmp_path / "kafka", settings=settings).start()
    yield node
    node.kill()


@pytest.mark.parametrize("send", ["guarded_kafka"], indirect=True)
async def test_a_missing_topic_and_a_missing_right_are_named_and_what_waits_goes_when_they_are_there(
    guarded_kafka: KafkaNode, send: Sending
) -> None:
    await send.put(9)
    await send.all_acknowledged()
    client = guarded_kafka.admin()
    for future in client.delete_topics([FRAMES.name]).values():
        future.result(20)
    await send.put(9)
    await until_async(lambda: FRAMES.name in send.uplink.status and "topics apply" in send.uplink.status, 90)
    assert send.spool.books.pending == 9
    await asyncio.to_thread(lambda: topic_admin.apply(client, topic_admin.plan(client)))
    await send.all_acknowledged(90)

    # The users of a plaintext listener are all "ANONYMOUS".
    forbidden = AclBinding(
        ResourceType.TOPIC, FRAMES.name, ResourcePatternType.LITERAL,
        "User:ANONYMOUS", "*", AclOperation.WRITE, AclPermissionType.DENY,
    )  # fmt: skip
    for future in client.create_acls([forbidden]).values():
        future.result(20)
    await send.put(9)
    await until_async(lambda: FRAMES.name in send.uplink.status and "needs the right" in send.uplink.status, 90)
    assert (send.spool.books.pending, send.spool.books.evicted) == (9, 0)
    everything = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    for future in client.delete_acls([everything]).values():
        assert len(future.result(20)) == 1
    await send.all_acknowledged(90)
    found = {row[0] for _, _, row in frames.scans(frames.batches(guarded_kafka.bootstrap))}
    assert found == set(range(9, 27)), "the first nine went with the topic"


@pytest.mark.parametrize("send", ["fresh_kafka"], indirect=True)
async def test_a_spool_claims_a_higher_epoch_than_the_last_one_of_its_devices(
    fresh_kafka: KafkaNode, send: Sending
) -> None:
    """As after the loss of card and clock: another spool has had a higher epoch than ours would be."""
    higher = send.spool.epoch + 1_000
    produce(fresh_kafka.bootstrap, REPORTED.name, [("d1", b'{"epoch":%d,"spool":"other","agent":"old"}' % higher)])
    await send.put(30)
    await send.all_acknowledged()
    epochs = {batch.device: batch.epoch for batch in frames.batches(fresh_kafka.bootstrap)}
    assert epochs == {"d0": send.spool.epoch, "d1": higher + 1, "d2": send.spool.epoch}
