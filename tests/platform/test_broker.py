"""Kafka from pip: comes up, keeps its data, and says clearly why it does not come up."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from tidegate_cloud.broker import Broker, BrokerFailed, free_port
from tidegate_cloud.broker import jars as jars_module
from tidegate_protocols.errors import BadInput
from tidegate_protocols.topics import EVENTS, FENCES

from tests.support.kafka import KafkaNode, consume_all, produce


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_records_outlive_the_node(private_kafka: KafkaNode, end: str) -> None:
    produce(private_kafka.bootstrap, EVENTS.name, [(f"d{i}", str(i).encode()) for i in range(100)])
    bootstrap = private_kafka.bootstrap
    getattr(private_kafka, end)()
    private_kafka.start()
    assert private_kafka.bootstrap == bootstrap
    assert len(consume_all(bootstrap, EVENTS.name)) == 100


def test_a_second_node_on_the_same_directory_is_refused(private_kafka: KafkaNode) -> None:
    with pytest.raises(BadInput, match=rf"already running on it \(process {private_kafka.broker.pid}\)"):
        Broker(private_kafka.broker.directory).start()
    produce(private_kafka.bootstrap, EVENTS.name, [("d", b"still there")])


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"port {port} on 127.0.0.1 is in use"):
            Broker(tmp_path, port).start()


def test_what_kafka_says_is_told_when_it_does_not_come_up(tmp_path: Path) -> None:
    broker = Broker(tmp_path, free_port())
    broker.start()
    broker.stop()
    (tmp_path / "data" / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=other\n")
    with pytest.raises(BrokerFailed, match=r"(?s)ended with status \d+ while starting.*node.?id"):
        broker.start()


def test_a_missing_jar_that_cannot_be_fetched_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # Nothing listens on the discard port: every request is refused at once, as without a network.
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(BadInput, match="could not be fetched from Maven Central") as caught:
        jars_module.fetch()
    assert "\n" not in str(caught.value)
    assert not list(jars_module.cache_dir().glob("*.jar"))


def test_the_lock_names_every_jar_once() -> None:
    jars = jars_module.locked_jars()
    assert len({jar.filename for jar in jars}) == len(jars) > 40
    assert f"org.apache.kafka:kafka-clients:{jars_module.KAFKA_VERSION}" in {jar.coordinate for jar in jars}


def test_fresh_topics_are_empty_and_keep_their_settings(fresh_kafka: KafkaNode) -> None:
    produce(fresh_kafka.bootstrap, FENCES.name, [("f", b"1")])
    produce(fresh_kafka.bootstrap, EVENTS.name, [("d", b"1")])
    fresh_kafka.refresh_topics()
    assert consume_all(fresh_kafka.bootstrap, FENCES.name) == []
    assert consume_all(fresh_kafka.bootstrap, EVENTS.name) == []
    produce(fresh_kafka.bootstrap, EVENTS.name, [("d", b"2")])
    assert [m.value() for m in consume_all(fresh_kafka.bootstrap, EVENTS.name)] == [b"2"]
