"""Carries out the effects of a turn, in one transaction: contents, what agents are told, steps, rollouts, layers.

Fenced like any of our producers: a second server with the same transactional id takes over, and this one stops.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException
from tidegate_protocols.ota import Desired, Place, chunk_key, chunks_of, decode_desired, desired_key
from tidegate_protocols.rollouts import LAYER, ROLLOUT_STEP, FileRef, Progress
from tidegate_protocols.topics import DESIRED, FILES, LAYERS, ROLLOUT_LOG, ROLLOUTS

from tidegate_cloud import kafka
from tidegate_cloud.engine.errors import Aborted, Fenced, Halt

from .controller import Effects, Tell
from .director import Director
from .fleet import Content, Fleet
from .machine import SECOND

_log = logging.getLogger(__name__)
_CALL_S = 10.0
ID = "tidegate-rollouts"


class Ledger:
    """The transactional producer. `places`: contents that are on Kafka, by SHA-256."""

    def __init__(self, bootstrap: str, director: Director) -> None:
        self._bootstrap = bootstrap
        self._director = director
        self.places: dict[str, list[Place]] = {}
        self.bytes_told = 0

    def open(self) -> None:
        """Take over: whoever was the server before is fenced, and what it left open is aborted."""
        self._producer = kafka.producer(
            self._bootstrap, ID,
            {
                "transactional.id": ID, "transaction.timeout.ms": 30_000, "linger.ms": 2,
                "queue.buffering.max.messages": 200_000, "message.max.bytes": 2 * 2**20,
            },
        )  # fmt: skip
        self._producer.init_transactions(60.0)

    def carry_out(self, effects: Effects, progress: Progress, fleet: Fleet, now_us: int) -> None:
        """Commit `effects`, and tell `fleet` what its agents were told.

        Raises Aborted when it came to nothing: forget everything and read it again. Raises Fenced.
        """
        try:
            self._producer.begin_transaction()
            self._store([tell.content for tell in effects.tells])
            told = {tell.agent: self._told(tell, fleet, now_us).encode() for tell in effects.tells}
            for agent in effects.renew:
                if agent not in told:
                    told[agent] = self._director.renew(decode_desired(fleet.records[agent]), now_us=now_us).encode()
            for agent, value in told.items():
                self._produce(DESIRED.name, desired_key(agent), value)
            self._write(effects, progress)
            self._producer.commit_transaction(_CALL_S)
        except KafkaException as error:
            raise self._ended(error.args[0]) from None
        for agent, value in told.items():
            self.bytes_told += len(value)
            fleet.put_desired(agent, value, now_us)

    def _told(self, tell: Tell, fleet: Fleet, now_us: int) -> Desired:
        content = tell.content
        before = fleet.records.get(tell.agent)
        last = 0 if before is None else decode_desired(before).stamp
        # Seconds since 1970 grow over everything that can be lost, also over a topic that was made anew.
        stamp = max(last + 1, now_us // SECOND)
        files = {"config.toml": (content.sha256, len(content.data))} | {
            name: (file.sha256, file.length) for name, file in content.files.items()
        }
        places = {sha256: self.places[sha256] for sha256, _ in files.values() if sha256 in self.places}
        return self._director.sign(
            tell.agent, tell.number, stamp, files, rollout=tell.rollout, now_us=now_us, places=places
        )

    def _store(self, contents: list[Content]) -> None:
        """Put contents on device.files that are not there yet, and learn where they are."""
        new = {content.sha256: content.data for content in contents if content.sha256 not in self.places}
        self.places |= store(self._producer, new)

    def _write(self, effects: Effects, progress: Progress) -> None:
        for key, members in effects.members.items():
            self._produce(ROLLOUTS.name, key.encode(), msgspec.json.encode(members))
        for name, rollout in effects.rollouts.items():
            self._produce(ROLLOUTS.name, name.encode(), msgspec.json.encode(rollout))
        for name, layer in effects.layers.items():
            self._produce(LAYERS.name, name.encode(), None if layer is None else LAYER.encode(layer))
        for step in effects.steps:
            self._produce(ROLLOUT_LOG.name, step.rollout.encode(), ROLLOUT_STEP.encode(step))
        self._produce(ROLLOUTS.name, b"commands", msgspec.json.encode(progress))

    def _produce(self, topic: str, key: bytes, value: bytes | None) -> None:
        kafka.produce(self._producer, topic, key, value)

    def _ended(self, error: KafkaError) -> Aborted | Fenced | Halt:
        if error.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH):
            return Fenced("another rollouts' server has taken over")
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return Halt(f"a record is too large for Kafka: {error.str()}")
        _log.warning("the transaction came to nothing: %s", error.str())
        return Aborted(error.str())


def store(producer: Any, contents: Mapping[str, bytes]) -> dict[str, list[Place]]:
    """Produce contents in chunks and wait for their places. Raises KafkaException."""
    places: dict[str, list[Place | None]] = {}
    failed: list[KafkaError] = []

    def on_delivery(sha256: str, number: int) -> Any:
        def delivered(error: KafkaError | None, message: Any) -> None:
            if error is not None:
                failed.append(error)
            else:
                places[sha256][number] = Place(message.partition(), message.offset())

        return delivered

    for sha256, data in contents.items():
        chunks = chunks_of(data)
        places[sha256] = [None] * len(chunks)
        for number, chunk in enumerate(chunks):
            kafka.produce(producer, FILES.name, chunk_key(sha256, number), chunk, on_delivery(sha256, number))
        producer.poll(0)
    if contents:
        producer.flush(_CALL_S)
    if failed:
        raise KafkaException(failed[0])
    known = {sha256: [place for place in found if place is not None] for sha256, found in places.items()}
    for sha256, found in known.items():
        if len(found) < len(places[sha256]):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
    return known


def ref_of(data: bytes) -> FileRef:
    """How a file is named by its content."""
    return FileRef(hashlib.sha256(data).hexdigest(), len(data))
