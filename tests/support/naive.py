"""Naive twins: what operators should find, in the plainest Python. Slow, and right by reading."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tidegate_protocols.registry import Rule

# (device, scan number within the device, kind, subject)
Fact = tuple[str, int, str, str]


@dataclass
class EnterExit:
    """Point by point: which fences hold a device, by any test of a point.

    `holds(lon, lat)` gives the ids of the fences that hold a point.
    """

    holds: Callable[[float, float], Iterable[str]]
    inside: dict[str, set[str]] = field(default_factory=dict)

    def fix(self, device: str, lon: float, lat: float) -> tuple[list[str], list[str]]:
        """Fences entered and left with this fix, in order of their ids. NaN is no fix."""
        if math.isnan(lon) or math.isnan(lat) or abs(lon) > 180 or abs(lat) > 90:
            return [], []
        before = self.inside.get(device, set())
        now = set(self.holds(lon, lat))
        self.inside[device] = now
        return sorted(now - before), sorted(before - now)


def limit_events(values: Sequence[float], rule: Rule) -> list[tuple[int, str]]:
    """(index, kind) for one channel of one device under one rule; NaN is no value."""
    events: list[tuple[int, str]] = []
    side = "within"
    for i, v in enumerate(values):
        if math.isnan(v):
            continue
        if side == "above" and rule.high is not None and v <= rule.high - rule.hysteresis:
            side = "within"
            events.append((i, side))
        if side == "below" and rule.low is not None and v >= rule.low + rule.hysteresis:
            side = "within"
            events.append((i, side))
        if side == "within" and rule.high is not None and v > rule.high:
            side = "above"
            events.append((i, side))
        if side == "within" and rule.low is not None and v < rule.low:
            side = "below"
            events.append((i, side))
    return events


def vincenty_m(lon1: float, lat1: float, lon2: float, lat2: float) -> float:
    """Geodesic distance on WGS 84 in metres (Vincenty, 1975, inverse formula). Not for nearly antipodal points."""
    a, f = 6378137.0, 1 / 298.257223563
    b = a * (1 - f)
    u1 = math.atan((1 - f) * math.tan(math.radians(lat1)))
    u2 = math.atan((1 - f) * math.tan(math.radians(lat2)))
    big = lam = math.radians(lon2 - lon1)
    for _ in range(200):
        s = math.hypot(
            math.cos(u2) * math.sin(lam),
            math.cos(u1) * math.sin(u2) - math.sin(u1) * math.cos(u2) * math.cos(lam),
        )
        if s == 0:
            return 0.0
        c = math.sin(u1) * math.sin(u2) + math.cos(u1) * math.cos(u2) * math.cos(lam)
        sigma = math.atan2(s, c)
        sin_alpha = math.cos(u1) * math.cos(u2) * math.sin(lam) / s
        cos2_alpha = 1 - sin_alpha**2
        cos_2m = c - 2 * math.sin(u1) * math.sin(u2) / cos2_alpha if cos2_alpha else 0.0
        k = f / 16 * cos2_alpha * (4 + f * (4 - 3 * cos2_alpha))
        before = lam
        lam = big + (1 - k) * f * sin_alpha * (sigma + k * s * (cos_2m + k * c * (2 * cos_2m**2 - 1)))
        if abs(lam - before) < 1e-13:
            break
    uu = cos2_alpha * (a * a - b * b) / (b * b)
    big_a = 1 + uu / 16384 * (4096 + uu * (-768 + uu * (320 - 175 * uu)))
    big_b = uu / 1024 * (256 + uu * (-128 + uu * (74 - 47 * uu)))
    ds = big_b * s * (
        cos_2m
        + big_b / 4 * (c * (2 * cos_2m**2 - 1) - big_b / 6 * cos_2m * (4 * s * s - 3) * (4 * cos_2m**2 - 3))
    )  # fmt: skip
    return b * big_a * (sigma - ds)
