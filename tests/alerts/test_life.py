"""What an alert lives through, one device at a time, without Kafka."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tidegate_cloud.alerts.device import COMMANDS_MAX, KEPT_US, RESOLVED_MAX, Change, DeviceAlerts
from tidegate_cloud.alerts.machine import STEPS
from tidegate_cloud.alerts.policies import InForce
from tidegate_protocols.alerts import Alert, Command, Transition, alert_id
from tidegate_protocols.errors import BadInput
from tidegate_protocols.events import Event
from tidegate_protocols.policies import BUILT_IN, Policy
from tidegate_protocols.registry import Feedback

from tests.support.alerts import NOON, SECOND, a_command, an_event

LEAVE_OPEN = Policy(id="limit", operator="limit", opens=["above", "below"], ends=["within"], auto_resolve=False)


class Life:
    """The alerts of one device, told in seconds after noon."""

    def __init__(self, *policies: Policy) -> None:
        self.in_force = InForce(policies or BUILT_IN)
        self.row = DeviceAlerts(self.in_force)

    def event(self, event: Event, at_s: float) -> list[Transition]:
        return self._lines(self.row.event(event, NOON + int(at_s * SECOND)))

    def command(self, command: Command, at_s: float) -> list[Transition]:
        return self._lines(self.row.command(command, NOON + int(at_s * SECOND)))

    def tick(self, at_s: float) -> list[Transition]:
        return self._lines(self.row.tick(NOON + int(at_s * SECOND)))

    def _lines(self, changes: Iterator[Change]) -> list[Transition]:
        return [change.transition for change in changes if change.transition is not None]

    @property
    def alerts(self) -> list[Alert]:
        return list(self.row)

    @property
    def only(self) -> Alert:
        (alert,) = self.row
        return alert


def entered_and_open() -> Life:
    life = Life()
    life.event(an_event("entered", 1), 0)
    return life


def test_entering_a_fence_that_alerts_on_it_opens_and_leaving_resolves():
    life = Life()
    event = an_event("entered", 1, at_s=10)
    (opened,) = life.event(event, 12)
    assert (opened.action, opened.from_state, opened.to_state) == ("opened", "", "open")
    assert opened.alert == life.only.id == alert_id("van-1", "fence-entered", "yard", event.id)
    assert opened.who == "system"
    assert opened.cause == event.id
    assert life.only.title == "Entered Reefer Yard"
    assert life.only.started_us == NOON + 10 * SECOND
    assert life.only.opened_us == opened.ts_us == NOON + 12 * SECOND
    (closed,) = life.event(an_event("exited", 2, at_s=60), 61)
    assert (closed.action, closed.from_state, closed.to_state) == ("resolved", "open", "resolved")
    assert life.only.state == "resolved"
    assert life.only.ended_us == NOON + 60 * SECOND
    assert life.only.version == closed.version == 2


def test_a_fence_that_alerts_on_leaving_is_the_reverse():
    life = Life()
    on_exit = {"name": "Corridor", "alert_on": "exit", "severity": "critical"}
    assert life.event(an_event("entered", 1, attrs=on_exit), 0) == []
    (opened,) = life.event(an_event("exited", 2, attrs=on_exit), 1)
    assert opened.action == "opened"
    assert (life.only.title, life.only.severity, life.only.rule) == ("Left Corridor", "critical", "fence-left")
    (closed,) = life.event(an_event("entered", 3, attrs=on_exit), 2)
    assert closed.to_state == "resolved"


def test_a_fence_that_alerts_on_nothing_opens_nothing():
    life = Life()
    quiet = {"name": "Yard", "alert_on": "none"}
    assert life.event(an_event("entered", 1, attrs=quiet), 0) == []
    assert life.event(an_event("exited", 2, attrs=quiet), 1) == []
    assert life.row.empty


def test_an_end_counts_although_the_fence_was_edited_meanwhile():
    life = entered_and_open()
    (closed,) = life.event(an_event("exited", 2, attrs={"alert_on": "none"}), 1)
    assert closed.to_state == "resolved"


def test_what_people_did_to_a_fence_ends_alerts_and_opens_none():
    life = entered_and_open()
    edited = {"alert_on": "exit", "reason": "the fence is not for this group"}
    (line,) = life.event(an_event("exited", 2, attrs=edited), 1)
    assert (line.action, line.to_state) == ("resolved", "resolved")
    assert len(life.alerts) == 1


@pytest.mark.parametrize(
    ("kind", "end", "operator"),
    [("above", "within", "limit"), ("below", "within", "limit"), ("anomalous", "settled", "anomaly")],
)
def test_limits_and_anomalies_open_and_end(kind: str, end: str, operator: str):
    life = Life()
    life.event(an_event(kind, 1, subject="temp"), 0)
    assert (life.only.kind, life.only.rule, life.only.state) == (operator, operator, "open")
    life.event(an_event(end, 2, subject="temp", at_s=1), 1)
    assert life.only.state == "resolved"


def test_further_opening_events_attach_and_show_the_newest_values():
    life = Life()
    life.event(an_event("above", 1, subject="r", value=9.1, limit=8.0, unit="Cel", attrs={"channel": "cargo"}), 0)
    assert life.only.title == "Cargo at 9.1 °C; limit is 8 °C"
    worse = an_event(
        "above", 2, subject="r", value=12.0, limit=8.0, unit="Cel", attrs={"channel": "cargo", "severity": "critical"}
    )
    (line,) = life.event(worse, 1)
    assert line.action == "attached"
    assert (life.only.events, life.only.value, life.only.severity) == (2, 12.0, "critical")
    milder = an_event("above", 3, subject="r", value=9.0, limit=8.0, unit="Cel", attrs={"severity": "notice"})
    life.event(milder, 2)
    assert life.only.severity == "critical"


def test_a_condition_that_comes_back_within_the_hold_off_opens_the_same_alert_again():
    life = entered_and_open()
    first = life.only.id
    life.event(an_event("exited", 2, at_s=10), 10)
    (line,) = life.event(an_event("entered", 3, at_s=310), 310)  # 300 s after it ended
    assert (line.action, line.from_state, line.to_state) == ("reopened", "resolved", "open")
    assert life.only.id == first
    assert life.only.ended_us is None


def test_after_the_hold_off_it_is_another_alert():
    life = entered_and_open()
    life.event(an_event("exited", 2, at_s=10), 10)
    (line,) = life.event(an_event("entered", 3, at_s=311), 311)
    assert line.action == "opened"
    assert [alert.state for alert in life.alerts] == ["resolved", "open"]


def test_where_the_policy_leaves_it_to_people_the_end_is_only_noted():
    life = Life(LEAVE_OPEN)
    life.event(an_event("above", 1), 0)
    (line,) = life.event(an_event("within", 2, at_s=5), 5)
    assert (line.action, line.to_state) == ("ended", "open")
    assert life.only.ended_us == NOON + 5 * SECOND
    assert life.event(an_event("within", 3, at_s=6), 6) == []
    (line,) = life.event(an_event("above", 4, at_s=7), 7)
    assert line.action == "attached"
    assert life.only.ended_us is None


def test_a_person_acknowledges_and_resolves():
    life = entered_and_open()
    (line,) = life.command(a_command("acknowledge", life.only.id, "c1", why="driver called"), 5)
    assert (line.action, line.who, line.why, line.cause) == ("acknowledged", "Ines", "driver called", "c1")
    assert (life.only.state, life.only.who, life.only.why) == ("acknowledged", "Ines", "driver called")
    (line,) = life.command(a_command("resolve", life.only.id, "c2", who="Mo"), 6)
    assert (line.action, line.from_state, line.to_state) == ("resolved", "acknowledged", "resolved")
    (line,) = life.event(an_event("exited", 2, at_s=9), 9)
    assert (line.action, line.to_state) == ("ended", "resolved")


def test_the_same_command_twice_is_done_once():
    life = entered_and_open()
    command = a_command("acknowledge", life.only.id, "c1")
    assert len(life.command(command, 1)) == 1
    before = life.row.to_bytes()
    assert life.command(command, 2) == []
    assert life.row.to_bytes() == before


def test_the_loser_of_a_race_is_told_who_was_first():
    life = entered_and_open()
    seen = life.only.version
    life.command(a_command("acknowledge", life.only.id, "c1", who="Ines", seen_version=seen), 1)
    (line,) = life.command(a_command("acknowledge", life.only.id, "c2", who="Mo", seen_version=seen), 2)
    assert (line.action, line.who, line.from_state, line.to_state) == ("refused", "Mo", "acknowledged", "acknowledged")
    assert line.why == "it changed meanwhile: it is acknowledged by Ines"
    assert life.only.who == "Ines"
    (line,) = life.command(a_command("resolve", life.only.id, "c3", who="Mo", seen_version=seen), 3)
    assert line.action == "refused"  # Mo decided on what is no longer so
    (line,) = life.command(a_command("resolve", life.only.id, "c4", who="Mo", seen_version=life.only.version), 4)
    assert line.action == "resolved"


def test_an_event_that_attaches_makes_nobody_lose_a_race():
    life = entered_and_open()
    seen = life.only.version
    life.event(an_event("entered", 2), 1)
    (line,) = life.command(a_command("acknowledge", life.only.id, "c1", seen_version=seen), 2)
    assert line.action == "acknowledged"


def test_what_the_state_does_not_allow_is_refused():
    life = entered_and_open()
    (line,) = life.command(a_command("reopen", life.only.id, "c1"), 1)
    assert line.why == "it cannot be re-opened: it is open"
    life.command(a_command("resolve", life.only.id, "c2"), 2)
    for number, action in enumerate(("acknowledge", "resolve", "snooze")):
        (line,) = life.command(a_command(action, life.only.id, f"d{number}", until_us=NOON + 99 * SECOND), 3)
        assert line.action == "refused"
    (line,) = life.command(a_command("dance", life.only.id, "c3"), 4)
    assert "'dance' is not something" in line.why
    (line,) = life.command(a_command("acknowledge", "0" * 32, "c4"), 5)
    assert (line.action, line.from_state, line.version) == ("refused", "", 0)


def test_a_snoozed_alert_comes_back_by_time_alone():
    life = entered_and_open()
    (line,) = life.command(a_command("snooze", life.only.id, "c1", until_us=NOON), 1)
    assert line.action == "refused"  # that time is over
    life.command(a_command("snooze", life.only.id, "c2", until_us=NOON + 60 * SECOND), 1)
    assert life.only.state == "snoozed"
    assert life.row.due_us == NOON + 60 * SECOND
    assert life.tick(59) == []
    (line,) = life.tick(75)
    assert (line.action, line.ts_us, life.only.state) == ("woke", NOON + 60 * SECOND, "open")
    assert life.row.due_us is None


def test_a_snooze_ends_before_what_is_appended_after_it_whether_or_not_a_tick_came():
    ticked, unticked = entered_and_open(), entered_and_open()
    lines = []
    for life in (ticked, unticked):
        life.command(a_command("snooze", life.only.id, "c1", until_us=NOON + 60 * SECOND), 1)
        lines.append(life.tick(61) if life is ticked else [])
        lines[-1] += life.event(an_event("entered", 2, at_s=70), 71)
    assert lines[0] == lines[1]
    assert [line.action for line in lines[0]] == ["woke", "attached"]
    assert ticked.row.to_bytes() == unticked.row.to_bytes()


def test_a_false_alarm_is_resolved_and_told_to_the_operator():
    life = Life()
    life.event(an_event("anomalous", 1, subject="vibration", value=3.2), 0)
    changes = list(life.row.command(a_command("false-alarm", life.only.id, "c1", why="washing"), NOON + SECOND))
    (line,) = [change.transition for change in changes if change.transition]
    assert (line.action, line.to_state, line.who, line.why) == ("false-alarm", "resolved", "Ines", "washing")
    (said,) = [change.feedback for change in changes if change.feedback]
    assert said == Feedback(
        id=life.only.id, device="van-1", operator="anomaly", subject="vibration", ts_us=NOON + SECOND, who="Ines",
        value=3.2,
    )  # fmt: skip


def test_who_reopens_a_false_alarm_takes_that_back():
    life = Life()
    life.event(an_event("anomalous", 1, subject="vibration"), 0)
    life.command(a_command("false-alarm", life.only.id, "c1"), 1)
    life.command(a_command("comment", life.only.id, "c2"), 2)
    again = DeviceAlerts.from_bytes(life.row.to_bytes() or b"", life.in_force)
    changes = list(again.command(a_command("reopen", life.only.id, "c3"), NOON + 3 * SECOND))
    assert [change.unsaid for change in changes if change.unsaid] == [life.only.id]
    resolve = list(again.command(a_command("resolve", life.only.id, "c4"), NOON + 4 * SECOND))
    reopen = list(again.command(a_command("reopen", life.only.id, "c5"), NOON + 5 * SECOND))
    assert not [change for change in resolve + reopen if change.unsaid or change.feedback]


def test_an_alert_that_is_over_can_still_be_called_a_false_alarm():
    life = entered_and_open()
    life.event(an_event("exited", 2, at_s=1), 1)
    (line,) = life.command(a_command("false-alarm", life.only.id, "c1"), 2)
    assert (line.action, line.from_state, line.to_state) == ("false-alarm", "resolved", "resolved")


def test_comments_change_no_state():
    life = entered_and_open()
    life.command(a_command("acknowledge", life.only.id, "c1", who="Ines"), 1)
    (line,) = life.command(a_command("comment", life.only.id, "c2", who="Mo", why="on my way", seen_version=1), 2)
    assert (line.action, line.from_state, line.to_state, line.why) == (
        "commented", "acknowledged", "acknowledged", "on my way",
    )  # fmt: skip
    assert (life.only.who, life.only.why) == ("Ines", "on my way")


def test_reopening_takes_back_unless_a_newer_alert_has_taken_the_place():
    life = entered_and_open()
    first = life.only.id
    life.command(a_command("resolve", first, "c1"), 1)
    (line,) = life.command(a_command("reopen", first, "c2"), 2)
    assert (line.action, line.to_state, life.only.who) == ("reopened", "open", "")
    life.event(an_event("exited", 2, at_s=3), 3)
    life.event(an_event("entered", 3, at_s=900), 900)
    (line,) = life.command(a_command("reopen", first, "c3"), 901)
    assert (line.action, line.why) == ("refused", "a newer alert has taken its place")
    assert [alert.state for alert in life.alerts] == ["resolved", "open"]


def test_historical_events_open_nothing_and_are_on_record():
    life = Life()
    late = an_event("entered", 1, lane="historical")
    (line,) = life.event(late, 0)
    assert (line.action, line.from_state, line.to_state, line.version) == ("recorded", "", "", 0)
    assert life.alerts == []
    life.event(an_event("entered", 5, lane="provisional"), 1)
    before = life.only
    (line,) = life.event(an_event("exited", 2, lane="historical"), 2)
    assert (line.action, life.only.state, life.only.ended_us) == ("recorded", "open", None)
    assert life.only.title == before.title


def test_resolved_alerts_go_after_thirty_days():
    life = entered_and_open()
    life.event(an_event("exited", 2, at_s=1), 1)
    assert life.row.due_us == NOON + SECOND + KEPT_US
    (gone,) = life.row.tick(NOON + SECOND + KEPT_US)
    assert gone.gone is not None
    assert gone.alert is None
    assert life.row.empty


def test_only_so_many_resolved_alerts_and_command_ids_are_kept():
    life = Life()
    gone = []
    for number in range(RESOLVED_MAX + 3):
        life.event(an_event("entered", 2 * number, subject=f"f{number}"), number)
        gone += [
            change.gone
            for change in life.row.event(
                an_event("exited", 2 * number + 1, subject=f"f{number}"), NOON + number * SECOND
            )
            if change.gone
        ]
    assert len(life.alerts) == RESOLVED_MAX
    assert len(gone) == 3
    for number in range(COMMANDS_MAX + 5):
        life.command(a_command("comment", life.alerts[0].id, f"c{number}"), number)
    size = len(life.row.to_bytes() or b"")
    for number in range(COMMANDS_MAX):
        life.command(a_command("comment", life.alerts[0].id, f"d{number}"), number)
    assert len(life.row.to_bytes() or b"") == pytest.approx(size, abs=16)


def test_a_row_that_is_not_one_is_refused():
    with pytest.raises(BadInput, match="not a row of alerts"):
        DeviceAlerts.from_bytes(b"\x93\x01\x02\x03", InForce())


def test_every_state_of_the_table_answers_to_an_end():
    """What a policy may do must not depend on what people did: no state may leave a condition without its end."""
    for row in STEPS.values():
        assert {"end", "clear", "late"} <= row.keys()
