"""Replay by people (rule 21): the log once more through the telemetry Logic, from empty rows, into a shadow topic.

Partition by partition, since an edit took effect at another offset in each. One transaction holds the events of a
micro-batch and how far the partition is, in the consumer group ``GROUP-replay-NAME``. A replay that was interrupted
goes through an unfinished partition again from its start, without output up to where it was: rows follow from the log,
so none are stored.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from tidegate_protocols.errors import BadInput
from tidegate_protocols.events import EVENT, Event
from tidegate_protocols.topics import EVENTS, FRAMES, MARKS

from tidegate_cloud.kafka import Offsets, Part, client_settings, passes, producer, read_to, reader, take

from .broadcast import Broadcast, to_record
from .changes import Changes, changes
from .comparing import open_from
from .cursors import unpack
from .editions import Edition, Name
from .logic import MicroBatch, Output, Record, RowKey
from .marks import Mark
from .streams import ROW_PREFIX
from .telemetry import TelemetryLogic

_COUNT = 2000
_CALL_S = 30.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One replay of one partition, by offsets: read from `warm`, give out from `first`, stop before `last`.

    operators  which, by name; empty: all
    edits      "then": what was in force at each record; "now": what is in force now, throughout
    """

    warm: int
    first: int
    last: int
    operators: tuple[str, ...] = ()
    edits: str = "then"
    geofence: str = "believed"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What the metadata of a replay's offsets say. `complete`: what came after the last record is given out too."""

    plan: Plan
    complete: bool = False


@dataclass(slots=True)
class Done:
    """What a replay of a partition came to.

    skipped    how many of the records had been given out before
    cursors    main's cursor of each device with an open preview, at the end
    append_us  of the first record that was given out, and of the last; 0: there was none
    unmarked   records of the registry that no mark tells of
    """

    records: int = 0
    skipped: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    cursors: dict[str, tuple[int, int]] = field(default_factory=dict)
    append_us: tuple[int, int] = (0, 0)
    unmarked: int = 0


class Replay:
    """Replays into `topic`. `logic` makes a fresh Logic, with the operators wanted."""

    def __init__(
        self, bootstrap: str, group: str, name: str, topic: str, logic: Callable[[], TelemetryLogic]
    ) -> None:  # fmt: skip
        self.group = f"{group}-replay-{name}"
        self.offsets = Offsets(bootstrap, self.group)
        self._topic = topic
        self._make = logic
        self._reader: Consumer = reader(bootstrap, self.group)
        self._member = Consumer(
            client_settings(bootstrap, self.group) | {"group.id": self.group, "enable.auto.commit": False}
        )
        self._producer: Producer = producer(bootstrap, self.group, {"transactional.id": self.group})
        self._producer.init_transactions(_CALL_S)
        self._known, self._current = self._in_force(bootstrap)
        self._marks = list(self._read_marks(group))

    def _in_force(self, bootstrap: str) -> tuple[list[Record], dict[Name, bytes]]:
        """What names its content, and what is in force now."""
        logic = self._make()
        broadcast = Broadcast(bootstrap, self.group, logic.broadcast_topics, self.offsets)
        try:
            records = broadcast.load()
        finally:
            broadcast.close()
        known = [record for record in records if record.topic in logic.reference_topics]
        refused = set(logic.broadcast(known) or ())
        edition = Edition()
        others = [record for record in records if record.topic not in logic.reference_topics]
        refused |= set(logic.broadcast(others) or ())
        edition.apply(record for record in others if record not in refused)
        return [record for record in known if record not in refused], edition.content

    def _read_marks(self, group: str) -> Iterator[Mark]:
        ends = self.offsets.latest(Part(MARKS.name, partition) for partition in range(MARKS.partitions))
        for message in read_to(self._reader, ends):
            value = message.value()
            if value is not None and (mark := Mark.read(value)).group == group:
                yield mark

    def begun(self, partition: int) -> tuple[Progress, int] | None:
        """What was planned for a partition before, and how far it is; None when nothing was. Raises BadInput."""
        found = self.offsets.committed(self.group, [Part(FRAMES.name, partition)])
        for committed in found.values():
            try:
                return msgspec.json.decode(committed.metadata, type=Progress), committed.offset
            except msgspec.MsgspecError:
                raise BadInput("not the offsets of a replay", where=self.group) from None
        return None

    def run(self, partition: int, plan: Plan, told: Callable[[int, int], None]) -> Done:
        """Replay a partition, or go on with it. `told`: records that were processed just now, and readings so far.

        Raises KafkaException, BadInput.
        """
        begun = self.begun(partition)
        at = plan.first if begun is None else max(plan.first, begun[1])
        known = changes(self._marks, partition, self._current)
        if plan.edits == "now":  # time passed all the same
            known = Changes(ticks=known.ticks, forgets=known.forgets, unmarked=self._current)
        turn = _Turn(self._make(), partition, plan, known, at)
        turn.logic.broadcast(self._known)
        turn.logic.broadcast(Edition().towards(known.at(plan.warm)))
        turn.logic.take(partition, {})
        for batch in self._batches(partition, plan):
            for piece in cut(batch, [at, *known.stops(batch[0].offset, batch[-1].offset)]):
                if (made := turn.records(piece)) is not None:
                    self._commit(made, partition, Progress(plan=plan), piece[-1].offset + 1)
            told(len(batch), turn.done.counts.get("readings", 0))
        made = turn.until(plan.last)
        if begun is None or not begun[0].complete:
            self._commit(made, partition, Progress(plan=plan, complete=True), plan.last)
        if plan.edits == "then":
            turn.done.unmarked = len(known.unmarked)
        return turn.end()

    def _batches(self, partition: int, plan: Plan) -> Iterator[list[Record]]:
        if plan.warm >= plan.last:
            return
        self._reader.assign([TopicPartition(FRAMES.name, partition, plan.warm)])
        ended = False
        while not ended:
            batch = []
            for message in take(self._reader, _COUNT, 0.5):
                error = message.error()
                if error is None:
                    if message.offset() < plan.last:
                        batch.append(to_record(message))
                    ended |= message.offset() >= plan.last - 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended |= message.offset() >= plan.last
                elif not passes(error):
                    raise KafkaException(error)
            if batch:
                yield batch
        self._reader.unassign()

    def _commit(self, records: Sequence[Output], partition: int, progress: Progress, upto: int) -> None:
        self._producer.begin_transaction()
        for out in records:
            if out.topic == EVENTS.name:
                self._producer.produce(self._topic, out.value, out.key, partition=partition)
        metadata = msgspec.json.encode(progress).decode()
        place = TopicPartition(FRAMES.name, partition, upto, metadata)
        self._producer.send_offsets_to_transaction([place], self._member.consumer_group_metadata(), _CALL_S)
        self._producer.commit_transaction(_CALL_S)

    def events(self, topic: str, partition: int) -> Iterator[Event]:
        """All events of a partition. Raises KafkaException."""
        part = Part(topic, partition)
        for message in read_to(self._reader, self.offsets.latest([part])):
            if (value := message.value()) is not None:
                yield EVENT.decode(value)

    def close(self) -> None:
        self._reader.close()
        self._member.close()


