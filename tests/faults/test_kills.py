"""The agent is killed again and again under load, over MQTT and over serial: nothing is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest
from tidegate_sim.serial_ports import SerialPorts

from tests.edge.running import Publisher, Pump, RunningAgent
from tests.support import frames
from tests.support.kafka import KafkaNode
from tests.support.mqtt import MqttBroker
from tests.support.wait import until_async

RATE = 500  # readings a second, over each of the two ways
_BEAT_S = 0.05
_SERIAL = """
[[source]]
type = "serial"
name = "serial"
path = "{path}"
protocol = "packets"
rescan_s = 0.1
"""


class Load:
    """Numbered scans at `RATE`: published at QoS 1, and from a device on a serial line that waits for its ACKs."""

    def __init__(self, broker: MqttBroker, ports: SerialPorts) -> None:
        self.publisher = Publisher(broker)
        self.pump = Pump(ports, RATE)
        self._loop = asyncio.get_running_loop()
        self._ending = False
        self._tasks = [asyncio.create_task(self._publish()), asyncio.create_task(self.pump.run())]

    async def _publish(self) -> None:
        began = self._loop.time()
        while not self._ending:
            due = int((self._loop.time() - began) * RATE)
            await asyncio.to_thread(self.publisher.publish, due - self.publisher.sent)
            await asyncio.sleep(_BEAT_S)

    async def end(self) -> None:
        """No more scans; returns once the broker has those that were published, and the device is rid of all."""
        self._ending = self.pump.ending = True
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)
        self.publisher.close()


@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.full)])
async def test_of_500_readings_a_second_over_mqtt_and_over_serial_sigkills_lose_and_repeat_none(
    fresh_kafka: KafkaNode, mqtt_broker: MqttBroker, tmp_path: Path, kills: int
) -> None:
    """At any moment, also while the agent starts."""
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    async with SerialPorts(tmp_path / "lines") as ports:
        agent = RunningAgent(
            tmp_path, fresh_kafka.bootstrap, mqtt_broker, extra=_SERIAL.format(path=tmp_path / "lines" / "pump")
        )
        await asyncio.to_thread(agent.start)
        await until_async(lambda: "mqtt: connected" in agent.output(), what="the session")
        load = Load(mqtt_broker, ports)
        try:
            for _ in range(kills):
                await asyncio.sleep(rng.uniform(0.2, 2.0))  # any moment will do
                agent.kill()
                agent.start(ready=False)
            await load.end()
            mqtt, serial = load.publisher.sent, load.pump.device.recorded
            await until_async(
                lambda: asyncio.to_thread(lambda: agent.books()["acknowledged"] == mqtt + serial),
                60, f"{mqtt} + {serial} scans on Kafka; {agent.books()}",
            )  # fmt: skip
            books = agent.books()
        finally:
            agent.kill()
    print(f"{kills} kills, {mqtt} over MQTT, {serial} over serial;", books["sources"])
    assert (books["sources"]["mqtt"]["accepted"], books["sources"]["serial"]["accepted"]) == (mqtt, serial)
    assert load.pump.device.overwritten == 0
    found = Counter(
        ("serial" if name[0] == "pump" else "mqtt", row[0])
        for name, (_, row) in frames.once(frames.batches(fresh_kafka.bootstrap)).items()
    )
    assert set(found.values()) == {1}
    assert found.keys() == {("mqtt", i) for i in range(mqtt)} | {("serial", i) for i in range(serial)}
