"""Settings of Kafka clients that all services share, and plain questions to a cluster about offsets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from tidegate_protocols.topics import PARTITIONER

_log = logging.getLogger(__name__)


def _not_a_connection(record: logging.LogRecord) -> bool:
    # A broker that is away gives a line for every client and every try; that it is away, calls say themselves.
    return _log.isEnabledFor(logging.DEBUG) or not record.getMessage().startswith("FAIL ")


_log.addFilter(_not_a_connection)
REQUEST_S = 10.0
WRITE_S = 30.0
_STABLE_S = 1.0  # how long a pending commit is waited for before the caller is told
# So many times in a row; then a new client asks: the old one may wait for a coordinator that it will never see again.
_PENDING_MAX = 10


class Part(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Committed(NamedTuple):
    """What a group has committed for a partition: the next offset to read, and the text that came with it."""

    offset: int
    metadata: str


class Message(Protocol):
    """What a consumer returns: a record, or with `error` set news about a partition.

    (The client library's own type leaves open that a message not from a consumer has no place.)
    """

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> list[tuple[str, bytes | None]] | None: ...
    def error(self) -> KafkaError | None: ...


class OffsetsPending(RuntimeError):
    """A transaction that commits offsets of these partitions is still open: the committed offset may yet change."""


def _on_error(error: KafkaError) -> None:
    # Brokers come and go; the client library reconnects by itself and says the rest through its calls.
    _log.debug("kafka client: %s", error)


def client_settings(bootstrap: str, client_id: str) -> dict[str, Any]:
    """What every client starts from: quick reconnects, and one address family on a loopback broker."""
    return {
        "bootstrap.servers": bootstrap,
        "client.id": client_id,
        "broker.address.family": "v4",
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        "topic.metadata.propagation.max.ms": 10000,
        "error_cb": _on_error,
        "logger": _log,
    }


def reader(bootstrap: str, client_id: str) -> Consumer:
    """A consumer of committed records without a group, for `assign`. Says where each partition ends."""
    return Consumer(
        client_settings(bootstrap, client_id)
        | {
            "group.id": f"{client_id}-reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
            "fetch.queue.backoff.ms": 20,
        }
    )


def producer(bootstrap: str, client_id: str, settings: Mapping[str, Any] | None = None) -> Producer:
    """A producer that puts keys where Java clients put them, and that neither repeats nor reorders."""
    return Producer(
        client_settings(bootstrap, client_id) | PARTITIONER | {"enable.idempotence": True} | dict(settings or {})
    )


def produce(client: Producer, topic: str, key: bytes | str, value: bytes | None, on_delivery: Any = None) -> None:
    """Produce a record, waiting while the client's queue is full. Raises KafkaException."""
    while True:
        try:
            client.produce(topic, value, key, on_delivery=on_delivery)
        except BufferError:
            client.poll(0.1)
        else:
            return


def write(
    bootstrap: str, client_id: str, topic: str, records: Iterable[tuple[bytes | str, bytes | None]],
    done: Callable[[int], None] | None = None, *, wait_s: float = WRITE_S,
) -> tuple[int, str]:  # fmt: skip
    """Write records and wait until Kafka has them: how many it has not after `wait_s`, and why; (0, "") when it has.

    `done` is told after each how many were answered. Raises KafkaException for a record that cannot be produced at all.
    """
    client = producer(bootstrap, client_id, {"message.timeout.ms": int(wait_s * 1000)})
    refused: list[str] = []
    answered = 0

    def delivered(error: KafkaError | None, _message: Any) -> None:
        nonlocal answered
        if error is not None:
            refused.append(error.str())
        answered += 1
        if done is not None:
            done(answered)

    for key, value in records:
        produce(client, topic, key, value, delivered)
        client.poll(0)
    left = client.flush(wait_s)
    return len(refused) + left, refused[0] if refused else "no answer" if left else ""


def take(consumer: Consumer, count: int, wait_s: float) -> list[Message]:
    """Up to `count` messages: waits up to `wait_s` for the first one, and takes what is there by then.

    (`Consumer.consume` with a time-out waits for all of `count`.)
    """
    first = consumer.poll(wait_s)
    if first is None:
        return []
    messages = [first, *consumer.consume(count - 1, 0)] if count > 1 else [first]
    return cast(list[Message], messages)


def read_to(consumer: Consumer, ends: Mapping[Part, int]) -> Iterable[Message]:
    """Assign these partitions from their beginning and yield what they hold, until each has been read to its end.

    `consumer` is a `reader`. An end that is a high watermark is reached only once the transactions below it have ended,
    since a reader of committed records goes no further than the last stable offset. The partitions stay assigned.
    Raises KafkaException.
    """
    left = {part: end for part, end in ends.items() if end > 0}
    consumer.assign([TopicPartition(part.topic, part.partition, 0) for part in ends])
    while left:
        for message in take(consumer, 10_000, 0.5):
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                part = Part(message.topic(), message.partition())
                if part in left and message.offset() >= left[part]:
                    del left[part]
            elif not passes(error):
                raise KafkaException(error)


_PASSING = frozenset(
    (
        KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT,
        KafkaError._WAIT_COORD, KafkaError._MAX_POLL_EXCEEDED, KafkaError._ASSIGNMENT_LOST,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.REQUEST_TIMED_OUT, KafkaError.NETWORK_EXCEPTION, KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.ILLEGAL_GENERATION, KafkaError.FENCED_MEMBER_EPOCH, KafkaError.STALE_MEMBER_EPOCH,
        KafkaError._NOENT, KafkaError._UNKNOWN_PARTITION, KafkaError._DESTROY, KafkaError._DESTROY_BROKER,
        KafkaError._RETRY, KafkaError._UNKNOWN_BROKER, KafkaError._WAIT_CACHE, KafkaError._TIMED_OUT_QUEUE,
    )
)  # fmt: skip


def passes(error: KafkaError) -> bool:
    """Whether an error heals by waiting and trying again: a broker that is away, a membership that has lapsed."""
    return not error.fatal() and (error.retriable() or error.code() in _PASSING)


class Offsets:
    """Asks a cluster about offsets. Every method raises KafkaException without an answer in `REQUEST_S`."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._settings = client_settings(bootstrap, client_id)
        self._readers: dict[str, Consumer] = {}
        self._pending = 0
        self._watcher: Consumer | None = None

    def earliest(self, parts: Iterable[Part]) -> dict[Part, int]:
        """The first offset that each partition still has."""
        return self._list(parts, OFFSET_BEGINNING)

    def latest(self, parts: Iterable[Part]) -> dict[Part, int]:
        """The high watermark of each partition: records of open transactions count."""
        return self._list(parts, OFFSET_END)

    def at_time(self, parts: Iterable[Part], time_us: int) -> dict[Part, int]:
        """The first record of each partition that was appended at this time or later; its end where there is none."""
        parts = list(parts)
        found = self._list(parts, max(0, time_us // 1000))
        missing = [part for part in parts if found[part] < 0]
        return found | (self.latest(missing) if missing else {})

    def _list(self, parts: Iterable[Part], which: int) -> dict[Part, int]:
        # Asked through a consumer: the admin client's ListOffsets ends the whole process when the broker goes away
        # before it has answered (an assertion on `eonce`, as in librdkafka #3663). To Kafka, -1 and -2 are times too.
        asked = [TopicPartition(part.topic, part.partition, which) for part in parts]
        if not asked:
            return {}
        if self._watcher is None:
            self._watcher = Consumer(
                self._settings
                | {"group.id": "none", "enable.auto.commit": False, "isolation.level": "read_uncommitted"}
            )
        try:
            answer = self._watcher.offsets_for_times(asked, timeout=REQUEST_S)
            for tp in answer:
                if tp.error is not None:
                    raise KafkaException(tp.error)
        except KafkaException:
            # The client may go on asking with what it knew before a restart: the next question gets a new one.
            self._watcher.close()
            self._watcher = None
            raise
        return {Part(tp.topic, tp.partition): tp.offset for tp in answer}

    def committed(self, group: str, parts: Sequence[Part]) -> dict[Part, Committed]:
        """What `group` has committed; partitions without a commit are left out.

        Raises OffsetsPending while a transactional commit to any of them is pending, so that what is returned is the
        last word of whoever owned the partition before; and when there is no answer yet.
        """
        if not parts:
            return {}
        try:
            answer = self._reader_of(group).committed([TopicPartition(*part) for part in parts], timeout=_STABLE_S)
        except KafkaException as error:
            # The client asks again by itself while a commit is pending, and then says that time is up.
            if error.args[0].code() in (KafkaError.UNSTABLE_OFFSET_COMMIT, KafkaError._TIMED_OUT):
                self._pending += 1
                if self._pending >= _PENDING_MAX:
                    self._pending = 0
                    self._readers.pop(group).close()
                raise OffsetsPending from None
            raise
        self._pending = 0
        found = {}
        for tp in answer:
            if tp.error is not None:
                if tp.error.code() == KafkaError.UNSTABLE_OFFSET_COMMIT:
                    raise OffsetsPending
                raise KafkaException(tp.error)
            if tp.offset != OFFSET_INVALID:
                found[Part(tp.topic, tp.partition)] = Committed(tp.offset, tp.metadata or "")
        return found

    def _reader_of(self, group: str) -> Consumer:
        """A consumer that never joins. The admin client knows the same question, but ends the whole process when the
        coordinator goes away before it has answered (librdkafka #3663).
        """
        if group not in self._readers:
            self._readers[group] = Consumer(
                self._settings | {"group.id": group, "enable.auto.commit": False, "isolation.level": "read_committed"}
            )
        return self._readers[group]
