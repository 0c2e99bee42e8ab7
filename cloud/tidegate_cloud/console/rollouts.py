"""Follows rollouts on Kafka for the console, in a thread of its own, and asks the rollouts' server for things.

It reads what the server reads (`rollouts.server.WHOLE`), so that it judges by the same code, and the log of steps. Once
a second, or less often where counting a large fleet takes long, it hands on the list of rollouts, if that changed.

Limits: of each agent the last 4 numbers that it was told are remembered, and its failures under those, since an agent
that went back says only that all is well. The answers to the last 2,000 commands are remembered.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from tidegate_protocols.errors import BadInput
from tidegate_protocols.ota import agent_of
from tidegate_protocols.rollouts import ROLLOUT_COMMAND, ROLLOUT_STEP, RolloutCommand, RolloutStep
from tidegate_protocols.topics import ALERT_LOG, DESIRED, REPORTED, ROLLOUT_COMMANDS, ROLLOUT_LOG

from tidegate_cloud.clock import Clock
from tidegate_cloud.kafka import Message, Offsets, Part, passes, reader, take
from tidegate_cloud.rollouts.controller import Controller
from tidegate_cloud.rollouts.fleet import ALERTS_KEPT_US
from tidegate_cloud.rollouts.machine import back_of
from tidegate_cloud.rollouts.server import WHOLE, put_record

from .rollout_views import Failure, listed
from .views import encode
from .writer import Writer

_log = logging.getLogger(__name__)
_AT_ONCE = 500
_TELL_S = 1.0
_SHARE = 20  # counting may take one part in so many of the time
_ANSWER_S = 5.0
_LEAVE_S = 5.0
_NUMBERS = 4
_ANSWERS = 2_000
_END = 2**62
T = TypeVar("T")


class Rollouts:
    """See the module's docstring. `publish` is told the list of rollouts as JSON, from the thread. Thread-safe."""

    def __init__(self, bootstrap: str, writer: Writer, clock: Clock, publish: Callable[[bytes], None]) -> None:
        self._bootstrap = bootstrap
        self._writer = writer
        self._clock = clock
        self._publish = publish
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="console-rollouts", daemon=True)
        self._shown = b""
        self.ready = threading.Event()
        self._begin()

    def _begin(self) -> None:
        self._controller = Controller()
        self._steps: dict[str, list[RolloutStep]] = defaultdict(list)
        self._answers: OrderedDict[str, RolloutStep] = OrderedDict()  # by command
        self._told: dict[str, dict[int, str]] = {}  # agent → number → rollout
        self._failed: dict[str, dict[int, Failure]] = {}  # agent → number → how
        self.failures: dict[str, dict[str, Failure]] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End reading, and wait for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_LEAVE_S)

    def look(self, view: Callable[[Controller], T]) -> T:
        """Look at everything while nothing changes."""
        with self._lock:
            return view(self._controller)

    def steps(self, rollout: str) -> list[RolloutStep]:
        """What happened to a rollout, oldest first."""
        with self._lock:
            return list(self._steps.get(rollout, ()))

    async def ask(self, command: RolloutCommand) -> RolloutStep | None:
        """Put a command on Kafka and wait for what comes of it; None: no server has answered yet, and it stands.

        Raises NotSaved.
        """
        key = command.rollout or command.id
        await self._writer.put(ROLLOUT_COMMANDS.name, key, ROLLOUT_COMMAND.encode(command), lambda: _END)
        deadline = self._clock.monotonic() + _ANSWER_S
        while self._clock.monotonic() < deadline:
            with self._lock:
                step = self._answers.get(command.id)
            if step is not None:
                return step
            await asyncio.sleep(0.02)
        return None

    def _run(self) -> None:
        while not self._stop.is_set():
            consumer = reader(self._bootstrap, "tidegate-console-rollouts")
            try:
                self._follow(consumer)
            except (BadInput, KafkaException) as error:
                _log.warning("reading rollouts begins anew: %s", error)
                self._stop.wait(_TELL_S)
            except Exception:
                _log.exception("reading rollouts begins anew")
                self._stop.wait(_TELL_S)
            finally:
                consumer.close()

    def _follow(self, consumer: Consumer) -> None:
        with self._lock:
            self._begin()
        parts = [Part(topic.name, n) for topic in (*WHOLE, ROLLOUT_LOG) for n in range(topic.partitions)]
        ends = Offsets(self._bootstrap, "tidegate-console-rollouts").latest(parts)
        since_ms = (self._clock.now_us() - ALERTS_KEPT_US) // 1000
        alerts = [TopicPartition(ALERT_LOG.name, n, since_ms) for n in range(ALERT_LOG.partitions)]
        starts = consumer.offsets_for_times(alerts, timeout=10.0)
        consumer.assign([*(TopicPartition(*part, 0) for part in parts), *starts])
        left = {part for part, end in ends.items() if end > 0}
        due = 0.0
        while not self._stop.is_set():
            messages = take(consumer, _AT_ONCE, 0.2)
            with self._lock:
                for message in messages:
                    self._put(message, left, ends)
            now = self._clock.monotonic()
            if not left and now >= due:
                self.ready.set()
                self._tell()
                spent = self._clock.monotonic() - now
                due = now + max(_TELL_S, _SHARE * spent)

    def _put(self, message: Message, left: set[Part], ends: dict[Part, int]) -> None:
        error = message.error()
        part = Part(message.topic(), message.partition())
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                if message.offset() >= ends.get(part, 0):
                    left.discard(part)
            elif not passes(error):
                raise KafkaException(error)
            return
        try:
            if part.topic == ROLLOUT_LOG.name:
                self._step(ROLLOUT_STEP.decode(message.value() or b""))
            else:
                put_record(self._controller, message)
                agent = agent_of(message.key() or b"") if part.topic in (DESIRED.name, REPORTED.name) else None
                if agent is not None:
                    self._remember(agent, said=part.topic == REPORTED.name)
        except BadInput as bad:
            _log.warning("left out: %s", bad.at(f"{part.topic}[{part.partition}]@{message.offset()}"))

    def _step(self, step: RolloutStep) -> None:
        if step.action != "refused":
            self._steps[step.rollout].append(step)
        if step.cause:
            self._answers.setdefault(step.cause, step)
            while len(self._answers) > _ANSWERS:
                self._answers.popitem(last=False)

    def _remember(self, agent: str, *, said: bool) -> None:
        """Keep what an agent was told, or how it failed: in whichever order the two are read."""
        fleet = self._controller.fleet
        if said:
            heard = fleet.heard.get(agent)
            if heard is None:
                return
            state, why = heard.said.state, heard.said.why or heard.said.trouble
            if state in ("refused", "rolled-back"):
                failure = Failure("refused" if state == "refused" else "rolled-back", why)
            elif state == "running" and not heard.said.healthy:
                failure = Failure("unwell", why)
            else:
                return
            self._failed.setdefault(agent, {})[heard.said.number] = failure
        else:
            told = fleet.told.get(agent)
            if told is None:
                return
            numbers = self._told.setdefault(agent, {})
            numbers[told.number] = told.rollout
            while len(numbers) > _NUMBERS:
                del numbers[min(numbers)]
        numbers = self._told.get(agent, {})
        failures = self._failed.get(agent, {})
        for number in failures.keys() & numbers.keys():
            rollout = numbers[number].removesuffix(back_of(""))
            self.failures.setdefault(rollout, {}).setdefault(agent, failures[number])
        for number in [number for number in failures if numbers and number < min(numbers)]:
            del failures[number]

    def _tell(self) -> None:
        now_us = self._clock.now_us()
        shown = self.look(lambda controller: encode(listed(controller, now_us)))
        if shown != self._shown:
            self._shown = shown
            self._publish(shown)
