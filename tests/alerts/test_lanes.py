"""Previews page, backlog does not, and the full record puts right what a preview told (ENGINE: the join)."""

from __future__ import annotations

from typing import Any

from tidegate_cloud.alerts.device import DeviceAlerts
from tidegate_cloud.alerts.policies import InForce
from tidegate_protocols.alerts import Alert, Transition

from tests.support.alerts import NOON, SECOND, a_command, an_event

FENCE = {"name": "Reefer Yard", "alert_on": "enter", "severity": "warning"}


class Outage:
    """A device whose preview is open; the number of an event is also when it was learnt, in seconds after noon."""

    def __init__(self) -> None:
        self.row = DeviceAlerts(InForce())

    def event(self, kind: str, number: int, lane: str = "authoritative", **more: Any) -> list[Transition]:
        event = an_event(kind, number, lane=lane, learnt_us=NOON + number * SECOND, **({"at_s": number} | more))
        changes = self.row.event(event, NOON + number * SECOND)
        return [change.transition for change in changes if change.transition is not None]

    def denied(self, kind: str, number: int, operator: str = "geofence") -> list[Transition]:
        attrs = {"correction": "denied", "denies": kind}
        return self.event("denied", number, operator=operator, attrs=attrs)

    @property
    def only(self) -> Alert:
        (alert,) = self.row
        return alert


def test_a_preview_opens_alerts_and_the_join_confirms_them():
    outage = Outage()
    (line,) = outage.event("entered", 100, "provisional")
    assert (line.action, outage.only.lane) == ("opened", "provisional")
    (line,) = outage.event("joined", 200, operator="engine", subject="ab12")
    assert (line.action, line.from_state, line.to_state) == ("confirmed", "open", "open")
    assert outage.only.lane == "authoritative"
    assert outage.event("joined", 201, operator="engine", subject="ab12") == []


def test_the_full_record_corrects_the_start():
    outage = Outage()
    outage.event("entered", 100, "provisional")
    (line,) = outage.event("entered", 200, attrs=FENCE | {"correction": "start"}, at_s=40)
    assert (line.action, line.started_us) == ("corrected", NOON + 40 * SECOND)
    assert (outage.only.started_us, outage.only.opened_us) == (NOON + 40 * SECOND, NOON + 100 * SECOND)
    assert (outage.only.lane, outage.only.events) == ("authoritative", 1)


def test_a_corrected_start_re_opens_nothing_that_a_person_resolved():
    outage = Outage()
    outage.event("entered", 100, "provisional")
    list(outage.row.command(a_command("resolve", outage.only.id, "c1"), NOON + 150 * SECOND))
    (line,) = outage.event("entered", 200, attrs=FENCE | {"correction": "start"}, at_s=40)
    assert (line.action, outage.only.state) == ("corrected", "resolved")


def test_a_condition_that_the_preview_missed_opens_with_its_true_start():
    outage = Outage()
    (line,) = outage.event("entered", 200, attrs=FENCE | {"correction": "missed"}, at_s=40)
    assert (line.action, line.to_state) == ("opened", "open")
    assert (outage.only.started_us, outage.only.opened_us) == (NOON + 40 * SECOND, NOON + 200 * SECOND)


def test_what_the_truth_denies_is_resolved_and_says_why():
    outage = Outage()
    outage.event("entered", 100, "provisional")
    (line,) = outage.denied("entered", 200)
    assert (line.action, line.to_state, line.why) == ("resolved", "resolved", "not borne out by the full record")
    assert outage.only.lane == "authoritative"


def test_a_denial_of_something_else_concerns_no_alert():
    outage = Outage()
    outage.event("above", 100, "provisional", subject="yard")
    assert outage.denied("below", 200, operator="limit") == []
    assert outage.denied("entered", 201) == []
    assert outage.only.state == "open"


def test_an_end_that_the_truth_denies_brings_the_alert_back():
    leaving = FENCE | {"alert_on": "exit"}
    outage = Outage()
    outage.event("exited", 50, attrs=leaving)
    outage.event("entered", 100, "provisional", attrs=leaving)
    assert outage.only.state == "resolved"
    (line,) = outage.denied("entered", 200)
    assert (line.action, line.to_state, line.why) == ("reopened", "open", "not borne out by the full record")
    assert outage.only.ended_us is None


def test_backlog_that_the_preview_has_overtaken_is_only_recorded():
    outage = Outage()
    outage.event("entered", 100, "provisional")
    lines = [outage.event("exited", 110, "historical", at_s=10), outage.event("entered", 120, "historical", at_s=20)]
    assert [line.action for found in lines for line in found] == ["recorded", "recorded"]
    assert (outage.only.state, outage.only.started_us, outage.only.ended_us) == ("open", NOON + 100 * SECOND, None)


def test_events_that_were_there_before_are_known_whatever_their_lane():
    outage = Outage()
    outage.event("entered", 100, "provisional")
    outage.event("exited", 110, "historical", at_s=10)
    for kind, number, lane in (("entered", 100, "provisional"), ("exited", 110, "historical"), ("entered", 60, "")):
        event = an_event(kind, number, lane=lane or "authoritative", learnt_us=NOON + number * SECOND)
        assert event in outage.row
    later = an_event("exited", 130, learnt_us=NOON + 130 * SECOND)
    assert later not in outage.row
    assert an_event("exited", 1, subject="quay", learnt_us=NOON) not in outage.row
    again = DeviceAlerts.from_bytes(outage.row.to_bytes() or b"", InForce())
    assert an_event("exited", 110, lane="historical", learnt_us=NOON + 110 * SECOND) in again
