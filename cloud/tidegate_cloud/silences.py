"""Silences: which alerts they hide, and when.

A recurring silence is active from `from_time` to `to_time` of its time zone, on its days, between `starts_us` and
`ends_us`. Local times become instants as RFC 5545, section 3.3.5, says: one that a change to summer time leaves out is
taken with the offset before the change, one that comes twice is the first of the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from fnmatch import translate
from zoneinfo import ZoneInfo

from tidegate_protocols.alerts import Alert
from tidegate_protocols.errors import BadInput
from tidegate_protocols.policies import Matcher, Silence

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FIELDS = ("device", "device_group", "rule", "kind", "event_kind", "subject", "severity", "lane")
_ATTRS = "attrs."
_PATTERN_MAX = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
# Instants beyond it are none: datetime ends with the year 9999.
_LAST_US = 253_370_764_800_000_000


@dataclass(frozen=True, slots=True)
class _Test:
    name: str
    negated: bool
    value: str
    pattern: re.Pattern[str] | None

    def holds(self, alert: Alert) -> bool:
        if self.name.startswith(_ATTRS):
            found = alert.attrs.get(self.name.removeprefix(_ATTRS), "")
        else:
            found = str(getattr(alert, self.name))
        same = found == self.value if self.pattern is None else self.pattern.match(found) is not None
        return same != self.negated


@dataclass(frozen=True, slots=True)
class Quiet:
    """A silence made ready for use. Raises BadInput when it cannot be applied."""

    silence: Silence
    _tests: tuple[_Test, ...] = field(init=False, repr=False)
    _times: tuple[time, time] | None = field(init=False, repr=False)
    _zone: ZoneInfo = field(init=False, repr=False)

    def __post_init__(self) -> None:
        where = f"silence {self.silence.id!r}"
        try:
            object.__setattr__(self, "_tests", tuple(_test(matcher) for matcher in self.silence.matchers))
            object.__setattr__(self, "_times", _times(self.silence))
            object.__setattr__(self, "_zone", _zone(self.silence.time_zone))
        except BadInput as error:
            raise error.at(where) from None

    def hides(self, alert: Alert) -> bool:
        """Whether it is for this alert, at whatever time."""
        return all(test.holds(alert) for test in self._tests)

    def active(self, at_us: int) -> bool:
        """Whether it is active at this time."""
        return any(begin <= at_us < end for begin, end in self._spans(at_us))

    def next_change(self, after_us: int) -> int | None:
        """When it next begins or ends, strictly after this time; None: never."""
        times = [edge for span in self._spans(after_us) for edge in span if edge > after_us]
        return min(times, default=None)

    def _spans(self, about_us: int) -> Iterator[tuple[int, int]]:
        """The spans that hold this time, and the next one at least."""
        starts, ends = self.silence.starts_us, self.silence.ends_us
        last = _LAST_US if ends is None else min(ends, _LAST_US)
        if self._times is None:
            yield starts, last
            return
        near = min(max(about_us, starts), last)
        today = (_EPOCH + near * _US).astimezone(self._zone).date()
        for offset in range(-2, 9):
            day = today + timedelta(days=offset)
            if self.silence.days and DAYS[day.weekday()] not in self.silence.days:
                continue
            begin_at, end_at = self._times
            begin = self._instant(day, begin_at)
            end = self._instant(day + timedelta(days=1) if end_at <= begin_at else day, end_at)
            begin, end = max(begin, starts), min(end, last)
            if begin < end:
                yield begin, end

    def _instant(self, day: date, at: time) -> int:
        local = datetime.combine(day, at, self._zone)
        return (local - _EPOCH) // _US


def check_silence(silence: Silence) -> None:
    """Raises BadInput for a silence that cannot be applied, or never will be."""
    if not silence.matchers:
        raise BadInput(
            "no matchers: it would hide every alert", where=f"silence {silence.id!r}",
            hint='to mean that, match device ~ "*"',
        )  # fmt: skip
    Quiet(silence)


def _test(matcher: Matcher) -> _Test:
    if matcher.name not in FIELDS and not matcher.name.startswith(_ATTRS):
        raise BadInput(f"nothing is called {matcher.name!r}", hint=f"{', '.join(FIELDS)} or attrs.NAME")
    pattern = None
    if matcher.op in ("~", "!~"):
        if len(matcher.value) > _PATTERN_MAX:
            raise BadInput(f"a pattern of {len(matcher.value)} characters; at most {_PATTERN_MAX} are allowed")
        # [ is no wildcard here: ids and names may hold it.
        pattern = re.compile(translate(matcher.value.replace("[", "[[]")))
    return _Test(matcher.name, matcher.op.startswith("!"), matcher.value, pattern)


def _times(silence: Silence) -> tuple[time, time] | None:
    if silence.ends_us is not None and silence.ends_us <= silence.starts_us:
        raise BadInput("it ends before it starts")
    if not 0 <= silence.starts_us <= _LAST_US:
        raise BadInput("starts_us is no time that a calendar knows")
    for day in silence.days:
        if day not in DAYS:
            raise BadInput(f"{day!r} is not a day", hint=", ".join(DAYS))
    if not silence.from_time and not silence.to_time:
        if silence.days:
            raise BadInput("days without from_time and to_time")
        if silence.ends_us is None:
            raise BadInput("it has no end", hint="set ends_us, or from_time and to_time for one that recurs")
        return None
    return _clock(silence.from_time, "from_time"), _clock(silence.to_time, "to_time")


def _clock(text: str, name: str) -> time:
    found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)", text)
    if found is None:
        raise BadInput(f"{name} is {text!r}", hint="HH:MM, from 00:00 to 23:59")
    return time(int(found[1]), int(found[2]))


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (KeyError, ValueError, OSError):  # not there; a path; a directory
        raise BadInput(f"{name!r} is not a time zone", hint="an IANA name such as Europe/Lisbon") from None
