"""What comes onto `telemetry.frames`, and when: a reader beside the test that looks all the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import Consumer, TopicPartition
from tidegate_protocols.batch import Batch
from tidegate_protocols.frame import decode_frame
from tidegate_protocols.schema import Schema
from tidegate_protocols.topics import FRAMES

from tests.support.kafka import QUIET


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame and the wall time, in seconds, at which a reader had it."""

    at: float
    batch: Batch


class Watcher:
    """Reads from the topic's end on until the context ends. `arrivals` are in order within each device."""

    def __init__(self, bootstrap: str, schemas: Iterable[Schema]) -> None:
        self.arrivals: list[Arrival] = []
        self._schemas = {schema.fingerprint: schema for schema in schemas}
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "watcher", "fetch.wait.max.ms": 20, **QUIET}
        )
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Watcher:
        places = [TopicPartition(FRAMES.name, p) for p in range(FRAMES.partitions)]
        for place in places:
            _, place.offset = self._consumer.get_watermark_offsets(place, timeout=20)
        self._consumer.assign(places)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._consumer.close()

    def _read(self) -> None:
        while not self._end.is_set():
            for message in self._consumer.consume(1000, timeout=0.05):
                value = message.value()
                if message.error() is None and value is not None:
                    self.arrivals.append(Arrival(time.time(), decode_frame(value, self._schemas)))
