"""A link that loses every packet for 20 s, again and again: a real network, no resets, a device that goes on."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tidegate_cloud.broker import free_port
from tidegate_protocols.batch import Lane
from tidegate_sim.serial_ports import SerialPorts

from tests.edge.running import Pump
from tests.support import frames, network
from tests.support.kafka import KafkaNode
from tests.support.service import Service
from tests.support.wait import until_async
from tests.support.watching import Watcher

OUTAGES = 10
OUTAGE_S = 20
_CONFIG = """
[agent]
name = "far"
data_dir = "{folder}/agent"
[kafka]
bootstrap = "{bootstrap}"
[batch]
codec = "plain"
[[source]]
type = "serial"
name = "serial"
path = "{folder}/lines/pump"
protocol = "packets"
"""


class Far(Service):
    """An agent behind the link."""

    command = (*network.LossyLink.inside, sys.executable, "-m", "tidegate_cli.main")


@pytest.mark.full
@pytest.mark.skipif(not network.available(), reason="network namespaces need root and iproute2")
async def test_a_link_that_is_silent_for_20_s_ten_times_loses_nothing(tmp_path: Path) -> None:
    outside = free_port()
    settings = {
        "listeners": f"PLAINTEXT://127.0.0.1:{{port}},FAR://{network.ADDRESS}:{outside},"
        "CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{{port}},FAR://{network.ADDRESS}:{outside}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,FAR:PLAINTEXT,CONTROLLER:PLAINTEXT",
    }
    config = tmp_path / "agent.toml"
    config.write_text(_CONFIG.format(folder=tmp_path, bootstrap=f"{network.ADDRESS}:{outside}"))
    agent = Far("agent", "agent", "run", "--config", config, directory=tmp_path)
    with network.LossyLink() as link:
        kafka = KafkaNode(tmp_path / "kafka", settings=settings).start()
        try:
            with Watcher(kafka.bootstrap, [Pump.schema]) as watcher:
                await _outages(link, agent, watcher, tmp_path)
            found = frames.once(frames.batches(kafka.bootstrap))
        finally:
            agent.kill()
            kafka.kill()
    assert sorted(row[0] for _, row in found.values()) == list(range(len(found)))


async def _outages(link: network.LossyLink, agent: Service, watcher: Watcher, folder: Path) -> None:
    def newest() -> float:
        return max((arrival.batch.columns[0][-1] for arrival in watcher.arrivals), default=-1.0)

    async with SerialPorts(folder / "lines") as ports:
        pump = Pump(ports, 100)
        running = asyncio.create_task(pump.run())
        await asyncio.to_thread(agent.start)
        await until_async(lambda: newest() > 0, 60, "the first scan on Kafka")
        resumed = []
        for _ in range(OUTAGES):
            link.drop()
            await asyncio.sleep(OUTAGE_S)
            recorded = pump.device.recorded
            link.restore()
            back = time.monotonic()
            await until_async(lambda: newest() >= recorded, 60, "a scan from after the silence")  # noqa: B023
            resumed.append(time.monotonic() - back)
            await until_async(lambda: _in_order(watcher) >= recorded, 60, "those from the silence")  # noqa: B023
        pump.ending = True
        await running
        await until_async(lambda: _in_order(watcher) == pump.device.recorded, 60, "everything in order")
    print(
        f"{OUTAGES} x {OUTAGE_S} s of silence, {pump.device.recorded:,} scans: the newest was on Kafka again after"
        f" {np.median(resumed):.1f} s (median), at most {max(resumed):.1f} s"
    )


def _in_order(watcher: Watcher) -> int:
    """How many scans of the device the in-order lane has brought."""
    return max((a.batch.seq + len(a.batch) for a in watcher.arrivals if a.batch.lane != Lane.PREVIEW), default=0)
