"""Simulated agents on a real Kafka: they follow device.desired, read what they are told, and report."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from tidegate_protocols import topics
from tidegate_protocols.errors import BadInput
from tidegate_protocols.ota import CONFIG, agent_of, decode_desired, desired_key

from .agents import SimAgent

log = logging.getLogger(__name__)

_POLL_S = 0.1
_STEP_S = 0.25
_ANSWER_S = 15.0


@dataclass(slots=True)
class AgentsReport:
    """How the agents are: told at least once, running something pushed, running a bad one, that ever ran a bad one."""

    agents: int
    seconds: float = 0.0
    told: int = 0
    running: int = 0
    bad: int = 0
    ever_bad: int = 0
    reports: int = 0
    natures: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Follow:
    """Keeps agents in step with what they are told. `bad_when`: a configuration with this text in it is a bad one."""

    def __init__(self, bootstrap: str, agents: list[SimAgent], bad_when: str) -> None:
        self._agents = {agent.name: agent for agent in agents}
        self._bad_when = bad_when.encode()
        self._judged: dict[str, bool] = {}  # by SHA-256
        client = {"bootstrap.servers": bootstrap, "client.id": "tidegate-sim-agents", "log_level": 0}
        self._consumer = Consumer(
            client
            | {
                "group.id": "tidegate-sim-agents", "enable.auto.commit": False, "isolation.level": "read_committed",
                "auto.offset.reset": "earliest", "fetch.wait.max.ms": 50,
            }
        )  # fmt: skip
        self._producer = Producer(
            client | {"enable.idempotence": True, "linger.ms": 20, "message.timeout.ms": 60_000} | topics.PARTITIONER
        )
        self.report = AgentsReport(len(agents), natures=dict(Counter(agent.nature for agent in agents)))
        self._told: set[str] = set()

    def run(
        self, seconds: float, stop: threading.Event, on_progress: Callable[[AgentsReport], None] | None = None
    ) -> AgentsReport:
        """Until `stop`, or for so many seconds when that is above 0. Raises BadInput where no Kafka answers."""
        try:
            self._consumer.list_topics(topics.DESIRED.name, timeout=_ANSWER_S)
        except KafkaException as error:
            raise BadInput(f"no Kafka answers: {error.args[0].str()}", hint="is it running, on that port?") from None
        self._consumer.assign([TopicPartition(topics.DESIRED.name, p, 0) for p in range(topics.DESIRED.partitions)])
        began, due = time.monotonic(), 0.0
        while not stop.is_set() and (not seconds or time.monotonic() - began < seconds):
            for message in self._consumer.consume(1_000, _POLL_S):
                if message.error() is None:
                    self._take(message.key() or b"", message.value())
            if time.monotonic() >= due:
                due = time.monotonic() + _STEP_S
                self._step()
                self.report.seconds = time.monotonic() - began
                if on_progress is not None:
                    on_progress(self.report)
        self._producer.flush(30)
        self._consumer.close()
        return self.report

    def _take(self, key: bytes, value: bytes | None) -> None:
        agent = self._agents.get(agent_of(key) or "")
        if agent is None or value is None:
            return
        try:
            desired = decode_desired(value)
        except BadInput as error:
            log.warning("%s: %s", agent.name, error)
            return
        sha256 = _config_of(desired.targets)
        if sha256 not in self._judged:
            self._judged[sha256] = self._bad_when in self._read(sha256, desired.places.get(sha256, []))
        agent.tell(desired.number, self._judged[sha256], time.time_ns() // 1000)
        self._told.add(agent.name)
        self.report.told = len(self._told)

    def _read(self, sha256: str, places: Any) -> bytes:
        """A content, chunk by chunk. Once for all agents that are told the same."""
        found = b""
        for place in places:
            part = TopicPartition(topics.FILES.name, place.partition, place.offset)
            self._consumer.incremental_assign([part])
            deadline = time.monotonic() + _ANSWER_S
            held = []
            while time.monotonic() < deadline:
                message = self._consumer.poll(_POLL_S)
                if message is None or message.error() is not None:
                    continue
                if message.topic() == topics.FILES.name:
                    found += message.value() or b""
                    break
                held.append(message)
            else:
                log.warning("content %s did not come", sha256[:12])
            self._consumer.incremental_unassign([part])
            for message in held:
                self._take(message.key() or b"", message.value())
        return found

    def _step(self) -> None:
        now_us = time.time_ns() // 1000
        running = bad = ever = 0
        for agent in self._agents.values():
            for said in agent.step(now_us):
                self._produce(desired_key(agent.name), said.encode())
            running += agent.running > 0
            bad += agent.bad
            ever += agent.ever_bad
        self.report.running, self.report.bad, self.report.ever_bad = running, bad, ever
        self._producer.poll(0)

    def _produce(self, key: bytes, value: bytes) -> None:
        self.report.reports += 1
        while True:
            try:
                self._producer.produce(topics.REPORTED.name, value, key)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return


def _config_of(targets: bytes) -> str:
    """The SHA-256 of the configuration in targets metadata, unverified."""
    files = json.loads(targets)["signed"]["targets"]
    return str(next(entry["hashes"]["sha256"] for path, entry in files.items() if path.endswith(f"/{CONFIG}")))
