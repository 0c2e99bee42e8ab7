"""When silences are active: once or again and again, by local clocks that change."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_cloud.silences import DAYS, Quiet, check_silence
from tidegate_protocols.alerts import Alert
from tidegate_protocols.errors import BadInput
from tidegate_protocols.policies import Matcher, Silence

ANY = [Matcher(name="device", op="~", value="*")]
ALERT = Alert(
    id="a", device="truck-7", rule="limit", subject="yard [2]", state="open", severity="critical", kind="limit",
    title="t", started_us=1, opened_us=1, changed_us=1, version=1, event="e", events=1, event_kind="above",
    attrs={"channel": "cargo_temp"}, device_group="cold chain",
)  # fmt: skip


def us(text: str, zone: str = "UTC", fold: int = 0) -> int:
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return int(local.astimezone(UTC).timestamp() * 1e6)


def nightly(zone: str, begin: str, end: str, **more: Any) -> Quiet:
    fields: dict[str, Any] = {
        "id": "s", "matchers": ANY, "starts_us": us("2024-01-01T00:00"), "from_time": begin, "to_time": end,
        "time_zone": zone,
    }  # fmt: skip
    return Quiet(Silence(**(fields | more)))


def test_once():
    quiet = Quiet(Silence(id="s", matchers=ANY, starts_us=10, ends_us=20))
    assert [quiet.active(at) for at in (9, 10, 19, 20)] == [False, True, True, False]
    assert [quiet.next_change(at) for at in (0, 10, 19, 20)] == [10, 20, 20, None]


def test_on_some_days_over_midnight():
    quiet = nightly("UTC", "22:00", "06:00", days=["fri"])
    assert quiet.active(us("2024-03-01T22:00"))  # a Friday
    assert quiet.active(us("2024-03-02T05:59"))
    assert not quiet.active(us("2024-03-02T06:00"))
    assert not quiet.active(us("2024-03-02T23:00"))
    assert not quiet.active(us("2024-03-01T05:00"))
    assert quiet.next_change(us("2024-03-02T06:00")) == us("2024-03-08T22:00")


def test_a_whole_day():
    quiet = nightly("UTC", "00:00", "00:00", days=["sun"])
    assert quiet.active(us("2024-03-03T00:00"))
    assert quiet.active(us("2024-03-03T23:59"))
    assert not quiet.active(us("2024-03-04T00:00"))


def test_it_keeps_to_the_local_clock_over_the_year():
    quiet = nightly("Europe/Berlin", "08:00", "09:00")
    assert quiet.active(us("2024-01-15T07:30"))
    assert not quiet.active(us("2024-01-15T08:30"))
    assert quiet.active(us("2024-07-15T06:30"))
    assert not quiet.active(us("2024-07-15T07:30"))


def test_an_hour_that_is_left_out_begins_when_clocks_go_on():
    """New York, 10 March 2024: after 01:59 comes 03:00. 02:30 counts by the offset before the change."""
    quiet = nightly("America/New_York", "02:30", "04:00")
    assert not quiet.active(us("2024-03-10T03:10", "America/New_York"))
    assert quiet.active(us("2024-03-10T03:30", "America/New_York"))
    assert not quiet.active(us("2024-03-10T04:00", "America/New_York"))
    assert quiet.next_change(us("2024-03-10T01:00", "America/New_York")) == us("2024-03-10T07:30")


def test_an_hour_that_comes_twice_is_the_first_of_the_two():
    """New York, 3 November 2024: 01:00 to 01:59 comes twice."""
    quiet = nightly("America/New_York", "01:00", "01:30")
    assert quiet.active(us("2024-11-03T01:10", "America/New_York", fold=0))
    assert not quiet.active(us("2024-11-03T01:10", "America/New_York", fold=1))


def test_a_recurring_one_ends_for_good():
    quiet = nightly("UTC", "08:00", "09:00", ends_us=us("2024-02-01T08:30"))
    assert quiet.active(us("2024-02-01T08:10"))
    assert quiet.next_change(us("2024-02-01T08:10")) == us("2024-02-01T08:30")
    assert not quiet.active(us("2024-02-01T08:40"))
    assert quiet.next_change(us("2024-02-01T08:30")) is None
    assert quiet.next_change(us("2034-02-01T08:30")) is None


def test_one_that_begins_later_is_found_from_afar():
    quiet = nightly("UTC", "08:00", "09:00", starts_us=us("2030-06-01T00:00"))
    assert quiet.next_change(0) == us("2030-06-01T08:00")


@given(
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia"]),
    begin=st.times(), end=st.times(), days=st.sets(st.sampled_from(DAYS)),
    at=st.datetimes(min_value=datetime(2011, 12, 1), max_value=datetime(2031, 1, 1)),
)  # fmt: skip
def test_between_two_changes_nothing_changes(zone: str, begin: Any, end: Any, days: set[str], at: datetime):
    quiet = nightly(zone, f"{begin:%H:%M}", f"{end:%H:%M}", days=sorted(days), starts_us=0)
    now = int(at.replace(tzinfo=UTC).timestamp()) * 1_000_000
    then = quiet.next_change(now)
    assert then is not None
    assert then - now <= 9 * 86_400_000_000
    assert quiet.active(then - 1) == quiet.active(now)
    assert quiet.active((now + then) // 2) == quiet.active(now)


@pytest.mark.parametrize(
    ("name", "op", "value", "hides"),
    [
        ("device", "=", "truck-7", True), ("device", "!=", "truck-7", False), ("device", "~", "truck-*", True),
        ("device", "!~", "van-?", True), ("device", "~", "truck", False), ("attrs.channel", "=", "cargo_temp", True),
        ("attrs.none", "=", "", True), ("device_group", "~", "cold*", True), ("subject", "~", "yard [2]", True),
        ("subject", "~", "yard ?2?", True), ("severity", "=", "warning", False), ("event_kind", "=", "above", True),
    ],
)  # fmt: skip
def test_matchers(name: str, op: Any, value: str, hides: bool):
    quiet = Quiet(Silence(id="s", matchers=[Matcher(name=name, op=op, value=value)], starts_us=0, ends_us=1))
    assert quiet.hides(ALERT) is hides


def test_all_matchers_must_hold():
    matchers = [Matcher(name="device", value="truck-7"), Matcher(name="severity", value="warning")]
    assert not Quiet(Silence(id="s", matchers=matchers, starts_us=0, ends_us=1)).hides(ALERT)


GOOD = Silence(id="s", matchers=ANY, starts_us=0, ends_us=1)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"matchers": []}, "would hide every alert"),
        ({"matchers": [Matcher(name="colour", value="red")]}, "nothing is called 'colour'"),
        ({"matchers": [Matcher(name="device", op="~", value="*" * 201)]}, "at most 200"),
        ({"ends_us": 0}, "ends before it starts"), ({"ends_us": None}, "has no end"),
        ({"days": ["mon"]}, "without from_time"), ({"starts_us": -1}, "no time that a calendar knows"),
        ({"days": ["monday"], "from_time": "08:00", "to_time": "09:00"}, "'monday' is not a day"),
        ({"from_time": "8:00", "to_time": "09:00"}, "from_time is '8:00'"),
        ({"from_time": "08:00"}, "to_time is ''"), ({"from_time": "08:00", "to_time": "24:00"}, "to_time is '24:00'"),
        ({"time_zone": "Mars/Olympus"}, "not a time zone"), ({"time_zone": "../etc"}, "not a time zone"),
        ({"starts_us": 2**62, "ends_us": None}, "no time that a calendar knows"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(change: dict[str, Any], complaint: str):
    check_silence(GOOD)
    with pytest.raises(BadInput, match=complaint) as caught:
        check_silence(msgspec.structs.replace(GOOD, **change))
    assert "silence 's'" in str(caught.value)


@given(at=st.integers(-(2**63), 2**63 - 1), ends=st.none() | st.integers(1, 2**63 - 1))
def test_no_time_is_too_odd(at: int, ends: int | None):
    quiet = nightly("Pacific/Apia", "22:00", "06:00", starts_us=0, ends_us=ends)
    quiet.active(at)
    after = quiet.next_change(at)
    assert after is None or after > at
