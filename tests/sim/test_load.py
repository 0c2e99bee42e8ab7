"""Plain load: what was accepted is what arrived, on a real broker and a real Kafka."""

from __future__ import annotations

from collections.abc import Iterator

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from tidegate_protocols.errors import BadInput
from tidegate_protocols.frame import decode_frame
from tidegate_protocols.payload.senml import parse_senml
from tidegate_protocols.schema import Schema
from tidegate_protocols.topics import FRAMES, SCHEMAS
from tidegate_sim.load import LOAD_SCHEMA, load_kafka, load_mqtt

from tests.support.kafka import KafkaNode, consume_all
from tests.support.mqtt import MqttBroker
from tests.support.wait import until, until_async


@pytest.fixture
def messages(mqtt_broker: MqttBroker) -> Iterator[list[bytes]]:
    heard: list[bytes] = []
    ready: list[bool] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="test-subscriber")
    client.on_message = lambda _c, _u, m: heard.append(m.payload)
    client.on_subscribe = lambda *_: ready.append(True)
    client.connect(mqtt_broker.host, mqtt_broker.port)
    client.subscribe("fleet/+/senml", 1)
    client.loop_start()
    until(lambda: ready, what="the subscription")
    yield heard
    client.disconnect()
    client.loop_stop()


async def test_mqtt_takes_what_it_acknowledges(mqtt_broker: MqttBroker, messages: list[bytes]) -> None:
    seen: list[int] = []
    report = await load_mqtt(
        (mqtt_broker.host, mqtt_broker.port), devices=5, rate=600, seconds=1, scans_per_message=3,
        on_progress=lambda r: seen.append(r.scans),
    )  # fmt: skip
    assert (report.messages, report.accepted, report.scans, report.readings) == (200, 200, 600, 2400)
    assert seen == sorted(seen)
    await until_async(lambda: len(messages) >= 200)
    scans = [scan for message in messages for scan in parse_senml(message)]
    assert len(messages) == 200
    assert len(scans) == 600
    assert {scan.device for scan in scans} == {f"load-{i:05d}" for i in range(5)}


def test_kafka_gets_the_schema_and_frames_without_a_hole(fresh_kafka: KafkaNode) -> None:
    report = load_kafka(fresh_kafka.bootstrap, devices=4, rate=4000, seconds=1, scans_per_frame=50)
    assert (report.messages, report.accepted, report.refused, report.scans) == (80, 80, 0, 4000)
    [announced] = consume_all(fresh_kafka.bootstrap, SCHEMAS.name)
    assert Schema.from_json(announced.value()) == LOAD_SCHEMA
    frames = consume_all(fresh_kafka.bootstrap, FRAMES.name)
    batches = [decode_frame(message.value(), {LOAD_SCHEMA.fingerprint: LOAD_SCHEMA}) for message in frames]
    assert [message.key().decode() for message in frames] == [batch.device for batch in batches]
    assert sum(len(batch) for batch in batches) == 4000
    for device in range(4):
        own = [batch for batch in batches if batch.device == f"load-{device:05d}"]
        assert [batch.seq for batch in own] == [50 * i for i in range(len(own))]
        assert len({batch.epoch for batch in own}) == 1


def test_nobody_at_the_address_is_one_sentence() -> None:
    with pytest.raises(BadInput, match=r"no Kafka at 127\.0\.0\.1:9"):
        load_kafka("127.0.0.1:9", devices=1, rate=1, seconds=1)


@pytest.mark.parametrize("wrong", [{"devices": 0}, {"rate": -1.0}, {"seconds": 0.0}, {"scans_per_message": 0}])
async def test_what_cannot_be_asked_is_refused(wrong: dict[str, float]) -> None:
    asked: dict[str, float] = {"devices": 1, "rate": 1.0, "seconds": 1.0, "scans_per_message": 1} | wrong
    with pytest.raises(BadInput):
        await load_mqtt(("127.0.0.1", 9), **asked)  # type: ignore[arg-type]
