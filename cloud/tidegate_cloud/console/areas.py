"""Fences and rules as the registry has them, ready to be shown."""

from __future__ import annotations

from typing import Any

import msgspec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.registry import FENCE, RULE, Fence

from .views import RuleView, encode


class Areas:
    """Fences as GeoJSON features (RFC 7946; a circle is a Point with `radius_m` among its properties), and rules."""

    def __init__(self) -> None:
        self._fences: dict[str, dict[str, Any]] = {}
        self._rules: dict[str, RuleView] = {}
        self._fences_changed = self._rules_changed = True

    def fence(self, key: str, value: bytes | None) -> None:
        """A record of registry.fences. Raises BadInput, and leaves what was there."""
        if value is None:
            self._fences.pop(key, None)
        else:
            self._fences[key] = _feature(FENCE.decode(value))
        self._fences_changed = True

    def rule(self, key: str, value: bytes | None) -> None:
        """A record of registry.rules. Raises BadInput, and leaves what was there."""
        if value is None:
            self._rules.pop(key, None)
        else:
            self._rules[key] = RuleView(**msgspec.structs.asdict(RULE.decode(value)))
        self._rules_changed = True

    def changes(self) -> tuple[bytes | None, list[RuleView] | None]:
        """All fences as a FeatureCollection if any changed since the last call, and likewise all rules."""
        fences = rules = None
        if self._fences_changed:
            features = [self._fences[name] for name in sorted(self._fences)]
            fences = encode({"type": "FeatureCollection", "features": features})
        if self._rules_changed:
            rules = [self._rules[name] for name in sorted(self._rules)]
        self._fences_changed = self._rules_changed = False
        return fences, rules


def _feature(fence: Fence) -> dict[str, Any]:
    try:
        geometry = msgspec.json.decode(fence.geometry)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadInput(f"its geometry is not JSON: {error}", where=f"fence {fence.id}") from None
    if not isinstance(geometry, dict) or not isinstance(geometry.get("type"), str):
        raise BadInput("its geometry is not GeoJSON", where=f"fence {fence.id}")
    properties = {
        "id": fence.id, "name": fence.name, "version": fence.version, "severity": fence.severity,
        "alert_on": fence.alert_on, "radius_m": fence.radius_m, "groups": fence.groups,
        "distance_m": fence.distance_m, "dwell_s": fence.dwell_s, "speed_limit_mps": fence.speed_limit_mps,
        "schedule": fence.schedule, "time_zone": fence.time_zone, "schedule_mode": fence.schedule_mode,
    }  # fmt: skip
    return {"type": "Feature", "id": fence.id, "geometry": geometry, "properties": properties}
