"""Alerts on the engine's border: the same input gives the same alerts, however it is cut, killed and repeated."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_cloud.alerts import AlertLogic
from tidegate_cloud.engine import MicroBatch, Record, RowKey
from tidegate_cloud.engine.inprocess import Ran, run, step
from tidegate_protocols.alerts import ALERT, COMMAND, TRANSITION, Alert, Command, Transition, alert_id, group_key
from tidegate_protocols.events import EVENT, Event
from tidegate_protocols.policies import POLICY, SILENCE, Matcher, Policy, Silence
from tidegate_protocols.topics import (
    ALERT_LOG,
    ALERT_MEMBERS,
    ALERTS,
    COMMANDS,
    DEAD_LETTERS,
    EVENTS,
    POLICIES,
    SILENCES,
)

from tests.support.alerts import NOON, SECOND, a_command, an_event

FIRST = alert_id("van-1", "fence-entered", "yard", an_event("entered", 0).id)


def event_record(event: Event, offset: int, *, at_s: float | None = None, partition: int = 0) -> Record:
    append_us = NOON + int((offset if at_s is None else at_s) * SECOND)
    return Record(EVENTS.name, partition, offset, append_us, event.device.encode(), EVENT.encode(event))


def command_record(command: Command, offset: int, at_s: float) -> Record:
    append_us = NOON + int(at_s * SECOND)
    return Record(COMMANDS.name, 0, offset, append_us, command.device.encode(), COMMAND.encode(command))


def newest(ran: Ran) -> dict[str, Alert]:
    alerts: dict[str, Alert] = {}
    for record in ran.of(ALERTS.name):
        name = (record.key or b"").decode()
        if record.value is None:
            alerts.pop(name, None)
        else:
            alerts[name] = ALERT.decode(record.value)
    return alerts


def log(ran: Ran) -> list[Transition]:
    return [TRANSITION.decode(record.value or b"") for record in ran.of(ALERT_LOG.name)]


_STEPS = st.tuples(
    st.sampled_from(["entered", "exited", "above", "below", "within", "anomalous", "settled"]),
    st.sampled_from(["van-1", "van-2"]),
    st.sampled_from(["yard", "quay"]),
    st.sampled_from(["authoritative", "authoritative", "provisional", "historical"]),
    st.sampled_from([1.0, 30.0, 400.0]),
)


@st.composite
def logs(draw: Any) -> list[Record]:
    records, now = [], 0.0
    for offset, (kind, device, subject, lane, gap) in enumerate(draw(st.lists(_STEPS, max_size=25))):
        now += gap
        event = an_event(kind, offset, device=device, subject=subject, at_s=now, lane=lane)
        records.append(event_record(event, offset, at_s=now + 1))
    return records


@settings(deadline=None)
@given(records=logs(), data=st.data())
def test_alerts_do_not_depend_on_how_the_log_is_cut_nor_on_restarts(records: list[Record], data: Any):
    whole = run(AlertLogic(), [records])
    cut = Ran()
    logic = AlertLogic()
    logic.take(0, {})
    left = records
    while left:
        size = data.draw(st.integers(1, len(left)))
        step(logic, left[:size], cut)
        left = left[size:]
        if data.draw(st.booleans()):  # killed, and taken up by another from the rows
            logic = AlertLogic()
            logic.take(0, {key.key: value for key, value in cut.rows.items()})
    assert cut.records == whole.records
    assert cut.rows == whole.rows
    assert cut.counts == whole.counts or not records


@settings(deadline=None)
@given(records=logs())
def test_a_replay_gives_the_same_alerts_under_the_same_ids(records: list[Record]):
    assert run(AlertLogic(), [records]).records == run(AlertLogic(), [[record] for record in records]).records


@settings(deadline=None)
@given(records=logs())
def test_what_is_appended_a_second_time_changes_nothing(records: list[Record]):
    logic, ran = AlertLogic(), Ran()
    logic.take(0, {})
    step(logic, records, ran)
    before, rows = len(ran.records), dict(ran.rows)
    later = [
        record._replace(offset=record.offset + len(records), append_us=record.append_us + 7 * 86_400 * SECOND)
        for record in records
    ]
    step(logic, later, ran)
    assert ran.records[before:] == []
    assert ran.rows == rows


@settings(deadline=None)
@given(records=logs(), data=st.data())
def test_ticks_between_records_change_nothing_of_what_happens(records: list[Record], data: Any):
    silence = Silence(
        id="s", matchers=[Matcher(name="device", value="van-1")], starts_us=NOON, from_time="22:15", to_time="22:25"
    )
    muted = [Record(SILENCES.name, 0, 0, NOON, b"s", SILENCE.encode(silence))]
    whole, ticked = Ran(), Ran()
    for ran, ticks in ((whole, False), (ticked, True)):
        logic = AlertLogic()
        logic.broadcast(muted)
        logic.take(0, {})
        for record in records:
            if ticks:
                for back_s in sorted(data.draw(st.lists(st.integers(0, 400), max_size=3)), reverse=True):
                    step(logic, MicroBatch(ticks={0: record.append_us - 1 - back_s * SECOND}), ran)
            step(logic, [record], ran)
        step(logic, MicroBatch(ticks={0: NOON + 86_400 * SECOND}), ran)
    for device in (b"van-1", b"van-2"):  # the order among devices is not promised
        assert [r.value for r in whole.of(ALERT_LOG.name) if r.key == device] == [
            r.value for r in ticked.of(ALERT_LOG.name) if r.key == device
        ]
    assert whole.rows == ticked.rows


@settings(deadline=None)
@given(records=logs())
def test_one_alert_at_most_is_open_for_a_device_rule_and_subject_and_the_log_tells_its_whole_story(
    records: list[Record],
):
    logic = AlertLogic()
    ran = run(logic, [records])
    alerts = newest(ran)
    assert logic.open_alerts() == sum(alert.state != "resolved" for alert in alerts.values())
    keys = [(a.device, a.rule, a.subject) for a in alerts.values() if a.state != "resolved"]
    assert len(keys) == len(set(keys))
    states: dict[str, tuple[str, int]] = {}
    for line in log(ran):
        state, version = states.get(line.alert, ("", 0))
        if line.version:
            assert (line.from_state, line.version) == (state, version + 1)
            states[line.alert] = line.to_state, line.version
    assert {name: (alert.state, alert.version) for name, alert in alerts.items()} == states


def test_outputs_lie_in_the_partition_of_the_device():
    logic = AlertLogic()
    logic.take(7, {})
    out = logic.process(MicroBatch([event_record(an_event("entered", 0), 0, partition=7)]))
    assert [(record.topic, record.key, record.partition) for record in out.records] == [
        (ALERT_LOG.name, b"van-1", 7),
        (ALERTS.name, FIRST.encode(), 7),
        (ALERT_MEMBERS.name, group_key("fence-entered", {"subject": "yard"}).encode(), None),
    ]
    assert out.touched == {RowKey(7, b"d/van-1")}
    assert out.counts == {"events": 1, "transitions": 1}
    assert logic.open_alerts() == 1


def test_commands_and_ticks_apply_before_the_log_and_leave_rows():
    logic, ran = AlertLogic(), Ran()
    logic.take(0, {})
    step(logic, [event_record(an_event("entered", 0), 0)], ran)
    snooze = a_command("snooze", FIRST, "c1", until_us=NOON + 60 * SECOND)
    step(logic, MicroBatch(sides=[command_record(snooze, 0, 5)]), ran)
    again = AlertLogic()  # the snooze must survive a restart, and wake by a tick alone
    again.take(0, {key.key: value for key, value in ran.rows.items()})
    step(again, MicroBatch(ticks={0: NOON + 59 * SECOND}), ran)
    assert newest(ran)[FIRST].state == "snoozed"
    step(again, MicroBatch(ticks={0: NOON + 61 * SECOND}), ran)
    assert newest(ran)[FIRST].state == "open"
    assert [line.action for line in log(ran)] == ["opened", "snoozed", "woke"]


def test_a_command_that_comes_again_after_a_restart_changes_nothing():
    logic, ran = AlertLogic(), Ran()
    logic.take(0, {})
    command = command_record(a_command("acknowledge", FIRST, "c1"), 0, 5)
    step(logic, [event_record(an_event("entered", 0), 0)], ran)
    step(logic, MicroBatch(sides=[command]), ran)
    lines = len(log(ran))
    again = AlertLogic()
    again.take(0, {key.key: value for key, value in ran.rows.items()})
    step(again, MicroBatch(sides=[command._replace(offset=1)]), ran)
    assert len(log(ran)) == lines


def test_policies_replace_the_built_in_ones_and_can_go_again():
    def policy_record(policy: Policy | None, offset: int) -> Record:
        value = None if policy is None else POLICY.encode(policy)
        return Record(POLICIES.name, 0, offset, NOON, b"limit", value)

    logic, ran = AlertLogic(), Ran()
    logic.take(0, {})
    severe = Policy(id="limit", version=2, operator="limit", opens=["above"], ends=["within"], severity="critical")
    logic.broadcast([policy_record(severe, 0)])
    step(logic, [event_record(an_event("above", 0, subject="r1"), 0)], ran)
    step(logic, [event_record(an_event("below", 1, subject="r2"), 1)], ran)
    assert [(alert.subject, alert.severity) for alert in newest(ran).values()] == [("r1", "critical")]
    logic.broadcast([Record(POLICIES.name, 0, 1, NOON, b"limit", b"nonsense")])  # left out; what was in force stays
    step(logic, [event_record(an_event("below", 2, subject="r3"), 2)], ran)
    assert len(newest(ran)) == 1
    logic.broadcast([policy_record(None, 2)])
    step(logic, [event_record(an_event("below", 3, subject="r4"), 3)], ran)
    assert {alert.subject: alert.severity for alert in newest(ran).values()} == {"r1": "critical", "r4": "warning"}


def test_bad_records_are_dead_letters_and_stop_nobody():
    bad = Record(EVENTS.name, 0, 0, NOON, b"van-1", b"\x00nonsense")
    stranger = event_record(an_event("entered", 1), 1)._replace(key=b"van-2")
    odd_command = Record(COMMANDS.name, 0, 0, NOON, b"van-1", None)
    ran = run(
        AlertLogic(),
        [MicroBatch([bad, stranger, event_record(an_event("entered", 0), 2)], sides=[odd_command])],
    )
    letters = ran.of(DEAD_LETTERS.name)
    assert [(record.key, record.value) for record in letters] == [
        (b"van-1", None), (b"van-1", bad.value), (b"van-2", stranger.value),
    ]  # fmt: skip
    headers = dict(letters[1].headers)
    assert (headers["topic"], headers["partition"], headers["offset"]) == (b"fleet.events", b"0", b"0")
    assert b"single-object Avro" in (headers["error"] or b"")
    assert list(newest(ran)) == [FIRST]
    assert ran.counts["dead_letters"] == 3
