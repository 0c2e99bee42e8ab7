"""The whole way on a real Kafka: a push from a person, through the server, to real agents, and back."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
from tidegate_cloud.rollouts import asking
from tidegate_cloud.rollouts.ledger import ref_of
from tidegate_edge.clock import SystemClock
from tidegate_protocols.frame import peek_header
from tidegate_protocols.ota import CHUNK, Reported
from tidegate_protocols.rollouts import Gate, Order, RolloutCommand, RolloutStep
from tidegate_protocols.topics import FRAMES

from tests.edge.running import Publisher, RunningAgent
from tests.support import frames
from tests.support.kafka import KafkaNode, consume_all
from tests.support.wait import until

from .running import Running


def push(bootstrap: str, content: str, name: str, **more: object) -> RolloutStep:
    options = {"waves": ["100%"], "gate": Gate(hold_s=1), "timeout_s": 60.0} | more
    order = Order(layer="base", content=content, **options)  # type: ignore[arg-type]
    command = RolloutCommand(id=name, action="push", who="Ines", body=msgspec.json.encode(order).decode())
    return asking.ask(bootstrap, command, 30)


def said(bootstrap: str, agent: str = "test") -> Reported | None:
    heard = asking.read(bootstrap).fleet.heard.get(agent)
    return None if heard is None else heard.said


def reported(bootstrap: str, state: str, number: int) -> bool:
    last = said(bootstrap)
    return last is not None and (last.state, last.number) == (state, number)


def test_a_push_changes_what_a_real_agent_does_and_no_reading_is_lost(
    fresh_kafka: KafkaNode, server: Running, agent: RunningAgent, publisher: Publisher
) -> None:
    bootstrap = fresh_kafka.bootstrap
    until(lambda: said(bootstrap) is not None, what="the agent to report")
    # A file comes along, of which a power cut left something else than what was fetched.
    table = random.Random(1).randbytes(CHUNK + 5000)
    ref = ref_of(table)
    ota = agent.config.parent / "agent" / "ota"
    (ota / "store" / f"{ref.sha256}.part").write_bytes(bytes(CHUNK))
    places = asking.put_files(bootstrap, [table])
    step = push(bootstrap, "[batch]\nmax_scans = 1\n", "c1", files={"table.bin": ref}, places=places)
    assert (step.action, step.rollout, step.agents) == ("started", "R-1", 1)

    def small() -> bool:
        publisher.publish(20)
        headers = [peek_header(message.value()) for message in consume_all(bootstrap, FRAMES.name)]
        return bool(headers) and {header.n for header in headers[-5:]} == {1}

    until(small, 60, "frames of one scan")
    until(lambda: reported(bootstrap, "running", 1), 60, what="the agent to report that it runs it")
    until(lambda: asking.read(bootstrap).rollouts["R-1"].state == "done", 60, what="the rollout to be done")
    assert (ota / "sets" / "1" / "table.bin").read_bytes() == table
    last = said(bootstrap)
    assert last is not None
    assert last.clock == ("synchronised" if SystemClock().is_synchronised() else "estimated")
    books = agent.books()
    until(lambda: agent.books()["pending"] == 0, 60, what="everything to be sent")
    assert books["accepted"] == publisher.sent
    assert len(frames.once(frames.batches(bootstrap))) == publisher.sent


def test_a_push_that_cuts_the_agent_off_is_undone_on_it_and_rolled_back_by_the_server(
    fresh_kafka: KafkaNode, server: Running, agent: RunningAgent, publisher: Publisher
) -> None:
    bootstrap = fresh_kafka.bootstrap
    publisher.publish(10)
    until(lambda: said(bootstrap) is not None, what="the agent to report")
    push(bootstrap, '[[source]]\ntype = "mqtt"\nname = "mqtt"\nhost = "127.0.0.1"\nport = 1\n'
         '[[source.subscribe]]\nfilter = "x"\npayload = "senml"\n', "c1")  # fmt: skip
    until(lambda: asking.read(bootstrap).rollouts["R-1"].state == "rolled-back", 90, what="the roll-back")
    until(lambda: reported(bootstrap, "running", 2), 60, what="the agent to run what was before")
    story = [step.action for step in asking.steps(bootstrap, "R-1")]
    assert story == ["started", "failed", "rolled-back"]
    publisher.publish(10)
    until(lambda: agent.books()["accepted"] == 20, 60, what="readings to flow as before")


def test_a_layer_that_the_agent_cannot_take_is_refused_with_its_own_words(
    fresh_kafka: KafkaNode, server: Running, agent: RunningAgent
) -> None:
    bootstrap = fresh_kafka.bootstrap
    until(lambda: said(bootstrap) is not None, what="the agent to report")
    push(bootstrap, "[batch]\nmax_scans = 0\n", "c1", on_failure="stop")
    until(lambda: reported(bootstrap, "refused", 1), 60, what="the refusal")
    last = said(bootstrap)
    assert last is not None
    assert "batch.max_scans" in last.why
    until(lambda: asking.read(bootstrap).rollouts["R-1"].state == "stopped", 60, what="the rollout to stop")


def test_a_second_server_takes_over_and_the_first_one_stops(
    fresh_kafka: KafkaNode, folder: Path, server: Running
) -> None:
    second = Running(fresh_kafka.bootstrap, folder)
    try:
        push(fresh_kafka.bootstrap, "[batch]\nmax_scans = 1\n", "c1")  # refused by name: no agent is known
        until(lambda: server.failed is not None or not server.thread.is_alive(), 60, what="the first server to stop")
        assert "taken over" in str(server.failed)
        server.failed = None
    finally:
        second.end()
