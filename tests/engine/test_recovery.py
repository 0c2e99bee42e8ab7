"""Rows written now and then, crashes anywhere, edits and ticks in between: what comes out is as of one clean run.

The log, the stored rows and the commits are plain values here; the runner on Kafka is put through the same in
tests/faults.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from tidegate_cloud.engine import MicroBatch, Output, Record, RowKey
from tidegate_cloud.engine.behind import Behind, Schedule
from tidegate_cloud.engine.committing import Committer
from tidegate_cloud.engine.editions import EDIT_PREFIX, Edition
from tidegate_cloud.engine.replaying import not_included
from tidegate_cloud.engine.telemetry import TelemetryLogic
from tidegate_cloud.operators.limit import Limit
from tidegate_protocols.registry import RULE, Rule
from tidegate_protocols.topics import EVENTS, RULES

from tests.engine.folding import POISON, Fold
from tests.engine.frames import SPEED, START_US, Log, announcement, batch, home

DEVICES = [f"bus-{i}" for i in range(5)]
PARTS = sorted({home(device) for device in DEVICES})


def rule(high: float | None) -> Record:
    """The limit as registry.rules holds it; None removes it."""
    value = None if high is None else RULE.encode(Rule(id="pace", name="Pace", channel="speed", high=high))
    return Record(RULES.name, 0, 0, 0, b"pace", value)


@dataclass
class Stored:
    """What is committed: rows with tags, positions, `replay_from`, edits; and the output."""

    rows: dict[RowKey, tuple[bytes, int]] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))
    replay_from: dict[int, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))
    edits: dict[bytes, bytes] = field(default_factory=dict)
    output: list[Output] = field(default_factory=list)


class Instance:
    """A processor that starts from what is stored, as the runner does."""

    def __init__(self, log: list[Record], stored: Stored) -> None:
        self.log, self.stored = log, stored
        self.logic = TelemetryLogic([Fold("one"), Limit()], silent_after_s=60)
        self.logic.broadcast(announcement(SPEED))
        self.edition = Edition.read(stored.edits)
        self.logic.broadcast(Edition().towards(self.edition))
        self.edit_keys = set(stored.edits)
        self.behind = Behind()
        tags: dict[int, dict[bytes, int]] = {}
        for partition in PARTS:
            mine = {key.key: value for key, value in stored.rows.items() if key.partition == partition}
            self.logic.take(partition, {key: data for key, (data, _) in mine.items()})
            tags[partition] = {key: tag for key, (_, tag) in mine.items()}
            span = [
                record for record in log
                if record.partition == partition
                and stored.replay_from[partition] <= record.offset < stored.positions[partition]
            ]  # fmt: skip
            if fresh := not_included(span, tags):
                out = self.logic.process(MicroBatch(records=fresh))
                assert not out.failures
                self.behind.changed(out.behind | out.touched, {partition: fresh[0].offset}, 0.0)

    def transact(self, batch: MicroBatch, also: Callable[[RowKey], bool], edits: list[Record]) -> None:
        """One transaction: an edit first if there is one, then the batch; rows that must be written, and `also`."""
        stored = self.stored
        positions = dict(stored.positions)
        if edits:
            for partition in PARTS:
                self.write(self.behind.of(partition), positions)
            self.edition.apply(edits)
            self.logic.broadcast(edits)
            for key, value in self.edition.rows([(e.topic, e.key or b"") for e in edits], self.edit_keys):
                if value is None:
                    stored.edits.pop(key, None)
                else:
                    stored.edits[key] = value
        out = self.logic.process(batch)
        firsts: dict[int, int] = {}
        for record in batch.records:
            firsts.setdefault(record.partition, record.offset)
            positions[record.partition] = record.offset + 1
        self.behind.changed(out.behind, firsts, 0.0)
        self.write([*out.touched, *(key for p in PARTS for key in self.behind.of(p) if also(key))], positions)
        for partition in PARTS:
            replay_from = self.behind.replay_from(partition, positions[partition])
            assert replay_from >= stored.replay_from[partition]  # it never goes back
            stored.replay_from[partition] = replay_from
        stored.positions = positions
        stored.output += [record for record in out.records if record.topic == EVENTS.name]

    def write(self, keys: list[RowKey], positions: dict[int, int]) -> None:
        for key, value in self.logic.rows(keys):
            assert value is not None
            self.stored.rows[key] = value, positions[key.partition]
        self.behind.written(keys)


def story(rng: random.Random) -> tuple[list[Record], list[tuple[MicroBatch, list[Record]]]]:
    """A log, and the micro-batches in which it is met with what comes beside it."""
    log = Log()
    seq = dict.fromkeys(DEVICES, 0)
    steps = []
    for _ in range(25):
        records = []
        for _ in range(rng.randrange(6)):
            device = rng.choice(DEVICES[: rng.randint(1, 5)])
            values = [float(rng.randrange(60)) for _ in range(rng.randint(1, 3))]
            if rng.random() < 0.05:
                values[-1] = POISON
            first = max(0, seq[device] + rng.choice([0, 0, 0, 0, 2, -1]))
            seq[device] = max(seq[device], first + len(values))
            records.append(log.add(batch(device, values, seq=first)))
        records.sort(key=lambda record: record.partition)
        edits = [rule(rng.choice([None, 20.0, 30.0, 40.0]))] if rng.random() < 0.2 else []
        late_us = START_US + 1000 * len(log.records) - 1 + rng.choice([0, 0, 10**9])
        ticks = {partition: late_us for partition in PARTS if rng.random() < 0.3 and not records}
        steps.append((MicroBatch(records, (), ticks), edits))
    return log.records, steps


@pytest.mark.parametrize("seed", range(40))
def test_crashes_anywhere_change_nothing(seed: int) -> None:
    rng = random.Random(seed)
    log, steps = story(rng)
    clean, broken = Stored(), Stored()
    careful = Instance(log, clean)
    reckless = Instance(log, broken)
    share = rng.choice([0.0, 0.1, 0.5])
    for micro_batch, edits in steps:
        careful.transact(micro_batch, lambda _: True, edits)
        reckless.transact(micro_batch, lambda _: rng.random() < share, edits)
        assert broken.output == clean.output
        if rng.random() < 0.3:
            reckless = Instance(log, broken)
    reckless.transact(MicroBatch(), lambda _: True, [])
    assert broken.rows.keys() == clean.rows.keys()
    assert {key: row for key, (row, _) in broken.rows.items()} == {key: row for key, (row, _) in clean.rows.items()}
    assert broken.replay_from == broken.positions
    assert all(key.startswith(EDIT_PREFIX) for key in broken.edits)


def test_what_is_behind_longest_is_written_first_and_only_as_much_as_is_due() -> None:
    behind, schedule = Behind(), Schedule(replay_s=1.0, longest_s=100.0, share=0.5)
    behind.changed([RowKey(0, b"a"), RowKey(0, b"b")], {0: 5}, 10.0)
    behind.changed([RowKey(0, b"a"), RowKey(1, b"c")], {0: 9, 1: 7}, 11.0)
    assert behind.replay_from(0, 20) == 5
    assert behind.oldest() == (0, 10.0)
    behind.written([RowKey(0, b"a"), RowKey(0, b"b")])
    assert behind.replay_from(0, 20) == 20
    assert behind.oldest() == (1, 11.0)
    assert RowKey(1, b"c") in behind
    assert not schedule.due(1000, 1.0)  # a replay of so few records is short
    assert schedule.due(1_000_000, 1.0)
    schedule.wrote(1 << 20)
    assert not schedule.due(1_000_000, 1.0)  # as much was written as the input allows for
    assert schedule.due(0, 100.0)  # but nothing waits for ever
    schedule.took(300, 4 << 20, 0.01)
    assert schedule.due(1_000_000, 1.0)


def test_an_edition_comes_back_from_its_copies_and_says_what_changed() -> None:
    big = bytes(random.Random(1).randbytes(400_000))
    many = {("t", b"k%d" % i): b"v%d" % i for i in range(200)} | {("t", b"k1%d" % i): big for i in range(100, 140)}
    edition, keys = Edition(many), set[bytes]()
    stored = {key: value for key, value in edition.rows(many, keys) if value is not None}
    assert Edition.read(stored) == edition
    assert keys == stored.keys()
    other = Edition({**many, ("t", b"k5"): b"other"})
    assert [(edit.key, edit.value) for edit in edition.towards(other)] == [(b"k5", b"other")]
    gone = [record._replace(value=None) for record in Edition().towards(edition)]
    edition.apply(gone)
    assert all(value is None for _, value in edition.rows(many, keys))
    assert not keys


def test_a_row_is_forgotten_only_when_it_is_written_and_no_replay_will_meet_its_records() -> None:
    """A tombstone has no tag: a replay from before the row's last record would begin the row anew with a part of it."""
    row = RowKey(0, b"d/bus-1")
    committer = Committer(*[cast("Any", None)] * 5)
    assert committer.forgettable([row]) == []  # nothing is known of it
    committer.tags[0] = {row.key: 8}
    committer.replayed[0] = 7
    assert committer.forgettable([row]) == []  # another row holds the replay back before this one's last record
    committer.replayed[0] = 8
    assert committer.forgettable([row]) == [row]
    committer.behind.changed([row], {0: 9}, 0.0)
    assert committer.forgettable([row]) == []  # it has changed since it was written
