"""Eight hours without Kafka: the present is seen at once, the past comes completely and in order beside it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import numpy as np
import pytest
from tidegate_edge.clock import SystemClock
from tidegate_edge.spool import Spool
from tidegate_protocols.batch import Lane
from tidegate_protocols.payload.senml import parse_senml

from tests.edge.running import Publisher, RunningAgent
from tests.support.kafka import KafkaNode
from tests.support.mqtt import MqttBroker
from tests.support.wait import until, until_async
from tests.support.watching import Arrival, Watcher

DEVICES = 10
RATE = 100  # scans a second, of all devices together
HOURS = 8
STORED = HOURS * 3600 * RATE
SCHEMA = parse_senml(json.dumps([{"n": "count", "bt": 1.8e9, "v": 1}]).encode(), "bus-0", now_us=0)[0].schema


async def store_the_past(folder: Path) -> None:
    """What an agent stored in eight hours: as every commit then held one scan of each device, a chunk has one scan."""
    spool = await Spool.open(folder, SystemClock())
    begin_us = time.time_ns() // 1000 - HOURS * 3_600_000_000
    streams = [spool.stream(f"bus-{i}", SCHEMA) for i in range(DEVICES)]
    for stream in streams:
        stream.chunk_max = 1
    book = spool.book("mqtt")
    for i in range(STORED):
        spool.put(streams[i % DEVICES], begin_us + i * 1_000_000 // RATE, (float(i),), 0)
        if (i + 1) % 5000 == 0:
            spool.touch("mqtt", book)
            book.received += 5000
            book.accepted += 5000
            await spool.commit()
    assert (spool.books.pending, spool.books.evicted) == (STORED, 0)
    print(f"{STORED:,} scans of {HOURS} h, {spool.books.bytes / 2**20:.0f} MiB of the quota")
    await spool.close()


def complete_and_in_order(arrivals: list[Arrival], scans: int) -> bool:
    """Whether the in-order lane has all of every device, each scan under its own number, none out of turn."""
    cursors = dict.fromkeys((f"bus-{i}" for i in range(DEVICES)), 0)
    for arrival in arrivals:
        batch = arrival.batch
        numbers = np.arange(batch.seq, batch.seq + len(batch))
        assert (batch.columns[0] == numbers * DEVICES + int(batch.device.removeprefix("bus-"))).all()
        if batch.lane != Lane.PREVIEW:
            assert batch.seq <= cursors[batch.device], f"{batch.device} has a hole before {batch.seq}"
            cursors[batch.device] = max(cursors[batch.device], batch.seq + len(batch))
    return sum(cursors.values()) == scans


def delays(arrivals: list[Arrival], since_us: int) -> np.ndarray:  # type: ignore[type-arg]
    """Seconds from each scan's making to its first arrival on any lane, of scans that were made after `since_us`."""
    first: dict[float, float] = {}
    for arrival in sorted(arrivals, key=lambda each: each.at):
        fresh = arrival.batch.ts_us >= since_us
        for ts_us, value in zip(arrival.batch.ts_us[fresh], arrival.batch.columns[0][fresh], strict=True):
            first.setdefault(float(value), arrival.at - ts_us / 1e6)
    return np.array(list(first.values()))


class Live(Publisher):
    """Goes on where the stored past ends, `RATE` scans a second with the time at which they are made."""

    def __init__(self, broker: MqttBroker) -> None:
        super().__init__(broker, devices=DEVICES, time_of=lambda _: time.time_ns() // 1000)
        self.sent = STORED
        self._ending = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        began = time.monotonic()
        while not self._ending:
            due = STORED + int((time.monotonic() - began) * RATE)
            await asyncio.to_thread(self.publish, due - self.sent)
            await asyncio.sleep(0.02)

    async def end(self) -> None:
        self._ending = True
        await self._task
        self.close()


@pytest.mark.full
async def test_after_eight_hours_without_kafka_the_present_is_seen_at_once_and_the_past_is_complete(
    proxied_kafka: KafkaNode, mqtt_broker: MqttBroker, tmp_path: Path
) -> None:
    proxy = proxied_kafka.proxy
    assert proxy is not None
    await store_the_past(tmp_path / "agent")
    agent = RunningAgent(tmp_path, proxied_kafka.bootstrap, mqtt_broker, extra="")
    with Watcher(proxied_kafka.broker.bootstrap, [SCHEMA]) as watcher:
        proxy.cut()
        await asyncio.to_thread(agent.start)
        try:
            await until_async(lambda: "mqtt: connected" in agent.output(), what="the session")
            live = Live(mqtt_broker)
            await until_async(lambda: live.sent >= STORED + 10 * RATE)
            restored = time.time()
            proxy.restore()
            await until_async(lambda: watcher.arrivals, 60, "anything after the reconnection")
            await until_async(lambda: _newest(watcher.arrivals) >= STORED, 60, "the present")
            seen = time.time()
            await until_async(
                lambda: asyncio.to_thread(lambda: agent.books()["pending"] < 5 * RATE), 900, "the end of the backlog"
            )
            drained = time.time()
            await live.end()
            books = await asyncio.to_thread(
                lambda: until(lambda: (b := agent.books())["pending"] == 0 and b, 60, "the last scan")
            )
        finally:
            agent.kill()
        await until_async(
            lambda: sum(len(a.batch) for a in watcher.arrivals if a.batch.lane != Lane.PREVIEW) >= live.sent, 60
        )
        arrivals = list(watcher.arrivals)
    assert books["evicted"] == 0
    assert complete_and_in_order(arrivals, live.sent)
    assert any(arrival.batch.lane == Lane.PREVIEW for arrival in arrivals)
    for name, since in (("restored", restored), ("seen", seen)):
        found = delays(arrivals, int(since * 1e6))
        print(
            f"{len(found):,} live scans made since the link was {name}: p50 {np.median(found):.2f} s,"
            f" p99 {np.percentile(found, 99):.2f} s, at most {found.max():.2f} s until Kafka had them"
        )
    backlog = sum(len(a.batch) for a in arrivals if a.batch.lane == Lane.BACKLOG)
    print(
        f"the present was seen {seen - restored:.1f} s after the link was back; {backlog:,} scans of backlog in"
        f" {drained - seen:.0f} s, {backlog / (drained - seen):,.0f} a second"
    )


def _newest(arrivals: list[Arrival]) -> float:
    return max((float(arrival.batch.columns[0][-1]) for arrival in arrivals), default=-1.0)
