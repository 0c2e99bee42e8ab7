"""The alert engine as a service on a real Kafka: killed in the middle, it ends where it would have ended."""

from __future__ import annotations

from pathlib import Path

import httpx
import msgspec
from tidegate_cloud.alerts import AlertLogic
from tidegate_cloud.engine import Record
from tidegate_cloud.engine.inprocess import run
from tidegate_protocols.alerts import ALERT, COMMAND, GROUP, TRANSITION, Alert, Command, Group, Transition
from tidegate_protocols.events import EVENT
from tidegate_protocols.policies import BUILT_IN, POLICY, Level, Policy
from tidegate_protocols.topics import (
    ALERT_GROUPS,
    ALERT_LOG,
    ALERTS,
    COMMANDS,
    DEAD_LETTERS,
    DEVICE_PARTITIONS,
    EVENTS,
    POLICIES,
)

from tests.support.alerts import an_event
from tests.support.kafka import KafkaNode, consume_all, newest_by_key, produce
from tests.support.service import services
from tests.support.wait import until

KINDS = ("entered", "above", "exited", "within", "anomalous", "entered", "settled", "above")
DEVICES = 12


def found(begin: int, end: int) -> list[tuple[str, bytes]]:
    """Events number `begin` to `end` of every device, 200 s apart."""
    return [
        (f"bus-{device}", EVENT.encode(an_event(KINDS[i % len(KINDS)], i, device=f"bus-{device}", at_s=200 * i)))
        for i in range(begin, end)
        for device in range(DEVICES)
    ]


def test_killed_in_the_middle_it_leaves_the_log_of_a_run_without_a_kill(fresh_kafka: KafkaNode, tmp_path: Path):
    kafka = fresh_kafka
    severe = Policy(id="anomaly", operator="anomaly", opens=["anomalous"], ends=["settled"], severity="critical")
    alone = [msgspec.structs.replace(policy, group_by=[]) for policy in BUILT_IN if policy.id != severe.id]
    policies = [(policy.id, POLICY.encode(policy)) for policy in (severe, *alone)]
    produce(kafka.bootstrap, POLICIES.name, policies)
    produce(kafka.bootstrap, EVENTS.name, [*found(0, 20), ("bus-0", b"not an event")])
    with services(tmp_path) as group:
        engine = group.add("alerts", "alerts", "--bootstrap", kafka.bootstrap, "--metrics-port", "0").start()
        until(lambda: consume_all(kafka.bootstrap, ALERT_LOG.name), what="the first transitions")
        engine.kill()
        produce(kafka.bootstrap, EVENTS.name, found(20, 40))
        engine.start()

        appended = [
            Record(EVENTS.name, m.partition(), m.offset(), m.timestamp()[1] * 1000, m.key(), m.value())
            for m in consume_all(kafka.bootstrap, EVENTS.name)
        ]
        logic = AlertLogic()
        logic.broadcast([Record(POLICIES.name, 0, 0, 0, name.encode(), value) for name, value in policies])
        expected = run(logic, [appended], partitions=range(DEVICE_PARTITIONS))
        wanted = [(record.partition, record.key, record.value) for record in expected.of(ALERT_LOG.name)]
        until(lambda: len(consume_all(kafka.bootstrap, ALERT_LOG.name)) >= len(wanted), what="every transition")
        metrics = [word for word in engine.output().split() if word.endswith("/metrics")][-1]
        assert f"tidegate_alerts_open {float(logic.open_alerts())}" in httpx.get(metrics).text
        assert engine.stop() == 0

    log = consume_all(kafka.bootstrap, ALERT_LOG.name)
    assert [(m.partition(), m.key(), m.value()) for m in log] == wanted
    assert len({(line.alert, line.version) for line in (TRANSITION.decode(m.value()) for m in log)}) == len(log)
    newest = newest_by_key(consume_all(kafka.bootstrap, ALERTS.name))
    last = {record.key: record.value for record in expected.of(ALERTS.name)}
    assert newest == last
    assert {ALERT.decode(v).severity for v in newest.values() if ALERT.decode(v).kind == "anomaly"} == {"critical"}
    (letter,) = consume_all(kafka.bootstrap, DEAD_LETTERS.name)
    assert (letter.key(), letter.value()) == (b"bus-0", b"not an event")


def test_a_storm_over_all_partitions_is_one_group_that_one_person_acknowledges_for_all(
    fresh_kafka: KafkaNode, tmp_path: Path
):
    """Killed between, and a week of events appended once more at the end: one group, told once, everybody agrees."""
    kafka, devices = fresh_kafka, 60
    policy = Policy(
        id="limit", operator="limit", opens=["above"], ends=["within"], group_by=["subject"], tell=[Level(to=["desk"])]
    )
    produce(kafka.bootstrap, POLICIES.name, [(policy.id, POLICY.encode(policy))])
    storm = [
        (f"bus-{n}", EVENT.encode(an_event("above", n, device=f"bus-{n}", subject="temp", attrs={"channel": "temp"})))
        for n in range(devices)
    ]

    def lines() -> list[Transition]:
        return [TRANSITION.decode(m.value()) for m in consume_all(kafka.bootstrap, ALERT_LOG.name)]

    def alerts() -> list[Alert]:
        return [ALERT.decode(value) for value in newest_by_key(consume_all(kafka.bootstrap, ALERTS.name)).values()]

    def groups() -> list[Group]:
        return [GROUP.decode(v) for v in newest_by_key(consume_all(kafka.bootstrap, ALERT_GROUPS.name)).values()]

    with services(tmp_path) as site:
        engine = site.add("alerts", "alerts", "--bootstrap", kafka.bootstrap, "--metrics-port", "0").start()
        produce(kafka.bootstrap, EVENTS.name, storm[: devices // 2])
        until(groups, what="the group")
        engine.kill()
        produce(kafka.bootstrap, EVENTS.name, storm[devices // 2 :])
        engine.start()
        until(lambda: [group.count for group in groups()] == [devices], what="all of the storm in one group")
        (group,) = groups()
        until(lambda: all(alert.group == group.id for alert in alerts()), what="alerts that know their group")
        assert len(alerts()) == devices
        asked = [Command(id=f"c-{who}", device="", alert=group.id, action="acknowledge", who=who, group=group.key,
                         seen_version=group.version) for who in ("Ines", "Mo")]  # fmt: skip
        produce(kafka.bootstrap, COMMANDS.name, [(command.key, COMMAND.encode(command)) for command in asked])
        until(lambda: all(alert.state == "acknowledged" for alert in alerts()), what="every alert acknowledged")
        assert {alert.who for alert in alerts()} == {"Ines"}
        assert [(line.who, line.cause) for line in lines() if line.action == "refused"] == [("Mo", "c-Mo")]
        assert [(line.tell, line.group) for line in lines() if line.tell] == [(["desk"], group.id)]
        before = len(lines()), {alert.id: alert for alert in alerts()}
        produce(kafka.bootstrap, EVENTS.name, storm)
        until(lambda: kafka.lag("tidegate-alerts", EVENTS.name) == 0, what="the replay to be read")
        assert (len(lines()), {alert.id: alert for alert in alerts()}) == before
        assert engine.stop() == 0
    assert consume_all(kafka.bootstrap, DEAD_LETTERS.name) == []
