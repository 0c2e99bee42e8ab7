"""The one sentence that says what happened: subject, what it did, by how much, against what.

Numbers carry their units as people write them; rules are not named. The text comes from fences and channels that
people and devices named, so it is clipped and freed of control characters; who shows it must still escape it.
"""

from __future__ import annotations

import math

from tidegate_protocols.alerts import Alert
from tidegate_protocols.events import Event

from tidegate_cloud.policy_checks import TITLE_FIELD

TITLE_MAX = 160
_NAME_MAX = 80
# SenML and UCUM symbols (RFC 8428, section 12.1) as people write them.
_UNITS = {
    "Cel": "°C", "[degF]": "°F", "%RH": "% RH", "%EL": "%", "/": "", "1": "", "deg": "°", "degrees": "°", "lat": "°",
    "lon": "°", "km/h": "km/h", "A": "A", "beat/min": "bpm", "1/min": "rpm", "m/s2": "m/s²", "m2": "m²", "m3": "m³",
    "Ohm": "Ω", "ohm": "Ω",
}  # fmt: skip


def title_of(event: Event, template: str = "") -> str:
    """The title of an alert that this event opened, or was the last to attach to. `template`: its policy's title."""
    sentence = _clean(_sentence(event), TITLE_MAX)
    if not template:
        return sentence
    fields = {
        "title": sentence, "device": event.device, "name": event.attrs.get("name") or event.subject,
        "channel": _spoken(event.attrs.get("channel") or event.subject), "subject": event.subject,
        "kind": _spoken(event.kind), "value": quantity(event.value, event.unit),
        "limit": quantity(event.limit, event.unit),
    }  # fmt: skip
    # Filled in one pass, so that what a device says is never taken for a field.
    return _clean(TITLE_FIELD.sub(lambda found: fields.get(found[1], found[0]), template), TITLE_MAX) or sentence


def group_title(first: Alert, count: int) -> str:
    """The title of `count` alerts of one fault, told from the one that came first."""
    devices = f"{count:,} devices"
    name = _clean(first.attrs.get("name") or first.subject, _NAME_MAX)
    channel = _spoken(first.attrs.get("channel") or first.subject)
    match first.event_kind:
        case "entered":
            text = f"{devices} entered {name}"
        case "exited" | "left-corridor":
            text = f"{devices} left {name}"
        case "dwelt":
            text = f"{devices} stay too long in {name}"
        case "speeding":
            text = f"{devices} too fast in {name}"
        case "out-of-schedule":
            text = f"{devices} in {name} outside its hours"
        case "above" | "below":
            text = f"{channel} {first.event_kind} its limit on {devices}"
        case "anomalous":
            text = f"{channel} is not as usual on {devices}"
        case "silent":
            text = f"{devices} went silent"
        case _:
            text = f"{_spoken(first.event_kind or first.kind)}: {name} on {devices}"
    return _clean(text, TITLE_MAX)


def _sentence(event: Event) -> str:
    name = _clean(event.attrs.get("name") or event.subject, _NAME_MAX)
    channel = _spoken(event.attrs.get("channel") or event.subject)
    value, limit = quantity(event.value, event.unit), quantity(event.limit, event.unit)
    match event.kind:
        case "entered":
            return f"Entered {name}"
        case "exited":
            return f"Left {name}"
        case "left-corridor":
            return f"Left the corridor {name}"
        case "dwelt":
            return f"In {name} for {_duration(event.value) or 'too long'}"
        case "speeding" | "sped":
            return f"{value} in {name}; limit is {limit}" if value and limit else f"Too fast in {name}"
        case "out-of-schedule":
            return f"In {name} outside its hours"
        case "above" | "below":
            return f"{channel} at {value}; limit is {limit}" if value and limit else f"{channel} {event.kind} its limit"
        case "anomalous":
            if words := event.attrs.get("words"):
                subject = channel or name
                return f"{subject} at {value}: {words}" if value else f"{subject}: {words}"
            usual = quantity(_number(event.attrs.get("usual", "")), event.unit)
            if value and usual:
                return f"{channel} at {value}; usual is {usual}"
            return f"{channel} at {value}; not usual" if value else f"{channel} is not as usual"
        case "holds":
            return f"{name}: {expression}" if (expression := event.attrs.get("expression")) else name
        case "silent":
            usual = _duration(_number(event.attrs.get("interval_s", "")))
            return f"Went silent; usually reports every {usual}" if usual else "Went silent"
        case "slow" | "stalled" | "stopped" if group := event.attrs.get("group"):
            does = {"slow": "falls behind on", "stalled": "stands still on", "stopped": "does not run: nobody reads"}
            waits = f"; {value} records wait" if value else ""
            return f"{_clean(group, _NAME_MAX)} {does[event.kind]} {event.attrs.get('topic', '')}{waits}"
        case _:
            return f"{_spoken(event.kind)}: {name}" + (f" ({value})" if value else "")


def _duration(seconds: float | None) -> str:
    """A span of time as people say it: 2 s, 15 min, 3 h, 2 days; empty when there is none."""
    if seconds is None or not math.isfinite(seconds) or seconds <= 0:
        return ""
    for size, unit in ((172_800, "days"), (7_200, "h"), (120, "min")):
        if seconds >= size:
            per = {"days": 86_400, "h": 3_600, "min": 60}[unit]
            return f"{seconds / per:.0f} {unit}"
    return quantity(seconds, "s")


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit, to three or four significant digits; empty when there is no number."""
    if value is None or not math.isfinite(value):
        return ""
    size = abs(value)
    if size >= 1e7 or 0 < size < 1e-3:
        text = f"{value:.3g}"
    else:
        digits = max(0, 3 - len(str(int(size)))) if size >= 1 else 3
        text = f"{value:,.{digits}f}"
        if "." in text:
            text = text.rstrip("0").rstrip(".")
    text = "0" if text == "-0" else text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text
    shown = _UNITS.get(unit, unit)
    if not shown:
        return text
    return f"{text}{shown}" if shown == "°" else f"{text} {_clean(shown, 16)}"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _spoken(name: str) -> str:
    """A channel's name as words: ``cargo_temp`` → ``Cargo temp``."""
    words = _clean(name.replace("_", " "), _NAME_MAX)
    return words[:1].upper() + words[1:]


def _clean(text: str, longest: int) -> str:
    """Text without control characters or runs of blanks, clipped."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= longest else text[: longest - 1] + "…"
