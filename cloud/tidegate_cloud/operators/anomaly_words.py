"""What an anomaly's event says in words: how far from what is usual, for which time, and for how long the first."""

from __future__ import annotations

import math

import numpy as np

from .kernels.anomaly_usual import DAYS
from .zones import transitions

SIGNALS = (
    "value", "time of day", "time of day, all days", "surprise", "one-sided", "step", "noise", "gap", "stuck", "drift",
    "spike", "pair", "shift", "rough", "range", "joint",
)  # fmt: skip
_UNITS = {"Cel": "°C", "[degF]": "°F", "deg": "°", "1/min": "rpm", "%RH": "% RH"}
_SENTENCES = {
    "gap": "no readings, which is unusual for this long",
    "stuck": "the same value for unusually long",
    "drift": "drifts away from what is usual",
    "noise": "more restless than usual", "rough": "more restless than usual", "surprise": "less steady than usual",
    "one-sided": "to one side of its mean for unusually long",
    "joint": "several channels are a little unusual at once",
}  # fmt: skip


def words(signal: str, value: float, low: float, high: float, days: int, unit: str, zone: str, ts_us: int) -> str:
    """A sentence such as "3.2 °C above the usual band for 02:00–02:30, highest in 9 days".

    low, high  what was usual; NaN = not known
    days       that the value is the highest (negative: lowest) of, 0 = of less than a day
    """
    shown = _UNITS.get(unit, unit)
    said = _SENTENCES.get(signal, "")
    if signal == "range":
        said = f"{_amount(value, shown)} is out of the range {_amount(low, '')} to {_amount(high, shown)}"
    elif not said:
        if value > high or value < low:
            side, by = ("above", value - high) if value > high else ("below", low - value)
            said = f"{_amount(by, shown)} {side} the usual band for {half_hour(ts_us, zone)}"
        else:
            said = "changed by more than is usual"
    if days and signal != "gap":
        many = f"at least {DAYS}" if abs(days) >= DAYS else str(abs(days))
        said += f", {'highest' if days > 0 else 'lowest'} in {many} day{'s' if abs(days) > 1 else ''}"
    return said


def half_hour(ts_us: int, zone: str) -> str:
    """The half hour of local time, such as "02:00–02:30"; UTC is said."""
    start, offset = transitions(zone)
    second = ts_us // 1_000_000
    local = second + int(offset[np.searchsorted(start, second, side="right") - 1])
    k = local // 1800 % 48
    text = "–".join(f"{at // 2 % 24:02}:{at % 2 * 30:02}" for at in (k, k + 1))
    return text if zone else f"{text} UTC"


def _amount(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "any"
    text = f"{value:.3g}" if abs(value) < 1e6 else f"{value:.7g}"
    return text if not unit else f"{text}{unit}" if unit == "°" else f"{text} {unit}"
