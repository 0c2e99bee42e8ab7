"""Kafka's client as the uplink uses it: in order, without gaps, and told apart what heals from what does not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from tidegate_protocols.errors import BadInput
from tidegate_protocols.topics import PARTITIONER

from .clock import Clock

# The record itself is what Kafka will not have; any other error is of the link, the broker or the rights.
_REFUSALS = frozenset(
    (
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError._INVALID_ARG,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_RECORD,
    )
)
_REMEDIES = {
    KafkaError.UNKNOWN_TOPIC_OR_PART: "`tidegate topics apply` makes it",
    KafkaError._UNKNOWN_TOPIC: "`tidegate topics apply` makes it",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "the agent's user needs the right to write to it",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "the agent's user needs the right to write idempotently",
}

_log = logging.getLogger("tidegate_edge.librdkafka")
# It warns at every start that the guarantee which is wanted here is marked experimental.
_log.addFilter(lambda record: "enable.gapless.guarantee is experimental" not in record.getMessage())


def settings(bootstrap: str, client_id: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """librdkafka's configuration. `options` go over what is not a matter of correctness."""
    return {
        # A silent link is noticed in seconds, and a broker that comes back is found in seconds: by each agent of a
        # fleet at another time, since librdkafka spreads its attempts.
        "socket.timeout.ms": 10_000,
        "socket.connection.setup.timeout.ms": 5_000,
        "request.timeout.ms": 5_000,
        "socket.keepalive.enable": True,
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 4_000,
        "linger.ms": 5,
        "queue.buffering.max.kbytes": 4_096,
        "queue.buffering.max.messages": 20_000,
        "statistics.interval.ms": 0,
        **options,
        **PARTITIONER,
        "bootstrap.servers": bootstrap,
        "client.id": client_id,
        "enable.idempotence": True,
        # A record that expired alone would be passed by its successor, and lost as a duplicate when it came again.
        "enable.gapless.guarantee": True,
        "message.timeout.ms": 0,
        "logger": _log,
    }


def check(configuration: dict[str, Any]) -> None:
    """Raises BadInput for what librdkafka does not take: an unknown option, a certificate that is not there."""
    try:
        Producer(configuration)
    except (KafkaException, TypeError, ValueError) as exception:
        first = exception.args[0] if exception.args else exception
        what = first.str() if isinstance(first, KafkaError) else str(first)
        raise BadInput(what, where="kafka.options") from None


class Refused(Exception):
    """Kafka will not have this record, now or later."""


class Full(Exception):
    """The client's queue is full; it empties as Kafka acknowledges."""


class Link:
    """One producer's life. After `broken` says why, everything unacknowledged is to be sent again by a new one.

    `refused` is set when it broke over a record that Kafka will not have: the next link sends that one otherwise.
    `trouble` is what librdkafka last said of a connection that it is mending by itself.

    Callbacks run inside `poll`, in the caller's thread.
    """

    def __init__(self, configuration: dict[str, Any], clock: Clock) -> None:
        self.broken = ""
        self.trouble = ""
        self.refused = False
        self.in_flight = 0
        self.in_flight_bytes = 0
        self._clock = clock
        self._closed = False
        self._sent: dict[int, float] = {}  # when the records in flight were sent, the oldest first
        self._count = 0
        self._producer = Producer({**configuration, "error_cb": self._on_error})

    def send(self, topic: str, key: bytes, value: bytes, report: Callable[[bool, float], None]) -> None:
        """Queue a record. `report` is called with True once Kafka has it, with False when it refused it for good, and
        with the seconds that it took.

        Raises Refused when it is known at once, and Full.
        """
        number, size, now = self._count, len(value), self._clock.monotonic()

        def delivered(error: KafkaError | None, _message: object) -> None:
            if self._closed:
                return  # it comes again: what was in flight is not known to the next link
            del self._sent[number]
            self.in_flight -= 1
            self.in_flight_bytes -= size
            if error is None:
                self.trouble = ""
                report(True, self._clock.monotonic() - now)
            elif error.code() in _REFUSALS:
                self.refused = True
                self.broken = self.broken or f"{topic}: {error.str()}"
                report(False, 0.0)
            else:
                self.broken = self.broken or _said(topic, error)

        try:
            self._producer.produce(topic, value, key, on_delivery=delivered)
        except BufferError:
            raise Full from None
        except KafkaException as exception:
            error = exception.args[0]
            if error.code() in _REFUSALS:
                raise Refused(error.str()) from None
            self.broken = self.broken or _said(topic, error)
            return
        self._count += 1
        self._sent[number] = now
        self.in_flight += 1
        self.in_flight_bytes += size

    def silence(self, now: float) -> float:
        """Seconds for which the oldest record in flight has waited for its acknowledgement."""
        return now - next(iter(self._sent.values())) if self._sent else 0.0

    def poll(self) -> None:
        """Call back for what was delivered or refused since."""
        try:
            self._producer.poll(0)
        except KafkaException as exception:  # how a fatal error shows itself here
            self.broken = self.broken or exception.args[0].str()

    def reach(self, topics: Sequence[str], timeout_s: float) -> str:
        """Ask Kafka for these topics; what is in the way, or "". Blocks: not for the event loop's thread."""
        for topic in topics:
            try:
                found = self._producer.list_topics(topic, timeout_s).topics[topic]
            except KafkaException as exception:
                return self.trouble or f"Kafka does not answer: {exception.args[0].str()}"
            if found.error is not None:
                return _said(topic, found.error)
        return ""

    def abandon(self) -> None:
        """Forget what is queued and in flight, and call back for what is known of it by now."""
        self._producer.purge()
        for _ in range(3):  # a fatal error may end a call before all was told
            self.poll()
        self._closed = True

    def close(self) -> None:
        """End the client's threads. May take a moment: not for the event loop's thread."""
        self._closed = True
        self._producer.purge()
        try:
            self._producer.flush(1.0)
        except KafkaException:
            pass
        del self._producer  # its `close` would wait for messages that a fatal error keeps for ever

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self.broken = self.broken or error.str()
        else:
            self.trouble = error.str()


def _said(topic: str, error: KafkaError) -> str:
    """An error as a person should read it: where, what, and the remedy."""
    remedy = _REMEDIES.get(error.code(), "")
    return f"{topic}: {error.str()}{remedy and f' ({remedy})'}"
