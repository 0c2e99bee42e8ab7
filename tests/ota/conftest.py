"""A server and a real agent on a real Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tidegate_cloud.rollouts import asking, keys

from tests.edge.running import Publisher, RunningAgent
from tests.support.kafka import KafkaNode
from tests.support.mqtt import MqttBroker

from .running import Running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keys.create(tmp_path / "keys")
    return tmp_path / "keys"


@pytest.fixture
def server(fresh_kafka: KafkaNode, folder: Path) -> Iterator[Running]:
    asking.publish_roots(fresh_kafka.bootstrap, keys.roots(folder))
    running = Running(fresh_kafka.bootstrap, folder)
    yield running
    running.end()


@pytest.fixture
def agent(fresh_kafka: KafkaNode, folder: Path, tmp_path: Path, mqtt_broker: MqttBroker) -> Iterator[RunningAgent]:
    extra = f'\n[ota]\nroot = "{folder / "1.root.json"}"\nheartbeat_s = 5\n'
    found = RunningAgent(tmp_path, fresh_kafka.bootstrap, mqtt_broker, probation_s=2, extra=extra)
    found.start()
    yield found
    found.kill()


@pytest.fixture
def publisher(mqtt_broker: MqttBroker) -> Iterator[Publisher]:
    found = Publisher(mqtt_broker)
    yield found
    found.close()
