"""What people keep about the fleet: devices, fences, limits, and what they said of alerts.

Compacted topics `registry.*`; a tombstone removes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from .alerts import Severity
from .avro import AvroCodec


class Fence(msgspec.Struct, frozen=True, kw_only=True):
    """An area. `geometry` is the text of a GeoJSON geometry; a Point needs `radius_m`. See ``schemas/Fence.avsc``."""

    id: str
    name: str
    version: int = 1
    geometry: str
    radius_m: float | None = None
    severity: Severity = "warning"
    alert_on: str = "none"
    groups: list[str] = []


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A limit on a channel, in the channel's unit. See ``schemas/Rule.avsc``."""

    id: str
    name: str
    version: int = 1
    channel: str
    low: float | None = None
    high: float | None = None
    hysteresis: float = 0.0
    severity: Severity = "warning"
    groups: list[str] = []


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
