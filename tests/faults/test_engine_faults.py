"""The processor on a real Kafka, killed again and again: what is committed is what one clean run commits.

Kills come at random moments, so also inside transactions, while partitions are moved and while a replay is under way;
rows are written every few seconds only. A schema is announced and announced again meanwhile, and fences are edited.
"""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest
from tidegate_cloud.engine.marks import Mark
from tidegate_protocols.registry import RULE, Rule
from tidegate_protocols.topics import CHECKPOINTS, EVENTS, MARKS, RULES

from tests.engine.frames import SPEED, TEMPERATURE
from tests.engine.processes import Fleet, Processor, fleet, read
from tests.support.kafka import KafkaNode, produce
from tests.support.wait import until


def edit(made: Fleet, rng: random.Random) -> None:
    """A rule changes. The tests' operators do not read rules, so the events stay; the barrier is real."""
    rule = Rule(id="pace", name="Pace", channel="speed", high=rng.uniform(10, 50))
    produce(made.kafka.bootstrap, RULES.name, [("pace", RULE.encode(rule))])


def until_joined(processor: Processor, before: int) -> None:
    """Wait until it says that it is ready, as `before` of its name did."""
    until(lambda: processor.output().count("ready: ") > before, what="it to have joined")


def marked(kafka: KafkaNode) -> dict[bytes | None, list[int]]:
    """Content of each edit → the partitions in which it took effect."""
    found: dict[bytes | None, list[int]] = {}
    for record in read(kafka, MARKS.name):
        mark = Mark.read(record.value or b"")
        if mark.kind == "edit":
            found[mark.value] = sorted([*found.get(mark.value, []), *mark.offsets])
    return found


def kill_often(kafka: KafkaNode, directory: Path, kills: int, *, instances: int = 2) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    with fleet(kafka, directory) as made:
        made.announce(SPEED, TEMPERATURE)
        alive = [made.start(str(i + 1)) for i in range(instances)]
        while kills > 0:
            before = made.written() + made.written(CHECKPOINTS.name)
            made.drive(2)
            if rng.random() < 0.3:
                edit(made, rng)
            grown = before + rng.randrange(1, 120)
            # Whatever grows, of a transaction that is open as well: the kill may come in the middle of one.
            until(
                lambda grown=grown: made.written() + made.written(CHECKPOINTS.name) >= grown,  # type: ignore[misc]
                what="something to be written",
            )
            victim = rng.randrange(instances)
            if rng.random() < 0.15:
                alive[victim].signal(signal.SIGTERM)  # a clean end, and a rebalance
                alive[victim].wait()
            # Killed once more before it has come to anything: while it joins, takes partitions or replays.
            for _ in range(min(kills, rng.choice([1, 2, 3]))):
                alive[victim].kill()
                kills -= 1
                joined = alive[victim].output().count("ready: ")
                alive[victim] = made.start(str(victim + 1))
                if rng.random() < 0.7:
                    until_joined(alive[victim], joined)
        made.assert_as_undisturbed(timeout=240)
        assert len({record.value for record in read(kafka, EVENTS.name)}) == len(read(kafka, EVENTS.name))
        assert [processor.stop() for processor in alive] == [0] * instances


def test_killed_twenty_times(fresh_kafka: KafkaNode, tmp_path: Path) -> None:
    kill_often(fresh_kafka, tmp_path, 20, instances=1)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_killed_a_hundred_times(fresh_kafka: KafkaNode, tmp_path: Path) -> None:
    kill_often(fresh_kafka, tmp_path, 100)


def test_edits_leave_their_content_and_a_mark_and_a_restart_goes_by_them(
    fresh_kafka: KafkaNode, tmp_path: Path
) -> None:
    rng = random.Random(1)
    with fleet(fresh_kafka, tmp_path) as made:
        made.announce(SPEED, TEMPERATURE)
        processor = made.start("1")
        made.drive(2)
        until(lambda: made.written() > 20, what="the first events")
        edit(made, rng)
        # Other things leave marks too, and this one must be there before the kill: an edit over it would hide it.
        until(lambda: list(marked(fresh_kafka).values()) == [list(range(24))], what="the mark of the edit")
        processor.kill()
        edit(made, rng)  # nobody is there to take it
        made.drive(2)
        processor = made.start("1")
        made.assert_as_undisturbed()
        # Partitions that are taken one after the other go by it one after the other: each of them once.
        until(lambda: sorted(marked(fresh_kafka).values()) == [list(range(24))] * 2, what="the mark of the other edit")
        copies = [record for record in read(fresh_kafka, CHECKPOINTS.name) if (record.key or b"").startswith(b"e/")]
        assert {record.partition for record in copies} == set(range(24))
        assert processor.stop() == 0
