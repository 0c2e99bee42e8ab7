"""A new configuration while the agent runs: taken whole or not at all, tried, kept or gone back from, nothing lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tidegate_edge.boot import choose
from tidegate_edge.condition import UPLINK, Condition, worse
from tidegate_edge.config import Config, parse
from tidegate_edge.last_good import Entry, LastGood, Record, Refusal, Trial, digest_of
from tidegate_edge.reload import Outcome, Reloader, Step
from tidegate_protocols.errors import BadInput

from tests.edge.running import Publisher, RunningAgent
from tests.support.clock import ManualClock
from tests.support.mqtt import MqttBroker
from tests.support.wait import until, until_async

WELL = Condition({"s": True, UPLINK: True}, {"s": "fine", UPLINK: "up"}, {}, "", 0, 10, 50 << 20)


def text_of(number: int, probation_s: float = 0) -> str:
    return f"""
[agent]
name = "a{number}"
data_dir = "/d"
[kafka]
bootstrap = "k:1"
[reload]
probation_s = {probation_s}
[[source]]
type = "serial"
path = "/dev/ttyUSB0"
protocol = "packets"
"""


class Target:
    """An agent that only remembers what it was told."""

    def __init__(self) -> None:
        self.config = parse(text_of(0))
        self.ran = [0]
        self.now = WELL
        self.sick: dict[int, Condition] = {}
        self.broken: set[int] = set()

    async def check(self, config: Config) -> None:
        if config.kafka.bootstrap != "k:1":
            raise BadInput("not this one", where="kafka.bootstrap")

    async def switch(self, config: Config, step: Callable[[Step], None]) -> None:
        step(Step.HELD)
        number = int(config.agent.name[1:])
        if number in self.broken:
            raise BadInput("port 1 cannot be used", where="metrics.port")
        self.config = config
        self.ran.append(number)

    def condition(self) -> Condition:
        return self.sick.get(self.ran[-1], self.now)


class Bench:
    def __init__(self, directory: Path) -> None:
        self.target = Target()
        self.clock = ManualClock()
        self.last_good = LastGood(directory)
        self.last_good.write(good=Entry(text_of(0), "file", 0))
        self.steps: list[Step] = []
        self.reloader = Reloader(self.target, self.last_good, self.clock, parse, self.steps.append)
        self.task = asyncio.create_task(self.reloader.run())

    async def offer(self, text: str) -> Outcome:
        return await asyncio.wait_for(self.reloader.offer(text, "file"), 20)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def test_one_that_does_well_goes_through_every_step_and_stays(bench: Bench, tmp_path: Path) -> None:
    outcome = await bench.offer(text_of(1))
    assert outcome == Outcome(digest_of(text_of(1)), "committed")
    assert bench.steps == [Step.VALIDATED, Step.STAGED, Step.HELD, Step.SWITCHED, Step.HEALTHY, Step.COMMITTED]
    assert LastGood(tmp_path).record.good == Entry(text_of(1), "file", bench.clock.wall_us())
    assert (await bench.offer(text_of(1))).state == "unchanged"
    assert bench.target.ran == [0, 1]


async def test_one_that_is_unsound_is_refused_whole_and_nothing_is_touched(bench: Bench) -> None:
    for text in ("", "no toml", text_of(1) + "[nonsense]\n", text_of(1).replace("k:1", "k:2")):
        assert (await bench.offer(text)).state == "refused"
    assert bench.target.ran == [0]
    assert bench.steps == []
    refused = bench.reloader.status.refused
    assert refused is not None
    assert refused.why == "kafka.bootstrap: not this one"


async def test_one_that_does_worse_is_gone_back_from_and_says_why(bench: Bench, tmp_path: Path) -> None:
    bench.target.sick[1] = replace(WELL, well={"s": False, UPLINK: True}, words={"s": "refused by the broker"})
    outcome = await bench.offer(text_of(1))
    assert (outcome.state, outcome.why) == ("rolled back", "s: refused by the broker")
    assert bench.steps[-2:] == [Step.RECORDED, Step.ROLLED_BACK]
    assert bench.target.ran == [0, 1, 0]
    record = LastGood(tmp_path).record
    assert record.trial is None
    assert record.good is not None
    assert record.good.text == text_of(0)
    assert record.refused is not None
    assert record.refused.digest == digest_of(text_of(1))


async def test_one_that_cannot_be_switched_to_is_gone_back_from(bench: Bench) -> None:
    bench.target.broken.add(1)
    outcome = await bench.offer(text_of(1))
    assert (outcome.state, outcome.why) == ("rolled back", "metrics.port: port 1 cannot be used")
    assert bench.target.ran == [0, 0]


async def test_while_one_is_on_probation_a_better_one_takes_its_place_and_an_unsound_one_does_not(bench: Bench) -> None:
    bench.target.sick[1] = replace(WELL, well={"s": False}, words={"s": "down"})
    first = asyncio.create_task(bench.offer(text_of(1, 60)))
    await until_async(lambda: bench.target.ran == [0, 1])
    assert (await bench.offer("unsound")).state == "refused"
    await until_async(lambda: bench.reloader.status.complaints == ["s: down"])
    assert bench.reloader.status.on_probation
    second = asyncio.create_task(bench.offer(text_of(2, 60)))
    assert (await first).state == "superseded"
    await until_async(lambda: bench.target.ran == [0, 1, 2])
    bench.clock.advance(61)
    assert (await second).state == "committed"
    assert not bench.reloader.status.on_probation


async def test_of_a_storm_of_reloads_the_last_one_stays(bench: Bench) -> None:
    offers = [asyncio.create_task(bench.offer(text_of(i % 7 + 1, 60))) for i in range(500)]
    last = asyncio.create_task(bench.offer(text_of(99)))
    assert (await last).state == "committed"
    assert {outcome.state for outcome in await asyncio.gather(*offers)} <= {"superseded", "committed"}
    assert bench.target.ran[-1] == 99


async def test_a_configuration_that_eats_the_memory_is_not_waited_for(bench: Bench) -> None:
    bench.target.sick[1] = replace(WELL, memory=1 << 40)
    outcome = await bench.offer(text_of(1, 3600))
    assert outcome.state == "rolled back"
    assert "of memory" in outcome.why


async def test_a_disk_that_cannot_be_written_refuses_and_the_old_one_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        outcome = await bench.offer(text_of(1))
    assert outcome.state == "refused"
    assert "No space left" in outcome.why
    assert bench.target.ran == [0]
    assert LastGood(tmp_path).record == Record(good=Entry(text_of(0), "file", 0))
    assert (await bench.offer(text_of(2))).state == "committed"


def test_what_was_in_trouble_before_is_not_held_against_a_configuration() -> None:
    down = replace(WELL, well={"s": False, "new": True, UPLINK: False})
    assert worse(down, down, down, 1 << 40) == []
    assert worse(WELL, WELL, replace(WELL, spool="disk full"), 1 << 40) == ["the spool: disk full"]
    assert worse(WELL, WELL, replace(WELL, restarts={"s": 1}), 1 << 40) == ["s failed: fine"]
    unplugged = replace(WELL, well={"s": None, "new": None, UPLINK: True})
    assert worse(WELL, WELL, unplugged, 1 << 40) == ["s: fine"]
    stands = replace(WELL, pending=500)
    assert worse(WELL, stands, replace(stands, pending=600), 1 << 40) == [
        "the spool does not drain: 600 scans wait"
    ]  # fmt: skip


# ---- what an agent starts with


def chosen(path: Path, record: Record) -> tuple[str, Record]:
    choice = choose(path, record, 5, parse)
    return choice.entry.text, choice.record


def test_an_agent_starts_with_its_file_and_when_that_is_unsound_with_the_last_good_one(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    with pytest.raises(BadInput, match="cannot be read"):
        chosen(path, Record())
    path.write_text("unsound")
    with pytest.raises(BadInput, match="is not TOML"):
        chosen(path, Record())
    path.write_text(text_of(1))
    text, first = chosen(path, Record())
    assert text == text_of(1)
    assert first == Record(good=Entry(text_of(1), "file", 5), seen=digest_of(text_of(1)))
    path.write_text("unsound")
    text, record = chosen(path, first)
    assert text == text_of(1)
    assert record.refused is not None
    path.unlink()
    assert chosen(path, first)[0] == text_of(1)


def test_a_file_that_changed_while_the_agent_was_away_is_tried_and_one_that_was_refused_is_not(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text_of(2))
    good = Entry(text_of(1), "ota", 1)
    text, record = chosen(path, Record(good=good, seen="another"))
    assert text == text_of(2)
    assert record.trial == Trial(text_of(2), "file", 5, attempts=1)
    seen = Record(good=good, seen=digest_of(text_of(2)), refused=Refusal(digest_of(text_of(2)), "file", "bad", 3))
    assert chosen(path, seen) == (text_of(1), seen)


def test_one_that_was_on_trial_when_the_agent_ended_is_tried_once_more_and_then_given_up(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(text_of(1))
    good = Entry(text_of(1), "file", 1)
    record = Record(good=good, trial=Trial(text_of(2), "ota", 2), seen=good.digest)
    text, record = chosen(path, record)
    assert text == text_of(2)
    assert record.trial is not None
    assert record.trial.attempts == 2
    text, record = chosen(path, record)
    assert text == text_of(1)
    assert record.trial is None
    assert record.refused is not None
    assert record.refused.digest == digest_of(text_of(2))


def test_a_record_that_is_cut_short_or_damaged_counts_as_none(tmp_path: Path) -> None:
    last_good = LastGood(tmp_path)
    last_good.write(good=Entry(text_of(1), "file", 1))
    whole = last_good.path.read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        last_good.path.write_bytes(whole[:size])
        assert LastGood(tmp_path).record == Record()
    rng = random.Random(64)
    for count in [1] * 200 + [64] * 50:
        damaged = bytearray(whole)
        for at in rng.sample(range(len(whole)), min(count, len(whole))):
            damaged[at] ^= rng.randrange(1, 256)
        last_good.path.write_bytes(damaged)
        assert LastGood(tmp_path).record == Record(), "a digit that was hit would be another configuration"
    last_good.path.write_bytes(whole)
    assert LastGood(tmp_path).record.good == Entry(text_of(1), "file", 1)


# ---- real agents, a real broker

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def agent(tmp_path: Path, mqtt_broker: MqttBroker) -> Iterator[RunningAgent]:
    made = RunningAgent(tmp_path, NOWHERE, mqtt_broker, window=200, grace_s=0)
    yield made
    made.kill()


@pytest.fixture
def publisher(mqtt_broker: MqttBroker) -> Iterator[Publisher]:
    found = Publisher(mqtt_broker)
    yield found
    found.close()


def all_accepted(agent: RunningAgent, scans: int) -> None:
    until(lambda: agent.books()["accepted"] >= scans, what=f"{scans} scans; {agent.tail()}")
    books = agent.books()
    assert books["accepted"] == scans
    assert sum(book["rejected"] for book in books["sources"].values()) == 0


def record_of(agent: RunningAgent) -> Record:
    return LastGood(agent.config.parent / "agent").record


def test_sources_change_under_a_stream_and_no_reading_is_lost(agent: RunningAgent, publisher: Publisher) -> None:
    agent.start()
    original = agent.config.read_text()
    for i in range(6):
        publisher.publish(300)
        text = original.replace("window = 200", f"window = {100 + i}")
        if i % 2:
            text += f'[[source]]\ntype = "serial"\npath = "/dev/no-such-{i}"\nprotocol = "packets"\n'
        agent.config.write_text(text)
        publisher.publish(300)
        os.kill(agent.pid, signal.SIGHUP)
        publisher.publish(300)
        until(lambda: record_of(agent).seen == digest_of(text), what=agent.tail())  # noqa: B023
    all_accepted(agent, publisher.sent)
    until(lambda: record_of(agent).trial is None)
    good = record_of(agent).good
    assert good is not None
    assert good.text == agent.config.read_text()


def test_a_file_that_names_a_broker_that_is_not_there_is_gone_back_from(
    agent: RunningAgent, publisher: Publisher, mqtt_broker: MqttBroker
) -> None:
    agent.start()
    original = agent.config.read_text()
    publisher.publish(200)
    agent.config.write_text(original.replace(f"port = {mqtt_broker.port}", "port = 1"))
    until(lambda: record_of(agent).trial is not None, what=agent.tail())
    publisher.publish(200)
    until(lambda: record_of(agent).refused is not None, what=agent.tail())
    refused = record_of(agent).refused
    assert refused is not None
    assert "mqtt: 127.0.0.1:1: " in refused.why
    publisher.publish(200)
    all_accepted(agent, 600)
    assert agent.stop() == 0
    agent.start()
    assert "was refused, and stays so until it changes" in agent.output()
    publisher.publish(100)
    all_accepted(agent, 700)


def test_an_unsound_file_is_refused_and_after_a_restart_the_last_good_one_runs(
    agent: RunningAgent, publisher: Publisher
) -> None:
    agent.start()
    agent.config.write_text(agent.config.read_text().replace("window =", "windw ="))
    until(lambda: "did you mean 'window'?" in agent.output(), what=agent.tail())
    publisher.publish(100)
    all_accepted(agent, 100)
    agent.kill()
    good = agent.config.read_text().replace("windw =", "window =")
    agent.start()
    publisher.publish(100)
    until(lambda: "was refused, and stays so until it changes" in agent.output())
    agent.config.write_text(good)
    all_accepted(agent, 200)


_QUICK = {Step.STAGED, Step.HELD, Step.HEALTHY, Step.RECORDED}


@pytest.mark.parametrize(
    "death", [pytest.param(step, marks=[] if step in _QUICK else [pytest.mark.full]) for step in Step]
)
def test_power_cut_at_any_step_of_a_switch_leaves_old_or_new_and_loses_nothing(
    death: Step, agent: RunningAgent, publisher: Publisher, mqtt_broker: MqttBroker
) -> None:
    original = agent.config.read_text()
    bad = death in (Step.RECORDED, Step.ROLLED_BACK)
    changed = original.replace("window = 200", "window = 100").replace("probation_s = 1", "probation_s = 0.7")
    if bad:
        changed = changed.replace(f"port = {mqtt_broker.port}", "port = 1")
    log = agent.log.with_suffix(".first")
    with log.open("wb") as out:
        dying = subprocess.Popen(
            [sys.executable, "-m", "tests.edge.switching", str(agent.config), death.value],
            stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        until(lambda: "ready: " in log.read_text() or dying.poll() is not None)
        publisher.publish(200)
        agent.config.write_text(changed)
        publisher.publish(200)
        assert dying.wait(30) == 9, log.read_text()
    finally:
        dying.kill()
        dying.wait()
    record = record_of(agent)
    assert record.good is not None
    assert record.good.text in (original, changed)
    agent.config.write_text(original if bad else changed)
    agent.start()
    publisher.publish(200)
    all_accepted(agent, 600)
    until(lambda: record_of(agent).trial is None, what=agent.tail())
    good = record_of(agent).good
    assert good is not None
    assert good.text == agent.config.read_text()
