"""The processor's Logic: frames in, events out.

Of every frame the scans past its stream's cursor are taken, put into blocks by schema, and run through the operators.

- A frame that cannot be read, whose key is not its device, or that stands in another partition than its key belongs to,
  is a dead letter; so is one on which an operator raises.
- A frame under a schema that has not been announced waits in `telemetry.retry`, and every later frame of its stream
  behind it. Once the schema is there, the retry partition is read until the last of the stream's frames has come back.
  Frames that still wait stay where they are: the committed offset of the retry partition is the first of them, and what
  comes back a second time is known by the offset that it had in the log. Waiting changes no event: a frame keeps the
  append time that it had.
- Preview frames are copies; the frame itself follows in order. They are counted and left out: what they could show
  early, nobody is shown yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from tidegate_protocols.batch import Batch, Lane
from tidegate_protocols.errors import BadInput
from tidegate_protocols.events import EVENT
from tidegate_protocols.frame import UnknownSchema, peek_header
from tidegate_protocols.ids import partition_of
from tidegate_protocols.topics import CHECKPOINTS, DEVICE_PARTITIONS, EVENTS, FRAMES, RETRY

from tidegate_cloud.operators.operator import Operator

from . import registry
from .blocks import Admitted, blocks_of, read_frames
from .chain import Chain
from .cursors import DeviceRow, pack, unpack
from .deadletters import Reason, dead_letter, original, waiting
from .logic import MicroBatch, Output, Outputs, Record, RowKey

COUNTERS = {
    "frames": "Frames taken from telemetry.frames",
    "scans": "Scans given to operators",
    "readings": "Values given to operators",
    "events": "Events found",
    "dead_letters": "Records that went to telemetry.dead-letters",
    "duplicates": "Scans dropped since they had been processed",
    "gaps": "Times that scans are missing from a stream",
    "previews": "Preview frames left out",
    "waiting": "Frames sent to telemetry.retry until their schema is known",
    "refused_edits": "Registry records and schemas that could not be read",
}
_ROW = b"d/"


class TelemetryLogic:
    """See the module's docstring; a `logic.Logic`. `operators` run in the order given."""

    name = "telemetry"
    state_version = 1
    log_topic = FRAMES.name
    side_topics = (RETRY.name,)
    broadcast_topics = registry.TOPICS
    checkpoint_topic = CHECKPOINTS.name
    tick_s = None

    def __init__(self, operators: Sequence[Operator], *, partitions: int = DEVICE_PARTITIONS) -> None:
        self._registry = registry.Registry()
        self._chain = Chain(operators, self._registry.control)
        self._partition_of = lru_cache(1 << 16)(lambda key: partition_of(key, partitions))
        self._devices: dict[str, DeviceRow] = {}
        # By partition: streams with frames in the retry topic, and the first offset there that still waits.
        self._parked: dict[int, set[tuple[str, bytes]]] = {}
        self._needed: dict[int, int] = {}
        self._refused = 0

    def broadcast(self, records: Sequence[Record]) -> None:
        self._refused += self._registry.apply(records)

    def take(self, partition: int, rows: Mapping[bytes, bytes]) -> None:
        self._parked[partition] = set()
        for key, value in rows.items():
            if not key.startswith(_ROW):
                raise BadInput(f"a row with key {key!r}", hint="written by a newer program: upgrade this one")
            device = key[len(_ROW) :].decode()
            row, states = unpack(partition, value)
            self._devices[device] = row
            self._chain.load(device, states)
            self._parked[partition] |= {(device, mark) for mark, cursor in row.cursors.items() if cursor.parked}

    def drop(self, partition: int) -> None:
        for device in [name for name, row in self._devices.items() if row.partition == partition]:
            del self._devices[device]
            self._chain.forget(device)
        self._parked.pop(partition, None)
        self._needed.pop(partition, None)

    def reads(self, topic: str, partition: int) -> bool:
        return any(mark in self._registry.schemas for _, mark in self._parked.get(partition, ()))

    def rows(self, keys: Iterable[RowKey]) -> Iterable[tuple[RowKey, bytes | None]]:
        for key in keys:
            device = key.key[len(_ROW) :].decode()
            yield key, pack(self._devices[device], self._chain.bytes_of(device))

    def process(self, batch: MicroBatch) -> Outputs:
        turn = _Turn()
        turn.count("frames", len(batch.records))
        turn.count("refused_edits", self._refused)
        self._refused = 0
        self._call_back(turn, batch.sides)
        turn.records += batch.records
        admitted = self._admit(turn)
        learnt_us = [record.append_us for record in turn.records]
        findings = []
        broken: dict[bytes, set[str]] = {}
        for block in blocks_of(admitted):
            schema = block.schema.fingerprint
            found, failures, broken[schema] = self._chain.run(block, learnt_us, broken.get(schema, set()))
            findings += found
            for failure in failures:
                turn.bury(turn.records[failure.message], "operator", failure.error, failure.operator)
        for schema, devices in broken.items():
            for device in devices:
                self._devices[device].cursor(schema).broken = True
        findings.sort(key=lambda finding: finding.place)
        turn.count("events", len(findings))
        events = [Output(EVENTS.name, f.event.device.encode(), EVENT.encode(f.event)) for f in findings]
        needed = {(RETRY.name, partition): offset for partition, offset in self._needed.items()}
        return Outputs([*events, *turn.waiting, *turn.dead_letters()], turn.touched, turn.counts, needed)

    def _call_back(self, turn: _Turn, sides: Sequence[Record]) -> None:
        """Of the retry topic's records, those that need wait no longer, as they stood at first."""
        for record in sides:
            if record.offset <= self._needed.get(record.partition, -1):
                del self._needed[record.partition]  # being read again from there
            try:
                first = original(record)
                header = peek_header(record.value or b"")
            except BadInput as error:
                turn.bury(record, "unreadable", error)
                continue
            row = self._devices.get(header.device)
            cursor = None if row is None else row.cursors.get(header.fingerprint)
            if row is None or cursor is None or first.offset <= cursor.resumed_to:
                continue  # it came back before
            if header.fingerprint not in self._registry.schemas:
                self._needed.setdefault(record.partition, record.offset)
                continue
            cursor.resumed_to = first.offset
            if not cursor.parked:
                self._parked[record.partition].discard((header.device, header.fingerprint))
            turn.touch(row.partition, header.device)
            turn.came_back.add(len(turn.records))
            turn.records.append(first)

    def _admit(self, turn: _Turn) -> list[Admitted]:
        """Of each record, in order, what operators are to see."""
        admitted = []
        for number, read in enumerate(read_frames(turn.records, self._registry.schemas)):
            record = turn.records[number]
            try:
                name = self._check(record, read)
            except _Refused as refused:
                turn.bury(record, refused.reason, refused.error)
                continue
            if name is None:
                turn.count("previews", 1)
                continue
            device, fingerprint = name
            row = self._devices.get(device)
            if row is None:
                row = self._devices[device] = DeviceRow(record.partition)
            cursor = row.cursor(fingerprint)
            if isinstance(read, BadInput) or (cursor.parked and number not in turn.came_back):
                cursor.parked_to = record.offset
                self._parked[record.partition].add(name)
                turn.count("waiting", 1)
                turn.waiting.append(waiting(record, RETRY.name))
                turn.touch(row.partition, device)
                continue
            # A stream's beginning, in a new epoch too, is a gap to operators but nothing that is known to be missing.
            hole = read.epoch == cursor.epoch and read.seq > cursor.next
            new, gap = cursor.admit(read)
            turn.count("duplicates", len(read) - (0 if new is None else len(new)))
            if new is not None:
                turn.count("scans", len(new))
                turn.count("readings", new.readings)
                turn.count("gaps", int(hole))
                turn.touch(row.partition, device)
                admitted.append(Admitted(number, new, gap))
        return admitted

    def _check(self, record: Record, read: Batch | BadInput) -> tuple[str, bytes] | None:
        """Device and fingerprint of a frame that is where it belongs; None for a preview. Raises _Refused."""
        if isinstance(read, UnknownSchema):
            header = peek_header(record.value or b"")
            device, fingerprint, lane = header.device, header.fingerprint, header.lane
        elif isinstance(read, BadInput):
            raise _Refused("unreadable", read)
        else:
            device, fingerprint, lane = read.device, read.schema.fingerprint, read.lane
        if record.key != device.encode():
            raise _Refused("wrong-key", BadInput(f"the key is {record.key!r}, the frame is of device {device!r}"))
        home = self._partition_of(record.key)
        if home != record.partition:
            raise _Refused(
                "wrong-partition",
                BadInput(
                    f"partition {record.partition}; key {device!r} belongs in {home}",
                    hint="the producer must use the partitioner murmur2_random",
                ),
            )
        return None if lane == Lane.PREVIEW else (device, fingerprint)


class _Refused(Exception):
    def __init__(self, reason: Reason, error: BadInput) -> None:
        self.reason: Reason = reason
        self.error = error


class _Turn:
    """One micro-batch on its way through: its records as they stood at first, and what they lead to."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.came_back: set[int] = set()
        self.waiting: list[Output] = []
        self.touched: set[RowKey] = set()
        self.counts: dict[str, int] = {}
        self._buried: list[tuple[Record, Output]] = []

    def count(self, name: str, more: int) -> None:
        self.counts[name] = self.counts.get(name, 0) + more

    def touch(self, partition: int, device: str) -> None:
        self.touched.add(RowKey(partition, _ROW + device.encode()))

    def bury(self, record: Record, reason: Reason, error: BaseException, operator: str = "") -> None:
        self._buried.append((record, dead_letter(record, reason, error, operator)))
        self.count("dead_letters", 1)

    def dead_letters(self) -> list[Output]:
        """In order of the records, whatever was found out about them first."""
        return [out for _, out in sorted(self._buried, key=lambda item: (item[0].partition, item[0].offset))]
