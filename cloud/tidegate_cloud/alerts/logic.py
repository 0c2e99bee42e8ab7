"""The first stage, as a `Logic` for the engine's runner: events in, alerts and their log out; commands beside.

One row per device, key ``d/DEVICE``. Output of a step: one transition on `fleet.alert-log` (key: the device) and, where
the alert changed, its new state on `fleet.alerts` (key: the alert, in the partition of the device). What matters to
groups and to who is told goes on to the second stage (`group_logic`) on `engine.alert-members`, by the group's key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from tidegate_protocols.alerts import ALERT, COMMAND, TRANSITION, Command, Transition
from tidegate_protocols.avro import AvroCodec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.events import EVENT, Event
from tidegate_protocols.registry import FEEDBACK
from tidegate_protocols.topics import ALERT_CHECKPOINTS, ALERT_LOG, ALERT_MEMBERS, ALERTS, COMMANDS, EVENTS
from tidegate_protocols.topics import FEEDBACK as FEEDBACK_TOPIC

from tidegate_cloud.engine import MicroBatch, Output, Outputs, Record, RowKey
from tidegate_cloud.engine.deadletters import Reason, dead_letter

from .book import Book
from .device import Change, DeviceAlerts
from .policies import InForce

COUNTERS = {
    "events": "Events read from fleet.events",
    "transitions": "Transitions written to fleet.alert-log",
    "duplicates": "Events that were there before and changed nothing",
    "dead_letters": "Records that went to telemetry.dead-letters",
}
_OVER = ("", "resolved")
# What neither groups nor people who are told need to know.
_INNER = frozenset({"recorded", "commented", "confirmed", "corrected", "ended", "joined"})
T = TypeVar("T", Event, Command)


class AlertLogic:
    """See the module's docstring and `engine.logic.Logic`."""

    name = "alerts"
    state_version = 1
    log_topic = EVENTS.name
    side_topics: tuple[str, ...] = (COMMANDS.name,)
    broadcast_topics: tuple[str, ...] = InForce.TOPICS
    checkpoint_topic = ALERT_CHECKPOINTS.name
    tick_s: float | None = 1.0

    def __init__(self) -> None:
        self._in_force = InForce()
        self._devices = Book(self.checkpoint_topic, self._new, self._row)
        self._open: dict[int, int] = {}  # partition → how many of its alerts are not resolved
        self._reviewed: dict[int, int] = {}  # partition → edition of what is in force by which its alerts were reviewed

    def _new(self) -> DeviceAlerts:
        return DeviceAlerts(self._in_force)

    def _row(self, data: bytes) -> DeviceAlerts:
        return DeviceAlerts.from_bytes(data, self._in_force)

    def broadcast(self, records: Sequence[Record]) -> None:
        for record in records:
            self._in_force.put(record)

    def take(self, partition: int, rows: Mapping[bytes, bytes]) -> None:
        self.drop(partition)
        self._open[partition] = sum(
            alert.state != "resolved" for alerts in self._devices.take(partition, rows) for alert in alerts
        )

    def drop(self, partition: int) -> None:
        self._devices.drop(partition)
        self._open.pop(partition, None)
        self._reviewed.pop(partition, None)

    def process(self, batch: MicroBatch) -> Outputs:
        out = Outputs(counts={"events": 0, "transitions": 0})
        for record in batch.sides:
            self._command(record, out)
        for partition, now_us in batch.ticks.items():
            self._tick(partition, now_us, out)
        for record in batch.records:
            self._event(record, out)
        return out

    def rows(self, keys: Iterable[RowKey]) -> Iterable[tuple[RowKey, bytes | None]]:
        return self._devices.to_bytes(keys)

    def reads(self, topic: str, partition: int) -> bool:
        return True

    def open_alerts(self) -> int:
        """How many alerts of the partitions at hand are not resolved. Any thread may ask."""
        return sum(list(self._open.values()))

    def _event(self, record: Record, out: Outputs) -> None:
        event = _read(EVENT, record, out)
        if event is None:
            return
        out.counts["events"] += 1
        alerts = self._devices.row(record.partition, record.key or b"")
        if event in alerts:
            out.counts["duplicates"] = out.counts.get("duplicates", 0) + 1
            self._devices.settle(record.partition, record.key or b"")
        else:
            self._emit(record.partition, record.key or b"", alerts.event(event, record.append_us), out)

    def _command(self, record: Record, out: Outputs) -> None:
        command = _read(COMMAND, record, out)
        if command is None or command.group:
            return
        device = record.key or b""
        alerts = self._devices.row(record.partition, device)
        self._emit(record.partition, device, alerts.command(command, record.append_us), out)

    def _tick(self, partition: int, now_us: int, out: Outputs) -> None:
        for device, alerts in self._devices.due(partition, now_us):
            self._emit(partition, device, alerts.tick(now_us), out)
        if self._reviewed.get(partition) != self._in_force.edition:
            self._reviewed[partition] = self._in_force.edition
            for device, alerts in self._devices.items(partition):
                if alerts.unresolved:
                    self._emit(partition, device, alerts.review(now_us), out)

    def _emit(self, partition: int, device: bytes, changes: Iterable[Change], out: Outputs) -> None:
        changed = False
        for change in changes:
            changed = True
            if change.transition is not None:
                out.counts["transitions"] += 1
                self._open[partition] += _opens(change.transition)
                out.records.append(Output(ALERT_LOG.name, device, TRANSITION.encode(change.transition), partition))
            if change.alert is not None:
                value = ALERT.encode(change.alert)
                out.records.append(Output(ALERTS.name, change.alert.id.encode(), value, partition))
                if change.transition is None or change.transition.action not in _INNER:
                    out.records.append(Output(ALERT_MEMBERS.name, change.key.encode(), value))
            if change.gone is not None:
                out.records.append(Output(ALERTS.name, change.gone.encode(), None, partition))
            if change.feedback is not None:
                name = change.feedback.id.encode()
                out.records.append(Output(FEEDBACK_TOPIC.name, name, FEEDBACK.encode(change.feedback)))
            if change.unsaid is not None:
                out.records.append(Output(FEEDBACK_TOPIC.name, change.unsaid.encode(), None))
        row = self._devices.settle(partition, device)
        if changed:
            out.touched.add(row)


def _opens(transition: Transition) -> int:
    """By how much a transition changes the number of alerts that are not resolved."""
    return (transition.to_state not in _OVER) - (transition.from_state not in _OVER)


def _read(codec: AvroCodec[T], record: Record, out: Outputs) -> T | None:
    """What a record holds; None, and a dead letter, when it cannot be read or is about another device than its key."""
    reason: Reason = "unreadable"
    try:
        found = codec.decode(record.value or b"")
        reason = "wrong-key"
        key = found.key if isinstance(found, Command) else found.device
        if record.key != key.encode():
            raise BadInput(f"its key is {record.key!r} and it is about {key!r}")
    except BadInput as error:
        out.counts["dead_letters"] = out.counts.get("dead_letters", 0) + 1
        out.records.append(dead_letter(record, reason, error))
        return None
    return found
