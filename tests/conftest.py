"""Fixtures that every part shares: a real Kafka, a real MQTT broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tidegate_cloud.broker import free_port

from tests.support.kafka import KafkaNode
from tests.support.mqtt import MqttBroker, start_mqtt_broker
from tests.support.proxy import Proxy


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaNode]:
    """One Kafka for the whole session, with the catalogue's topics. Tests that use it must not stop it."""
    node = KafkaNode(tmp_path_factory.mktemp("kafka")).start()
    yield node
    node.kill()  # the data goes away with the session: nothing is gained by an orderly end


@pytest.fixture
def fresh_kafka(kafka: KafkaNode) -> KafkaNode:
    """The session's Kafka with empty topics and no groups. Takes some tenths of a second."""
    kafka.refresh_topics()
    return kafka


@pytest.fixture
def private_kafka(tmp_path: Path) -> Iterator[KafkaNode]:
    """A Kafka of the test's own, which it may stop, kill and start again."""
    node = KafkaNode(tmp_path / "kafka").start()
    yield node
    node.kill()


@pytest.fixture
def proxied_kafka(tmp_path: Path) -> Iterator[KafkaNode]:
    """A Kafka of the test's own that clients reach only through `.proxy`, which can delay, throttle and cut."""
    port = free_port()
    with Proxy(port) as proxy:
        node = KafkaNode(tmp_path / "kafka", port=port, proxy=proxy).start()
        yield node
        node.kill()


@pytest.fixture
def mqtt_broker(tmp_path: Path) -> Iterator[MqttBroker]:
    """A real MQTT broker on a free port: Mosquitto where it is installed, else the one that the demo embeds."""
    with start_mqtt_broker(tmp_path / "mqtt") as broker:
        yield broker
