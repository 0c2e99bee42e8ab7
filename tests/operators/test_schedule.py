"""Weekly windows and time zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_cloud.operators.schedule import DAY, WEEK, parse_schedule, zone_offsets
from tidegate_protocols.errors import BadInput

DAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("", []),
        ("24/7", [(0, WEEK)]),
        ("Mo 07:00-18:00", [(420, 1080)]),
        ("Mo,We 7:00-8:30", [(420, 510), (2 * DAY + 420, 2 * DAY + 510)]),
        ("Sa-Mo 00:00-24:00", [(0, DAY), (5 * DAY, WEEK)]),
        ("Su 22:00-06:00", [(0, 360), (6 * DAY + 1320, WEEK)]),
        ("Tu 08:00-12:00,13:00-15:00; Tu 11:00-13:30", [(DAY + 480, DAY + 900)]),
        ("Fr", [(4 * DAY, 5 * DAY)]),
    ],
)
def test_windows_are_minutes_of_the_week(text: str, windows: list[tuple[int, int]]) -> None:
    assert parse_schedule(text) == windows


@pytest.mark.parametrize(
    "text",
    ["Xx 07:00-18:00", "Mo 7-8", "Mo 10:00-10:00", "Mo 25:00-26:00", "Mo 10:60-11:00", ";", "closed", "Mo 10:00",
     "Mo- 10:00-11:00", "PH off", "Mo 10:00-11:00 " * 100],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="schedule"):
        parse_schedule(text)


@given(st.lists(st.tuples(st.sets(st.integers(0, 6), min_size=1), st.integers(0, 1439), st.integers(1, 1440))))
def test_every_minute_of_the_week_is_as_the_rules_say(rules: list[tuple[set[int], int, int]]) -> None:
    rules = [(days, begin, end) for days, begin, end in rules if begin != end]
    text = "; ".join(
        f"{','.join(DAYS[day] for day in days)} {begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"
        for days, begin, end in rules
    )
    expected = np.zeros(WEEK, bool)
    for days, begin, end in rules:
        for day in days:
            minutes = day * DAY + np.arange(begin, end if end > begin else end + DAY)
            expected[minutes % WEEK] = True
    found = np.zeros(WEEK, int)
    for begin, end in parse_schedule(text):
        found[begin:end] += 1
    assert (found == expected).all()


@pytest.mark.parametrize(
    "name", ["", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Casablanca"]
)
def test_offsets_are_those_of_the_zone_at_any_second(name: str) -> None:
    since, offsets = zone_offsets(name)
    zone = ZoneInfo(name or "UTC")
    rng = np.random.default_rng(0)
    near = [int(at / 1e6) + shift for at in since[1:] for shift in (-1, 0, 1)]
    for second in [*rng.integers(0, 4_000_000_000, 300).tolist(), *near]:
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
        offset = offsets[np.searchsorted(since, second * 1_000_000, "right") - 1]
        assert timedelta(microseconds=int(offset)) == at.astimezone(zone).utcoffset(), at


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc/passwd", "Europe", "\0", "x" * 500])
def test_a_zone_that_is_not_known_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="no time zone"):
        zone_offsets(name)
