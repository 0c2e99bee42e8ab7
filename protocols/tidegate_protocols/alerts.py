"""Alerts as they stand, their transitions, and the commands by which people change them.

`fleet.alerts`: key = alert id, in the partition of the device. `fleet.alert-log` and `fleet.commands`: key = device id.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from .avro import AvroCodec

AlertState = Literal["open", "acknowledged", "snoozed", "resolved"]
Severity = Literal["notice", "warning", "critical"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A condition that a person must know of, as it stands. See ``schemas/Alert.avsc``."""

    id: str
    device: str
    rule: str
    subject: str
    state: AlertState
    severity: Severity
    kind: str
    title: str
    started_us: int
    opened_us: int
    changed_us: int
    ended_us: int | None = None
    version: int
    event: str
    events: int
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    lat: float | None = None
    lon: float | None = None
    who: str = ""
    why: str = ""
    snoozed_until_us: int | None = None


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One change of one alert. See ``schemas/Transition.avsc``."""

    alert: str
    version: int
    device: str
    action: str
    from_state: str
    to_state: str
    ts_us: int
    who: str
    why: str
    cause: str


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asked for. See ``schemas/Command.avsc``."""

    id: str
    device: str
    alert: str
    action: str
    who: str
    why: str = ""
    until_us: int | None = None
    seen_version: int | None = None


ALERT = AvroCodec("Alert", Alert)
TRANSITION = AvroCodec("Transition", Transition)
COMMAND = AvroCodec("Command", Command)


def alert_id(device: str, rule: str, subject: str, opening_event: str) -> str:
    """The 32 hex digits that name an alert: the same key opened by the same event is the same alert."""
    text = "\0".join((device, rule, subject, opening_event))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
