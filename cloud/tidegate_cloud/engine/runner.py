"""Runs a Logic on Kafka, exactly once.

One loop: take what is there → broadcast changes → `Logic.process` → one transaction with its output, the rows that
changed, and the input offsets. Nothing is in flight between two rounds, so a revocation between them costs nothing, and
after anything that went wrong the memory is forgotten and the partitions are taken again (rule 2).

Every row that changed is written in the transaction that changed it. So there is nothing to replay, side inputs may
change rows at any time, and an edit of fences needs no barrier.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence

from confluent_kafka import KafkaException, TopicPartition

from tidegate_cloud.clock import Clock, SystemClock
from tidegate_cloud.kafka import Message, Offsets, OffsetsPending, Part, passes

from .broadcast import Broadcast, to_record
from .checkpoints import Checkpoints, Position, seal
from .errors import Aborted
from .logic import Logic, MicroBatch, Output, Record, RowKey
from .membership import Membership, Task
from .metrics import RunnerMetrics
from .pacing import Pacing
from .taking import Taker
from .transactions import Transactions

_log = logging.getLogger(__name__)

_IDLE_S = 0.1
_TAKING_S = 0.01
_RETRY_LONGEST_S = 2.0
_LOOK_S = 1.0
# Clocks of brokers and instances differ a little; a tick must never be ahead of a record that is still to come.
_TICK_BEHIND_US = 1_000_000


class Runner:
    """One instance. `run` blocks until told to stop.

    group      consumer group; all instances of one processor share it
    instance   name of this instance within the group, its own at any one time
    latency_s  wanted time from arrival to commit
    """

    def __init__(
        self,
        logic: Logic,
        *,
        bootstrap: str,
        group: str,
        instance: str,
        metrics: RunnerMetrics,
        latency_s: float = 0.2,
        clock: Clock | None = None,
    ) -> None:
        self._logic = logic
        self._metrics = metrics
        self._clock = clock or SystemClock()
        name = f"{group}-{instance}"
        self._offsets = Offsets(bootstrap, name)
        self._transactions = Transactions(bootstrap, name, self._clock, self._has_twin)
        self._checkpoints = Checkpoints(bootstrap, name, logic.checkpoint_topic, self._offsets)
        self._broadcast = Broadcast(bootstrap, name, logic.broadcast_topics, self._offsets)
        self._members = Membership(bootstrap, name, group, (logic.log_topic, *logic.side_topics), logic.drop)
        self._taker = Taker(logic, self._members, self._transactions, self._checkpoints, self._offsets)
        self._pacing = Pacing(latency_s)
        self._next_tick = 0.0
        self._next_look = 0.0
        self._ticked: dict[int, int] = {}
        self._failures = 0

    def run(self, stop: threading.Event, *, ready: Callable[[], None] = lambda: None) -> None:
        """Process until `stop` is set. `ready` is called once the group has been joined.

        Raises Halt when the instance must not go on, BadInput when a topic is missing, KafkaException for what does
        not heal by waiting.
        """
        try:
            self._logic.broadcast(self._broadcast.load())
            self._transactions.open(stop)
            self._members.join()
            ready()
            while not stop.is_set():
                self._round(stop)
        except KafkaException as error:
            if not stop.is_set():
                raise
            # Nothing was committed that should not be; whoever comes next takes it from there.
            _log.warning("stopped while Kafka was away: %s", error.args[0].str())
        finally:
            self._members.close()
            self._transactions.close()
            self._checkpoints.close()
            self._broadcast.close()

    def _round(self, stop: threading.Event) -> None:
        try:
            if tasks := self._members.waiting():
                self._take(tasks)
            patience = _TAKING_S if self._members.waiting() else _IDLE_S
            self._step(self._members.poll(self._pacing.size, patience))
            self._observe()
        except Aborted as error:
            _log.warning("transaction aborted: %s", error)
            self._start_over(stop)
        except KafkaException as error:
            if not passes(error.args[0]):
                raise
            _log.warning("kafka: %s", error.args[0].str())
            self._start_over(stop)

    def _start_over(self, stop: threading.Event) -> None:
        """Forget everything; the tasks are taken again from what is committed. Waits longer each time in a row."""
        self._metrics.aborted()
        for task in self._members.tasks.values():
            self._members.forget(task)
        self._failures += 1
        stop.wait(min(_RETRY_LONGEST_S, 0.05 * 2 ** min(self._failures, 10)))

    def _take(self, tasks: Sequence[Task]) -> None:
        try:
            self._taker.take(tasks)
        except OffsetsPending:
            return  # the last owner's transaction is ending; ask again next round

    def _step(self, messages: Sequence[Message]) -> None:
        changes = self._broadcast.poll()
        if changes:
            self._logic.broadcast(changes)
        batch = self._micro_batch(messages)
        if not (batch.records or batch.sides or batch.ticks or changes):
            return
        began_us, began = self._clock.now_us(), self._clock.monotonic()
        out = self._logic.process(batch)
        moved = {record.partition for record in (*batch.records, *batch.sides)} | {key.partition for key in out.touched}
        for task in self._members.tasks.values():
            task.needed = {topic: offset for (topic, p), offset in out.needed.items() if p == task.partition}
        if moved or out.records:
            self._transactions.commit(
                self._everything(out.records, out.touched), self._positions(moved), self._members.metadata()
            )
            self._failures = 0
            records = [*batch.records, *batch.sides]
            seconds = self._clock.monotonic() - began
            if records:
                newest_us = max(record.append_us for record in records)
                self._pacing.took(len(records), seconds, (began_us - newest_us) / 1e6)
            self._metrics.committed(records, out.counts, self._clock.now_us(), seconds)
        self._hold_sides()

    def _micro_batch(self, messages: Sequence[Message]) -> MicroBatch:
        """Sort what came by partition and kind. A task may have gone later in the same poll: its records go with it."""
        logs: dict[int, list[Record]] = {}
        sides: list[Record] = []
        for message in messages:
            task = self._members.tasks.get(message.partition())
            if task is None or not task.taken:
                continue
            record = to_record(message)
            if record.topic == self._logic.log_topic:
                logs.setdefault(record.partition, []).append(record)
            else:
                sides.append(record)
        return MicroBatch([record for group in logs.values() for record in group], sides, self._ticks(logs))

    def _ticks(self, logs: dict[int, list[Record]]) -> dict[int, int]:
        """Rule 12: before a batch, up to just before its first record; at the end of the log, up to a little ago."""
        if self._logic.tick_s is None or self._clock.monotonic() < self._next_tick:
            return {}
        self._next_tick = self._clock.monotonic() + self._logic.tick_s
        tasks = [task for task in self._members.tasks.values() if task.taken]
        asked_us = self._clock.now_us()
        try:
            ends = self._offsets.latest(
                Part(self._logic.log_topic, task.partition) for task in tasks if task.partition not in logs
            )
        except KafkaException as error:
            if not passes(error.args[0]):
                raise
            _log.info("no tick: %s", error.args[0].str())
            return {}  # while Kafka does not say where the log ends, nobody knows how late it is
        ticks = {}
        for task in tasks:
            if task.partition in logs:
                tick = logs[task.partition][0].append_us - 1
            elif task.ends.get(self._logic.log_topic) == ends[Part(self._logic.log_topic, task.partition)]:
                tick = asked_us - _TICK_BEHIND_US
            else:
                continue  # there is more to read before it can be said how late it is
            if tick > self._ticked.get(task.partition, 0):
                ticks[task.partition] = self._ticked[task.partition] = tick
        return ticks

    def _everything(self, records: Sequence[Output], touched: set[RowKey]) -> Iterator[Output]:
        yield from records
        for key, value in self._logic.rows(touched):
            tag = self._members.tasks[key.partition].positions[self._logic.log_topic]
            sealed = None if value is None else seal(self._logic.state_version, tag, value)
            yield Output(self._logic.checkpoint_topic, key.key, sealed, key.partition)

    def _positions(self, partitions: set[int]) -> list[TopicPartition]:
        return [
            TopicPartition(topic, partition, offset, Position(self._logic.state_version, offset).text())
            for partition in partitions
            for topic, offset in self._members.tasks[partition].to_commit().items()
        ]

    def _has_twin(self) -> bool:
        """Whether the group has another member of our name. Asked when fenced; no answer counts as none."""
        try:
            members = self._offsets.members(self._members.group)
        except KafkaException as error:
            _log.warning("the group does not answer: %s", error.args[0].str())
            return False
        mine = self._members.member_id()
        return any(client == self._members.client_id and member != mine for client, member in members)

    def _hold_sides(self) -> None:
        for task in self._members.tasks.values():
            for topic in self._logic.side_topics if task.taken else ():
                wanted = self._logic.reads(topic, task.partition)
                if wanted == (topic in task.held):
                    self._members.hold(task, topic, not wanted)

    def _observe(self) -> None:
        if self._clock.monotonic() >= self._next_look:
            self._next_look = self._clock.monotonic() + _LOOK_S
            self._metrics.standing(self._members.lag())
