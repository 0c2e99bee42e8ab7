"""Alert policies: how events become alerts. On `registry.alert-policies`, key = policy id; a tombstone removes."""

from __future__ import annotations

from typing import Literal

import msgspec

from .avro import AvroCodec


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Which events open and end an alert. See ``schemas/Policy.avsc``.

    An event that is in `opens` opens one when it carries every attribute in `when`. An event in `ends` ends it whatever
    its attributes: a fence that is edited meanwhile must not leave an alert behind that nothing can end.
    """

    id: str
    version: int = 1
    operator: str
    opens: list[str]
    ends: list[str] = []
    when: dict[str, str] = {}
    severity: Literal["", "notice", "warning", "critical"] = ""
    auto_resolve: bool = True
    hold_off_s: float = 300.0


POLICY = AvroCodec("Policy", Policy)

# What is in force until somebody writes a policy.
BUILT_IN: tuple[Policy, ...] = (
    Policy(id="fence-entered", operator="geofence", opens=["entered"], ends=["exited"], when={"alert_on": "enter"}),
    Policy(id="fence-left", operator="geofence", opens=["exited"], ends=["entered"], when={"alert_on": "exit"}),
    Policy(id="limit", operator="limit", opens=["above", "below"], ends=["within"]),
    Policy(id="deviation", operator="deviation", opens=["anomalous"], ends=["settled"]),
)