class _Turn:
    """One partition's Logic on its way. `at`: where output begins."""

    def __init__(self, logic: TelemetryLogic, partition: int, plan: Plan, known: Changes, at: int) -> None:
        self.logic, self.done = logic, Done()
        self._partition, self._plan, self._known, self._at = partition, plan, known, at
        self._since = plan.warm
        self._keys: set[RowKey] = set()

    def until(self, offset: int) -> list[Output]:
        """What took effect since the last record and before the one with this offset; what came of it."""
        since, self._since = self._since, offset
        logic, partition = self.logic, self._partition
        logic.broadcast([edit for before, edit in self._known.edits if since < before <= offset])
        gone = [RowKey(partition, key) for before, key in self._known.forgets if since < before <= offset]
        logic.forget([key for key, value in logic.rows(gone) if value is not None])
        made = []
        for before, time_us in self._known.ticks:
            if since < before <= offset:
                out = logic.process(MicroBatch(ticks={partition: time_us}))
                self._keys |= out.touched
                made += out.records
        return made

    def records(self, records: Sequence[Record]) -> list[Output] | None:
        """Process records; what came of them and of what took effect before, None when that is not to be given out."""
        first, last = records[0], records[-1]
        made = self.until(first.offset)
        out = self.logic.process(MicroBatch(records=records))
        self._keys |= out.touched | out.behind
        self.done.records += len(records)
        for name, count in out.counts.items():
            self.done.counts[name] = self.done.counts.get(name, 0) + count
        if first.offset >= self._plan.first:
            self.done.append_us = self.done.append_us[0] or first.append_us, last.append_us
            self.done.skipped += len(records) * (first.offset < self._at)
        return made + out.records if first.offset >= self._at else None

    def end(self) -> Done:
        """The partition is done."""
        rows = [
            (key.key[len(ROW_PREFIX) :].decode(), unpack(key.partition, value)[0])
            for key, value in self.logic.rows(self._keys) if value is not None
        ]  # fmt: skip
        self.done.cursors = open_from(rows)
        return self.done


def cut(records: Sequence[Record], stops: Iterable[int]) -> list[Sequence[Record]]:
    """Records of one partition in pieces, a new one beginning at the first record past each of the offsets `stops`."""
    offsets = [record.offset for record in records]
    places = sorted({bisect_left(offsets, stop) for stop in stops} - {0, len(records)})
    return [records[a:b] for a, b in zip([0, *places], [*places, len(records)], strict=True)]
