"""Burrow's rules over windows of what was committed, and `tidegate lag` on a real Kafka."""

from __future__ import annotations

import json

from click.testing import CliRunner
from confluent_kafka import Consumer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from tidegate_cloud.engine.lag_cli import lag
from tidegate_cloud.engine.lagging import Sample, State, Windows, evaluate, worst
from tidegate_cloud.kafka import Part
from tidegate_protocols.topics import FRAMES

from tests.support.kafka import KafkaNode, produce


def window(*seen: tuple[int, int]) -> list[Sample]:
    return [Sample(*sample) for sample in seen]


def test_the_rules_tell_slow_stalled_and_stopped_from_one_that_keeps_up() -> None:
    def state(*seen: tuple[int, int], members: bool = True) -> State:
        return evaluate(window(*seen), members=members, size=len(seen))

    assert state((5, 9), (6, 9), (7, 12)) == State.WARN
    assert state((5, 9), (6, 8), (7, 12)) == State.OK  # nearer once
    assert state((5, 9), (9, 0), (9, 12)) == State.OK  # at the end once
    assert state((5, 9), (5, 9), (5, 9)) == State.STALL
    assert state((5, 9), (5, 10), (5, 19)) == State.STALL
    assert state((5, 9), (5, 10), (5, 19), members=False) == State.STOP
    assert state((9, 2), (5, 6), (5, 6)) == State.OK  # set back
    assert evaluate(window((5, 9), (5, 9)), members=True, size=3) == State.OK  # too few to tell
    assert worst([State.OK, State.WARN]) == "WARN"
    assert worst([State.OK, State.WARN, State.STALL]) == "ERR"
    assert worst([]) == "OK"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=12), st.booleans())
def test_only_the_newest_samples_count(seen: list[tuple[int, int]], members: bool) -> None:
    part, windows = Part(FRAMES.name, 0), Windows(3)
    for sample in window(*seen):
        windows.add({part: sample})
    assert windows.full()
    newest = window(*seen[-3:])
    assert windows.states(members=members) == {part: (evaluate(newest, members=members, size=3), newest[-1])}
    windows.add({})
    assert not windows.states(members=members)


def test_a_group_that_nobody_is_in_has_stopped_where_records_wait(fresh_kafka: KafkaNode) -> None:
    bootstrap = fresh_kafka.bootstrap
    produce(bootstrap, FRAMES.name, [(b"a", b"1"), (b"a", b"2")], partition=3)
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "slow", "enable.auto.commit": False})
    places = [TopicPartition(FRAMES.name, 3, 1), TopicPartition(FRAMES.name, 4, 0)]
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()

    def ask(*arguments: str) -> tuple[int, str]:
        ran = CliRunner().invoke(lag, ["--bootstrap", bootstrap, "--group", "slow", "--every", "0.05", *arguments])
        return ran.exit_code, ran.stdout

    status, said = ask("--json")
    found = json.loads(said)
    assert (status, found["state"], found["members"]) == (1, "ERR", False)
    assert found["partitions"] == [
        {"partition": 3, "state": "STOP", "committed": 1, "lag": 1},
        {"partition": 4, "state": "OK", "committed": 0, "lag": 0},
    ]
    assert ask()[1].endswith(f"slow on {FRAMES.name}: ERR\n")
