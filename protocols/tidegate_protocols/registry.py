"""What people keep about the fleet: devices, fences, limits, and what they said of alerts.

Compacted topics `registry.*`; a tombstone removes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .alerts import Severity
from .avro import AvroCodec


class Fence(msgspec.Struct, frozen=True, kw_only=True):
    """An area, and what is to be told about it. See ``schemas/Fence.avsc``.

    geometry         text of a GeoJSON geometry: areas, a Point with `radius_m`, or lines with `distance_m`
    dwell_s          a stay of so many seconds is told
    speed_limit_mps  inside, metres per second
    schedule         weekly windows in `time_zone` (IANA name; UTC when empty): ``Mo-Fr 07:00-18:00; Sa 08:00-12:00``
    schedule_mode    presence: to be inside out of the windows is told; active: the fence is there in them alone
    """

    id: str
    name: str
    version: int = 1
    geometry: str
    radius_m: float | None = None
    severity: Severity = "warning"
    alert_on: str = "none"
    groups: list[str] = []
    distance_m: float | None = None
    enter_events: bool = True
    exit_events: bool = True
    dwell_s: float | None = None
    speed_limit_mps: float | None = None
    schedule: str = ""
    time_zone: str = ""
    schedule_mode: str = "presence"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A limit on a channel, in the channel's unit, or an `expression` over channels. See ``schemas/Rule.avsc``."""

    id: str
    name: str
    version: int = 1
    channel: str = ""
    low: float | None = None
    high: float | None = None
    hysteresis: float = 0.0
    severity: Severity = "warning"
    groups: list[str] = []
    expression: str = ""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A vehicle or machine that people named. Devices that nobody named are accepted and listed all the same."""

    id: str
    name: str = ""
    group: str = ""
    type: str = ""
    report_interval_s: float | None = None
    time_zone: str = ""


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """What a person said of an alert, under the alert's id. See ``schemas/Feedback.avsc``."""

    id: str
    device: str
    operator: str
    subject: str
    ts_us: int
    who: str
    value: float | None = None
    kind: Literal["false-alarm"] = "false-alarm"


FENCE = AvroCodec("Fence", Fence)
RULE = AvroCodec("Rule", Rule)
DEVICE = AvroCodec("Device", Device)
FEEDBACK = AvroCodec("Feedback", Feedback)
