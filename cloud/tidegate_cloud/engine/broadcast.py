"""Reads small compacted topics whole, and then follows them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from confluent_kafka import KafkaException
from tidegate_protocols.errors import BadInput

from tidegate_cloud.kafka import Message, Offsets, Part, passes, read_to, reader, take

from .logic import Record

_log = logging.getLogger(__name__)


def to_record(message: Message) -> Record:
    """A consumed message as the engine knows it."""
    return Record(
        message.topic(), message.partition(), message.offset(), message.timestamp()[1] * 1000,
        message.key(), message.value(), tuple(message.headers() or ()),
    )  # fmt: skip


class Broadcast:
    """Broadcast inputs of one instance: one consumer without a group over every partition of `topics`."""

    def __init__(self, bootstrap: str, client_id: str, topics: Sequence[str], offsets: Offsets) -> None:
        self._topics = topics
        self._offsets = offsets
        self._reader = reader(bootstrap, f"{client_id}-broadcast") if topics else None

    def load(self) -> list[Record]:
        """Everything that is there now, in order. Raises BadInput when a topic is missing, KafkaException."""
        if self._reader is None:
            return []
        known = self._reader.list_topics(timeout=10).topics
        parts = []
        for topic in self._topics:
            if topic not in known:
                raise BadInput("the topic does not exist", where=topic, hint="`tidegate topics apply` makes it")
            parts += [Part(topic, partition) for partition in known[topic].partitions]
        return [to_record(message) for message in read_to(self._reader, self._offsets.latest(parts))]

    def poll(self) -> list[Record]:
        """What was added since. Never waits."""
        if self._reader is None:
            return []
        records = []
        for message in take(self._reader, 1000, 0):
            error = message.error()
            if error is None:
                records.append(to_record(message))
            elif error.fatal():
                raise KafkaException(error)
            elif not passes(error) and error.name() != "_PARTITION_EOF":
                _log.warning("broadcast input: %s", error.str())
        return records

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
