"""The picture of health: right figures from real metrics, and problems that are named."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server
from tidegate_cli.main import tidegate
from tidegate_cli.scrape import Samples
from tidegate_cli.supervisor import RunFile, RunningService, start_time
from tidegate_protocols.topics import FRAMES

from tests.support.kafka import QUIET, KafkaNode, produce


class Stage:
    """A service of the test's own process that serves metrics as the agent and the processor do."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.received = Counter("tidegate_edge_received", "x", ["source"], registry=registry)
        self.rejected = Counter("tidegate_edge_rejected", "x", ["source"], registry=registry)
        self.accepted = Counter("tidegate_edge_accepted", "x", ["source"], registry=registry)
        self.acknowledged = Counter("tidegate_edge_acknowledged", "x", registry=registry)
        self.pending = Gauge("tidegate_edge_pending", "x", registry=registry)
        self.frames = Counter("tidegate_processor_frames", "x", registry=registry)
        self.delay = Histogram(
            "tidegate_processor_event_to_commit_seconds", "x", buckets=(0.1, 0.2, 1.0), registry=registry
        )
        self.kept = Gauge("tidegate_history_readings", "x", registry=registry)
        self.history_lag = Gauge("tidegate_history_lag_records", "x", registry=registry)
        self.messages = Counter("tidegate_notify_messages", "x", ["receiver", "state"], registry=registry)
        self.messages_pending = Gauge("tidegate_notify_pending", "x", registry=registry)
        self.server, self._thread = start_http_server(0, "127.0.0.1", registry)
        self.url = f"http://127.0.0.1:{self.server.server_port}/metrics"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(tidegate, ["status", "--over", "0.1", *map(str, arguments)])


def write_run_file(directory: Path, bootstrap: str, *services: RunningService) -> None:
    (directory / "run.json").write_bytes(msgspec.json.encode(RunFile(bootstrap, list(services))))


def myself(stage: Stage) -> RunningService:
    return RunningService("agent", os.getpid(), start_time(os.getpid()) or 0, stage.url)


