"""Topics as the catalogue has them: what differs, and how it is put right.

Nothing is ever deleted, and a partition count is never changed: a record's key decides its partition, and everything
about a device must stay in one. A topic that has another count is reported and left alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
)
from tidegate_protocols.errors import BadInput
from tidegate_protocols.topics import CATALOGUE, Topic

_TIMEOUT_S = 120.0
_POLL_S = 0.05
_TRY_S = 2.0
_LAYING_OUT = frozenset(
    (
        KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.REPLICA_NOT_AVAILABLE, KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError._NOENT,
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """What one topic needs.

    `settings` holds, by name, the value found (None when the topic is not there) and the value wanted.
    `partitions` is the count found, 0 when the topic is not there.
    """

    topic: Topic
    action: Literal["create", "correct", "leave", "wrong partitions"]
    partitions: int = 0
    settings: Mapping[str, tuple[str | None, str]] = field(default_factory=dict)


def connect(bootstrap: str, wait_s: float = 5.0, on_wait: Callable[[], None] = lambda: None) -> AdminClient:
    """An admin client. Raises BadInput when no Kafka answers at `bootstrap` within about `wait_s` seconds.

    `on_wait` is called once when Kafka does not answer at once.
    """
    deadline = time.monotonic() + wait_s
    # The client's own log repeats every refused connection; the one error below says it once.
    client = AdminClient(
        {
            "bootstrap.servers": bootstrap, "log_level": 0, "socket.connection.setup.timeout.ms": 5000,
            "reconnect.backoff.max.ms": 1000,
        }
    )  # fmt: skip
    told = False
    while True:
        try:
            client.list_topics(timeout=_TRY_S)
        except KafkaException:
            if time.monotonic() >= deadline:
                raise BadInput(
                    "no Kafka answers there", where=bootstrap, hint="start one with tidegate broker"
                ) from None
        else:
            return client
        if not told:
            on_wait()
            told = True
        time.sleep(_POLL_S)


def need(client: AdminClient, topic: Topic) -> None:
    """Raise BadInput when Kafka has no such topic."""
    if topic.name not in client.list_topics(timeout=_TIMEOUT_S).topics:
        raise BadInput("there is no such topic", where=topic.name, hint="run tidegate topics apply")


def plan(client: AdminClient, catalogue: Sequence[Topic] = CATALOGUE) -> list[Change]:
    """Compare Kafka with the catalogue. One Change per topic of the catalogue, in its order."""
    present = client.list_topics(timeout=_TIMEOUT_S).topics
    found = [topic for topic in catalogue if topic.name in present]
    settings = _settings(client, [topic.name for topic in found])
    changes = []
    for topic in catalogue:
        if topic.name not in present:
            wanted = {key: (None, value) for key, value in topic.config().items()}
            changes.append(Change(topic, "create", 0, wanted))
            continue
        count = len(present[topic.name].partitions)
        actual = settings[topic.name]
        differing = {key: (actual.get(key), value) for key, value in topic.config().items() if actual.get(key) != value}
        if count != topic.partitions:
            changes.append(Change(topic, "wrong partitions", count, differing))
        else:
            changes.append(Change(topic, "correct" if differing else "leave", count, differing))
    return changes


def apply(client: AdminClient, changes: Iterable[Change], done: Callable[[Change], None] | None = None) -> None:
    """Create and correct what `changes` names; `done` is called after each. What was created can be used on return.

    Raises BadInput with Kafka's reason.
    """
    changes = list(changes)
    by_name = {change.topic.name: change for change in changes}
    new = [
        NewTopic(
            change.topic.name,
            num_partitions=change.topic.partitions,
            replication_factor=_replication(client),
            config=change.topic.config(),
        )
        for change in changes
        if change.action == "create"
    ]
    if new:
        _finish(client.create_topics(new, operation_timeout=_TIMEOUT_S), by_name, done)
        settle(client, [change.topic for change in changes if change.action == "create"])
    resources = [
        ConfigResource(
            ConfigResource.Type.TOPIC,
            change.topic.name,
            incremental_configs=[
                ConfigEntry(key, wanted, incremental_operation=AlterConfigOpType.SET)
                for key, (_found, wanted) in change.settings.items()
            ],
        )
        for change in changes
        if change.action in ("correct", "wrong partitions") and change.settings
    ]
    if resources:
        altered = {res.name: future for res, future in client.incremental_alter_configs(resources).items()}
        _finish(altered, by_name, done)


def written(client: AdminClient, topics: Sequence[Topic]) -> dict[str, int] | None:
    """Records ever written to each of `topics`; None while Kafka is still laying out one of their partitions."""
    parts = [TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    totals = dict.fromkeys((topic.name for topic in topics), 0)
    try:
        for part, future in client.list_offsets(dict.fromkeys(parts, latest)).items():
            totals[part.topic] += future.result(_TIMEOUT_S).offset
    except KafkaException as error:
        if error.args[0].code() in _LAYING_OUT:
            return None
        raise
    return totals


def settle(client: AdminClient, topics: Sequence[Topic] = CATALOGUE) -> None:
    """Wait until every partition can be used: Kafka answers, and says that a topic is created, before it can.

    Raises BadInput when that takes longer than two minutes.
    """
    deadline = time.monotonic() + _TIMEOUT_S
    while written(client, topics) is None:
        if time.monotonic() > deadline:
            raise BadInput(f"not all partitions have a leader after {_TIMEOUT_S:g} s", where="topics")
        time.sleep(_POLL_S)


def _replication(client: AdminClient) -> int:
    return min(3, len(client.list_topics(timeout=_TIMEOUT_S).brokers))


def _settings(client: AdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Every setting of the named topics, by topic."""
    if not names:
        return {}
    futures = client.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, name) for name in names])
    return {
        resource.name: {key: entry.value for key, entry in future.result(_TIMEOUT_S).items()}
        for resource, future in futures.items()
    }


def _finish(
    futures: Mapping[str, Future[Any]], by_name: Mapping[str, Change], done: Callable[[Change], None] | None
) -> None:
    for name, future in futures.items():
        try:
            future.result(_TIMEOUT_S)
        except KafkaException as error:
            raise BadInput(f"Kafka refused: {error.args[0].str()}", where=name) from None
        if done is not None:
            done(by_name[name])
