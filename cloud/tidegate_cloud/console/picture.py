"""What one console shows: alerts, devices and fences as they stand, each already as JSON, and the recent changes.

The event loop owns it. `Delta`s from the reading thread change it; the hub and the API read it.

Two kinds of content:

- **alerts**: every change is kept in order, up to `CHANGES_MAX`, with its place in Kafka. A client that stands at
  certain offsets is owed all changes at or past them; where some of them are no longer kept, it must reload. What was
  read at the start counts as changes, so that tokens given by a console that is no more, or by another one, are good.
- **conflated**: devices, fences and rules are only ever sent as they stand now. `seq` counts their changes, from 1.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from tidegate_protocols.alerts import Alert, Transition
from tidegate_protocols.topics import DEVICE_PARTITIONS

from . import tokens
from .listing import Listing
from .positions import Places, Positions
from .tokens import Token
from .views import RuleView, encode

CHANGES_MAX = 20_000
TRANSITIONS_MAX = 50_000
_EMPTY_FENCES = b'{"type":"FeatureCollection","features":[]}'
# Kafka forgets that a key was removed after a day (delete.retention.ms): a client from before might keep it for ever.
TOKEN_AGE_MAX_S = 12 * 3600


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """One record of fleet.alerts; `alert` is None for a tombstone."""

    partition: int
    offset: int
    id: str
    alert: Alert | None


@dataclass(slots=True)
class Delta:
    """What was read since the last one.

    `topic_id` set: everything before is void, and the topic has this id. `devices` are (id, JSON), the newest of each;
    `named` those that the registry named anew, `gone` those that are no longer known; `places` where those of `devices`
    are that were heard. `newest_us`: time of the newest reading among them.
    """

    topic_id: bytes | None = None
    alerts: list[AlertRecord] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)
    devices: list[tuple[str, bytes]] = field(default_factory=list)
    named: set[str] = field(default_factory=set)
    gone: list[str] = field(default_factory=list)
    places: Places | None = None
    fences: bytes | None = None
    groups: bytes | None = None
    rollouts: bytes | None = None
    rules: list[RuleView] | None = None
    newest_us: int = 0

    def __bool__(self) -> bool:
        return bool(
            self.topic_id
            or self.alerts
            or self.transitions
            or self.devices
            or self.gone
            or self.fences is not None
            or self.groups is not None
            or self.rollouts is not None
            or self.rules is not None
        )


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one alert, ready to send: its kind of event, and its data as JSON."""

    partition: int
    offset: int
    kind: str
    data: bytes


@dataclass(slots=True)
class _Device:
    json: bytes
    seq: int
    named: int  # the seq at which it became known, or was last named anew


class Lost(Exception):
    """A token cannot be resumed from; the text says why."""


