"""Late data: devices away, rebooted, with lost spools and duplicates; the truth is whole and the present is shown."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from tidegate_cloud.engine import Record
from tidegate_cloud.engine.inprocess import Ran, step
from tidegate_cloud.engine.previews import DENIED, ENGINE, JOINED
from tidegate_cloud.engine.telemetry import TelemetryLogic
from tidegate_cloud.operators.limit import Limit
from tidegate_protocols.batch import Batch, Lane
from tidegate_protocols.events import Event
from tidegate_protocols.frame import decode_frame
from tidegate_protocols.registry import RULE, Rule
from tidegate_protocols.topics import DEAD_LETTERS, DEVICE_PARTITIONS, RULES

from tests.engine.away import Edge, Sent
from tests.engine.folding import Fold
from tests.engine.frames import SPEED, START_US, Log, announcement, events_of

DEVICE = "bus-1"
HIGH, LOW = 30.0, 8.0


def rules() -> list[Record]:
    rule = Rule(id="pace", name="Pace", channel="speed", high=HIGH, low=LOW, hysteresis=2.0, severity="critical")
    return [Record(RULES.name, 0, 0, START_US, b"pace", RULE.encode(rule))]


class Run:
    """A Logic that is fed frames, and what came of it."""

    def __init__(self) -> None:
        self.limit = Limit()
        self.fold = Fold("fold")
        self.logic = TelemetryLogic([self.limit, self.fold])
        self.logic.broadcast([*announcement(SPEED), *rules()])
        for partition in range(DEVICE_PARTITIONS):
            self.logic.take(partition, {})
        self.log = Log()
        self.ran = Ran()

    def feed(self, *frames: Sent) -> list[Event]:
        """The frames as one micro-batch; the events that they led to."""
        before = len(self.ran.records)
        step(self.logic, [self.log.add(frame.batch(DEVICE)) for frame in frames], self.ran)
        new = Ran(self.ran.records[before:])
        return events_of(new)

    def reborn(self) -> None:
        """The same state in another process."""
        logic = TelemetryLogic([self.limit, self.fold])
        logic.broadcast([*announcement(SPEED), *rules()])
        for partition in range(DEVICE_PARTITIONS):
            logic.take(partition, {key.key: row for key, row in self.ran.rows.items() if key.partition == partition})
        self.logic = logic

    def now(self) -> dict[tuple[str, str], int]:
        """The levels of the newest state: the preview's where one is open."""
        chain, previews = self.logic._chain, self.logic._previews
        rows = previews.rows(SPEED.fingerprint) if (DEVICE, SPEED.fingerprint) in previews else chain.states
        return {(level.kind, level.subject): level.since_us for level in self.limit.levels(rows[0], DEVICE)}


def content(event: Event) -> tuple[object, ...]:
    """An event without when and how it was learnt."""
    return (event.epoch, event.seq, event.operator, event.kind, event.subject, event.ts_us, event.ordinal,
            event.value, event.limit, event.id)  # fmt: skip


def truth(events: Iterable[Event]) -> list[tuple[object, ...]]:
    """What stands for good: neither shown early nor said of what was shown."""
    return [
        content(event)
        for event in events
        if event.lane != "provisional"
        and event.operator not in (ENGINE, "presence")
        and "correction" not in event.attrs
    ]


class People:
    """What people were told: levels of the limit, by what pages."""

    def __init__(self) -> None:
        self.levels: dict[tuple[str, str], int] = {}

    def hear(self, events: Iterable[Event]) -> None:
        for event in events:
            if event.lane == "historical" or event.operator != "limit":
                continue
            if event.kind == DENIED:
                del self.levels[event.attrs["denies"], event.subject]
            elif event.phase == "begin":
                self.levels[event.kind, event.subject] = event.ts_us
            else:
                self.levels = {key: ts for key, ts in self.levels.items() if key[1] != event.subject}


def perfect(rows: Iterable[tuple[int, int, float]]) -> list[tuple[object, ...]]:
    run = Run()
    found = [event for epoch, seq, value in rows for event in run.feed(Sent(epoch, seq, Lane.LIVE, [value]))]
    return truth(found)


def lives() -> list[int]:
    return list(range(30))


@pytest.mark.parametrize("seed", lives())
def test_a_device_that_is_often_away_loses_nothing_and_shows_its_present(seed: int) -> None:
    rng = random.Random(seed)
    edge, run, people = Edge(rng), Run(), People()
    edge.suffer(250)
    edge.drain()
    events: list[Event] = []
    newest = (-1, 0)
    at = 0
    while at < len(edge.log):
        frames = edge.log[at : at + rng.choice([1, 1, 2, 5])]
        at += len(frames)
        found = run.feed(*frames)
        people.hear(found)
        events += found
        newest = max([newest, *((frame.epoch, frame.first + len(frame.values)) for frame in frames)])
        row = run.logic._streams.stream[0]
        shown = (
            (int(row["shown_epoch"]), int(row["shown_next"])) if row["open"] else (int(row["epoch"]), int(row["next"]))
        )
        assert shown == newest  # the current row is at the newest scan received
        now = run.now()
        assert people.levels == now  # people were told the current state
        if rng.random() < 0.05:
            run.reborn()
    assert not any(event.lane == "authoritative" and _from_backlog(event, edge) for event in events)
    assert len({event.id for event in events}) == len(events)  # no event twice
    dead = _dead(run)
    top, rows = (-1, -1), []
    for frame in edge.log:
        for (epoch, seq), value in zip(frame.names(), frame.values, strict=True):
            if frame.lane != Lane.PREVIEW and (epoch, seq) > top:
                top = epoch, seq
                rows.append((epoch, seq, value))
    assert edge.accepted - edge.gone <= {row[:2] for row in rows}  # nothing is lost uncounted
    assert not len(run.logic._previews)
    assert truth(events) == perfect(row for row in rows if row[:2] not in dead)
    forks, joins = run.ran.counts["previews"], sum(event.kind == JOINED for event in events)
    assert (forks > 0) == (joins > 0)


def _from_backlog(event: Event, edge: Edge) -> bool:
    """Whether a preview had shown a later scan before this one's frame came: nobody is paged for the past."""
    if "correction" in event.attrs or event.operator in (ENGINE, "presence"):
        return False
    name = (event.epoch, event.seq)
    for frame in edge.log:
        if frame.lane == Lane.PREVIEW and frame.names()[-1] > name:
            return True
        if frame.lane != Lane.PREVIEW and name in frame.names():
            return False
    return False


def _dead(run: Run) -> set[tuple[int, int]]:
    """The scans that were in dead letters and had not been processed before."""
    found: set[tuple[int, int]] = set()
    for out in run.ran.of(DEAD_LETTERS.name):
        dead = decode_frame(out.value or b"", {SPEED.fingerprint: SPEED})
        offset = int(dict(out.headers)["offset"] or b"")
        cursor = max(((b.epoch, b.seq + len(b)) for b in _before(run, offset)), default=(-1, 0))
        found |= {(dead.epoch, dead.seq + i) for i in range(len(dead)) if (dead.epoch, dead.seq + i) >= cursor}
    return found


def _before(run: Run, offset: int) -> Iterable[Batch]:
    for record in run.log.records[:offset]:
        frame = decode_frame(record.value or b"", {SPEED.fingerprint: SPEED})
        if frame.lane != Lane.PREVIEW:
            yield frame
