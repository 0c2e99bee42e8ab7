"""The agent as a process, from MQTT to a real Kafka: killed, cut off, told to end, and never losing a scan."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tidegate_protocols.batch import Lane
from tidegate_protocols.frame import peek_header
from tidegate_protocols.topics import FRAMES

from tests.edge.running import BASE_US, Publisher, RunningAgent
from tests.support import frames
from tests.support.kafka import KafkaNode, consume_all
from tests.support.mqtt import MqttBroker
from tests.support.wait import until

Start = Callable[..., RunningAgent]


@pytest.fixture
def start_agent(tmp_path: Path, mqtt_broker: MqttBroker) -> Iterator[Start]:
    """Starts an agent on the test's broker, whose session is there when this returns."""
    started: list[RunningAgent] = []

    def start(bootstrap: str, **options: Any) -> RunningAgent:
        agent = RunningAgent(tmp_path, bootstrap, mqtt_broker, **options)
        started.append(agent)
        agent.start()
        until(lambda: "mqtt: connected" in agent.output(), what="the agent to reach the MQTT broker")
        return agent

    yield start
    for agent in started:
        agent.kill()


@pytest.fixture
def publisher(mqtt_broker: MqttBroker) -> Iterator[Publisher]:
    found = Publisher(mqtt_broker)
    yield found
    found.close()


def all_acknowledged(agent: RunningAgent, scans: int, timeout: float = 60) -> dict[str, Any]:
    until(lambda: agent.books()["acknowledged"] >= scans, timeout, f"{scans} scans acknowledged; {agent.tail()}")
    return agent.books()


def values(found: dict[frames.Name, Any]) -> list[float]:
    return sorted(row[0] for _, row in found.values())


def test_what_was_published_lies_on_kafka_in_order_under_its_names(
    fresh_kafka: KafkaNode, start_agent: Start, publisher: Publisher
) -> None:
    agent = start_agent(fresh_kafka.bootstrap)
    publisher.publish(3000)
    books = all_acknowledged(agent, 3000)
    found = frames.once(frames.batches(fresh_kafka.bootstrap))
    assert values(found) == list(range(3000))
    for (device, _, epoch, number), (ts_us, row) in found.items():
        assert epoch == books["epoch"]
        assert row == (number * 10 + int(device.removeprefix("bus-")),)
        assert ts_us == BASE_US + int(row[0]) * 1000
    assert books["sources"]["mqtt"] == {
        "received": 3000, "rejected": 0, "duplicate": 0, "folded": 0, "accepted": 3000,
    }  # fmt: skip


def test_sigkill_in_the_middle_of_a_stream_loses_and_repeats_nothing(
    fresh_kafka: KafkaNode, start_agent: Start, publisher: Publisher
) -> None:
    """MQTT's repetitions are known by their packet ids, Kafka's by their names."""
    agent = start_agent(fresh_kafka.bootstrap)
    for _ in range(5):
        before = agent.books()["accepted"]
        publisher.publish(2000)
        until(lambda: agent.books()["accepted"] > before)  # noqa: B023
        agent.kill()
        publisher.publish(500)
        agent.start()
    books = all_acknowledged(agent, publisher.sent)
    found = frames.once(frames.batches(fresh_kafka.bootstrap))
    assert values(found) == list(range(publisher.sent))
    assert books["accepted"] == publisher.sent
    assert agent.stop() == 0
    assert agent.books()["pending"] == 0


def test_while_kafka_is_away_scans_wait_and_then_all_arrive(
    private_kafka: KafkaNode, start_agent: Start, publisher: Publisher
) -> None:
    agent = start_agent(private_kafka.bootstrap)
    publisher.publish(500)
    all_acknowledged(agent, 500)
    private_kafka.stop()
    publisher.publish(3000)
    until(lambda: agent.books()["accepted"] == 3500)
    assert agent.books()["pending"] == 3000
    agent.kill()
    agent.start()
    publisher.publish(500)
    until(lambda: agent.books()["accepted"] == 4000)
    private_kafka.start()
    all_acknowledged(agent, 4000, 90)
    found = frames.batches(private_kafka.bootstrap)
    assert values(frames.once(found)) == list(range(4000))
    assert {batch.lane for batch in found} <= set(Lane)


def test_kafka_that_restarts_in_the_middle_of_a_stream_gets_everything_once(
    private_kafka: KafkaNode, start_agent: Start, publisher: Publisher
) -> None:
    agent = start_agent(private_kafka.bootstrap)
    for _ in range(2):
        publisher.publish(2000)
        private_kafka.kill()
        publisher.publish(1000)
        private_kafka.start()
    all_acknowledged(agent, publisher.sent, 90)
    assert values(frames.once(frames.batches(private_kafka.bootstrap))) == list(range(publisher.sent))


def test_sigterm_commits_acknowledges_and_sends_before_it_ends(
    fresh_kafka: KafkaNode, start_agent: Start, publisher: Publisher
) -> None:
    agent = start_agent(fresh_kafka.bootstrap)
    publisher.publish(2000)
    assert agent.stop() == 0
    books = agent.books()
    assert books["pending"] == 0
    agent.start()
    books = all_acknowledged(agent, 2000)
    assert books["sources"]["mqtt"]["duplicate"] == 0, "what was durable had been acknowledged to the broker"
    assert values(frames.once(frames.batches(fresh_kafka.bootstrap))) == list(range(2000))


