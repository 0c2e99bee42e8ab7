"""A day of ten devices, as fast as it goes: the agent's memory stays what it was after the first hours."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.edge.running import BASE_US, RunningAgent
from tests.support.kafka import KafkaNode
from tests.support.mqtt import MqttBroker
from tests.support.wait import until

DEVICES = 10
HOURS = 24
PACK = 10  # scans a message, a second apart
_WINDOWS = """
[[window]]
channel = "vibration"
mode = "aggregate"
every_s = 60

[[window]]
channel = "door"
mode = "deadband"
band = 0.5
"""


def pack(device: int, second: int) -> bytes:
    """What a device says every ten seconds: temperatures as they come, vibrations and a door that windows take in."""
    base = BASE_US / 1e6 - HOURS * 3600
    records = []
    for t in range(second, second + PACK):
        records += [
            {"t": base + t, "n": "temperature", "u": "Cel", "v": 20 + (t * 7 + device) % 50 / 10},
            {"t": base + t, "n": "vibration", "u": "m/s2", "v": (t * 13) % 100 / 50},
            {"t": base + t, "n": "door", "v": t // 600 % 2},
        ]
    return json.dumps(records).encode()


@pytest.mark.full
def test_in_24_hours_of_ten_devices_memory_does_not_grow(
    fresh_kafka: KafkaNode, mqtt_broker: MqttBroker, tmp_path: Path
) -> None:
    agent = RunningAgent(tmp_path, fresh_kafka.bootstrap, mqtt_broker, window=100, extra=_WINDOWS)
    agent.start()
    client = paho.Client(CallbackAPIVersion.VERSION2, "day")
    client.max_inflight_messages_set(200)
    client.connect(mqtt_broker.host, mqtt_broker.port)
    client.loop_start()
    memory = []
    try:
        until(lambda: "mqtt: connected" in agent.output(), what="the session")
        for hour in range(HOURS):
            for second in range(hour * 3600, hour * 3600 + 3600, PACK):
                for device in range(DEVICES):
                    last = client.publish(f"fleet/bus-{device}/senml", pack(device, second), qos=1)
            last.wait_for_publish(120)
            came = (hour + 1) * 3600 * DEVICES
            until(lambda: _scans(agent.books()) >= came and agent.books()["pending"] < 2000, 120)  # noqa: B023
            memory.append(psutil.Process(agent.pid).memory_info().rss / 2**20)
        print("MiB after each hour:", " ".join(f"{each:.1f}" for each in memory))
        books = until(lambda: (b := agent.books())["pending"] == 0 and b, 60)
    finally:
        client.loop_stop()
        agent.kill()
    assert books["evicted"] == 0
    # The allocator takes some hours to settle; 100 bytes kept of each message would be 5 MiB in the second half.
    assert max(memory[HOURS // 2 :]) - memory[HOURS // 2 - 1] < 3


def _scans(books: dict) -> int:  # type: ignore[type-arg]
    """Scans that came, without the aggregates that the agent made."""
    book = books["sources"].get("mqtt", {"received": 0, "accepted": 0})
    return int(book["received"])
