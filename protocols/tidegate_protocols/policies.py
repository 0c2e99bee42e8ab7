"""Alert policies: how events become alerts, and silences: when matching alerts page nobody.

On `registry.alert-policies` and `registry.silences`, key = id; a tombstone removes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .avro import AvroCodec


class Level(msgspec.Struct, frozen=True, kw_only=True):
    """One step of an escalation: these receivers are told after so many seconds without an acknowledgement."""

    after_s: float = 0.0
    to: list[str]


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
    enabled: bool = True
    description: str = ""
    groups: list[str] = []
    title: str = ""
    tell: list[Level] = []
    tell_resolved: bool = True
    group_by: list[str] = []
    group_min: int = 5
    group_window_s: float = 60.0
    group_wait_s: float = 5.0
    inhibits: list[str] = []
    flap_count: int = 6
    flap_window_s: float = 600.0


class Matcher(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that an alert must (or must not) be, for a silence. `~` and `!~` know the wildcards * and ?."""

    name: str
    op: Literal["=", "!=", "~", "!~"] = "="
    value: str


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """A time during which matching alerts page nobody, once or again and again. See ``schemas/Silence.avsc``."""

    id: str
    version: int = 1
    matchers: list[Matcher]
    starts_us: int
    ends_us: int | None = None
    days: list[str] = []
    from_time: str = ""
    to_time: str = ""
    time_zone: str = ""
    who: str = ""
    why: str = ""


POLICY = AvroCodec("Policy", Policy)
SILENCE = AvroCodec("Silence", Silence)

# What is in force until somebody writes a policy.
_BY_SUBJECT = ["subject"]
BUILT_IN: tuple[Policy, ...] = (
    Policy(
        id="fence-entered", operator="geofence", opens=["entered"], ends=["exited", "left-corridor"],
        when={"alert_on": "enter"},
        group_by=_BY_SUBJECT,
    ),
    Policy(
        id="fence-left", operator="geofence", opens=["exited", "left-corridor"], ends=["entered"],
        when={"alert_on": "exit"}, group_by=_BY_SUBJECT,
    ),
    Policy(id="fence-dwelt", operator="geofence", opens=["dwelt"], ends=["moved-on"], group_by=_BY_SUBJECT),
    Policy(id="fence-speed", operator="geofence", opens=["speeding"], ends=["sped"], group_by=_BY_SUBJECT),
    Policy(
        id="fence-hours", operator="geofence", opens=["out-of-schedule"], ends=["in-schedule"], group_by=_BY_SUBJECT
    ),
    Policy(id="limit", operator="limit", opens=["above", "below"], ends=["within"], group_by=_BY_SUBJECT),
    Policy(id="rules", operator="rules", opens=["holds"], ends=["ceased"], group_by=_BY_SUBJECT),
    Policy(id="anomaly", operator="anomaly", opens=["anomalous"], ends=["settled"], group_by=_BY_SUBJECT),
    # What a silent device seems to do follows from its silence.
    Policy(
        id="silent", operator="presence", opens=["silent"], ends=["heard"], group_by=["device_group"], inhibits=["*"]
    ),
    # Of Tidegate itself: a consumer group falls behind, or does not move (`tidegate lag watch`).
    Policy(id="pipeline", operator="lag", opens=["slow", "stalled", "stopped"], ends=["keeps-up"]),
)  # fmt: skip
