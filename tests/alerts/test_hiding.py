"""What keeps an alert from paging anybody: silences, an earlier alert of its device, its own flapping."""

from __future__ import annotations

from typing import Any

import pytest
from tidegate_cloud.alerts.device import DeviceAlerts
from tidegate_cloud.alerts.policies import InForce
from tidegate_cloud.engine import Record
from tidegate_protocols.alerts import Alert, Transition
from tidegate_protocols.policies import BUILT_IN, POLICY, SILENCE, Matcher, Policy, Silence
from tidegate_protocols.registry import DEVICE, Device
from tidegate_protocols.topics import DEVICES, POLICIES, SILENCES

from tests.support.alerts import NOON, SECOND, a_command, an_event

YARD = Silence(
    id="works", matchers=[Matcher(name="subject", value="yard")], starts_us=NOON, ends_us=NOON + 100 * SECOND,
    who="Ines", why="road works",
)  # fmt: skip


class Watched:
    """One device's alerts, with what is in force."""

    def __init__(self, *silences: Silence, policies: tuple[Policy, ...] = BUILT_IN) -> None:
        self.in_force = InForce(policies)
        for silence in silences:
            self.silence(silence.id, silence)
        self.row = DeviceAlerts(self.in_force)

    def silence(self, name: str, silence: Silence | None) -> None:
        value = None if silence is None else SILENCE.encode(silence)
        self.in_force.put(Record(SILENCES.name, 0, 0, NOON, name.encode(), value))

    def event(self, kind: str, number: int, at_s: float, **more: Any) -> list[Transition]:
        more.setdefault("learnt_us", NOON + int(at_s * SECOND))
        return _lines(self.row.event(an_event(kind, number, at_s=at_s, **more), NOON + int(at_s * SECOND)))

    def tick(self, at_s: float) -> list[Transition]:
        return _lines(self.row.tick(NOON + int(at_s * SECOND)))

    def review(self, at_s: float) -> list[Transition]:
        return _lines(self.row.review(NOON + int(at_s * SECOND)))

    @property
    def alerts(self) -> list[Alert]:
        return list(self.row)


def _lines(changes: Any) -> list[Transition]:
    return [change.transition for change in changes if change.transition is not None]


def _said(lines: list[Transition]) -> list[tuple[str, float, str]]:
    return [(line.action, (line.ts_us - NOON) / SECOND, line.why) for line in lines]


def test_an_alert_that_opens_under_a_silence_says_so_and_comes_out_when_that_ends():
    watched = Watched(YARD)
    (opened,) = watched.event("entered", 1, 10)
    assert (opened.action, opened.why, watched.alerts[0].muted) == ("opened", "silence:works", "silence:works")
    assert watched.row.due_us == NOON + 100 * SECOND
    assert watched.tick(99) == []
    assert _said(watched.tick(130)) == [("unmuted", 100, "silence:works")]
    assert watched.alerts[0].muted == ""


def test_a_silence_that_begins_while_an_alert_is_open_hides_it_from_then_on():
    later = Silence(id="s", matchers=YARD.matchers, starts_us=NOON + 50 * SECOND, ends_us=NOON + 60 * SECOND)
    watched = Watched(later)
    watched.event("entered", 1, 10)
    lines = watched.event("above", 2, 70, subject="temp")
    assert _said(lines) == [("muted", 50, "silence:s"), ("unmuted", 60, "silence:s"), ("opened", 70, "")]


def test_a_silence_is_for_what_matches_only():
    watched = Watched(YARD)
    watched.event("entered", 1, 10, subject="quay")
    assert watched.alerts[0].muted == ""


def test_edits_of_silences_reach_alerts_that_are_open():
    watched = Watched()
    watched.event("entered", 1, 10)
    watched.silence("works", YARD)
    assert _said(watched.review(20)) == [("muted", 20, "silence:works")]
    assert watched.alerts[0].muted == "silence:works"
    watched.silence("works", None)
    assert _said(watched.review(30)) == [("unmuted", 30, "silence:works")]
    assert watched.review(40) == []


def test_a_silence_that_cannot_be_read_leaves_the_one_before_in_force():
    watched = Watched(YARD)
    broken = Silence(id="works", matchers=[Matcher(name="colour", value="red")], starts_us=0, ends_us=1)
    watched.silence("works", broken)
    watched.event("entered", 1, 10)
    assert watched.alerts[0].muted == "silence:works"


def test_a_resolved_alert_is_not_muted_and_no_silence_wakes_it():
    watched = Watched(YARD)
    watched.event("entered", 1, 10)
    watched.event("exited", 2, 20)
    assert (watched.alerts[0].state, watched.alerts[0].muted) == ("resolved", "")
    assert watched.tick(200) == []


def test_what_follows_from_silence_is_hidden_until_the_device_is_heard():
    watched = Watched()
    watched.event("above", 1, 5, subject="temp")  # before: it does not follow from the silence
    watched.event("silent", 2, 10, subject="", attrs={"interval_s": "2"})
    watched.event("anomalous", 3, 11, subject="gap")
    before, silent, gap = watched.alerts
    assert (before.muted, silent.muted, gap.muted) == ("", "", f"inhibited:{silent.id}")
    lines = watched.event("heard", 4, 20, subject="")
    assert [(line.alert, line.action) for line in lines] == [(silent.id, "resolved"), (gap.id, "unmuted")]


