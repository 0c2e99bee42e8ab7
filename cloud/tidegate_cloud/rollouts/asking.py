"""What people do with rollouts from outside the server: ask, wait for the answer, read how things stand."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator

from confluent_kafka import KafkaException, TopicPartition
from tidegate_protocols.errors import BadInput
from tidegate_protocols.ota import Place, root_key, root_version
from tidegate_protocols.rollouts import ROLLOUT_COMMAND, ROLLOUT_STEP, RolloutCommand, RolloutStep
from tidegate_protocols.topics import FILES, ROLLOUT_COMMANDS, ROLLOUT_LOG, TRUST, Topic

from tidegate_cloud.clock import SystemClock
from tidegate_cloud.kafka import WRITE_S, Message, Offsets, Part, producer, read_to, reader, take, write

from .controller import Controller
from .ledger import ref_of, store
from .server import WHOLE, put_record

# What the client library retries by itself is no news for a person who has not asked for a log.
logging.getLogger("tidegate_cloud.kafka").addHandler(logging.NullHandler())


def ask(bootstrap: str, command: RolloutCommand, wait_s: float) -> RolloutStep:
    """Send a command and wait for what comes of it.

    Raises BadInput when Kafka does not take it, or no server answers within `wait_s`: it stands, and is worked off once
    one runs.
    """
    name = f"tidegate-config-{uuid.uuid4().hex[:8]}"
    consumer = reader(bootstrap, name)
    try:
        end = Offsets(bootstrap, name).latest([Part(ROLLOUT_LOG.name, 0)])[Part(ROLLOUT_LOG.name, 0)]
        consumer.assign([TopicPartition(ROLLOUT_LOG.name, 0, end)])
        key = (command.rollout or command.id).encode()
        _write(bootstrap, ROLLOUT_COMMANDS, [(key, ROLLOUT_COMMAND.encode(command))])
        clock = SystemClock()
        deadline = clock.monotonic() + wait_s
        while clock.monotonic() < deadline:
            for message in take(consumer, 100, 0.2):
                if message.error() is None:
                    step = ROLLOUT_STEP.decode(message.value() or b"")
                    if step.cause == command.id:
                        return step
    except KafkaException as error:
        raise BadInput(f"Kafka refused: {error.args[0].str()}", where=bootstrap) from None
    finally:
        consumer.close()
    raise BadInput(
        f"no answer within {wait_s:g} s", where=bootstrap,
        hint="the command stands; is a server there? tidegate rollouts",
    )  # fmt: skip


def read(bootstrap: str) -> Controller:
    """How everything stands, as a server reads it. Raises BadInput when Kafka does not answer."""
    controller = Controller()
    for message in _records(bootstrap, WHOLE):
        put_record(controller, message)
    return controller


def steps(bootstrap: str, rollout: str = "") -> list[RolloutStep]:
    """The log, oldest first; of one rollout when it is named."""
    found = [ROLLOUT_STEP.decode(message.value() or b"") for message in _records(bootstrap, (ROLLOUT_LOG,))]
    return [step for step in found if not rollout or step.rollout == rollout]


def publish_roots(bootstrap: str, roots: dict[int, bytes]) -> list[int]:
    """Put root metadata on device.trust; the versions that were not there. Raises BadInput for another one there."""
    there = {
        version: message.value()
        for message in _records(bootstrap, (TRUST,))
        if (version := root_version(message.key() or b"")) is not None
    }
    for version, root in roots.items():
        if there.get(version, root) != root:
            raise BadInput(
                f"another root {version} is there already", where=TRUST.name,
                hint="agents follow one chain of roots: publish the folder that made the first one",
            )  # fmt: skip
    new = [version for version in roots if version not in there]
    _write(bootstrap, TRUST, [(root_key(version), roots[version]) for version in new])
    return new


def put_files(bootstrap: str, contents: Iterable[bytes]) -> dict[str, list[Place]]:
    """Put files on device.files; their places by SHA-256. Raises BadInput."""
    client = producer(bootstrap, "tidegate-config", {"message.timeout.ms": int(WRITE_S * 1000)})
    try:
        return store(client, {ref_of(data).sha256: data for data in contents})
    except KafkaException as error:
        raise BadInput(f"Kafka refused: {error.args[0].str()}", where=FILES.name) from None


def _records(bootstrap: str, topics: Iterable[Topic]) -> Iterator[Message]:
    name = f"tidegate-config-{uuid.uuid4().hex[:8]}"
    consumer = reader(bootstrap, name)
    parts = [Part(topic.name, number) for topic in topics for number in range(topic.partitions)]
    try:
        yield from read_to(consumer, Offsets(bootstrap, name).latest(parts))
    except KafkaException as error:
        raise BadInput(
            f"Kafka refused: {error.args[0].str()}", where=bootstrap, hint="tidegate topics apply creates the topics"
        ) from None
    finally:
        consumer.close()


def _write(bootstrap: str, topic: Topic, records: Iterable[tuple[bytes, bytes]]) -> None:
    failed, why = write(bootstrap, "tidegate-config", topic.name, records)
    if failed:
        raise BadInput(
            f"not written: {why}", where=topic.name,
            hint="tidegate topics apply creates the topics",
        )  # fmt: skip
