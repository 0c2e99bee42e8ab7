"""Runs a Logic on Kafka, exactly once.

One loop: take what is there → `Logic.process` → one transaction with its output, the rows that must be written or are
due, and the input offsets. Nothing is in flight between two rounds, so a revocation between them costs nothing, and
after anything that went wrong the memory is forgotten and the partitions are taken again (rule 2).

Edits of broadcast inputs are taken between two micro-batches, in a transaction with every row that is behind (rule 11).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from confluent_kafka import KafkaException

from tidegate_cloud.apart import Apart
from tidegate_cloud.clock import Clock, SystemClock
from tidegate_cloud.kafka import Message, Offsets, OffsetsPending, Part, passes

from . import marks
from .behind import LONGEST_S, Schedule
from .broadcast import Broadcast, to_record
from .checkpoints import Checkpoints
from .committing import Committer
from .errors import Aborted
from .logic import Forgets, Logic, MicroBatch, Output, Outputs, Record
from .membership import Membership, Task
from .metrics import RunnerMetrics
from .pacing import Pacing
from .replaying import Replayer
from .taking import InForce, Taker
from .transactions import Transactions

_log = logging.getLogger(__name__)

_IDLE_S = 0.1
_TAKING_S = 0.01
_RETRY_LONGEST_S = 2.0
_LOOK_S = 1.0
# Clocks of brokers and instances differ a little; a tick must never be ahead of a record that is still to come.
_TICK_BEHIND_US = 1_000_000
_FORGET_S = 60.0


class Runner:
    """One instance. `run` blocks until told to stop.

    group      consumer group; all instances of one processor share it
    instance   name of this instance within the group, its own at any one time
    latency_s  wanted time from arrival to commit
    longest_s  no changed row waits longer to be written
    upgrade_s  make a state of an older version anew from so far back
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
        longest_s: float = LONGEST_S,
        upgrade_s: float | None = None,
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
        self._members = Membership(bootstrap, name, group, (logic.log_topic, *logic.side_topics), self._drop)
        self._schedule = Schedule(longest_s=longest_s)
        self._committer = Committer(logic, self._members, self._transactions, self._schedule, self._clock)
        self._in_force = InForce(logic)
        self._replayer = Replayer(bootstrap, name, logic)
        self._taker = Taker(
            logic, self._members, self._committer, self._checkpoints, self._offsets, self._replayer, self._in_force,
            upgrade_s,
        )  # fmt: skip
        self._references = frozenset(getattr(logic, "reference_topics", ()))
        self._pacing = Pacing(latency_s)
        self._next_tick = 0.0
        self._next_look = 0.0
        self._next_forget = 0.0
        self._ticked: dict[int, int] = {}
        self._failures = 0

    def run(self, stop: threading.Event, *, ready: Callable[[], None] = lambda: None) -> None:
        """Process until `stop` is set. `ready` is called once the group has been joined.

        Raises Halt when the instance must not go on, BadInput when a topic is missing, KafkaException for what does
        not heal by waiting.
        """
        try:
            self._in_force.apply(self._new_edits(self._broadcast.load()))
            self._transactions.open(stop)
            self._members.join()
            ready()
            while not stop.is_set():
                self._round(stop)
            self._write_all()
        except KafkaException as error:
            if not stop.is_set():
                raise
            # Nothing was committed that should not be; whoever comes next takes it from there.
            _log.warning("stopped while Kafka was away: %s", error.args[0].str())
        finally:
            self._members.close()
            self._transactions.close()
            self._checkpoints.close()
            self._replayer.close()
            self._broadcast.close()

    def _drop(self, partition: int) -> None:
        self._logic.drop(partition)
        self._committer.drop(partition)
        self._in_force.drop(partition)
        self._ticked.pop(partition, None)

    def _write_all(self) -> None:
        """At a clean end every row is written: whoever comes next has nothing to replay."""
        try:
            if tasks := self._taken():
                self._committer.write_all(tasks)
        except Aborted as error:
            _log.warning("rows were not written at the end: %s", error)

    def _taken(self) -> list[Task]:
        return [task for task in self._members.tasks.values() if task.taken]

    def _round(self, stop: threading.Event) -> None:
        try:
            if tasks := self._members.waiting():
                self._take(tasks)
            # Before anything is polled: an edit takes effect between what was processed and what comes next.
            if edits := self._new_edits(self._broadcast.poll()):
                self._take_edits(edits)
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
            self._taker.take(tasks, self._clock.now_us())
        except OffsetsPending:
            return  # the last owner's transaction is ending; ask again next round

    def _new_edits(self, records: Sequence[Record]) -> list[Record]:
        """Of broadcast records those that are edits. The others are in force from now on."""
        additions = [record for record in records if record.topic in self._references and record.value is not None]
        if additions:
            self._logic.broadcast(additions)
        removals = [record for record in records if record.topic in self._references and record.value is None]
        return [*removals, *self._in_force.edition.edits(r for r in records if r.topic not in self._references)]

    def _take_edits(self, edits: Sequence[Record]) -> None:
        """Edits take effect here: for every partition before its next record (rules 9 to 11, 13)."""
        tasks = self._taken()
        accepted = self._in_force.apply(edits)
        if tasks and accepted:
            offsets = {task.partition: task.positions[self._logic.log_topic] for task in tasks}
            copies = [out for task in tasks for out in self._taker.sealed_copies(task.partition, accepted)]
            told = [marks.of_edit(self._members.group, edit, offsets) for edit in accepted]
            # What is behind was processed under what was in force before: it is written, so no replay meets it again.
            self._committer.write_all(tasks, [*copies, *told])

    def _step(self, messages: Sequence[Message]) -> None:
        batch = self._micro_batch(messages)
        if not (batch.records or batch.sides or batch.ticks):
            if self._committer.rows_are_due():
                self._committer.commit((), (), ())
            return
        began_us, began = self._clock.now_us(), self._clock.monotonic()
        out = self._logic.process(batch)
        processed = self._clock.monotonic()
        self._remember(batch, out, processed - began)
        moved = {record.partition for record in (*batch.records, *batch.sides)} | {key.partition for key in out.touched}
        if moved or out.records:
            self._committer.commit([*out.records, *self._marks(batch, out)], out.touched, moved)
            self._failures = 0
            records = [*batch.records, *batch.sides]
            seconds = self._clock.monotonic() - began
            if records:
                newest_us = max(record.append_us for record in records)
                commit_s = self._clock.monotonic() - processed
                self._pacing.took(len(records), seconds, commit_s, (began_us - newest_us) / 1e6)
            out.seconds["commit"] = self._clock.monotonic() - processed
            self._metrics.committed(records, out, self._clock.now_us(), seconds)
        self._hold_sides()
        self._forget(batch.ticks)

    def _remember(self, batch: MicroBatch, out: Outputs, seconds: float) -> None:
        """What is needed from the side inputs, and which rows are behind now."""
        for task in self._members.tasks.values():
            task.needed = {topic: offset for (topic, p), offset in out.needed.items() if p == task.partition}
        offsets: dict[int, int] = {}
        for record in batch.records:
            offsets.setdefault(record.partition, record.offset)
        self._committer.behind.changed(out.behind, offsets, self._clock.monotonic())
        self._schedule.took(len(batch.records), sum(len(r.value or b"") for r in batch.records), seconds)

    def _marks(self, batch: MicroBatch, out: Outputs) -> Iterator[Output]:
        """Where side inputs took effect, as far as they did (rule 13)."""
        offsets: dict[int, int] = {}
        for record in batch.records:
            offsets.setdefault(record.partition, record.offset)
        positions = {
            task.partition: offsets.get(task.partition, task.positions[self._logic.log_topic]) for task in self._taken()
        }
        group = self._members.group
        for partition in {key.partition for key in out.touched} & batch.ticks.keys():
            yield marks.Mark(
                group=group, kind="tick", offsets={partition: positions[partition]}, time_us=batch.ticks[partition]
            ).output()
        spans: dict[tuple[str, int], tuple[int, int]] = {}
        for record in batch.sides:
            first, _ = spans.get((record.topic, record.partition), (record.offset, 0))
            spans[record.topic, record.partition] = first, record.offset
        for (topic, partition), (first, last) in spans.items():
            at = {partition: positions[partition]}
            yield marks.Mark(group=group, kind="side", offsets=at, topic=topic, first=first, last=last).output()

    def _forget(self, ticks: Mapping[int, int]) -> None:
        """Rule 17: rows that nobody needs any more are tombstoned, now and then."""
        if not isinstance(self._logic, Forgets) or not ticks or self._clock.monotonic() < self._next_forget:
            return
        self._next_forget = self._clock.monotonic() + _FORGET_S
        for partition, now_us in ticks.items():
            gone = self._committer.forgettable(self._logic.forgettable(partition, now_us))
            if not gone:
                continue
            offsets = {partition: self._members.tasks[partition].positions[self._logic.log_topic]}
            told = [
                marks.Mark(group=self._members.group, kind="forget", offsets=offsets, key=row.key).output()
                for row in gone
            ]  # fmt: skip
            self._logic.forget(gone)
            self._committer.commit(told, gone, [partition])

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

    def _has_twin(self) -> bool:
        """Whether the group has another member of our name. Asked when fenced; no answer counts as none."""
        try:
            with Apart(self._members.bootstrap, self._members.client_id) as apart:
                members = apart.members(self._members.group)
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
            committer = self._committer
            self._metrics.checkpoints(
                len(committer.behind), committer.age_s(), committer.window(), committer.written_bytes
            )
