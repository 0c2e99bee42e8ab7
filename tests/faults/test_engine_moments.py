"""The processor on a real Kafka, killed at bad moments on purpose: inside a transaction, while partitions move, after
its checkpoints were compacted. What is committed is what one clean run commits.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, OffsetSpec, ResourceType
from tidegate_protocols.topics import CHECKPOINTS, DEVICE_PARTITIONS, EVENTS

from tests.engine.frames import SPEED, TEMPERATURE
from tests.engine.processes import Fleet, Processor, fleet
from tests.faults.test_engine_faults import edit
from tests.support.kafka import KafkaNode, consume_all
from tests.support.wait import until


def transaction_is_open(made: Fleet) -> bool:
    """Whether events lie on Kafka that nobody has committed or aborted yet."""

    def ends(isolation: IsolationLevel) -> list[int]:
        asked = {TopicPartition(EVENTS.name, p): OffsetSpec.latest() for p in range(DEVICE_PARTITIONS)}
        found = made.admin.list_offsets(asked, isolation_level=isolation)
        return [future.result(30).offset for future in found.values()]

    return ends(IsolationLevel.READ_COMMITTED) != ends(IsolationLevel.READ_UNCOMMITTED)


def killed_inside_a_transaction(made: Fleet, processor: Processor) -> bool:
    """Stop the processor as soon as it writes events, and kill it if they are not committed; whether they were not."""
    before = made.written()
    made.drive(4)
    until(lambda: made.written() > before, what="events")
    processor.signal(signal.SIGSTOP)
    if not transaction_is_open(made):
        processor.signal(signal.SIGCONT)
        return False
    processor.kill()
    return transaction_is_open(made)  # its end was not on the way either


def test_killed_inside_a_transaction(fresh_kafka: KafkaNode, tmp_path: Path) -> None:
    with fleet(fresh_kafka, tmp_path) as made:
        made.announce(SPEED, TEMPERATURE)
        for _ in range(3):
            processor = made.start("1")

            def killed(processor: Processor = processor) -> bool:
                return killed_inside_a_transaction(made, processor) or processor.process.poll() is not None

            until(killed, what="a transaction to be caught open")
        processor = made.start("1")
        made.drive(1)
        made.assert_as_undisturbed()
        assert processor.stop() == 0


def given_up(processor: Processor, before: int) -> None:
    """Wait until it has given partitions up once more: they are on their way to another member."""
    until(lambda: processor.output().count("gave up") > before, what="partitions to be given up")


def test_killed_inside_a_rebalance(fresh_kafka: KafkaNode, tmp_path: Path) -> None:
    with fleet(fresh_kafka, tmp_path) as made:
        made.announce(SPEED, TEMPERATURE)
        first = made.start("1")
        made.drive(2)
        until(lambda: made.written() > 50, what="the first events")
        second = made.start("2")
        given_up(first, 0)
        second.kill()  # what it was to have has no owner
        made.drive(2)
        gave = first.output().count("gave up")
        second = made.start("2")
        given_up(first, gave)
        first.kill()  # so has all the rest now
        made.drive(2)
        gave = second.output().count("gave up")
        first = made.start("1")
        given_up(second, gave)
        first.kill()
        second.kill()  # nobody is left, in the middle of it
        made.drive(2)
        alive = [made.start("1"), made.start("2")]
        made.drive(2)
        made.assert_as_undisturbed()
        assert [processor.stop() for processor in alive] == [0, 0]


@contextmanager
def compacts_at_once(kafka: KafkaNode, topic: str) -> Iterator[None]:
    """Segments of the topic are closed and compacted as soon as there is anything to do."""
    admin = kafka.admin()

    def alter(kind: ResourceType, name: str, settings: dict[str, str | None]) -> None:
        entries = [
            ConfigEntry(
                key, value,
                incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
            )
            for key, value in settings.items()
        ]  # fmt: skip
        for future in admin.incremental_alter_configs(
            [ConfigResource(kind, name, incremental_configs=entries)]
        ).values():
            future.result(30)

    often = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.001", "delete.retention.ms": "0"}
    alter(ResourceType.TOPIC, topic, dict(often))
    (broker,) = admin.list_topics(timeout=30).brokers
    alter(ResourceType.BROKER, str(broker), {"log.cleaner.backoff.ms": "100"})
    try:
        yield
    finally:
        alter(ResourceType.BROKER, str(broker), {"log.cleaner.backoff.ms": None})
        alter(ResourceType.TOPIC, topic, dict.fromkeys(often))


def places(kafka: KafkaNode) -> set[tuple[int, int]]:
    """Where the checkpoint topic still has rows of devices."""
    return {
        (m.partition(), m.offset())
        for m in consume_all(kafka.bootstrap, CHECKPOINTS.name)
        if (m.key() or b"").startswith(b"d/")
    }


def test_checkpoints_are_compacted_in_between(fresh_kafka: KafkaNode, tmp_path: Path) -> None:
    rng = random.Random(4)
    with fleet(fresh_kafka, tmp_path) as made, compacts_at_once(fresh_kafka, CHECKPOINTS.name):
        made.announce(SPEED, TEMPERATURE)
        processor = made.start("1", "--longest-s", "0.5")
        for _ in range(2):
            edit(made, rng)
            made.drive(2)
            before = until(lambda: places(fresh_kafka), what="rows")

            def compacted(before: set[tuple[int, int]] = before) -> bool:
                made.drive(1)  # a segment is closed by what comes after it
                return not before <= places(fresh_kafka)

            until(compacted, 120, "rows that were written anew to be gone from the topic")
            processor.kill()
            made.drive(1)
            processor = made.start("1", "--longest-s", "0.5")
        made.assert_as_undisturbed()
        assert processor.stop() == 0
