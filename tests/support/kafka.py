"""Kafka for tests: the nodes that the fixtures hand out, and short ways to write and read whole topics."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec
from tidegate_cloud.admin import topics as topic_admin
from tidegate_cloud.broker import Broker
from tidegate_protocols.topics import BY_NAME, CATALOGUE, DEVICE_PARTITIONS, PARTITIONER

from tests.support.proxy import Proxy
from tests.support.wait import until

_TIMEOUT_S = 30.0
# Clients in tests meet brokers that are down on purpose; what librdkafka says of it would bury the test's own output.
QUIET = {"log_level": 0}


class _Tuned(Broker):
    """A broker with settings of a test's own."""

    settings: Mapping[str, str] = {}

    def _write_settings(self, controller_port: int) -> None:
        super()._write_settings(controller_port)
        with (self.directory / "server.properties").open("a") as file:  # of a key that stands twice the last counts
            for key, value in self.settings.items():
                file.write(f"{key}={value.format(port=self.port, controller_port=controller_port)}\n")


class KafkaNode:
    """A real Kafka with the catalogue's topics. `stop`, `start` and `kill` keep the port and the data.

    `proxy`: clients reach it only through that, when there is one. `settings` go over those of `server.properties`;
    ``{port}`` and ``{controller_port}`` in them stand for the node's own.
    """

    def __init__(
        self, directory: Path, *, port: int = 0, proxy: Proxy | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self.proxy = proxy
        advertised = proxy.port if proxy is not None else None
        self.broker = _Tuned(directory, port, advertised_port=advertised)
        self.broker.settings = settings or {}

    @property
    def bootstrap(self) -> str:
        return self.proxy.address if self.proxy is not None else self.broker.bootstrap

    def start(self) -> KafkaNode:
        self.broker.start()
        client = self.admin()
        topic_admin.apply(client, topic_admin.plan(client))
        _written(client)
        return self

    def stop(self) -> None:
        self.broker.stop()

    def kill(self) -> None:
        self.broker.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, **QUIET})

    def lag(self, group: str, topic: str) -> int:
        """Records of `topic` that the group has not committed; all of them where it has committed nothing."""
        count = BY_NAME[topic].partitions if topic in BY_NAME else DEVICE_PARTITIONS
        partitions = [TopicPartition(topic, p) for p in range(count)]
        request = ConsumerGroupTopicPartitions(group, partitions)
        client = self.admin()  # in a variable: its futures never finish once it is collected
        committed = client.list_consumer_group_offsets([request])[group].result(_TIMEOUT_S).topic_partitions
        ends = client.list_offsets({partition: OffsetSpec.latest() for partition in partitions})
        end = {partition.partition: future.result(_TIMEOUT_S).offset for partition, future in ends.items()}
        return sum(end[entry.partition] - max(0, entry.offset) for entry in committed)

    def refresh_topics(self) -> None:
        """Make every topic of the catalogue that holds anything anew, and forget every group's offsets."""
        client = self.admin()
        _forget_groups(client)
        until(lambda: _create_missing(client), what="topics that an earlier test left missing")
        used = [name for name, records in _written(client).items() if records]
        if used:
            for name, future in client.delete_topics(used, operation_timeout=_TIMEOUT_S).items():
                _done(future, name)
            until(lambda: _create_missing(client), what="topics made anew")
            _written(client)


def _create_missing(client: AdminClient) -> bool:
    """True once no topic of the catalogue is missing."""
    try:
        missing = [change for change in topic_admin.plan(client) if change.action == "create"]
        topic_admin.apply(client, missing)
    except ValueError:  # a deletion is still under way: "already exists"
        return False
    except KafkaException as error:
        if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:  # it was there when it was listed
            raise
        return False
    return not missing


def _written(client: AdminClient) -> dict[str, int]:
    """Records ever written to each topic of the catalogue, once Kafka has laid out every partition."""
    return until(lambda: topic_admin.written(client, CATALOGUE), what="every partition to have a leader")