def test_sigterm_while_kafka_is_away_leaves_the_rest_in_the_spool(
    private_kafka: KafkaNode, start_agent: Start, publisher: Publisher
) -> None:
    agent = start_agent(private_kafka.bootstrap, grace_s=0.5)
    private_kafka.stop()
    publisher.publish(300)
    until(lambda: agent.books()["accepted"] == 300)
    assert agent.stop() == 0
    assert agent.books()["pending"] == 300
    private_kafka.start()
    agent.start()
    all_acknowledged(agent, 300)
    assert values(frames.once(frames.batches(private_kafka.bootstrap))) == list(range(300))


def test_the_mqtt_broker_may_restart_under_the_agent(
    fresh_kafka: KafkaNode, start_agent: Start, mqtt_broker: MqttBroker
) -> None:
    if mqtt_broker.name != "mosquitto":
        pytest.skip("the embedded broker keeps no sessions over a restart")
    agent = start_agent(fresh_kafka.bootstrap)
    sent = 0
    for _ in range(2):
        publisher = Publisher(mqtt_broker)
        publisher.sent = sent
        publisher.publish(1000)
        publisher.close()
        sent += 1000
        mqtt_broker.restart()
    all_acknowledged(agent, sent)
    assert values(frames.once(frames.batches(fresh_kafka.bootstrap))) == list(range(sent))


def test_what_cannot_be_read_is_counted_kept_and_in_nobodys_way(
    fresh_kafka: KafkaNode, start_agent: Start, publisher: Publisher
) -> None:
    agent = start_agent(fresh_kafka.bootstrap)
    too_large = b'[{"bv":1.5,"n":"a","v":1' + b"0" * 400 + b"}]"
    for payload in (b"", b"{not json", b"[]", b"\xff\xfe", b'[{"n":"x","v":"text"}]', too_large):
        publisher._client.publish("fleet/bus-1/senml", payload, qos=1)
    publisher._client.publish("fleet/not a device/senml", b'[{"n":"x","v":1}]', qos=1)
    publisher.publish(100)
    books = all_acknowledged(agent, 100)
    assert books["sources"]["mqtt"]["rejected"] == 7
    assert {reject["place"] for reject in books["rejects"]} == {"fleet/bus-1/senml", "fleet/not a device/senml"}
    assert bytes.fromhex(books["rejects"][1]["payload"]) == b"{not json"


def test_the_metrics_are_the_books(fresh_kafka: KafkaNode, start_agent: Start, publisher: Publisher) -> None:
    agent = start_agent(fresh_kafka.bootstrap)
    publisher.publish(200)
    all_acknowledged(agent, 200)
    found = re.search(r"(http://127\.0\.0\.1:\d+/metrics)", agent.output())
    assert found is not None
    text = urllib.request.urlopen(found[1]).read().decode()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines['tidegate_edge_received_total{source="mqtt"}']) == 200
    assert float(lines["tidegate_edge_acknowledged_total"]) == 200
    assert float(lines["tidegate_edge_pending"]) == 0
    assert 'tidegate_edge_state{part="uplink",state="up"}' in lines
    assert 'tidegate_edge_state{part="mqtt",state="connected"}' in lines


def test_the_agent_carries_nothing_of_the_cloud_and_without_a_compiled_codec_no_numba(start_agent: Start) -> None:
    agent = start_agent("127.0.0.1:1", grace_s=0, codec="plain")
    mapped = {part for region in psutil.Process(agent.pid).memory_maps() for part in Path(region.path).parts}
    assert not mapped & {"numba", "llvmlite", "fastavro", "shapely", "litestar"}
    assert psutil.Process(agent.pid).memory_info().rss < 64 * 2**20


def test_frames_are_plain_until_the_kernels_are_there_and_range_coded_from_then_on(
    fresh_kafka: KafkaNode, start_agent: Start, publisher: Publisher
) -> None:
    agent = start_agent(fresh_kafka.bootstrap, codec="range")

    def codecs() -> list[str]:
        publisher.publish(10)
        return [peek_header(message.value()).codec for message in consume_all(fresh_kafka.bootstrap, FRAMES.name)]

    until(lambda: "range" in codecs(), 120, "a range-coded frame")
    all_acknowledged(agent, publisher.sent)
    first: dict[str, int] = {}
    for message in consume_all(fresh_kafka.bootstrap, FRAMES.name):
        header = peek_header(message.value())
        if header.codec == "range":
            first.setdefault(header.device, header.seq)
        assert header.codec == "range" or header.device not in first
    assert values(frames.once(frames.batches(fresh_kafka.bootstrap))) == list(range(publisher.sent))


def test_a_second_agent_and_a_bad_file_are_one_sentence_each(start_agent: Start, tmp_path: Path) -> None:
    agent = start_agent("127.0.0.1:1", grace_s=0)
    second = RunningAgent.__new__(RunningAgent)
    second.__dict__.update(agent.__dict__, _process=None, log=tmp_path / "second.log")
    assert second.start(ready=False).wait(20) == 1
    assert second.output().strip() == f"{tmp_path / 'agent'}: another agent uses this folder (stop it first)"
    fresh = agent.config.read_text().replace(f"{tmp_path / 'agent'}", f"{tmp_path / 'fresh'}")
    agent.config.write_text(fresh.replace("window", "windw"))
    second.log = tmp_path / "third.log"
    assert second.start(ready=False).wait(20) == 1
    assert "source[0].windw: is not a key (did you mean 'window'?)" in second.output()
    assert "Traceback" not in second.output()
    assert json.dumps(second.output().count("\n")) == "1"
