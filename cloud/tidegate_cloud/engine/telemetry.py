"""The processor's Logic: frames in, events out.

Of every frame the scans past its stream's cursor are taken, put into blocks by schema, and run through the operators.

- A frame that cannot be read, whose key is not its device, or that stands in another partition than its key belongs to,
  is a dead letter; so is one on which an operator raises.
- A frame under a schema, or with priors, that has not been announced waits in `telemetry.retry`, and every later frame
  of its stream behind it (`parked`). Once that is there, the retry partition is read until the last of the stream's
  frames has come back.
  Frames that still wait stay where they are: the committed offset of the retry partition is the first of them, and what
  comes back a second time is known by the offset that it had in the log. Waiting changes no event: a frame keeps the
  append time that it had.
- Preview frames run on a fork of the device's rows (`previews`).
- A device that is not heard for long is called silent (`presence`), and forgotten after a month.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from tidegate_protocols.errors import BadInput
from tidegate_protocols.events import EVENT, Event, EventLane
from tidegate_protocols.frame import peek_header
from tidegate_protocols.topics import CHECKPOINTS, DEVICE_PARTITIONS, EVENTS, FRAMES, PRIORS, RETRY, SCHEMAS

from tidegate_cloud.operators.operator import Operator

from . import admission, presence, registry
from .blocks import Frames, Piece, cut, read
from .chain import Chain
from .cursors import pack, unpack
from .deadletters import Reason, dead_letter, original, waiting
from .logic import MicroBatch, Output, Outputs, Record, RowKey
from .parked import Parked
from .previews import Previews
from .streams import ROW_PREFIX, Streams

COUNTERS = {
    "frames": "Frames taken from telemetry.frames",
    "frame_bytes": "Bytes of those frames",
    "scans": "Scans given to operators",
    "readings": "Values given to operators, those of previews too",
    "events": "Events found",
    "dead_letters": "Records that went to telemetry.dead-letters",
    "duplicates": "Scans dropped since they had been processed",
    "gaps": "Times that scans are missing from a stream",
    "previews": "Preview frames shown",
    "stale_previews": "Preview frames dropped, since the stream or its preview was past them",
    "failed_previews": "Preview frames dropped since an operator raised",
    "joins": "Times that a stream caught up with its preview",
    "waiting": "Frames sent to telemetry.retry until their schema or priors are known",
    "refused_edits": "Registry records, schemas and priors that could not be read",
}
KEPT_US = 30 * 86_400_000_000  # rows of a device that is not heard for so long are forgotten


class TelemetryLogic:
    """See the module's docstring; a `logic.Logic`. `operators` run in the order given.

    `silent_after_s`: nobody is called silent sooner.
    """

    name = "telemetry"
    state_version = 2
    log_topic = FRAMES.name
    side_topics = (RETRY.name,)
    broadcast_topics = registry.TOPICS
    reference_topics = (SCHEMAS.name, PRIORS.name)
    checkpoint_topic = CHECKPOINTS.name
    tick_s = 1.0

    def __init__(
        self, operators: Sequence[Operator], *, partitions: int = DEVICE_PARTITIONS,
        silent_after_s: float = presence.LEAST_S,
    ) -> None:  # fmt: skip
        self._registry = registry.Registry()
        self._chain = Chain(operators, self._registry.control)
        self._streams = Streams()
        self._admission = admission.Admission(self._streams, partitions)
        self._previews = Previews(self._chain)
        self._parked = Parked(self._registry)
        self._refused = 0
        self._silent_after_us = int(silent_after_s * 1e6)

    def broadcast(self, records: Sequence[Record]) -> Sequence[Record]:
        refused = self._registry.apply(records)
        self._refused += len(refused)
        return refused

    def take(self, partition: int, rows: Mapping[bytes, bytes]) -> None:
        for key, value in rows.items():
            if not key.startswith(ROW_PREFIX):
                raise BadInput(f"a row with key {key!r}", hint="written by a newer program: upgrade this one")
            name = key[len(ROW_PREFIX) :]
            device = name.decode()
            row, states = unpack(partition, value)
            self._streams.load(name, row)
            self._chain.load(device, states)
            for mark, cursor in row.cursors.items():
                if cursor.resumed_to < cursor.parked_to:
                    self._parked.add(partition, device, mark)
                if cursor.shown is not None:
                    self._previews.load(device, mark, cursor.told, cursor.rows)

    def drop(self, partition: int) -> None:
        for number in list(self._streams.members(partition)):
            self._forget(number)
        self._parked.drop(partition)

    def _forget(self, number: int) -> None:
        device = self._streams.names[number]
        if len(self._previews):
            self._previews.forget(device, self._fingerprints(number))
        self._streams.forget(number)
        self._chain.forget(device)

    def _fingerprints(self, number: int) -> list[bytes]:
        streams = self._streams
        return [streams.schemas[int(streams.stream["schema"][stream])] for stream in streams.of_device(number)]

    def reads(self, topic: str, partition: int) -> bool:
        return self._parked.reads(partition)

    def rows(self, keys: Iterable[RowKey]) -> Iterable[tuple[RowKey, bytes | None]]:
        for key in keys:
            name = key.key[len(ROW_PREFIX) :]
            number = self._streams.number_of.get(name)
            yield key, None if number is None else self._row(number)

    def _row(self, number: int) -> bytes:
        device, row = self._streams.names[number], self._streams.row(number)
        for mark, cursor in row.cursors.items():
            if cursor.shown is not None:
                cursor.told, cursor.rows = self._previews.stored(device, mark)
        return pack(row, self._chain.bytes_of(device))

    def forgettable(self, partition: int, now_us: int) -> list[RowKey]:
        heard_us = self._streams.device["heard_us"]
        return [
            self._streams.row_keys[number]
            for number in sorted(self._streams.members(partition))
            if 0 < heard_us[number] < now_us - KEPT_US
        ]

    def forget(self, keys: Iterable[RowKey]) -> None:
        for key in keys:
            number = self._streams.number_of[key.key[len(ROW_PREFIX) :]]
            device = self._streams.names[number]
            for mark in self._fingerprints(number):
                self._parked.discard(key.partition, device, mark)
            self._forget(number)

    def process(self, batch: MicroBatch) -> Outputs:
        turn = _Turn()
        turn.count("frames", len(batch.records))
        turn.count("frame_bytes", sum(len(record.value or b"") for record in batch.records))
        turn.count("refused_edits", self._refused)
        self._refused = 0
        self._call_back(turn, batch.sides)
        came_back = len(turn.records)
        turn.records += batch.records
        for partition, now_us in batch.ticks.items():
            self._tick(turn, partition, now_us)
        if turn.records:
            with turn.timed("decode"):
                frames = read(turn.records, self._registry.schemas, self._registry.priors)
            self._run(turn, frames, came_back)
        turn.events.sort(key=lambda placed: placed[0])
        turn.count("events", len(turn.events))
        with turn.timed("encode"):
            events = [Output(EVENTS.name, event.device.encode(), EVENT.encode(event)) for _, event in turn.events]
        needed = {(RETRY.name, partition): offset for partition, offset in self._parked.needed.items()}
        return Outputs(
            [*events, *turn.waiting, *turn.dead_letters()], turn.touched, turn.counts, needed,
            turn.behind - turn.touched, turn.failures, turn.seconds,
        )  # fmt: skip

    def _call_back(self, turn: _Turn, sides: Sequence[Record]) -> None:
        """Of the retry topic's records, those that need wait no longer, as they stood at first."""
        for record in sides:
            self._parked.met(record.partition, record.offset)
            try:
                first = original(record)
                header = peek_header(record.value or b"")
            except BadInput as error:
                turn.bury(record, "unreadable", error)
                continue
            device = self._streams.number_of.get(header.device.encode("ascii"), -1)
            number = self._streams.stream_of(device, self._streams.schema_number(header.fingerprint))
            if device < 0 or number < 0:
                continue
            stream = self._streams.stream[number]
            if first.offset <= stream["resumed_to"]:
                continue  # it came back before
            if not self._parked.may_go(record, header):
                continue
            stream["resumed_to"] = first.offset
            if stream["resumed_to"] >= stream["parked_to"]:
                self._parked.discard(record.partition, header.device, header.fingerprint)
            turn.touched.add(self._streams.row_keys[device])
            turn.records.append(first)

    def _tick(self, turn: _Turn, partition: int, now_us: int) -> None:
        numbers = np.array(sorted(self._streams.members(partition)), np.int64)
        if not len(numbers):
            return
        found = presence.overdue(self._streams, numbers, now_us, self._silent_after_us)
        if self._chain.ticking:
            names = [self._streams.names[number] for number in numbers.tolist()]
            number_of = self._streams.number_of
            for operator, device, what in self._chain.tick(names, now_us):
                found.append((number_of[device.encode()], presence.timely(operator, device, what)))
        found.sort(key=lambda item: (item[1].device, item[1].operator, item[1].subject, item[1].kind))
        for number, event in found:
            turn.touched.add(self._streams.row_keys[number])
            turn.events.append(((-1, partition, len(turn.events)), event))

    def _run(self, turn: _Turn, frames: Frames, came_back: int) -> None:
        schemas = self._registry.schemas
        with turn.timed("admission"):
            admitted = self._admission.admit(turn.records, frames, schemas, came_back)
            self._note(turn, frames, admitted)
            pieces = cut(frames, admitted.start, admitted.gap, admitted.round_of)
        broken: dict[tuple[bytes, bool], set[str]] = {}
        # Rounds matter to a device that changes its schema, or begins or ends a preview; most have one.
        for _, group in itertools.groupby(pieces, key=lambda piece: piece.round):
            for piece in group:
                self._run_piece(turn, piece, admitted, broken)
        for (fingerprint, preview), devices in broken.items():
            for device in devices:
                stream = self._stream(device, fingerprint)
                self._streams.stream["shown_broken" if preview else "broken"][stream] = 1

    def _stream(self, device: str, fingerprint: bytes) -> int:
        streams = self._streams
        return streams.stream_of(streams.number_of[device.encode()], streams.schema_number(fingerprint))

    def _note(self, turn: _Turn, frames: Frames, admitted: admission.Admitted) -> None:
        """Everything about frames that is no operator's business."""
        for i, reason, error in admitted.refused:
            turn.bury(turn.records[i], reason, error)
        counts = admitted.counts.tolist()
        for name, count in zip(("duplicates", "gaps", "scans", "previews", "stale_previews"), counts, strict=True):
            turn.count(name, count)
        turn.count("joins", int(admitted.joins.sum()))
        seen = np.unique(admitted.device)
        turn.behind.update([self._streams.row_keys[number] for number in seen[seen >= 0].tolist()])
        for i in admitted.parked:
            self._park(turn, turn.records[i], int(admitted.device[i]), int(admitted.stream[i]))
        for i in np.flatnonzero(admitted.heard).tolist():
            device = self._streams.names[int(admitted.device[i])]
            turn.events.append(((i, -1, -1), presence.heard(device, turn.records[i].append_us)))

    def _park(self, turn: _Turn, record: Record, device: int, number: int) -> None:
        stream = self._streams.stream[number]
        stream["parked_to"] = record.offset
        fingerprint = self._streams.schemas[int(stream["schema"])]
        self._parked.add(record.partition, self._streams.names[device], fingerprint)
        turn.count("waiting", 1)
        turn.waiting.append(waiting(record, RETRY.name))
        # Written at once: a replay must not meet the frame again, by then it may be readable.
        turn.touched.add(self._streams.row_keys[device])

    def _run_piece(
        self, turn: _Turn, piece: Piece, admitted: admission.Admitted, broken: dict[tuple[bytes, bool], set[str]]
    ) -> None:
        block, mark = piece.block, piece.block.schema.fingerprint
        turn.count("readings", _readings(block.valid, len(block)))
        special = admitted.forks.any() or admitted.joins.any() or len(self._previews) > 0
        messages = np.unique(block.message).tolist() if special else []
        for i in messages:
            if admitted.forks[i]:
                self._previews.fork(self._streams.names[int(admitted.device[i])], mark)
        rows = self._previews.rows(mark) if piece.preview else self._chain.states
        with turn.timed("operators"):
            findings, failures = self._chain.run(block, rows, broken.setdefault((mark, piece.preview), set()))
        for finding in findings:
            i = finding.message
            lane: EventLane = "provisional" if piece.preview else "authoritative"
            until = int(admitted.until_epoch[i]), int(admitted.until[i])
            if not piece.preview and (finding.epoch, finding.seq) < until:
                lane = "historical"
            event = finding.event(turn.records[i].append_us, lane)
            if special:
                self._previews.note(event, mark)
            turn.events.append((finding.place, event))
        for failure in failures:
            turn.failures.append(f"operator {failure.operator}: {failure.error!r}")
            turn.touched.add(self._streams.row_keys[int(admitted.device[failure.message])])
            if piece.preview:
                turn.count("failed_previews", 1)
            else:
                turn.bury(turn.records[failure.message], "operator", failure.error, failure.operator)
        for i in messages:
            if admitted.joins[i]:
                self._join(turn, piece, admitted, i)

    def _join(self, turn: _Turn, piece: Piece, admitted: admission.Admitted, i: int) -> None:
        block, mark = piece.block, piece.block.schema.fingerprint
        last = int(np.flatnonzero(block.message == i)[-1])
        device, seq = self._streams.names[int(admitted.device[i])], int(block.seq[last])
        made = self._previews.join(
            device, mark, int(block.ts_us[last]), int(block.epoch[last]), seq, turn.records[i].append_us
        )
        turn.events += [((i, seq, len(self._chain.operators) + place), event) for place, event in enumerate(made)]


def _readings(valid: Sequence[npt.NDArray[np.bool_] | None], n: int) -> int:
    return sum(n if mask is None else int(np.count_nonzero(mask)) for mask in valid)


class _Turn:
    """One micro-batch on its way through: its records as they stood at first, and what they lead to."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.events: list[tuple[tuple[int, int, int], Event]] = []
        self.waiting: list[Output] = []
        self.touched: set[RowKey] = set()
        self.behind: set[RowKey] = set()
        self.failures: list[str] = []
        self.counts: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self._buried: list[tuple[Record, Output]] = []

    def count(self, name: str, more: int) -> None:
        self.counts[name] = self.counts.get(name, 0) + more

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add how long the block takes to a stage, for the metrics: nothing else comes of it."""
        began = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began

    def bury(self, record: Record, reason: Reason, error: BaseException, operator: str = "") -> None:
        self._buried.append((record, dead_letter(record, reason, error, operator)))
        self.count("dead_letters", 1)

    def dead_letters(self) -> list[Output]:
        """In order of the records, whatever was found out about them first."""
        return [out for _, out in sorted(self._buried, key=lambda item: (item[0].partition, item[0].offset))]
