"""Titles say what happened, in the words and units that people use."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_cloud.alerts.titles import TITLE_MAX, group_title, quantity, title_of
from tidegate_cloud.policy_checks import check_template
from tidegate_protocols.alerts import Alert
from tidegate_protocols.errors import BadInput

from tests.support.alerts import an_event


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (9.1, "Cel", "9.1 °C"), (8.0, "Cel", "8 °C"), (-18.04, "Cel", "−18 °C"), (1400.4, "1/min", "1,400 rpm"),
        (0.25, "V", "0.25 V"), (101325.0, "Pa", "101,325 Pa"), (3.14159, "m/s", "3.14 m/s"), (45.0, "%RH", "45 % RH"),
        (0.0, "A", "0 A"), (12.0, "", "12"), (2e9, "B", "2e+09 B"), (90.5, "deg", "90.5°"), (99.96, "Cel", "100 °C"),
    ],
)  # fmt: skip
def test_quantities(value: float, unit: str, text: str):
    assert quantity(value, unit) == text


@pytest.mark.parametrize(
    ("kind", "fields", "title"),
    [
        ("entered", {}, "Entered Reefer Yard"),
        ("exited", {}, "Left Reefer Yard"),
        ("entered", {"attrs": {}}, "Entered yard"),
        ("above", {"value": 9.1, "limit": 8.0, "unit": "Cel", "attrs": {"channel": "cargo_temp"}},
         "Cargo temp at 9.1 °C; limit is 8 °C"),
        ("below", {"value": 1.9, "limit": 2.5, "unit": "bar", "attrs": {"channel": "tyre"}},
         "Tyre at 1.9 bar; limit is 2.5 bar"),
        ("above", {"subject": "r1", "attrs": {"channel": "speed"}}, "Speed above its limit"),
        ("anomalous", {"subject": "vibration", "value": 3.2, "unit": "mm/s"}, "Vibration at 3.2 mm/s; not usual"),
        (
            "anomalous",
            {"subject": "vibration", "value": 3.2, "unit": "mm/s", "attrs": {"usual": "1.04"}},
            "Vibration at 3.2 mm/s; usual is 1.04 mm/s",
        ),
        ("silent", {"subject": ""}, "Went silent"),
        ("silent", {"subject": "", "attrs": {"interval_s": "2"}}, "Went silent; usually reports every 2 s"),
        ("silent", {"subject": "", "attrs": {"interval_s": "900"}}, "Went silent; usually reports every 15 min"),
        ("stuck", {"subject": "link"}, "Stuck: link"),
        ("slow", {"value": 1200.0, "attrs": {"group": "tidegate-processor", "topic": "telemetry.frames"}},
         "tidegate-processor falls behind on telemetry.frames; 1,200 records wait"),
        ("stopped", {"value": 3.0, "attrs": {"group": "tidegate-notify", "topic": "fleet.alert-log"}},
         "tidegate-notify does not run: nobody reads fleet.alert-log; 3 records wait"),
    ],
)  # fmt: skip
def test_titles(kind: str, fields: dict[str, Any], title: str):
    assert title_of(an_event(kind, 1, **fields)) == title


@given(
    name=st.text(max_size=300), subject=st.text(max_size=300), unit=st.text(max_size=40),
    value=st.one_of(st.none(), st.floats()), kind=st.sampled_from(["entered", "above", "anomalous", "else"]),
)  # fmt: skip
def test_whatever_devices_and_people_write_a_title_is_one_short_line(
    name: str, subject: str, unit: str, value: float | None, kind: str
):
    event = an_event(
        kind, 1, subject=subject, value=value, limit=value, unit=unit, attrs={"name": name, "channel": name}
    )
    title = title_of(event)
    assert 0 < len(title) <= TITLE_MAX
    assert title.isprintable()


def test_a_policy_may_word_the_title():
    event = an_event("above", 1, value=9.1, limit=8.0, unit="Cel", attrs={"channel": "cargo_temp", "name": "Frozen"})
    assert title_of(event, "{device}: {channel} {value} (max {limit})") == "van-1: Cargo temp 9.1 °C (max 8 °C)"
    assert title_of(event, "{title}!") == "Cargo temp at 9.1 °C; limit is 8 °C!"
    assert title_of(event, "  ") == title_of(event)


def test_what_a_device_says_is_never_taken_for_a_field():
    event = an_event("entered", 1, attrs={"name": "{device} {0} {title.__class__}"})
    assert title_of(event, "At {name}") == "At {device} {0} {title.__class__}"


def test_a_title_that_names_nothing_known_is_refused():
    check_template("{device} {value} and { braces } {}".replace("{}", ""))
    with pytest.raises(BadInput, match=r"\{colour\}.*known are title, device"):
        check_template("{colour}")


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        ("entered", "214 devices entered Reefer Yard"), ("exited", "214 devices left Reefer Yard"),
        ("above", "Brake pressure above its limit on 214 devices"), ("silent", "214 devices went silent"),
        ("anomalous", "Brake pressure is not as usual on 214 devices"), ("stuck", "Stuck: Reefer Yard on 214 devices"),
    ],
)  # fmt: skip
def test_titles_of_groups(kind: str, title: str):
    first = Alert(
        id="a", device="d", rule="r", subject="s", state="open", severity="warning", kind="o", title="t", started_us=1,
        opened_us=1, changed_us=1, version=1, event="e", events=1, event_kind=kind,
        attrs={"name": "Reefer Yard", "channel": "brake_pressure"},
    )  # fmt: skip
    assert group_title(first, 214) == title
