"""The rollouts' server on Kafka: reads what is on record, then goes on turn by turn, each turn one transaction.

Whatever ends a transaction badly, or kills the server, leaves what was committed before; it reads that and goes on. So
the record is the state, and there are no checkpoints. One server is active; a second one fences it.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterable

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from tidegate_protocols.alerts import TRANSITION
from tidegate_protocols.errors import BadInput
from tidegate_protocols.ota import agent_of
from tidegate_protocols.registry import DEVICE
from tidegate_protocols.rollouts import LAYER, ROLLOUT_COMMAND, Progress, RolloutCommand
from tidegate_protocols.topics import (
    ALERT_LOG,
    DESIRED,
    DEVICES,
    LAYERS,
    REPORTED,
    ROLLOUT_COMMANDS,
    ROLLOUTS,
    Topic,
)  # fmt: skip

from tidegate_cloud.clock import Clock
from tidegate_cloud.engine.errors import Aborted
from tidegate_cloud.kafka import Message, Offsets, Part, passes, read_to, reader, take

from .controller import Controller, Effects
from .director import Director
from .ledger import Ledger
from .machine import SECOND

_log = logging.getLogger(__name__)

WHOLE = (ROLLOUTS, LAYERS, DEVICES, REPORTED, DESIRED)
_LIVE = (DEVICES, REPORTED)  # the rest only this server writes
_TURN_S = 1.0
_AT_ONCE = 5_000
_REMEMBERED = 500
_OPENED = frozenset(("opened", "reopened"))


class Server:
    """`run` until `stop` is set. `controller` may be read between turns only."""

    def __init__(self, bootstrap: str, director: Director, clock: Clock) -> None:
        self._bootstrap = bootstrap
        self._clock = clock
        self._ledger = Ledger(bootstrap, director)
        self.controller = Controller()
        self._progress = Progress(0)
        self.refused = 0  # records that could not be read
        self.turns = 0

    @property
    def bytes_told(self) -> int:
        """Bytes of what agents were told."""
        return self._ledger.bytes_told

    def run(self, stop: threading.Event, *, ready: Callable[[], None] = lambda: None) -> None:
        """Raises Halt and KafkaException."""
        first = True
        while not stop.is_set():
            self._ledger.open()
            consumer = reader(self._bootstrap, f"tidegate-rollouts-{uuid.uuid4().hex[:8]}")
            try:
                self._read_record(consumer)
                if first:
                    ready()
                    first = False
                self._work(consumer, stop)
            except Aborted as error:
                _log.warning("%s: reading the record again", error)
            finally:
                consumer.close()

    def _read_record(self, consumer: Consumer) -> None:
        """Everything from the beginning: what is committed is what counts."""
        self.controller = Controller()
        self._progress = Progress(0)
        offsets = Offsets(self._bootstrap, "tidegate-rollouts-offsets")
        ends = offsets.latest(_parts(WHOLE))
        for message in read_to(consumer, ends):
            self._put(message)
        places = self._ledger.places = {}
        for agent in self.controller.fleet.records:
            places |= self.controller.fleet.places(agent)
        for rollout in self.controller.rollouts.values():
            places |= rollout.order.places
        since_ms = (self._clock.now_us() - 48 * 3600 * SECOND) // 1000
        log = [TopicPartition(part.topic, part.partition, since_ms) for part in _parts((ALERT_LOG,))]
        starts = [TopicPartition(tp.topic, tp.partition, tp.offset) for tp in consumer.offsets_for_times(log, 30.0)]
        starts += [TopicPartition(part.topic, part.partition, ends[part]) for part in _parts(_LIVE)]
        starts += [TopicPartition(ROLLOUT_COMMANDS.name, 0, self._progress.offset or OFFSET_BEGINNING)]
        consumer.assign(starts)

    def _work(self, consumer: Consumer, stop: threading.Event) -> None:
        due = 0.0
        while not stop.is_set():
            effects = Effects()
            asked: list[RolloutCommand] = []
            at = self._progress.offset
            for message in take(consumer, _AT_ONCE, 0.2 if due else 0.0):
                error = message.error()
                if error is not None:
                    if error.code() != KafkaError._PARTITION_EOF and not passes(error):
                        raise KafkaException(error)
                elif message.topic() == ROLLOUT_COMMANDS.name:
                    at = message.offset() + 1
                    asked += self._command(message)
                else:
                    self._put(message)
            now = self._clock.monotonic()
            if not asked and at == self._progress.offset and now < due:
                continue
            due = now + _TURN_S
            self._turn(effects, asked, at)
            if effects.tells or effects.renew:
                due = 0.0  # more may be waiting

    def _turn(self, effects: Effects, asked: Iterable[RolloutCommand], at: int) -> None:
        now_us = self._clock.now_us()
        for command in asked:
            self.controller.command(command, now_us, effects)
        self.controller.turn(now_us, effects)
        if effects or at != self._progress.offset:
            done = [*self._progress.done, *(command.id for command in asked)][-_REMEMBERED:]
            progress = Progress(at, done)
            for rollout in effects.rollouts.values():
                self._ledger.places |= rollout.order.places
            self._ledger.carry_out(effects, progress, self.controller.fleet, now_us)
            self._progress = progress
        self.turns += 1

    def _command(self, message: Message) -> list[RolloutCommand]:
        try:
            return [ROLLOUT_COMMAND.decode(message.value() or b"")]
        except BadInput as error:
            self._refuse(message, error)
            return []

    def _put(self, message: Message) -> None:
        try:
            self._progress = put_record(self.controller, message) or self._progress
        except BadInput as error:
            self._refuse(message, error)

    def _refuse(self, message: Message, error: BadInput) -> None:
        self.refused += 1
        _log.warning("%s[%d]@%d: %s", message.topic(), message.partition(), message.offset(), error)


def put_record(controller: Controller, message: Message) -> Progress | None:
    """Tell a controller of one record; how far the commands were worked off, when it says that. Raises BadInput."""
    topic, key, value = message.topic(), message.key() or b"", message.value()
    fleet = controller.fleet
    name = key.decode("utf-8", "replace")
    if topic == ALERT_LOG.name:
        transition = TRANSITION.decode(value or b"")
        if transition.action in _OPENED:
            fleet.alert_opened(transition.device, transition.ts_us)
    elif topic == DEVICES.name:
        fleet.put_device(name, None if value is None else DEVICE.decode(value))
    elif topic == LAYERS.name:
        controller.put_layer(name, None if value is None else LAYER.decode(value))
    elif topic == ROLLOUTS.name and name == "commands":
        progress = msgspec.json.decode(value or b"", type=Progress)
        for command in progress.done:
            controller.done(command)
        return progress
    elif topic == ROLLOUTS.name:
        controller.put_rollout(name, value or b"")
    elif (agent := agent_of(key)) is None:  # a device's own record, not an agent's
        if topic == REPORTED.name:
            fleet.put_claim(name, value)
    else:
        put = fleet.put_desired if topic == DESIRED.name else fleet.put_reported
        put(agent, value, message.timestamp()[1] * 1000)
    return None


def _parts(topics: Iterable[Topic]) -> list[Part]:
    return [Part(topic.name, number) for topic in topics for number in range(topic.partitions)]
