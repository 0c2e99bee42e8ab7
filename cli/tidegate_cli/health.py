"""One picture of health: what runs, and per stage what came in, went out and waits.

The figures come from three places: the run file (which processes), the services' metrics (what they counted since they
started) and Kafka itself (what lies on the topics and how far the groups have come).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import msgspec
from confluent_kafka import OFFSET_INVALID, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from tidegate_protocols.topics import EVENTS, FRAMES, Topic

from .scrape import Samples, difference, fetch_metrics
from .supervisor import RunFile, is_alive

_TIMEOUT_S = 5.0
_STAGES = ("agent", "processor", "alerts", "console")  # what every way from a reading to a page has
_GROUPS: tuple[tuple[str, str, Topic], ...] = (
    ("processor", "tidegate-processor", FRAMES),
    ("alerts", "tidegate-alerts", EVENTS),
)


class ServiceHealth(msgspec.Struct, frozen=True):
    """A process of the run file. `answers` is None for a service without metrics."""

    name: str
    pid: int
    runs: bool
    answers: bool | None
    url: str | None


class StageHealth(msgspec.Struct, frozen=True):
    """A stage of the way. Counts are since the services started; `per_s` are of the time between two looks.

    `waits` is what has come and is not done; `lost` what never will be (refused or evicted), `notes` says more. A
    figure is None where no metrics tell it.
    """

    name: str
    unit_in: str
    unit_out: str
    came_in: int | None
    went_out: int | None
    waits: int | None
    lost: int | None
    in_per_s: float | None
    out_per_s: float | None
    notes: list[str] = []


class Delay(msgspec.Struct, frozen=True):
    """How long something took, seconds. `count` is how many were measured; `beyond`: longer than can be told."""

    name: str
    p50_s: float | None
    p99_s: float | None
    count: int
    p50_beyond: bool = False
    p99_beyond: bool = False


class Health(msgspec.Struct, frozen=True):
    """Everything. `problems` are sentences; none means that all is well in what was looked at.

    `starting` names services that are not ready yet, `not_looked_at` stages of which no metrics are known.
    """

    bootstrap: str
    kafka_answers: bool
    services: list[ServiceHealth]
    stages: list[StageHealth]
    delays: list[Delay]
    problems: list[str]
    starting: list[str] = []
    not_looked_at: list[str] = []


def look(run: RunFile, *, over_s: float = 1.0, sleep: Callable[[float], None] = time.sleep) -> Health:
    """Look twice, `over_s` apart, and put it together."""
    before, _ = _scrape(run)
    start = time.monotonic()
    sleep(over_s)
    now, answers = _scrape(run)
    seconds = max(time.monotonic() - start, 1e-3)
    services = [
        ServiceHealth(s.name, s.pid, is_alive(s) if s.started else True, answers.get(s.name), s.url)
        for s in run.services
    ]
    lags = group_lags(run.bootstrap)
    stages = _stages(now, difference(before, now), seconds, lags or {})
    starting = [s.name for s in run.services if not s.ready and is_alive(s)] + run.to_come
    problems = _problems(services, stages)
    # While services start, Kafka or its topics may rightly not be there yet.
    if lags is None and not starting:
        problems.insert(0, f"no Kafka answers at {run.bootstrap}")
    told = {stage.name for stage in stages if stage.came_in is not None}
    told.update(service.name for service in run.services)
    not_looked_at = [name for name in _STAGES if name not in told and name not in starting]
    return Health(
        run.bootstrap, lags is not None, services, stages, _delays(now), problems, starting, not_looked_at
    )  # fmt: skip


def _scrape(run: RunFile) -> tuple[Samples, dict[str, bool]]:
    samples, answers = Samples(), {}
    for service in run.services:
        if service.metrics is not None:
            text = fetch_metrics(service.metrics)
            answers[service.name] = text is not None
            if text is not None:
                samples.add(text)
    return samples, answers


def group_lags(bootstrap: str) -> dict[str, int] | None:
    """Records that each group has not committed yet, by stage; None when Kafka does not answer.

    On a topic that is written in transactions this counts each partition's last end-of-transaction mark too, which no
    consumer ever sees; a stage's own figure is better where the stage answers.
    """
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    lags = {}
    try:
        for stage, group, topic in _GROUPS:
            parts = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
            earliest = _offsets(client, parts, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
            latest = _offsets(client, parts, OffsetSpec.latest())  # type: ignore[no-untyped-call]
            asked = [ConsumerGroupTopicPartitions(group, parts)]
            answer = client.list_consumer_group_offsets(asked, request_timeout=_TIMEOUT_S)[group].result(_TIMEOUT_S)
            committed = {
                tp.partition: tp.offset for tp in answer.topic_partitions if tp.offset not in (None, OFFSET_INVALID)
            }
            lags[stage] = sum(end - committed.get(part, earliest[part]) for part, end in latest.items())
    except (KafkaException, TimeoutError):
        return None
    return lags


def _offsets(client: AdminClient, parts: Sequence[TopicPartition], spec: OffsetSpec) -> dict[int, int]:
    futures = client.list_offsets(dict.fromkeys(parts, spec), request_timeout=_TIMEOUT_S)
    return {tp.partition: future.result(_TIMEOUT_S).offset for tp, future in futures.items()}


def _stages(now: Samples, added: Samples, seconds: float, lags: dict[str, int]) -> list[StageHealth]:
    def stage(
        name: str, ins: tuple[str, str], outs: tuple[str, str], waits: float, lost: float, notes: list[str]
    ) -> StageHealth:
        (unit_in, metric_in), (unit_out, metric_out) = ins, outs
        if not _known(name, now):
            return StageHealth(name, unit_in, unit_out, None, None, int(waits), None, None, None)
        return StageHealth(
            name, unit_in, unit_out, int(now.total(metric_in)), int(now.total(metric_out)), int(waits), int(lost),
            round(added.total(metric_in) / seconds, 1), round(added.total(metric_out) / seconds, 1), notes,
        )  # fmt: skip

    def waiting(name: str) -> float:
        metric = f"tidegate_{name}_lag_records"
        return now.total(metric) if metric in now else lags.get(name, 0)

    stages = []
    if _known("agent", now):
        lost = now.total("tidegate_edge_rejected_total") + now.total("tidegate_edge_evicted_total")
        notes = [f"{labels['part']}: {labels['state']}" for labels, _ in now.labelled("tidegate_edge_state")]
        stages.append(
            stage("agent", ("scans", "tidegate_edge_received_total"), ("scans", "tidegate_edge_acknowledged_total"),
                  now.total("tidegate_edge_pending"), lost, notes)
        )  # fmt: skip
    if _known("processor", now) or lags:
        notes = _counted(now, "tidegate_processor", ("readings", "duplicates", "gaps", "waiting"))
        stages.append(
            stage("processor", ("frames", "tidegate_processor_frames_total"),
                  ("events", "tidegate_processor_events_total"), waiting("processor"),
                  now.total("tidegate_processor_dead_letters_total"), notes)
        )  # fmt: skip
    if _known("alerts", now) or lags:
        notes = [f"{int(now.total('tidegate_alerts_open'))} open"] if "tidegate_alerts_open" in now else []
        stages.append(
            stage("alerts", ("events", "tidegate_alerts_events_total"),
                  ("transitions", "tidegate_alerts_transitions_total"), waiting("alerts"),
                  now.total("tidegate_alerts_dead_letters_total"), notes)
        )  # fmt: skip
    if _known("console", now):
        behind = now.total("tidegate_console_behind_seconds")
        notes = [f"{int(now.total('tidegate_console_clients'))} pages open", f"{behind:.2f} s behind"]
        stages.append(
            stage("console", ("readings", "tidegate_console_readings"),
                  ("updates", "tidegate_console_reading_to_page_seconds_count"), 0, 0, notes)
        )  # fmt: skip
    if _known("history", now):
        counts = (("unreadable", "tidegate_history_unreadable"), ("scans that came again", "tidegate_history_left_out"))
        notes = [f"{int(now.total(name)):,} {words}" for words, name in counts if now.total(name)]
        stages.append(
            stage("history", ("frames", "tidegate_history_frames"), ("readings", "tidegate_history_readings"),
                  waiting("history"), 0, notes)
        )  # fmt: skip
    if _known("notify", now):
        stages.append(_notify(now, added, seconds))
    return stages


def _notify(now: Samples, added: Samples, seconds: float) -> StageHealth:
    """Messages to people: those that are done came in, those that were sent went out."""
    name = "tidegate_notify_messages_total"

    def count(samples: Samples, *states: str) -> float:
        return sum(value for labels, value in samples.labelled(name) if not states or labels["state"] in states)

    notes = [f"{labels['state']}: {int(value):,}" for labels, value in now.labelled(name) if labels["state"] != "sent"]
    if failures := int(now.total("tidegate_notify_failures_total")):
        notes.append(f"{failures:,} attempts failed")
    pending = int(now.total("tidegate_notify_pending"))
    if pending:
        notes.append(f"the oldest waits for {now.total('tidegate_notify_oldest_seconds'):.0f} s")
    return StageHealth(
        "notify", "messages", "sent", int(count(now)) + pending, int(count(now, "sent")), pending,
        int(count(now, "failed", "too-old")), round(count(added) / seconds, 1),
        round(count(added, "sent") / seconds, 1), notes,
    )  # fmt: skip


def _known(stage: str, now: Samples) -> bool:
    """Whether metrics of a stage were found."""
    return {
        "agent": "tidegate_edge_accepted_total",
        "processor": "tidegate_processor_frames_total",
        "alerts": "tidegate_alerts_events_total",
        "console": "tidegate_console_clients",
        "history": "tidegate_history_readings",
        "notify": "tidegate_notify_pending",
    }[stage] in now


def _counted(now: Samples, prefix: str, names: Sequence[str]) -> list[str]:
    totals = [(name, int(now.total(f"{prefix}_{name}_total"))) for name in names]
    return [f"{total:,} {name.replace('_', ' ')}" for name, total in totals if total]


def _delays(now: Samples) -> list[Delay]:
    measured = (
        ("from a frame on Kafka to its events", "tidegate_processor_event_to_commit_seconds"),
        ("from an event on Kafka to its alert", "tidegate_alerts_event_to_commit_seconds"),
        ("end to end, from a reading to the page", "tidegate_console_reading_to_page_seconds"),
    )
    return [
        Delay(
            words,
            now.quantile(name, 0.5),
            now.quantile(name, 0.99),
            int(now.total(f"{name}_count")),
            now.beyond(name, 0.5),
            now.beyond(name, 0.99),
        )
        for words, name in measured
        if f"{name}_count" in now
    ]


def _problems(services: list[ServiceHealth], stages: list[StageHealth]) -> list[str]:
    problems = []
    for service in services:
        if not service.runs:
            problems.append(f"{service.name} (process {service.pid}) does not run")
        elif service.answers is False:
            problems.append(f"{service.name} (process {service.pid}) runs but its metrics do not answer")
    for stage in stages:
        if stage.lost:
            problems.append(_loss(stage))
    return problems


def _loss(stage: StageHealth) -> str:
    if stage.name == "agent":
        return f"{stage.name}: {stage.lost:,} lost"
    if stage.name == "notify":
        return f"{stage.name}: {stage.lost:,} messages reached nobody (tidegate notify ls)"
    return f"{stage.name}: {stage.lost:,} dead letters (tidegate dlq ls)"
