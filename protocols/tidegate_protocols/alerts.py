"""Alerts and groups as they stand, their transitions, the commands by which people change them, and notifications.

`fleet.alerts`: key = alert id, in the partition of the device. `fleet.alert-log` and `fleet.commands`: key = device id,
or the key of the group that they are about. `fleet.alert-groups`: key = group id, in the partition of the group's key.
`fleet.notifications`: key = notification id, in the partition of the line that asked for it.
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
    lane: str = "authoritative"
    policy_version: int = 0
    event_kind: str = ""
    attrs: dict[str, str] = {}
    device_group: str = ""
    group: str = ""
    muted: str = ""
    flapping: bool = False


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts of one fault, as they stand together. See ``schemas/Group.avsc``."""

    id: str
    key: str
    rule: str
    shared: dict[str, str] = {}
    state: AlertState
    severity: Severity
    kind: str
    title: str
    count: int
    unresolved: int
    first: str
    alerts: list[str]
    started_us: int
    opened_us: int
    newest_us: int
    changed_us: int
    ended_us: int | None = None
    version: int
    who: str = ""
    why: str = ""
    snoozed_until_us: int | None = None
    level: int = 0
    told: list[str] = []


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    """One change of one alert or group. See ``schemas/Transition.avsc``."""

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
    rule: str = ""
    title: str = ""
    severity: str = ""
    started_us: int | None = None
    group: str = ""
    count: int = 0
    level: int = 0
    tell: list[str] = []


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
    group: str = ""

    @property
    def key(self) -> str:
        """The key of its record on `fleet.commands`."""
        return self.group or self.device


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one channel of one receiver, and what became of it. See ``schemas/Notification.avsc``."""

    id: str
    alert: str
    device: str = ""
    receiver: str
    channel: str
    state: Literal["sending", "sent", "retrying", "held", "failed", "overtaken", "too-old"]
    title: str
    asked_us: int
    ts_us: int
    attempts: int = 0
    next_us: int | None = None
    error: str = ""
    level: int = 0


ALERT = AvroCodec("Alert", Alert)
GROUP = AvroCodec("Group", Group)
TRANSITION = AvroCodec("Transition", Transition)
COMMAND = AvroCodec("Command", Command)
NOTIFICATION = AvroCodec("Notification", Notification)


def alert_id(device: str, rule: str, subject: str, opening_event: str) -> str:
    """The 32 hex digits that name an alert: the same key opened by the same event is the same alert."""
    return _name(device, rule, subject, opening_event)


def group_key(rule: str, shared: dict[str, str]) -> str:
    """The 32 hex digits that alerts of one fault carry: the policy, and the values that its `group_by` asks for."""
    return _name("group", rule, *(part for name in sorted(shared) for part in (name, shared[name])))


def group_id(key: str, first_alert: str) -> str:
    """The 32 hex digits that name a group: the same key with the same first alert is the same group."""
    return _name("group", key, first_alert)


def notification_id(transition: Transition, channel: str) -> str:
    """The 32 hex digits that name a message: one line of the alert log has one of them per channel."""
    return _name("notify", transition.alert, transition.action, transition.cause, transition.to_state, channel)


def _name(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
