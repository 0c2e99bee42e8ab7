"""Writes records to compacted topics for people who wait for the answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from tidegate_cloud.clock import Clock
from tidegate_cloud.kafka import producer

_ANSWER_S = 5.0


class NotSaved(Exception):
    """Kafka did not acknowledge it in time, or it has not come back. Trying again is safe."""


class Writer:
    """Thread-safe. A record counts once the reading thread has read it back: `read` says how far that is."""

    def __init__(self, bootstrap: str, clock: Clock) -> None:
        self._clock = clock
        settings = {"message.timeout.ms": int(_ANSWER_S * 1000), "acks": "all", "linger.ms": 0}
        self._producer = producer(bootstrap, "tidegate-console", settings)

    async def put(self, topic: str, key: str, value: bytes | None, read: Callable[[], int]) -> None:
        """Write a record, or with None a tombstone. `read` gives the last offset of the topic that has been read back.

        Raises NotSaved.
        """
        offset = await asyncio.to_thread(self._produce, topic, key, value)
        deadline = self._clock.monotonic() + _ANSWER_S
        while read() < offset:
            if self._clock.monotonic() > deadline:
                raise NotSaved("it has not come back from Kafka")
            await asyncio.sleep(0.01)

    def _produce(self, topic: str, key: str, value: bytes | None) -> int:
        done = threading.Event()
        answer: list[Any] = []

        def delivered(error: KafkaError | None, message: Any) -> None:
            answer.append(error if error is not None else message.offset())
            done.set()

        try:
            self._producer.produce(topic, value, key, on_delivery=delivered)
        except (BufferError, KafkaException) as error:
            raise NotSaved(str(error)) from None
        while not done.is_set():
            self._producer.poll(0.05)
        if isinstance(answer[0], KafkaError):
            raise NotSaved(answer[0].str())
        return int(answer[0])

    def close(self) -> None:
        """Wait shortly for what is under way."""
        self._producer.flush(1.0)
