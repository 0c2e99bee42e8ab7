"""The alert engine as a service on a real Kafka: killed in the middle, it ends where it would have ended."""

from __future__ import annotations

from pathlib import Path

import httpx
from tidegate_cloud.alerts import AlertLogic
from tidegate_cloud.engine import Record
from tidegate_cloud.engine.inprocess import run
from tidegate_protocols.alerts import ALERT, TRANSITION
from tidegate_protocols.events import EVENT
from tidegate_protocols.policies import POLICY, Policy
from tidegate_protocols.topics import ALERT_LOG, ALERTS, DEAD_LETTERS, DEVICE_PARTITIONS, EVENTS, POLICIES

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
    severe = Policy(id="deviation", operator="deviation", opens=["anomalous"], ends=["settled"], severity="critical")
    produce(kafka.bootstrap, POLICIES.name, [(severe.id, POLICY.encode(severe))])
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
        logic.broadcast([Record(POLICIES.name, 0, 0, 0, severe.id.encode(), POLICY.encode(severe))])
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
    assert {ALERT.decode(v).severity for v in newest.values() if ALERT.decode(v).kind == "deviation"} == {"critical"}
    (letter,) = consume_all(kafka.bootstrap, DEAD_LETTERS.name)
    assert (letter.key(), letter.value()) == (b"bus-0", b"not an event")