def test_counts_waits_and_delay_are_told(fresh_kafka: KafkaNode, stage: Stage, tmp_path: Path) -> None:
    stage.received.labels("serial").inc(70)
    stage.received.labels("mqtt").inc(50)
    stage.accepted.labels("mqtt").inc(120)
    stage.acknowledged.inc(100)
    stage.pending.set(20)
    stage.frames.inc(9)
    for _ in range(100):
        stage.delay.observe(0.15)
    produce(fresh_kafka.bootstrap, FRAMES.name, [("d", b"frame")] * 7, partition=3)
    consumer = Consumer({"bootstrap.servers": fresh_kafka.bootstrap, "group.id": "tidegate-processor", **QUIET})
    consumer.commit(offsets=[TopicPartition(FRAMES.name, 3, 2)], asynchronous=False)
    consumer.close()
    write_run_file(tmp_path, fresh_kafka.bootstrap, myself(stage))
    result = run("--dir", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    health = json.loads(result.stdout)
    assert health["kafka_answers"]
    assert health["problems"] == []
    stages = {each["name"]: each for each in health["stages"]}
    agent = stages["agent"]
    assert (agent["came_in"], agent["went_out"], agent["waits"], agent["lost"]) == (120, 100, 20, 0)
    assert (stages["processor"]["came_in"], stages["processor"]["waits"]) == (9, 5)
    (delay,) = health["delays"]
    assert delay["count"] == 100
    assert 0.1 < delay["p50_s"] <= 0.2
    words = run("--dir", tmp_path).stdout
    assert "120 scans" in words
    assert "No metrics given for: alerts, console; name them with --metrics URL." in words
    assert "All is well in what was looked at." in words
    assert "All is well." not in words
    assert {stages["alerts"][name] for name in ("came_in", "went_out", "lost", "in_per_s")} == {None}


def test_history_and_notifications_are_told_where_they_run(
    fresh_kafka: KafkaNode, stage: Stage, tmp_path: Path
) -> None:
    stage.kept.set(700)
    stage.history_lag.set(3)
    stage.messages.labels("ops", "sent").inc(5)
    stage.messages.labels("ops", "overtaken").inc(2)
    stage.messages_pending.set(1)
    write_run_file(tmp_path, fresh_kafka.bootstrap, myself(stage))
    health = json.loads(run("--dir", tmp_path, "--json").stdout)
    stages = {each["name"]: each for each in health["stages"]}
    assert (stages["history"]["went_out"], stages["history"]["waits"]) == (700, 3)
    assert [stages["notify"][name] for name in ("came_in", "went_out", "waits", "lost")] == [8, 5, 1, 0]
    assert "overtaken: 2" in stages["notify"]["notes"]
    assert health["problems"] == []
    stage.messages.labels("ops", "failed").inc()
    result = run("--dir", tmp_path)
    assert result.exit_code == 1
    assert "notify: 1 messages reached nobody (tidegate notify ls)" in result.stdout


def test_what_no_metrics_tell_is_not_given_as_zero(fresh_kafka: KafkaNode) -> None:
    result = run("--bootstrap", fresh_kafka.bootstrap)
    assert result.exit_code == 0, result.output
    assert "No metrics given for: agent, processor, alerts, console; name them" in result.stdout
    (row,) = [line.split() for line in result.stdout.splitlines() if line.startswith(" processor")]
    assert row[1:3] + row[4:] == ["–", "–", "–"]


def test_services_that_are_not_ready_are_told_as_starting(fresh_kafka: KafkaNode, stage: Stage, tmp_path: Path) -> None:
    started = start_time(os.getpid()) or 0
    services = [myself(stage), RunningService("processor", os.getpid(), started, ready=False)]
    run_file = RunFile(fresh_kafka.bootstrap, services, to_come=["console"])
    (tmp_path / "run.json").write_bytes(msgspec.json.encode(run_file))
    result = run("--dir", tmp_path)
    assert result.exit_code == 1
    assert "Runs: agent." in result.stdout
    assert "Starting: processor, console." in result.stdout
    assert "All is well" not in result.stdout


def test_a_delay_beyond_the_last_bucket_is_not_given_as_its_bound(
    fresh_kafka: KafkaNode, stage: Stage, tmp_path: Path
) -> None:
    for seconds in [0.15] * 10 + [7.0] * 5:
        stage.delay.observe(seconds)
    write_run_file(tmp_path, fresh_kafka.bootstrap, myself(stage))
    assert "99 % in more than 1 s" in run("--dir", tmp_path).stdout
    assert "half within 175 ms" in run("--dir", tmp_path).stdout


def test_what_is_wrong_is_named_and_the_status_is_not_zero(
    fresh_kafka: KafkaNode, stage: Stage, tmp_path: Path
) -> None:
    stage.accepted.labels("mqtt").inc()
    stage.rejected.labels("mqtt").inc(3)
    started = start_time(os.getpid()) or 0
    dead = RunningService("alerts", os.getpid(), started - 1)
    mute = RunningService("console", os.getpid(), started, "http://127.0.0.1:9/metrics")
    write_run_file(tmp_path, fresh_kafka.bootstrap, myself(stage), dead, mute)
    result = run("--dir", tmp_path, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"] == [
        f"alerts (process {os.getpid()}) does not run",
        f"console (process {os.getpid()}) runs but its metrics do not answer",
        "agent: 3 lost",
    ]


def test_a_kafka_that_is_away_is_named(stage: Stage) -> None:
    result = run("--bootstrap", "127.0.0.1:9", "--metrics", stage.url, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"] == ["no Kafka answers at 127.0.0.1:9"]


def test_nothing_that_runs_is_one_sentence(tmp_path: Path) -> None:
    result = run("--dir", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: nothing runs in {tmp_path}: there is no run.json")


@given(st.lists(st.floats(0, 5), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], share: float) -> None:
    bounds = (0.5, 1.0, 2.0)
    registry = CollectorRegistry()
    histogram = Histogram("h", "x", buckets=bounds, registry=registry)
    for value in values:
        histogram.observe(value)
    samples = Samples()
    samples.add(generate_latest(registry).decode())
    found = samples.quantile("h", share)
    true = sorted(values)[math.ceil(share * len(values)) - 1]
    bucket = next((i for i, bound in enumerate(bounds) if true <= bound), None)
    assert found is not None
    assert samples.beyond("h", share) == (bucket is None)
    if bucket is None:
        assert found == bounds[-1]
    else:
        assert (bounds[bucket - 1] if bucket else 0.0) <= found <= bounds[bucket]


def test_a_histogram_without_values_has_no_quantile() -> None:
    samples = Samples()
    registry = CollectorRegistry()
    Histogram("h", "x", registry=registry)
    samples.add(generate_latest(registry).decode())
    assert samples.quantile("h", 0.5) is None
    assert samples.quantile("other", 0.5) is None