def _forget_groups(client: AdminClient) -> None:
    groups = [group.group_id for group in client.list_consumer_groups().result(_TIMEOUT_S).valid]
    if not groups:
        return

    def empty() -> bool:
        futures = client.describe_consumer_groups(groups)
        try:
            states = [future.result(_TIMEOUT_S).state for future in futures.values()]
        except KafkaException:
            return False
        return all(state in (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD) for state in states)

    until(empty, what=f"the members of {groups} to leave or be missed")
    for group, future in client.delete_consumer_groups(groups).items():
        _done(future, group)


def _done(future: Any, what: str) -> None:
    try:
        future.result(_TIMEOUT_S)
    except KafkaException as error:
        gone = (KafkaError.GROUP_ID_NOT_FOUND, KafkaError.UNKNOWN_TOPIC_OR_PART)
        if error.args[0].code() not in gone:
            raise AssertionError(f"{what}: {error}") from error


def produce(
    bootstrap: str,
    topic: str,
    records: Iterable[tuple[bytes | str | None, bytes | None]],
    *,
    headers: Mapping[str, bytes] | None = None,
    partition: int | None = None,
) -> int:
    """Write (key, value) records in order and return how many, once Kafka has acknowledged all of them."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5, **PARTITIONER, **QUIET}
    )
    errors: list[str] = []
    count = 0

    def delivered(error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            errors.append(error.str())

    place = {} if partition is None else {"partition": partition}
    for key, value in records:
        while True:
            try:
                producer.produce(
                    topic, value, key, on_delivery=delivered, headers=dict(headers) if headers else None, **place
                )
                break
            except BufferError:
                producer.poll(0.1)
        count += 1
        producer.poll(0)
    left = producer.flush(_TIMEOUT_S)
    assert not left, f"{left} of {count} records unacknowledged on {topic}"
    assert not errors, f"{topic}: {errors[0]} (and {len(errors) - 1} more)"
    return count


def consume_all(bootstrap: str, topic: str, *, committed: bool = True) -> list[Message]:
    """Every record of a topic that is on it now, partition by partition, in order.

    With `committed` (the default) what a reader of committed data sees, up to the last stable offset.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"test-{uuid.uuid4()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 20,
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            **QUIET,
        }
    )
    try:
        found = consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic]
        assert found.error is None, f"{topic}: {found.error}"
        consumer.assign([TopicPartition(topic, p, 0) for p in found.partitions])
        by_partition: dict[int, list[Message]] = {p: [] for p in found.partitions}
        ended: set[int] = set()

        def at_end() -> bool:
            for message in consumer.consume(10_000, timeout=0.1):
                error = message.error()
                if error is None:
                    by_partition[message.partition()].append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
                elif not error.retriable():
                    raise AssertionError(f"{topic}: {error}")
            return len(ended) == len(by_partition)

        until(at_end, timeout=120, what=f"the end of {topic}")
        return [message for partition in sorted(by_partition) for message in by_partition[partition]]
    finally:
        consumer.close()


def newest_by_key(messages: Iterable[Message]) -> dict[bytes, bytes]:
    """What a compacted topic says: the newest value of every key, without the keys whose newest is a tombstone."""
    newest: dict[bytes, bytes] = {}
    for message in messages:
        key, value = message.key(), message.value()
        assert key is not None, "a record without a key on a compacted topic"
        if value is None:
            newest.pop(key, None)
        else:
            newest[key] = value
    return newest


def wait_for(bootstrap: str, topic: str, enough: Callable[[list[Message]], bool], timeout: float = 60) -> list[Message]:
    """Read `topic` whole, again and again, until `enough` says so; returns what was read last."""
    last: list[Message] = []

    def satisfied() -> bool:
        last[:] = consume_all(bootstrap, topic)
        return enough(last)

    until(satisfied, timeout=timeout, what=f"enough on {topic}; there are {len(last)} records")
    return last
