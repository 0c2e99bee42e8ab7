"""The telemetry Logic in a for-loop: what it finds, and that how the log is cut into micro-batches changes nothing."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_cloud.engine import MicroBatch, Output, Record, RowKey
from tidegate_cloud.engine.cursors import unpack
from tidegate_cloud.engine.deadletters import DeadLetter
from tidegate_cloud.engine.inprocess import Ran, keep, run, step
from tidegate_cloud.engine.telemetry import TelemetryLogic
from tidegate_protocols.batch import Lane
from tidegate_protocols.codec.training import train_priors
from tidegate_protocols.frame import CodecName, encode_frame
from tidegate_protocols.topics import DEAD_LETTERS, DEVICE_PARTITIONS, EVENTS, PRIORS, RETRY

from tests.engine.folding import POISON, Fold
from tests.engine.frames import POSITION, SPEED, TEMPERATURE, Log, announcement, batch, by_key, events_of, home

ALL = range(DEVICE_PARTITIONS)


def logic_of(*schemas: Any) -> TelemetryLogic:
    logic = TelemetryLogic([Fold("one"), Fold("two")])
    logic.broadcast(announcement(*schemas))
    return logic


def run_whole(records: Sequence[Record], *schemas: Any) -> Ran:
    return run(logic_of(*(schemas or (SPEED, TEMPERATURE))), [records], partitions=ALL)


def letters(ran: Ran) -> list[DeadLetter]:
    return [
        DeadLetter.read(Record(DEAD_LETTERS.name, out.partition or 0, i, 0, out.key, out.value, out.headers))
        for i, out in enumerate(ran.of(DEAD_LETTERS.name))
    ]


def remembered(ran: Ran) -> dict[RowKey, Any]:
    """Of each row the cursors and what operators remember."""
    rows = {key: unpack(key.partition, value) for key, value in ran.rows.items()}
    return {key: (row.cursors, operators) for key, (row, operators) in rows.items()}


def test_a_scan_counts_once_however_often_and_in_whatever_pieces_it_comes() -> None:
    plain, messy = Log(), Log()
    values = [float(i) for i in range(12)]
    plain.add(batch("bus-1", values, seq=0))
    messy.add(batch("bus-1", values[:5], seq=0))
    messy.add(batch("bus-1", values[:5], seq=0))
    messy.add(batch("bus-1", values[2:9], seq=2))
    messy.add(batch("bus-1", values[3:6], seq=3))
    messy.add(batch("bus-1", values[9:], seq=9))
    expected, got = run_whole(plain.records), run_whole(messy.records)
    assert [event.id for event in events_of(got)] == [event.id for event in events_of(expected)]
    assert remembered(got) == remembered(expected)
    assert got.counts["duplicates"] == 5 + 3 + 3
    assert got.counts["scans"] == 12


@pytest.mark.parametrize("codec", ["bitpack", "range"])
def test_however_the_columns_are_written_the_processor_finds_the_same(codec: CodecName) -> None:
    plain, small = Log(), Log(codec=codec)
    for seq in range(0, 90, 30):
        for device in ("bus-1", "bus-2"):
            for log in (plain, small):
                log.add(batch(device, [i * 0.25 for i in range(seq, seq + 30)], seq=seq, schema=TEMPERATURE))
    assert plain.records[0].value != small.records[0].value
    expected, got = run_whole(plain.records), run_whole(small.records)
    assert got.counts["scans"] == 180
    assert [event.id for event in events_of(got)] == [event.id for event in events_of(expected)]
    assert got.rows == expected.rows


def test_an_older_epoch_is_dropped_and_a_newer_one_begins_with_a_gap() -> None:
    log = Log()
    log.add(batch("bus-1", [1.0], seq=5, epoch=2))
    log.add(batch("bus-1", [2.0, 3.0], seq=9, epoch=1))
    log.add(batch("bus-1", [4.0], seq=0, epoch=3))
    ran = run_whole(log.records)
    assert ran.counts["scans"] == 2
    assert ran.counts["duplicates"] == 2
    assert ran.counts["gaps"] == 0  # nothing is known to be missing, neither before the first scan nor before an epoch


def test_a_jump_is_a_gap_and_successors_are_none() -> None:
    log = Log()
    for seq in (0, 1, 2, 7, 8):
        log.add(batch("bus-1", [float(seq)], seq=seq))
    assert run_whole(log.records).counts["gaps"] == 1


def test_streams_of_one_device_have_cursors_of_their_own() -> None:
    log = Log()
    log.add(batch("bus-1", [1.0, 2.0], seq=0))
    log.add(batch("bus-1", [1.0, 2.0], seq=0, schema=TEMPERATURE))
    ran = run_whole(log.records)
    assert ran.counts["scans"] == 4
    assert ran.counts.get("duplicates", 0) == 0


def test_learnt_is_when_the_frame_was_appended() -> None:
    log = Log()
    log.add(batch("bus-1", [float(i) for i in range(9)], seq=0))
    second = log.add(batch("bus-1", [float(i) for i in range(9, 20)], seq=9))
    late = [event for event in events_of(run_whole(log.records)) if event.seq >= 9]
    assert late
    assert {event.learnt_us for event in late} == {second.append_us}


@pytest.mark.parametrize(
    ("add", "reason"),
    [
        (lambda log: log.add(b"not a frame", key="bus-1"), "unreadable"),
        (lambda log: log.add(None, key="bus-1"), "unreadable"),
        (lambda log: log.add(batch("bus-1", [1.0], seq=1), key="bus-2"), "wrong-key"),
        (lambda log: log.add(batch("bus-1", [1.0], seq=1), partition=(home("bus-1") + 1) % 24), "wrong-partition"),
    ],
)
def test_bad_frames_are_dead_letters_and_stop_nobody(add: Any, reason: str) -> None:
    log = Log()
    log.add(batch("bus-1", [0.0], seq=0))
    bad = add(log)
    log.add(batch("bus-1", [1.0, 2.0], seq=1))
    ran = run_whole(log.records)
    (letter,) = letters(ran)
    assert (letter.reason, letter.topic, letter.partition, letter.offset) == (
        reason, bad.topic, bad.partition, bad.offset,
    )  # fmt: skip
    assert ran.of(DEAD_LETTERS.name)[0].value == bad.value
    good = [record for record in log.records if record is not bad]
    assert ran.of(EVENTS.name) == run_whole(good).of(EVENTS.name)
    assert ran.counts["scans"] == 3


def test_a_record_on_which_an_operator_raises_leaves_no_trace_but_a_gap() -> None:
    log = Log()
    log.add(batch("bus-1", [1.0, 2.0, 3.0], seq=0))
    log.add(batch("bus-2", [1.0, 2.0, 3.0, 4.0], seq=0))
    bad = log.add(batch("bus-1", [4.0, POISON, 5.0], seq=3))
    log.add(batch("bus-1", [6.0, 7.0], seq=6))
    ran = run_whole(log.records)
    (letter,) = letters(ran)
    assert (letter.reason, letter.operator, letter.offset) == ("operator", "one", bad.offset)
    assert "one met 666" in letter.error
    assert "folding.py" in letter.traceback
    without = run_whole([record for record in log.records if record is not bad])
    assert ran.of(EVENTS.name) == without.of(EVENTS.name)
    assert remembered(ran) == remembered(without)  # but not when the device was heard: that is the engine's, and stays
    assert ran.counts["gaps"] + 1 == without.counts["gaps"]  # a hole in the log is told the same way as a passed frame


def test_after_a_failed_record_the_next_micro_batch_begins_with_a_gap() -> None:
    log = Log()
    for record in ([1.0], [POISON], [2.0]):
        log.add(batch("bus-1", record, seq=len(log.records)))
    one_by_one = run(logic_of(SPEED), [[record] for record in log.records], partitions=ALL)
    assert one_by_one.of(EVENTS.name) == run_whole(log.records).of(EVENTS.name)
    assert one_by_one.rows == run_whole(log.records).rows


def test_taken_rows_go_on_where_they_were() -> None:
    log = Log()
    for i in range(6):
        log.add(batch("bus-1", [float(i)], seq=i))
        log.add(batch("bus-2", [float(-i), 3.0], seq=2 * i, schema=TEMPERATURE))
    whole = run_whole(log.records)
    first = run_whole(log.records[:5])
    heir = logic_of(SPEED, TEMPERATURE)
    for partition in ALL:
        heir.take(partition, {key.key: value for key, value in first.rows.items() if key.partition == partition})
    step(heir, log.records[5:], first)
    assert first.of(EVENTS.name) == whole.of(EVENTS.name)
    assert first.rows == whole.rows


def test_a_dropped_partition_is_forgotten_and_the_others_stay() -> None:
    log = Log()
    log.add(batch("bus-1", [1.0], seq=0))
    log.add(batch("bus-2", [1.0], seq=0))
    assert home("bus-1") != home("bus-2")
    logic = logic_of(SPEED)
    run(logic, [log.records], partitions=ALL)
    logic.drop(home("bus-1"))
    logic.take(home("bus-1"), {})
    again = Ran()
    step(logic, log.records, again)
    assert again.counts["scans"] == 1  # bus-1 anew; bus-2 had it


class Retry:
    """The retry topic of one partition by hand: what was sent there, and where reading goes on."""

    def __init__(self) -> None:
        self.log = Log(RETRY.name)
        self.position = 0

    def append(self, outputs: Sequence[Output]) -> None:
        for out in outputs:
            record = self.log.add(out.value, key=(out.key or b"").decode(), partition=out.partition)
            self.log.records[-1] = record._replace(headers=out.headers)

    def next(self, count: int) -> list[Record]:
        taken = self.log.records[self.position : self.position + count]
        self.position += len(taken)
        return taken


class Waiting:
    """A Logic with one partition, and its retry topic read as the runner reads it."""

    def __init__(self, *schemas: Any) -> None:
        self.logic, self.retry, self.ran = logic_of(*schemas), Retry(), Ran()
        self.place = home("bus-1")
        self.logic.take(self.place, {})

    def turn(self, records: Sequence[Record], sides: int = 0) -> None:
        """A micro-batch with some records of the log, and up to `sides` of the retry topic where that is read."""
        reads = self.logic.reads(RETRY.name, self.place)
        out = self.logic.process(MicroBatch(records, self.retry.next(sides) if reads else []))
        keep(self.logic, out, self.ran)
        self.retry.append([record for record in out.records if record.topic == RETRY.name])
        if not self.logic.reads(RETRY.name, self.place):
            self.retry.position = out.needed.get((RETRY.name, self.place), self.retry.position)

    def catch_up(self, sides: int) -> None:
        while self.logic.reads(RETRY.name, self.place):
            self.turn([], sides)


def test_frames_wait_in_order_for_their_schema_and_lead_to_the_same_events() -> None:
    log = Log()
    schemas = {1: SPEED, 2: TEMPERATURE, 3: POSITION}
    for i in range(8):
        for epoch, schema in schemas.items():  # the epoch tells in an event which stream it is of
            log.add(batch("bus-1", [float(i), float(i)], seq=2 * i, epoch=epoch, schema=schema))
    known = run_whole(log.records, *schemas.values())

    waiting = Waiting(SPEED)
    logic, retry, ran = waiting.logic, waiting.retry, waiting.ran
    waiting.turn(log.records[:9])
    assert not logic.reads(RETRY.name, waiting.place)
    logic.broadcast(announcement(TEMPERATURE))
    assert logic.reads(RETRY.name, waiting.place)
    waiting.turn(log.records[9:12], 1)  # frames that come now queue behind those that wait
    waiting.catch_up(1)
    assert retry.log.records[retry.position].value == log.records[2].value  # the first that still waits
    waiting.turn(log.records[12:])
    logic.broadcast(announcement(POSITION))
    waiting.catch_up(3)
    # Streams of one device may overtake each other; each of them is in order, and complete.
    for epoch in schemas:
        got, want = ([event for event in events_of(r) if event.epoch == epoch] for r in (ran, known))
        assert got == want
        assert want
    assert ran.counts["scans"] == known.counts["scans"]
    assert ran.counts["waiting"] == 4 + 8
    assert "duplicates" not in ran.counts or not ran.counts["duplicates"]


def test_what_is_announced_while_the_retry_topic_is_read_loses_no_frame_that_was_passed() -> None:
    log = Log()
    for i in range(4):
        for epoch, schema in {2: TEMPERATURE, 3: POSITION}.items():
            log.add(batch("bus-1", [float(i), float(i)], seq=2 * i, epoch=epoch, schema=schema))
    known = run_whole(log.records, TEMPERATURE, POSITION)
    waiting = Waiting()
    waiting.turn(log.records)
    waiting.logic.broadcast(announcement(POSITION))
    waiting.turn([], 3)  # one frame that still waits is passed by
    waiting.logic.broadcast(announcement(TEMPERATURE))
    waiting.catch_up(3)
    assert sorted(event.id for event in events_of(waiting.ran)) == sorted(event.id for event in events_of(known))
    assert waiting.ran.counts["scans"] == known.counts["scans"] == 16


def test_frames_wait_in_order_for_the_priors_that_they_name() -> None:
    frames = [batch("bus-1", [float(3 * i + j) for j in range(8)], seq=8 * i) for i in range(6)]
    priors = [train_priors(frames, version) for version in (1, 2)]
    log = Log()
    for frame, named in zip(frames, [None, priors[0], None, priors[1], priors[0], None], strict=True):
        log.add(encode_frame(frame, codec="range", priors=named), key="bus-1")
    announced = [Record(PRIORS.name, 0, i, 0, p.name.hex().encode(), p.canonical_json) for i, p in enumerate(priors)]
    waiting = Waiting(SPEED)
    waiting.turn(log.records[:3])
    assert waiting.ran.counts["scans"] == 8
    waiting.logic.broadcast(announced[1:])
    waiting.turn(log.records[3:])
    waiting.catch_up(2)
    assert waiting.ran.counts["scans"] == 8  # the first that waits holds the others back
    # Another instance takes the partition: only the rows and what is committed tell it what waits.
    other = Waiting(SPEED)
    other.logic.drop(other.place)
    other.logic.broadcast(announced[1:])
    other.logic.take(other.place, {key.key: value for key, value in waiting.ran.rows.items()})
    other.retry, other.ran = waiting.retry, waiting.ran
    other.catch_up(2)
    assert waiting.ran.counts["scans"] == 8
    other.logic.broadcast(announced[:1])
    other.catch_up(2)
    assert other.ran.counts["scans"] == 48
    assert other.ran.counts["waiting"] == 5
    assert "dead_letters" not in other.ran.counts

    plain = Log()
    for frame in frames:
        plain.add(frame)
    assert events_of(other.ran) == events_of(run_whole(plain.records))


@st.composite
def deliveries(draw: st.DrawFn) -> list[Record]:
    """Frames of a few streams as a bad link delivers them: repeated, overlapping, jumping, reborn, some poisoned."""
    log = Log()
    streams = [(device, schema) for device in ("bus-1", "bus-2", "bus-3") for schema in (SPEED, TEMPERATURE)]
    places = dict.fromkeys(streams, (1, 0))
    for _ in range(draw(st.integers(1, 24))):
        device, schema = stream = draw(st.sampled_from(streams))
        epoch, seq = places[stream]
        what = draw(
            st.sampled_from(
                ["next", "next", "next", "jump", "again", "overlap", "epoch", "noise", "poison", "preview", "preview"]
            )
        )
        n = draw(st.integers(1, 5))
        if what == "noise":
            log.add(draw(st.binary(max_size=20)), key=device)
            continue
        if what == "jump":
            seq += draw(st.integers(1, 9))
        elif what == "preview":
            seq += draw(st.integers(0, 20))
        elif what in ("again", "overlap"):
            seq = max(0, seq - draw(st.integers(1, 6)))
        elif what == "epoch":
            epoch, seq = epoch + 1, draw(st.integers(0, 3))
        # The value of a scan follows from its name: a scan that comes again is the same scan.
        values = [float((epoch * 31 + (seq + i) * 7) % 100) for i in range(n)]
        if what == "poison" or (what == "preview" and draw(st.integers(0, 4)) == 0):
            values[-1] = POISON
        if what == "preview":
            log.add(batch(device, values, seq=seq, epoch=epoch, schema=schema, lane=Lane.PREVIEW))
            continue
        log.add(batch(device, values, seq=seq, epoch=epoch, schema=schema))
        places[stream] = max(places[stream], (epoch, seq + n))
    return log.records


def by_partition(records: Sequence[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record.partition)


@settings(max_examples=60, deadline=None)
@given(deliveries(), st.data())
def test_how_the_log_is_cut_changes_nothing(records: list[Record], data: st.DataObject) -> None:
    whole = run_whole(by_partition(records))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(records)), max_size=len(records))))
    pieces = [records[a:b] for a, b in zip([0, *cuts], [*cuts, len(records)], strict=True)]
    split = run(logic_of(SPEED, TEMPERATURE), [by_partition(piece) for piece in pieces], partitions=ALL)
    assert split.rows == whole.rows
    for topic in (EVENTS.name, DEAD_LETTERS.name):
        got, want = ((by_key((out.key, out.value) for out in ran.of(topic))) for ran in (split, whole))
        assert got == want
    assert split.counts == whole.counts


@settings(max_examples=40, deadline=None)
@given(deliveries(), st.data())
def test_a_restart_anywhere_changes_nothing(records: list[Record], data: st.DataObject) -> None:
    whole = run_whole(records)
    ran = Ran()
    at = 0
    while at < len(records):
        logic = logic_of(SPEED, TEMPERATURE)
        for partition in ALL:
            logic.take(partition, {key.key: value for key, value in ran.rows.items() if key.partition == partition})
        stop = data.draw(st.integers(at + 1, len(records)))
        step(logic, records[at:stop], ran)
        at = stop
    assert ran.rows == whole.rows
    assert ran.of(EVENTS.name) == whole.of(EVENTS.name)


def test_a_row_that_is_damaged_is_refused() -> None:
    log = Log()
    log.add(batch("bus-1", [1.0], seq=0))
    ((key, value),) = run_whole(log.records).rows.items()
    for broken in (value[:-1], value + b"x", b"\x07" + value[1:], struct.pack("<BH", 1, 500)):
        with pytest.raises(ValueError, match=r"device row|state of bus-1"):
            logic_of(SPEED).take(key.partition, {key.key: broken})