def test_a_person_who_resolves_what_hides_others_brings_them_out():
    watched = Watched()
    watched.event("silent", 1, 10, subject="")
    watched.event("anomalous", 2, 11, subject="gap")
    resolve = a_command("resolve", watched.alerts[0].id, "c1")
    lines = _lines(watched.row.command(resolve, NOON + 12 * SECOND))
    assert [line.action for line in lines] == ["resolved", "unmuted"]


def test_policies_that_hide_each_other_hide_only_the_later_one():
    both = (
        Policy(id="limit", operator="limit", opens=["above"], ends=["within"], inhibits=["anomaly"]),
        Policy(id="anomaly", operator="anomaly", opens=["anomalous"], ends=["settled"], inhibits=["limit"]),
    )
    watched = Watched(policies=both)
    watched.event("anomalous", 1, 1, subject="temp")
    watched.event("above", 2, 1, subject="temp")
    assert [alert.muted != "" for alert in watched.alerts] == [False, True]


def flapping() -> Watched:
    watched = Watched()
    for number in range(6):
        watched.event("entered", 2 * number, 20 * number)
        if number < 5:
            watched.event("exited", 2 * number + 1, 20 * number + 10)
    return watched


def test_a_condition_that_comes_and_goes_stays_one_open_alert_until_it_settles():
    watched = flapping()
    (alert,) = watched.alerts
    assert (alert.state, alert.flapping, alert.muted) == ("open", True, "flapping")
    (line,) = watched.event("exited", 20, 110)
    assert (line.action, watched.alerts[0].state) == ("ended", "open")
    assert watched.tick(699) == []
    assert _said(watched.tick(2000)) == [("resolved", 700, "it has settled")]
    assert not watched.alerts[0].flapping


def test_one_that_settles_while_the_condition_lasts_pages_again():
    watched = flapping()
    assert _said(watched.tick(701)) == [("settled", 700, ""), ("unmuted", 700, "flapping")]
    assert (watched.alerts[0].state, watched.alerts[0].flapping, watched.alerts[0].muted) == ("open", False, "")


def test_slow_returns_do_not_flap():
    watched = Watched()
    for number in range(12):
        watched.event("entered", 2 * number, 130 * number)
        watched.event("exited", 2 * number + 1, 130 * number + 10)
    assert not any(alert.flapping for alert in watched.alerts)


def test_without_a_hold_off_flapping_is_seen_over_several_alerts():
    hasty = Policy(id="limit", operator="limit", opens=["above"], ends=["within"], hold_off_s=0.0, flap_count=3)
    watched = Watched(policies=(hasty,))
    for number in range(3):
        watched.event("above", 2 * number, 20 * number + 1)
        watched.event("within", 2 * number + 1, 20 * number + 10)
    assert len(watched.alerts) == 3
    assert (watched.alerts[-1].state, watched.alerts[-1].muted) == ("open", "flapping")


def test_restarts_change_nothing_of_what_is_due():
    later = Silence(id="s", matchers=YARD.matchers, starts_us=NOON + 50 * SECOND, ends_us=NOON + 60 * SECOND)
    watched = Watched(later)
    watched.event("entered", 1, 10)
    again = DeviceAlerts.from_bytes(watched.row.to_bytes() or b"", watched.in_force)
    assert _said(_lines(again.tick(NOON + 55 * SECOND))) == _said(watched.tick(55))
    third = DeviceAlerts.from_bytes(again.to_bytes() or b"", watched.in_force)
    assert third.due_us == NOON + 60 * SECOND
    assert _lines(third.review(NOON + 56 * SECOND)) == []


def test_an_alert_whose_policy_was_removed_ends_with_its_condition():
    own = Policy(id="mine", operator="limit", opens=["above"], ends=["within"])
    watched = Watched(policies=())
    watched.in_force.put(Record(POLICIES.name, 0, 0, NOON, b"mine", POLICY.encode(own)))
    watched.event("above", 1, 1, subject="temp")
    watched.in_force.put(Record(POLICIES.name, 0, 1, NOON, b"mine", None))
    assert watched.review(2) == []
    assert watched.event("above", 2, 3, subject="temp") == []
    (line,) = watched.event("within", 3, 4, subject="temp")
    assert (line.action, line.to_state) == ("resolved", "resolved")


def test_a_policy_for_some_groups_opens_nothing_elsewhere():
    own = Policy(id="mine", operator="limit", opens=["above"], ends=["within"], groups=["cold chain"])
    watched = Watched(policies=(own,))
    assert watched.event("above", 1, 1) == []
    device = Device(id="van-1", group="cold chain")
    watched.in_force.put(Record(DEVICES.name, 0, 0, NOON, b"van-1", DEVICE.encode(device)))
    watched.event("above", 2, 2)
    assert [alert.device_group for alert in watched.alerts] == ["cold chain"]


@pytest.mark.parametrize("field", [{"enabled": False}, {"opens": []}])
def test_a_built_in_policy_can_be_switched_off(field: dict[str, Any]):
    off = {"id": "limit", "operator": "limit", "opens": ["above"]} | field
    watched = Watched()
    watched.in_force.put(Record(POLICIES.name, 0, 0, NOON, b"limit", POLICY.encode(Policy(**off))))
    assert watched.event("above", 1, 1) == []
