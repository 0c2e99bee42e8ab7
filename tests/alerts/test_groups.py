"""One fault on many devices is one group, and people are told once; nobody acknowledges, and the next ones are told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_cloud.alerts.group_logic import GroupLogic
from tidegate_cloud.alerts.group_state import Said
from tidegate_cloud.alerts.groups import KeyGroups
from tidegate_cloud.alerts.policies import InForce
from tidegate_cloud.engine import MicroBatch, Record
from tidegate_cloud.engine.inprocess import Ran, step
from tidegate_protocols.alerts import ALERT, COMMAND, GROUP, TRANSITION, Alert, Command, Group, Transition, group_id
from tidegate_protocols.errors import BadInput
from tidegate_protocols.policies import POLICY, Level, Policy
from tidegate_protocols.topics import ALERT_GROUPS, ALERT_LOG, ALERT_MEMBERS, COMMANDS, POLICIES

from tests.support.alerts import NOON, SECOND

KEY = "k" * 32
POLICY_ = Policy(
    id="limit", operator="limit", opens=["above"], ends=["within"], group_by=["subject"], group_min=3,
    group_window_s=60.0, group_wait_s=5.0,
    tell=[Level(to=["desk"]), Level(after_s=300.0, to=["oncall"]), Level(after_s=900.0, to=["lead", "oncall"])],
)  # fmt: skip


def an_alert(number: int, version: int = 1, **more: Any) -> Alert:
    fields: dict[str, Any] = {
        "id": f"{number:032x}", "device": f"van-{number}", "rule": "limit", "subject": "temp", "state": "open",
        "severity": "warning", "kind": "limit", "title": f"Cargo of {number} at 9 °C", "started_us": NOON,
        "opened_us": NOON, "changed_us": NOON, "version": version, "event": "e", "events": 1, "event_kind": "above",
        "attrs": {"channel": "cargo_temp"},
    }  # fmt: skip
    return Alert(**(fields | more))


class Key:
    """The second stage for one key; times are seconds after noon."""

    def __init__(self, policy: Policy = POLICY_) -> None:
        self.in_force = InForce((policy,))
        self.row = KeyGroups(self.in_force)

    def alert(self, at_s: float, number: int, version: int = 1, key: str = KEY, **more: Any) -> list[Said]:
        return list(self.row.alert(an_alert(number, version, **more), NOON + int(at_s * SECOND), key))

    def storm(self, at_s: float, count: int, first: int = 1) -> list[Said]:
        return [said for number in range(first, first + count) for said in self.alert(at_s, number)]

    def tick(self, at_s: float) -> list[Said]:
        return list(self.row.tick(NOON + int(at_s * SECOND)))

    def command(self, at_s: float, action: str, name: str, **more: Any) -> list[Said]:
        fields: dict[str, Any] = {"id": name, "device": "", "alert": self.only.id, "who": "Ines", "group": KEY}
        command = Command(action=action, **(fields | more))
        return list(self.row.command(command, NOON + int(at_s * SECOND)))

    @property
    def only(self) -> Group:
        (group,) = self.row.groups
        return group


def lines(said: Iterable[Said]) -> list[Transition]:
    return [one.transition for one in said if one.transition is not None]


def told(said: Iterable[Said]) -> list[tuple[str, float, list[str], int]]:
    """(alert or group, when, who, level) of the lines by which somebody is told."""
    return [
        (line.alert[-4:] if not line.group else "group", (line.ts_us - NOON) / SECOND, line.tell, line.level)
        for line in lines(said) if line.tell
    ]  # fmt: skip


def commands(said: Iterable[Said]) -> list[Command]:
    return [one.command for one in said if one.command is not None]


def test_one_alert_is_told_by_itself_after_a_short_wait():
    key = Key()
    assert lines(key.alert(0, 1)) == []
    assert key.row.due_us == NOON + 5 * SECOND
    (line,) = lines(key.tick(10))
    assert (line.action, line.ts_us, line.tell, line.level) == ("told", NOON + 5 * SECOND, ["desk"], 1)
    assert (line.device, line.title, line.why, line.rule) == ("van-1", "Cargo of 1 at 9 °C", "desk", "limit")


def test_while_nobody_acknowledges_the_next_level_is_told():
    key = Key()
    key.alert(0, 1)
    assert told(key.tick(2000)) == [
        ("0001", 5, ["desk"], 1), ("0001", 305, ["oncall"], 2), ("0001", 905, ["lead", "oncall"], 3),
    ]  # fmt: skip
    assert key.row.due_us is None


@pytest.mark.parametrize("state", ["acknowledged", "snoozed", "resolved"])
def test_nobody_further_is_told_once_somebody_has_it(state: str):
    key = Key()
    key.alert(0, 1)
    key.tick(10)
    key.alert(20, 1, 2, state=state)
    assert told(key.tick(5000)) == []


def test_who_was_told_is_told_that_it_is_over():
    key = Key()
    key.alert(0, 1)
    key.tick(400)
    (line,) = lines(key.alert(500, 1, 2, state="resolved"))
    assert (line.tell, line.to_state, line.cause) == (["desk", "oncall"], "resolved", "1.over")
    assert key.row.empty


def test_an_alert_that_is_over_before_anybody_was_told_is_never_told():
    key = Key()
    key.alert(0, 1)
    assert lines(key.alert(3, 1, 2, state="resolved")) == []
    assert key.row.empty


def test_what_comes_back_is_told_anew():
    key = Key()
    key.alert(0, 1)
    key.alert(20, 1, 2, state="resolved")
    key.alert(30, 1, 3)
    (line,) = lines(key.tick(40))
    assert (line.level, line.cause, line.tell) == (1, "3.1", ["desk"])


def test_a_hidden_alert_tells_nobody_until_it_comes_out():
    key = Key()
    key.alert(0, 1, muted="silence:s")
    assert key.tick(1000) == []
    key.alert(1100, 1, 2)
    assert told(key.tick(1100)) == [("0001", 1100, ["desk"], 1)]
    key.alert(1200, 1, 3, muted="silence:t")
    assert told(key.tick(5000)) == []


def test_one_fault_on_many_devices_is_one_group_and_told_once():
    key = Key()
    said = key.storm(0, 200) + key.tick(10)
    assert told(said) == [("group", 0, ["desk"], 1)]
    group = key.only
    assert (group.count, group.unresolved, group.title) == (200, 200, "Cargo temp above its limit on 200 devices")
    assert (group.state, group.shared, group.key) == ("open", {"subject": "temp"}, KEY)
    assert (group.id, group.first) == (group_id(KEY, f"{1:032x}"), f"{1:032x}")
    assert len(group.alerts) == 100
    joins = commands(said)
    assert [(command.action, command.why) for command in joins] == [("join", group.id)] * 200
    assert len({command.id for command in joins}) == 200
    assert [line.action for line in lines(said)] == ["opened", "told", "grew"]


def test_a_group_is_written_a_few_times_not_once_per_alert():
    key = Key()
    said = [one for number in range(1, 1001) for one in key.alert(number / 100, number)]  # ten seconds
    said += key.tick(60)
    written = [one.group for one in said if one.group]
    assert written[-1].count == 1000
    assert len(written) <= 15


def test_alerts_that_were_told_before_it_was_a_group_are_told_no_further():
    key = Key()
    said = key.alert(0, 1) + key.alert(10, 2) + key.alert(14, 3) + key.tick(1000)
    assert told(said) == [
        ("0001", 5, ["desk"], 1),
        ("group", 14, ["desk"], 1), ("group", 314, ["oncall"], 2), ("group", 914, ["lead", "oncall"], 3),
    ]  # fmt: skip


def test_after_a_pause_alerts_are_told_by_themselves_although_the_group_is_open():
    key = Key()
    key.storm(0, 3)
    key.tick(1)
    said = key.alert(100, 50) + key.tick(106)
    assert told(said) == [("0032", 105, ["desk"], 1)]
    assert key.only.count == 3


def test_a_second_storm_of_the_key_is_another_group():
    key = Key()
    key.storm(0, 3)
    key.storm(500, 3, first=10)
    assert [group.count for group in key.row.groups] == [3, 3]
    assert len({group.id for group in key.row.groups}) == 2


def test_a_group_is_over_with_its_last_alert():
    key = Key()
    key.storm(0, 3)
    key.tick(1)
    key.alert(10, 1, 2, state="resolved")
    key.alert(11, 2, 2, state="resolved")
    assert key.only.state == "open"
    said = key.alert(12, 3, 2, state="resolved")
    assert [line.action for line in lines(said)] == ["resolved", "told"]
    assert (key.only.state, key.only.unresolved, key.only.ended_us) == ("resolved", 0, NOON + 12 * SECOND)
    assert told(said) == [("group", 12, ["desk"], 1)]


def test_an_alert_that_comes_back_brings_its_group_back():
    key = Key()
    key.storm(0, 3)
    for number in (1, 2, 3):
        key.alert(10, number, 2, state="resolved")
    said = key.alert(20, 2, 3)
    assert [line.action for line in lines(said)] == ["reopened"]
    assert (key.only.state, key.only.unresolved) == ("open", 1)
    assert told(key.tick(20)) == [("group", 20, ["desk"], 1)]


def test_what_is_asked_of_a_group_is_asked_of_its_alerts():
    key = Key()
    key.storm(0, 3)
    key.alert(1, 2, 2, state="acknowledged")
    said = key.command(2, "acknowledge", "c1", why="seen it")
    (line,) = lines(said)
    assert (line.action, line.who, line.group, line.cause) == ("acknowledged", "Ines", key.only.id, "c1")
    assert (key.only.state, key.only.who) == ("acknowledged", "Ines")
    passed = commands(said)
    assert [(c.device, c.action, c.who, c.why) for c in passed] == [
        ("van-1", "acknowledge", "Ines", "seen it"), ("van-3", "acknowledge", "Ines", "seen it"),
    ]  # fmt: skip
    assert len({command.id for command in passed} | {"c1"}) == 3
    assert told(key.tick(5000)) == []
    assert key.command(3, "acknowledge", "c1") == []  # the same once more


def test_newcomers_of_a_group_that_somebody_has_are_had_as_well():
    key = Key()
    key.storm(0, 3)
    key.command(2, "acknowledge", "c1")
    passed = commands(key.alert(5, 9))
    assert [(command.action, command.device) for command in passed] == [("join", "van-9"), ("acknowledge", "van-9")]


def test_a_snoozed_group_wakes_with_its_alerts():
    key = Key()
    key.storm(0, 3)
    passed = commands(key.command(1, "snooze", "c1", until_us=NOON + 600 * SECOND))
    assert [command.until_us for command in passed] == [NOON + 600 * SECOND] * 3
    for number in (1, 2, 3):
        key.alert(2, number, 2, state="snoozed")
    assert told(key.tick(599)) == []
    said = key.tick(600)
    assert [line.action for line in lines(said)] == ["woke"]
    for number in (1, 2, 3):
        said += key.alert(600, number, 3)
    assert told(said + key.tick(600)) == [("group", 600, ["desk"], 1)]


def test_a_group_refuses_what_an_alert_would_refuse():
    key = Key()
    key.storm(0, 3)
    seen = key.only.version
    key.command(1, "acknowledge", "c1", seen_version=seen)
    (line,) = lines(key.command(2, "resolve", "c2", who="Mo", seen_version=seen))
    assert (line.action, line.why, line.group) == (
        "refused",
        "it changed meanwhile: it is acknowledged by Ines",
        line.alert,
    )
    (line,) = lines(key.command(3, "acknowledge", "c3", alert="0" * 32))
    assert (line.action, line.why) == ("refused", "there is no such group any more")
    (line,) = lines(key.command(4, "join", "c4"))
    assert line.action == "refused"


def test_growth_makes_nobody_lose_a_race():
    key = Key()
    key.storm(0, 3)
    seen = key.only.version
    key.storm(5, 3, first=10)
    assert key.only.version > seen
    assert lines(key.command(6, "acknowledge", "c1", seen_version=seen))[-1].action == "acknowledged"


def test_resolving_and_reopening_a_group_reaches_its_alerts_only_where_it_changed_them():
    key = Key()
    key.storm(0, 3)
    key.alert(1, 1, 2, state="resolved")
    assert [c.device for c in commands(key.command(2, "acknowledge", "c1"))] == ["van-2", "van-3"]
    for number in (2, 3):
        key.alert(3, number, 2, state="acknowledged")
    assert [c.device for c in commands(key.command(4, "reopen", "c2"))] == ["van-2", "van-3"]
    for number in (2, 3):
        key.alert(5, number, 3)
    assert [c.device for c in commands(key.command(6, "false-alarm", "c3"))] == ["van-1", "van-2", "van-3"]
    assert key.only.state == "resolved"


def test_a_group_all_of_whose_alerts_are_hidden_tells_nobody():
    key = Key()
    for number in range(1, 5):
        key.alert(0, number, muted="silence:s")
    assert told(key.tick(1000)) == []
    assert told(key.alert(1100, 2, 2) + key.tick(1100)) == [("group", 1100, ["desk"], 1)]


def test_a_group_that_comes_out_again_without_growing_is_told_in_a_round_of_its_own():
    key = Key()
    said = key.storm(0, 3) + key.tick(10)
    for number in (1, 2, 3):
        said += key.alert(20, number, 2, muted="silence:s")
    said += key.alert(30, 2, 3) + key.tick(30)
    causes = [line.cause for line in lines(said) if line.tell]
    assert len(causes) == len(set(causes)) == 2


def test_a_critical_alert_makes_its_group_critical():
    key = Key()
    key.storm(0, 3)
    key.alert(0, 4, severity="critical")
    key.tick(5)
    assert key.only.severity == "critical"


def test_a_policy_that_does_not_group_tells_at_once():
    key = Key(msgspec.structs.replace(POLICY_, group_by=[]))
    alone = an_alert(1).id
    key.alert(0, 1, key=alone)
    assert told(key.tick(0)) == [("0001", 0, ["desk"], 1)]


def test_levels_of_a_policy_that_was_removed_are_told_to_nobody():
    key = Key()
    key.alert(0, 1)
    key.in_force.put(
        Record(POLICIES.name, 0, 0, 0, b"limit", POLICY.encode(msgspec.structs.replace(POLICY_, enabled=False)))
    )
    assert key.tick(5000) == []
    key.in_force.put(Record(POLICIES.name, 0, 0, 0, b"limit", POLICY.encode(POLICY_)))
    assert [who for _, _, who, _ in told(key.tick(5001))] == [["desk"], ["oncall"], ["lead", "oncall"]]


def test_an_older_state_of_an_alert_changes_nothing():
    key = Key()
    key.alert(0, 1, 5, state="acknowledged")
    assert key.alert(1, 1, 3) == []
    assert told(key.tick(1000)) == []


def test_a_resolved_group_goes_after_thirty_days_with_its_alerts():
    key = Key()
    key.storm(0, 3)
    for number in (1, 2, 3):
        key.alert(10, number, 2, state="resolved")
    name = key.only.id
    assert [one.gone for one in key.tick(11 + 30 * 86_400)] == [name]
    assert key.row.empty


def test_ten_thousand_alerts_are_one_group_in_a_row_that_kafka_takes():
    key = Key()
    said = key.storm(0, 10_000) + key.tick(10)
    assert told(said) == [("group", 0, ["desk"], 1)]
    assert key.only.count == 10_000
    data = key.row.to_bytes() or b""
    assert len(data) < 900_000
    again = KeyGroups.from_bytes(data, key.in_force)
    assert again.to_bytes() == data
    assert (
        len(
            commands(
                list(
                    again.command(
                        Command(id="c", device="", alert=key.only.id, action="resolve", who="Ines", group=KEY),
                        NOON + 60 * SECOND,
                    )
                )
            )
        )
        == 10_000
    )


@given(st.binary(max_size=60))
def test_a_row_that_is_not_one_is_refused(data: bytes):
    try:
        KeyGroups.from_bytes(data, InForce())
    except BadInput as error:
        assert "not a row of groups" in str(error)  # noqa: PT017


_STEPS = st.tuples(
    st.integers(1, 6), st.sampled_from(["open", "open", "acknowledged", "resolved"]), st.booleans(),
    st.sampled_from([0.0, 0.4, 3.0, 30.0, 400.0]),
)  # fmt: skip


@st.composite
def logs(draw: Any) -> list[Record]:
    records, now, versions = [], 0.0, dict.fromkeys(range(1, 7), 0)
    for offset, (number, state, muted, gap) in enumerate(draw(st.lists(_STEPS, max_size=20))):
        now += gap
        versions[number] += 1
        alert = an_alert(number, versions[number], state=state, muted="silence:s" if muted else "")
        at_us = NOON + int(now * SECOND)
        records.append(Record(ALERT_MEMBERS.name, 0, offset, at_us, KEY.encode(), ALERT.encode(alert)))
    return records


@settings(deadline=None)
@given(records=logs(), data=st.data())
def test_groups_do_not_depend_on_how_the_log_is_cut_nor_on_ticks_and_restarts(records: list[Record], data: Any):
    whole, cut = Ran(), Ran()
    policy = [Record(POLICIES.name, 0, 0, 0, b"limit", POLICY.encode(POLICY_))]

    def fresh(rows: dict[bytes, bytes]) -> GroupLogic:
        logic = GroupLogic()
        logic.broadcast(policy)
        logic.take(0, rows)
        return logic

    end = MicroBatch(ticks={0: NOON + 90_000 * SECOND})
    logic = fresh({})
    step(logic, records, whole)
    step(logic, end, whole)
    logic, left = fresh({}), records
    while left:
        size = data.draw(st.integers(1, len(left)))
        if data.draw(st.booleans()):
            step(logic, MicroBatch(ticks={0: left[0].append_us - data.draw(st.integers(1, 10**8))}), cut)
        step(logic, left[:size], cut)
        left = left[size:]
        if data.draw(st.booleans()):
            logic = fresh({key.key: value for key, value in cut.rows.items()})
    step(logic, end, cut)
    assert cut.records == whole.records
    assert cut.rows == whole.rows
    unresolved: dict[bytes | None, int] = {}
    for record in whole.of(ALERT_GROUPS.name):
        unresolved[record.key] = GROUP.decode(record.value or b"").unresolved
    assert all(count >= 0 for count in unresolved.values())
    causes = [(line.alert, line.cause) for line in
              (TRANSITION.decode(record.value or b"") for record in whole.of(ALERT_LOG.name)) if line.tell]  # fmt: skip
    assert len(causes) == len(set(causes))


def test_commands_for_alerts_go_to_their_devices():
    logic, ran = GroupLogic(), Ran()
    logic.broadcast([Record(POLICIES.name, 0, 0, 0, b"limit", POLICY.encode(POLICY_))])
    logic.take(3, {})
    step(logic, [
        Record(ALERT_MEMBERS.name, 3, n, NOON, KEY.encode(), ALERT.encode(an_alert(n))) for n in range(1, 4)
    ], ran)  # fmt: skip
    assert {(record.key, record.partition) for record in ran.of(COMMANDS.name)} == {
        (b"van-1", None), (b"van-2", None), (b"van-3", None),
    }  # fmt: skip
    (shown,) = ran.of(ALERT_GROUPS.name)
    assert shown.partition == 3
    group = GROUP.decode(shown.value or b"")
    asked = Command(id="c1", device="", alert=group.id, action="acknowledge", who="Ines", group=KEY)
    alone = Command(id="c2", device="van-1", alert=an_alert(1).id, action="acknowledge", who="Ines")
    step(logic, MicroBatch(sides=[
        Record(COMMANDS.name, 3, 0, NOON + SECOND, KEY.encode(), COMMAND.encode(asked)),
        Record(COMMANDS.name, 3, 1, NOON + SECOND, b"van-1", COMMAND.encode(alone)),
        Record(COMMANDS.name, 3, 2, NOON + SECOND, b"van-1", b"nonsense"),
    ]), ran)  # fmt: skip
    line = TRANSITION.decode(ran.of(ALERT_LOG.name)[-1].value or b"")
    assert (line.action, ran.of(ALERT_LOG.name)[-1].key) == ("acknowledged", KEY.encode())
    step(logic, [Record(ALERT_MEMBERS.name, 3, 9, NOON + 2 * SECOND, KEY.encode(), b"nonsense")], ran)
    assert ran.counts["dead_letters"] == 1
