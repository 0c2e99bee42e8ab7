"""A real agent process for tests, with its configuration, its broker's publisher and its books."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from tidegate_protocols.link.packets import Hello
from tidegate_protocols.schema import Channel, Schema
from tidegate_sim.packet_device import PacketDevice
from tidegate_sim.serial_ports import SerialPorts

from tests.support.mqtt import MqttBroker
from tests.support.service import Service

BASE_US = int(time.time()) * 1_000_000 - 3_600_000_000

_CONFIG = """
[agent]
name = "test"
data_dir = "{data_dir}"
grace_s = {grace_s}

[kafka]
bootstrap = "{bootstrap}"

[batch]
codec = "{codec}"

[metrics]
port = 0

[reload]
probation_s = {probation_s}

[[source]]
type = "mqtt"
name = "mqtt"
host = "127.0.0.1"
port = {port}
client_id = "agent"
window = {window}

[[source.subscribe]]
filter = "fleet/+/senml"
payload = "senml"
device = "{{1}}"
"""


class RunningAgent(Service):
    """`tidegate agent run` on a folder of the test's own."""

    def __init__(
        self,
        directory: Path,
        bootstrap: str,
        broker: MqttBroker,
        *,
        window: int = 20,
        grace_s: float = 10,
        codec: str = "auto",
        probation_s: float = 1,
        extra: str = "",
    ) -> None:
        self.config = directory / "agent.toml"
        text = _CONFIG.format(
            data_dir=directory / "agent",
            bootstrap=bootstrap,
            port=broker.port,
            window=window,
            grace_s=grace_s,
            codec=codec,
            probation_s=probation_s,
        )
        self.config.write_text(text + extra, "utf-8")
        # An agent that is started and killed again and again need not load compiled codecs each time.
        env = {"TIDEGATE_KERNELS": "off"} if codec == "auto" else None
        super().__init__("agent", "agent", "run", "--config", self.config, directory=directory, env=env)

    def books(self) -> dict[str, Any]:
        """The books as `tidegate agent spool ls` shows them, the agent running or not."""
        command = [
            sys.executable,
            "-m",
            "tidegate_cli.main",
            "agent",
            "spool",
            "ls",
            "--json",
            "--config",
            str(self.config),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        for book in found["sources"].values():
            assert book["received"] == book["rejected"] + book["duplicate"] + book["folded"] + book["accepted"], book
        assert found["accepted"] == found["acknowledged"] + found["evicted"] + found["pending"], found
        return found


class Publisher:
    """Publishes numbered SenML packs at QoS 1, as a device that waits for its acknowledgements.

    `time_of`: the time (µs) of a scan by its number.
    """

    def __init__(
        self, broker: MqttBroker, *, devices: int = 10, time_of: Callable[[int], int] = lambda i: BASE_US + i * 1000
    ) -> None:
        self._devices = devices
        self._time_of = time_of
        self.sent = 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "publisher")
        self._client.max_inflight_messages_set(100)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()

    def publish(self, count: int) -> None:
        """Publish `count` more scans, each with its own number as value; return when the broker has them all."""
        last = None
        for i in range(self.sent, self.sent + count):
            device = f"bus-{i % self._devices}"
            pack = [{"n": "count", "bt": self._time_of(i) / 1e6, "v": i}]
            last = self._client.publish(f"fleet/{device}/senml", json.dumps(pack), qos=1)
        self.sent += count
        if last is not None:
            last.wait_for_publish(60)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Pump:
    """A device with acknowledgements on a serial line, which records `rate` scans a second numbered as their values."""

    schema = Schema("pump", (Channel("count"),))

    def __init__(self, ports: SerialPorts, rate: float) -> None:
        self.device = PacketDevice(Hello(3, "pump", self.schema))
        self.ending = False
        self._rate = rate
        self._loop = asyncio.get_running_loop()
        self._port = ports.open("pump")
        self._port.on_open = self.device.opened
        self._port.on_data = lambda data: self.device.received(data, self._loop.time())

    async def run(self) -> None:
        """Until `ending` is set and the agent has acknowledged everything."""
        device, began = self.device, self._loop.time()
        while not self.ending or device.unacknowledged:
            due = 0 if self.ending else int((self._loop.time() - began) * self._rate)
            while device.recorded < due:
                device.record(time.time_ns() // 1000, (float(device.recorded),))
            if self._port.is_open:
                self._port.put(device.to_send(self._loop.time()))
            await asyncio.sleep(0.02)