class Picture:
    """See the module's docstring. `process` names this console in its tokens."""

    def __init__(self, process: bytes, changes_max: int = CHANGES_MAX) -> None:
        self.process = process
        self._changes_max = changes_max
        self.rules: list[RuleView] = []
        self.rollouts = b"[]"  # read apart from the rest
        self._begin(bytes(tokens.TOPIC_ID_SIZE))

    def _begin(self, topic_id: bytes) -> None:
        self.topic_id = topic_id
        self.offsets = [0] * DEVICE_PARTITIONS
        self.alerts = Listing()
        self.changes: deque[Change] = deque()
        self._floor = [0] * DEVICE_PARTITIONS  # the changes from here on are all kept
        self._transitions: deque[Transition] = deque()
        self._of_alert: dict[str, list[Transition]] = {}
        self._devices: OrderedDict[str, _Device] = OrderedDict()  # the last changed last
        self.fences = _EMPTY_FENCES
        self.groups = b"[]"
        self._fences_seq = self._groups_seq = self._rollouts_seq = self.seq = 1
        self.positions = Positions()
        self.gone_slots: list[int] = []

    def apply(self, delta: Delta) -> list[Change]:
        """Take in what was read; returns the changes of alerts, in order."""
        if delta.topic_id is not None:
            self._begin(delta.topic_id)
        fresh = [self._alert(record) for record in delta.alerts]
        for transition in delta.transitions:
            self._transition(transition)
        if delta.devices or any(part is not None for part in (delta.fences, delta.groups, delta.rollouts)):
            self.seq += 1
        for device, json in delta.devices:
            known = self._devices.get(device)
            named = self.seq if known is None or device in delta.named else known.named
            self._devices[device] = _Device(json, self.seq, named)
            self._devices.move_to_end(device)
        for device in delta.gone:
            self._devices.pop(device, None)
            slot = self.positions.remove(device)
            if slot is not None:
                self.gone_slots.append(slot)
        if delta.places is not None:
            self.positions.put(delta.places)
        if delta.fences is not None:
            self.fences, self._fences_seq = delta.fences, self.seq
        if delta.groups is not None:
            self.groups, self._groups_seq = delta.groups, self.seq
        if delta.rollouts is not None:
            self.rollouts, self._rollouts_seq = delta.rollouts, self.seq
        if delta.rules is not None:
            self.rules = delta.rules
        return fresh

    def token(self, now_s: int) -> str:
        """A token for a client that has just been given a snapshot."""
        return tokens.joined(tokens.head(self.topic_id, self.process, now_s, self.offsets), self.seq)

    def missed(self, token: Token, now_s: int) -> list[Change]:
        """The changes of alerts that a client with this token is owed, in order. Raises Lost."""
        if token.topic_id != self.topic_id or len(token.offsets) != len(self.offsets):
            raise Lost("the alerts were made anew")
        if now_s - token.at_s > TOKEN_AGE_MAX_S:
            raise Lost("it has been away for too long")
        if any(offset < floor for offset, floor in zip(token.offsets, self._floor, strict=True)):
            raise Lost("it missed more than is kept")
        return [change for change in self.changes if change.offset >= token.offsets[change.partition]]

    def seq_of(self, token: Token) -> int:
        """How much of the conflated content a client with this token has had."""
        return min(token.seq, self.seq) if token.process == self.process else 0

    def conflated(self, since: int, brief: bool = False) -> tuple[bytes, bytes]:
        """Devices that changed after `since` as a JSON array, and the fences if they did; empty where nothing did.

        `brief`: only devices that became known since, or were named anew.
        """
        changed = []
        for device in reversed(self._devices.values()):
            if device.seq <= since:
                break
            if not brief or device.named > since:
                changed.append(device.json)
        return (b"[" + b",".join(changed) + b"]" if changed else b""), (
            self.fences if self._fences_seq > since else b""
        )

    def groups_since(self, since: int) -> bytes:
        """The groups of alerts, if any changed after `since`; else empty."""
        return self.groups if self._groups_seq > since else b""

    def rollouts_since(self, since: int) -> bytes:
        """The rollouts, if any changed after `since`; else empty."""
        return self.rollouts if self._rollouts_seq > since else b""

    def devices(self) -> bytes:
        """All devices as a JSON array."""
        return b"[" + b",".join(device.json for device in self._devices.values()) + b"]"

    def device(self, name: str, since: int = -1) -> bytes | None:
        """One device as JSON, if it changed after `since`."""
        found = self._devices.get(name)
        return None if found is None or found.seq <= since else found.json

    @property
    def device_count(self) -> int:
        return len(self._devices)

    def transitions(self, alert: Alert) -> tuple[list[Transition], bool]:
        """What happened to an alert, oldest first, and whether that is all."""
        lines = self._of_alert.get(alert.id, [])
        versions = {line.version for line in lines if line.action != "refused"}
        return list(lines), versions.issuperset(range(1, alert.version + 1))

    def asked_before(self, alert: str, command: str) -> bool:
        """Whether the log already tells of this command."""
        return any(line.cause == command for line in self._of_alert.get(alert, ()))

    def _alert(self, record: AlertRecord) -> Change:
        self.offsets[record.partition] = record.offset + 1
        if record.alert is None:
            self.alerts.remove(record.id)
            change = Change(record.partition, record.offset, "alert-removed", encode({"id": record.id}))
        else:
            self.alerts.put(record.alert)
            change = Change(record.partition, record.offset, "alert", encode(record.alert))
        self.changes.append(change)
        if len(self.changes) > self._changes_max:
            oldest = self.changes.popleft()
            self._floor[oldest.partition] = oldest.offset + 1
        return change

    def _transition(self, transition: Transition) -> None:
        self._transitions.append(transition)
        self._of_alert.setdefault(transition.alert, []).append(transition)
        if len(self._transitions) > TRANSITIONS_MAX:
            oldest = self._transitions.popleft()
            lines = self._of_alert[oldest.alert]
            del lines[0]
            if not lines:
                del self._of_alert[oldest.alert]


def removal(device: str) -> bytes:
    """A device that is no longer known, as an event's data."""
    return encode({"id": device})


def refusal(transition: Transition) -> bytes:
    """A refused command as an event's data: whoever asked is told."""
    data = {
        "alert": transition.alert, "command": transition.cause, "who": transition.who, "why": transition.why,
        "state": transition.to_state, "ts_us": transition.ts_us,
    }  # fmt: skip
    return encode(data)
