"""The one sentence that says what happened: subject, what it did, by how much, against what.

Numbers carry their units as people write them; rules are not named. The text comes from fences and channels that
people and devices named, so it is clipped and freed of control characters; who shows it must still escape it.
"""

from __future__ import annotations

import math

from tidegate_protocols.events import Event

TITLE_MAX = 160
_NAME_MAX = 80
# SenML and UCUM symbols (RFC 8428, section 12.1) as people write them.
_UNITS = {
    "Cel": "°C", "[degF]": "°F", "%RH": "% RH", "%EL": "%", "/": "", "1": "", "deg": "°", "degrees": "°", "lat": "°",
    "lon": "°", "km/h": "km/h", "A": "A", "beat/min": "bpm", "1/min": "rpm", "m/s2": "m/s²", "m2": "m²", "m3": "m³",
    "Ohm": "Ω", "ohm": "Ω",
}  # fmt: skip


def title_of(event: Event) -> str:
    """The title of an alert that this event opened, or was the last to attach to."""
    return _clean(_sentence(event), TITLE_MAX)


def _sentence(event: Event) -> str:
    name = _clean(event.attrs.get("name") or event.subject, _NAME_MAX)
    channel = _spoken(event.attrs.get("channel") or event.subject)
    value, limit = quantity(event.value, event.unit), quantity(event.limit, event.unit)
    match event.kind:
        case "entered":
            return f"Entered {name}"
        case "exited":
            return f"Left {name}"
        case "above" | "below":
            return f"{channel} at {value}; limit is {limit}" if value and limit else f"{channel} {event.kind} its limit"
        case "anomalous":
            usual = quantity(_number(event.attrs.get("usual", "")), event.unit)
            if value and usual:
                return f"{channel} at {value}; usual is {usual}"
            return f"{channel} at {value}; not usual" if value else f"{channel} is not as usual"
        case _:
            return f"{_spoken(event.kind)}: {name}" + (f" ({value})" if value else "")


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
