"""A device whose clock is wrong by hours when it boots: what it sent to Kafka has the true times all the same."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from tidegate_edge.agent import Agent
from tidegate_edge.clock import SystemClock
from tidegate_edge.config import parse
from tidegate_sim.serial_ports import SerialPorts

from tests.support import frames
from tests.support.kafka import KafkaNode
from tests.support.wait import until_async

_CONFIG = """
[agent]
name = "clock"
data_dir = "{folder}/agent"
[kafka]
bootstrap = "{bootstrap}"
[batch]
codec = "plain"
[[source]]
type = "serial"
path = "{folder}/lines/meter"
protocol = "json"
device = "meter"
rescan_s = 0.1
"""


class WrongClock(SystemClock):
    """This machine's clock, off by `off_us` until it is set."""

    def __init__(self, off_us: int) -> None:
        super().__init__()
        self.off_us = off_us
        self.synchronised = False

    def wall_us(self) -> int:
        return super().wall_us() + self.off_us

    def is_synchronised(self) -> bool:
        return self.synchronised


@pytest.mark.parametrize("hours", [-7, 7])
async def test_scans_of_a_clock_that_is_wrong_by_hours_reach_kafka_with_the_true_times(
    fresh_kafka: KafkaNode, tmp_path: Path, hours: int
) -> None:
    clock = WrongClock(hours * 3_600_000_000)
    async with SerialPorts(tmp_path / "lines") as ports:
        port = ports.open("meter")
        agent = await Agent.start(parse(_CONFIG.format(folder=tmp_path, bootstrap=fresh_kafka.bootstrap)), clock)
        running = asyncio.create_task(agent.run())

        async def say(count: int) -> None:
            wanted = agent.spool.books.accepted + count
            for _ in range(count):
                port.put(json.dumps({"true": time.time()}).encode() + b"\n")
                await asyncio.sleep(0.01)
            await until_async(lambda: agent.spool.books.accepted == wanted)

        await until_async(lambda: port.is_open)
        await say(30)
        clock.off_us += 1_800_000_000  # somebody sets it, and not rightly
        await say(30)
        assert agent.spool.books.acknowledged == 0
        clock.off_us, clock.synchronised = 0, True
        await say(30)
        await until_async(lambda: agent.spool.books.acknowledged == 90, 60, agent.uplink.status)
        agent.stop()
        await running
    found = frames.batches(fresh_kafka.bootstrap)
    assert sum(len(batch) for batch in found) == 90
    assert not any(batch.time_estimated for batch in found)
    assert all(batch.time_from_agent for batch in found)
    late_us = sorted(abs(ts_us - row[0] * 1e6) for _, ts_us, row in frames.scans(found))
    # What is measured holds the way over the line, too, which a busy machine makes long for some.
    assert late_us[60] <= 50_000, "two thirds are from before the clock was set"
    assert late_us[-1] <= 5_000_000
