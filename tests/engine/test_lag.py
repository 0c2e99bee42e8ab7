"""Burrow's rules over windows of what was committed, and `tidegate lag` on a real Kafka."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
from click.testing import CliRunner
from confluent_kafka import Consumer, Producer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from tidegate_cloud.engine.lag_cli import lag
from tidegate_cloud.engine.lagging import Sample, State, Windows, evaluate, worst
from tidegate_cloud.kafka import Part
from tidegate_protocols.alerts import ALERT, Alert
from tidegate_protocols.topics import ALERTS, EVENTS, FRAMES

from tests.support.kafka import KafkaNode, consume_all, produce
from tests.support.service import services
from tests.support.wait import until


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


def committed(bootstrap: str, group: str, *places: TopicPartition) -> None:
    """Commit these offsets for a group that nobody is in."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False})
    consumer.commit(offsets=list(places), asynchronous=False)
    consumer.close()


def ask(bootstrap: str, group: str, topic: str, *arguments: str) -> tuple[int, str]:
    """Status and output of `tidegate lag`."""
    ran = CliRunner().invoke(
        lag, ["--bootstrap", bootstrap, "--group", group, "--topic", topic, "--every", "0.05", *arguments]
    )
    return ran.exit_code, ran.stdout


def test_a_group_that_nobody_is_in_has_stopped_where_records_wait(fresh_kafka: KafkaNode) -> None:
    bootstrap = fresh_kafka.bootstrap
    produce(bootstrap, FRAMES.name, [(b"a", b"1"), (b"a", b"2")], partition=3)
    committed(bootstrap, "slow", TopicPartition(FRAMES.name, 3, 1), TopicPartition(FRAMES.name, 4, 0))
    status, said = ask(bootstrap, "slow", FRAMES.name, "--json")
    found = json.loads(said)
    assert (status, found["state"]) == (1, "ERR")
    assert found["partitions"] == [
        {"partition": 3, "state": "STOP", "committed": 1, "lag": 1},
        {"partition": 4, "state": "OK", "committed": 0, "lag": 0},
    ]
    assert ask(bootstrap, "slow", FRAMES.name)[1].endswith(f"slow on {FRAMES.name}: ERR\n")


def test_the_end_mark_of_a_transaction_is_nothing_that_waits(fresh_kafka: KafkaNode) -> None:
    bootstrap = fresh_kafka.bootstrap
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": "marks"})
    producer.init_transactions(30)
    producer.begin_transaction()
    for partition in (1, 2):
        producer.produce(EVENTS.name, b"event", b"key", partition=partition)
    producer.commit_transaction(30)
    committed(bootstrap, "reads-all", TopicPartition(EVENTS.name, 1, 1), TopicPartition(EVENTS.name, 2, 0))
    status, said = ask(bootstrap, "reads-all", EVENTS.name, "--json")
    assert [(row["partition"], row["state"], row["lag"]) for row in json.loads(said)["partitions"]] == [
        (1, "OK", 0),
        (2, "STOP", 2),
    ]
    assert status == 1


def test_who_does_not_keep_up_is_an_alert_until_it_does(fresh_kafka: KafkaNode, tmp_path: Path) -> None:
    bootstrap = fresh_kafka.bootstrap
    produce(bootstrap, FRAMES.name, [(b"a", b"1"), (b"a", b"2")], partition=3)
    committed(bootstrap, "slow", TopicPartition(FRAMES.name, 3, 0))

    def alert(state: str) -> Alert | None:
        found = [ALERT.decode(m.value()) for m in consume_all(bootstrap, ALERTS.name)]
        return found[-1] if found and found[-1].state == state else None

    with services(tmp_path) as group:
        group.add("alerts", "alerts", "--bootstrap", bootstrap).start()
        watching = ("lag", "watch", "--bootstrap", bootstrap, "--of", f"slow={FRAMES.name}", "--every", "0.1")
        watch = group.add("lag", *watching).start()
        opened = until(lambda: alert("open"), what="an alert")
        assert (opened.rule, opened.severity, opened.subject) == ("pipeline", "critical", f"slow/{FRAMES.name}")
        assert opened.title == f"slow does not run: nobody reads {FRAMES.name}; 2 records wait"
        metrics = [word for word in watch.output().split() if word.endswith("/metrics")][-1]
        assert f'tidegate_lag_state{{group="slow",partition="3",topic="{FRAMES.name}"}} 3.0' in httpx.get(metrics).text
        watch.kill()  # what it knew is gone; its heir says how things stand
        committed(bootstrap, "slow", TopicPartition(FRAMES.name, 3, 2))
        watch.start()
        assert until(lambda: alert("resolved"), what="its end").id == opened.id
        assert watch.stop() == 0
