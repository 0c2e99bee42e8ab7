"""Weekly windows in a time zone: OpenStreetMap's `opening_hours`, as far as weekdays and times go.

    Mo-Fr 07:00-18:00; Sa 08:00-12:00,13:00-15:00       Fr-Mo 22:00-06:00 (until the next morning)       24/7

Rules are separated by semicolons. Unlike in OpenStreetMap, a later rule adds to the earlier ones and takes nothing
away. Without days a rule is for every day.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from tidegate_protocols.errors import BadInput

DAY = 1440
WEEK = 7 * DAY
_DAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
_SPAN = re.compile(r"(\d\d?):(\d\d)\s*-\s*(\d\d?):(\d\d)")
TEXT_MAX = 1000
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def parse_schedule(text: str) -> list[tuple[int, int]]:
    """The windows as [begin, end) in minutes since Monday 00:00, in order and apart; 0 to 10080.

    Raises BadInput that names the rule that cannot be read. "" gives no windows.
    """
    if len(text) > TEXT_MAX:
        raise BadInput(f"{len(text)} characters; at most {TEXT_MAX} are allowed", where="schedule")
    windows: list[tuple[int, int]] = []
    for rule in text.split(";"):
        if rule.strip():
            windows += _windows(rule.strip())
    if text.strip() and not windows:
        raise BadInput(f"{text!r} has no window", where="schedule")
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(windows):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _windows(rule: str) -> list[tuple[int, int]]:
    if rule == "24/7":
        return [(0, WEEK)]
    start = next((i for i, letter in enumerate(rule) if letter.isdigit()), len(rule))
    days = _days(rule[:start], rule) if rule[:start].strip() else list(range(7))
    out: list[tuple[int, int]] = []
    for span in rule[start:].split(",") if start < len(rule) else ["00:00-24:00"]:
        times = _SPAN.fullmatch(span.strip())
        if times is None:
            raise _unread(rule)
        hour, minute, to_hour, to_minute = map(int, times.groups())
        begin, end = 60 * hour + minute, 60 * to_hour + to_minute
        if minute > 59 or to_minute > 59 or begin >= DAY or end > DAY or begin == end:
            raise BadInput(f"{span.strip()!r} is no span of a day", where=f"schedule, {rule!r}")
        if end < begin:
            end += DAY
        for day in days:
            first, last = day * DAY + begin, day * DAY + end
            out.append((first, min(last, WEEK)))
            if last > WEEK:
                out.append((0, last - WEEK))
    return out


def _days(text: str, rule: str) -> list[int]:
    days: list[int] = []
    for part in text.split(","):
        names = [name.strip() for name in part.split("-")]
        if not all(name in _DAYS for name in names):
            raise _unread(rule)
        first, last = _DAYS.index(names[0]), _DAYS.index(names[-1])
        days += [(first + i) % 7 for i in range((last - first) % 7 + 1)]
    return days


def _unread(rule: str) -> BadInput:
    return BadInput(f"cannot read {rule!r}", where="schedule", hint="e.g. Mo-Fr 07:00-18:00; Sa 08:00-12:00")


@lru_cache(maxsize=1024)
def zone_offsets(name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of an IANA time zone ("" is UTC): since when (microseconds UTC, in order) which offset holds (microseconds).

    1970 to 2100; what holds at either end goes on. Raises BadInput for a zone that is not known.
    """
    if not name:
        return np.array([-(2**62)]), np.array([0])
    try:
        zone = ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise BadInput(f"{name!r} is no time zone", where="time_zone", hint="an IANA name: Europe/Berlin") from None

    def offset(at: datetime) -> timedelta:
        return at.astimezone(zone).utcoffset() or timedelta()

    since, offsets = [-(2**62)], [_us(offset(_FIRST))]
    # No zone changes twice within three weeks but for a few months of the past.
    step, at = timedelta(days=7), _FIRST
    while at < _LAST:
        if offset(at) != offset(at + step):
            low, high = at, at + step
            while high - low > timedelta(seconds=1):
                middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
                low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
            since.append(_us(high - _FIRST))
            offsets.append(_us(offset(high)))
        at += step
    return np.array(since, np.int64), np.array(offsets, np.int64)


def _us(delta: timedelta) -> int:
    return delta // timedelta(microseconds=1)
