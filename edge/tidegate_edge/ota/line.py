"""Kafka as configurations over the air use it: what is desired comes in, files are fetched, reports go out.

One consumer in a thread of its own, which reads device.trust whole, and this agent's partition of device.desired from
where it was left. What others in the partition are told passes by unread. Nothing needs to be reachable but Kafka.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from tidegate_protocols.errors import BadInput
from tidegate_protocols.ids import partition_of
from tidegate_protocols.ota import DESIRED_MAX, Place, chunk_key, desired_key, root_version
from tidegate_protocols.topics import DESIRED, FILES, PARTITIONER, REPORTED, TRUST

log = logging.getLogger(__name__)

_POLL_S = 0.5
_FETCH_S = 30.0
_REPORT_S = 10.0
_CLIENT = ("security.", "sasl.", "ssl.", "socket.", "broker.", "reconnect.", "client.dns")

Told = Callable[[bytes, int], None]


class Line:
    """`told` is called in the event loop with each record for this agent and the offset after it."""

    def __init__(self, agent: str, bootstrap: str, options: Mapping[str, Any], told: Told) -> None:
        self._key = desired_key(agent)
        self._partition = partition_of(self._key, DESIRED.partitions)
        self._client = {name: value for name, value in options.items() if name.startswith(_CLIENT)} | {
            "bootstrap.servers": bootstrap, "client.id": f"tidegate-{agent}-ota", "logger": log,
            "error_cb": lambda error: log.debug("kafka: %s", error),
        }  # fmt: skip
        self._told = told
        self._wanted: queue.SimpleQueue[Callable[[Consumer], None]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.roots: dict[int, bytes] = {}
        self.missed = False  # records were lost before they were read: ask to be told anew

    def start(self, offset: int) -> None:
        """Read from `offset` on, or what comes from now on when it is -1."""
        loop = asyncio.get_running_loop()
        arguments = (loop, OFFSET_END if offset < 0 else offset)
        self._thread = threading.Thread(target=self._run, args=arguments, name="ota", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns once it has ended."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    async def chunk(self, sha256: str, number: int, place: Place) -> bytes:
        """A chunk of a file, from where it is said to be. Raises BadInput where it is not, or nothing answers."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bytes] = loop.create_future()

        def fetch(consumer: Consumer) -> None:
            try:
                found = _fetch(consumer, chunk_key(sha256, number), place, lambda message: self._take(message, loop))
            except (BadInput, KafkaException) as error:
                text = error.args[0].str() if isinstance(error, KafkaException) else str(error)
                loop.call_soon_threadsafe(_fail, done, BadInput(text, where=f"file {sha256[:12]}"))
            else:
                loop.call_soon_threadsafe(_succeed, done, found)

        self._wanted.put(fetch)
        return await done

    def report(self, value: bytes) -> bool:
        """Send a report and wait until Kafka has it; False when it does not answer. Blocks."""
        delivered: list[KafkaError | None] = []
        # Once in minutes: a producer that stays would cost memory and threads for good.
        producer = Producer(self._client | PARTITIONER | {"message.timeout.ms": int(_REPORT_S * 1000), "linger.ms": 0})
        producer.produce(REPORTED.name, value, self._key, on_delivery=lambda error, _: delivered.append(error))
        producer.flush(_REPORT_S + 1)
        return delivered == [None]

    def _run(self, loop: asyncio.AbstractEventLoop, offset: int) -> None:
        consumer = Consumer(
            self._client
            | {
                "group.id": "tidegate-ota", "enable.auto.commit": False, "isolation.level": "read_committed",
                "auto.offset.reset": "latest", "queued.max.messages.kbytes": 1024, "fetch.queue.backoff.ms": 50,
                "fetch.max.bytes": 1 << 20, "max.partition.fetch.bytes": 512 << 10,
            }
        )  # fmt: skip
        mine = TopicPartition(DESIRED.name, self._partition, offset)
        consumer.assign([TopicPartition(TRUST.name, 0, OFFSET_BEGINNING), mine])
        try:
            while not self._stop.is_set():
                message = consumer.poll(_POLL_S if self._wanted.empty() else 0)
                if message is not None:
                    self._take(message, loop)
                while not self._wanted.empty():
                    self._wanted.get()(consumer)
        finally:
            consumer.close()

    def _take(self, message: Any, loop: asyncio.AbstractEventLoop) -> None:
        error = message.error()
        if error is not None:
            if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                self.missed = True
            log.debug("kafka: %s", error.str())
            return
        key, value = message.key() or b"", message.value()
        if message.topic() == TRUST.name:
            version = root_version(key)
            if version is not None and value is not None:
                self.roots[version] = value
        elif key == self._key and value is not None and len(value) <= DESIRED_MAX:
            loop.call_soon_threadsafe(self._told, value, message.offset() + 1)


def _fetch(consumer: Consumer, key: bytes, place: Place, otherwise: Callable[[Any], None]) -> bytes:
    """The value at `place`. What else comes meanwhile goes to `otherwise`. Raises BadInput and KafkaException."""
    consumer.incremental_assign([TopicPartition(FILES.name, place.partition, place.offset)])
    try:
        waited = 0.0
        while waited < _FETCH_S:
            message = consumer.poll(_POLL_S)
            if message is None:
                waited += _POLL_S
                continue
            error = message.error()
            if message.topic() != FILES.name:
                otherwise(message)
            elif error is not None:
                raise BadInput(error.str())
            else:
                value = message.value()
                if message.offset() != place.offset or message.key() != key or value is None:
                    raise BadInput(f"is not at {FILES.name}[{place.partition}]@{place.offset} any more")
                return value
        raise BadInput(f"Kafka gave nothing for {_FETCH_S:g} s")
    finally:
        consumer.incremental_unassign([TopicPartition(FILES.name, place.partition)])


def _succeed(done: asyncio.Future[bytes], value: bytes) -> None:
    if not done.done():
        done.set_result(value)


def _fail(done: asyncio.Future[bytes], error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
