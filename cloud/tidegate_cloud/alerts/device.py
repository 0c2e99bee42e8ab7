"""The alerts of one device: the row of state that the engine keeps for it.

Limits: 50 resolved alerts and 64 ids of commands. When there are more, the oldest go: a resolved alert is then removed
from `fleet.alerts` (the log keeps its story), and a command repeated after 64 others is taken for a new one. Resolved
alerts go after 30 days in any case.

Layout of a row: MessagePack, ``[[[alert, decided] …], [command id …]]``, alerts in the order in which they opened.

Invariant: of the alerts with one rule and subject only the one that opened last may be other than resolved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from tidegate_protocols.alerts import Alert, Command, Transition
from tidegate_protocols.errors import BadInput
from tidegate_protocols.events import Event
from tidegate_protocols.policies import Policy

from . import machine
from .machine import Held, Stepped

RESOLVED_MAX = 50
COMMANDS_MAX = 64
KEPT_US = 30 * 86_400_000_000


class Change(msgspec.Struct, frozen=True):
    """What one step leaves behind: a line for the log, and the alert's new state where it has one.

    `alert` None with `gone` set: the alert is to be removed from `fleet.alerts`.
    """

    transition: Transition | None = None
    alert: Alert | None = None
    gone: str | None = None


class _Row(msgspec.Struct, array_like=True):
    alerts: list[Held]
    commands: list[str]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Row).decode


class DeviceAlerts:
    """See the module's docstring. Every method that changes something yields what it left behind, in order."""

    def __init__(self) -> None:
        self._alerts: dict[str, Held] = {}  # by id, in the order in which they opened
        self._newest: dict[tuple[str, str], str] = {}  # (rule, subject) → id
        self._commands: list[str] = []

    @classmethod
    def from_bytes(cls, data: bytes) -> DeviceAlerts:
        """Read a row. Raises BadInput."""
        try:
            row = _decode(data)
        except (msgspec.MsgspecError, ValueError) as error:
            raise BadInput(f"not a row of alerts: {error}") from None
        self = cls()
        for held in row.alerts:
            self._put(held)
        self._commands = row.commands
        return self

    def to_bytes(self) -> bytes | None:
        """The row, or None when there is nothing to keep."""
        return None if self.empty else _encode(_Row(list(self._alerts.values()), self._commands))

    def __iter__(self) -> Iterator[Alert]:
        """The alerts, in the order in which they opened."""
        return (held.alert for held in self._alerts.values())

    @property
    def empty(self) -> bool:
        """Whether there is nothing to keep."""
        return not self._alerts and not self._commands

    @property
    def due_us(self) -> int | None:
        """When time alone will change something: a snooze is over, a resolved alert has been kept long enough."""
        times = [
            alert.changed_us + KEPT_US if alert.state == "resolved" else alert.snoozed_until_us
            for alert in self
            if alert.state in ("resolved", "snoozed")
        ]
        return min((time for time in times if time is not None), default=None)

    def event(self, event: Event, policies: Iterable[Policy], at_us: int) -> Iterator[Change]:
        """An event, by every policy that it concerns. `at_us`: when its record was appended.

        Events that carry a `reason` come from an edit by people, not from what the device did: they may end an alert
        and open none.
        """
        yield from self.tick(at_us, forget=False)  # a snooze that was over before this happened is over first
        for policy in policies:
            if policy.operator != event.operator:
                continue
            if event.kind in policy.opens and _carries(event, policy) and "reason" not in event.attrs:
                yield from self._begins(event, policy, at_us)
            elif event.kind in policy.ends:
                yield from self._ends(event, policy, at_us)

    def command(self, command: Command, at_us: int) -> Iterator[Change]:
        """A person's command. One that was here before changes nothing."""
        if command.id in self._commands:
            return
        self._commands = [*self._commands[1 - COMMANDS_MAX :], command.id]
        yield from self.tick(at_us, forget=False)
        held = self._alerts.get(command.alert)
        if held is None:
            yield Change(machine.refused(command, at_us, "there is no such alert any more"))
        elif command.action == "reopen" and self._newest[held.key] != held.alert.id:
            yield Change(machine.refused(command, at_us, "a newer alert has taken its place", held.alert))
        else:
            yield from self._after(machine.on_command(held, command, at_us))

    def tick(self, at_us: int, *, forget: bool = True) -> Iterator[Change]:
        """Time has passed: wake what was snoozed until then and, with `forget`, drop what was resolved long ago."""
        for held in list(self._alerts.values()):
            alert = held.alert
            if alert.state == "snoozed" and alert.snoozed_until_us is not None and alert.snoozed_until_us <= at_us:
                yield from self._after(machine.on_wake(held))
            elif forget and alert.state == "resolved" and alert.changed_us + KEPT_US <= at_us:
                yield self._forget(alert)

    def _begins(self, event: Event, policy: Policy, at_us: int) -> Iterator[Change]:
        held = self._of(policy, event)
        if event.lane == "historical":
            if held is None:
                yield Change(machine.recorded(event, policy, at_us).transition)
            else:
                yield from self._after(machine.on_event(held, event, policy, "late", at_us))
            return
        if held is not None and held.alert.event == event.id:
            return
        if held is not None and held.alert.state == "resolved" and not _within_hold_off(held.alert, event, policy):
            held = None
        if held is None:
            yield from self._after(machine.opened(event, policy, at_us))
        else:
            stimulus: machine.Stimulus = "again" if held.alert.state == "resolved" else "begin"
            yield from self._after(machine.on_event(held, event, policy, stimulus, at_us))

    def _ends(self, event: Event, policy: Policy, at_us: int) -> Iterator[Change]:
        held = self._of(policy, event)
        if held is not None:
            stimulus: machine.Stimulus = "clear" if policy.auto_resolve else "end"
            if event.lane == "historical":
                stimulus = "late"
            yield from self._after(machine.on_event(held, event, policy, stimulus, at_us))

    def _of(self, policy: Policy, event: Event) -> Held | None:
        name = self._newest.get((policy.id, event.subject))
        return None if name is None else self._alerts[name]

    def _after(self, stepped: Stepped | None) -> Iterator[Change]:
        if stepped is None:
            return
        if stepped.held is not None and stepped.changed:
            self._put(stepped.held)
            yield Change(stepped.transition, stepped.held.alert)
            if stepped.held.alert.state == "resolved":
                yield from self._crowd_out()
        else:
            yield Change(stepped.transition)

    def _put(self, held: Held) -> None:
        if held.alert.id not in self._alerts:
            self._newest[held.key] = held.alert.id
        self._alerts[held.alert.id] = held

    def _crowd_out(self) -> Iterator[Change]:
        resolved = [alert for alert in self if alert.state == "resolved"]
        for alert in sorted(resolved, key=lambda alert: alert.changed_us)[: max(0, len(resolved) - RESOLVED_MAX)]:
            yield self._forget(alert)

    def _forget(self, alert: Alert) -> Change:
        key = self._alerts.pop(alert.id).key
        if self._newest[key] == alert.id:
            del self._newest[key]
            for name, held in self._alerts.items():
                if held.key == key:
                    self._newest[key] = name
        return Change(gone=alert.id)


def _carries(event: Event, policy: Policy) -> bool:
    return all(event.attrs.get(name) == value for name, value in policy.when.items())


def _within_hold_off(alert: Alert, event: Event, policy: Policy) -> bool:
    """Whether the condition is back soon enough to be the same one: by the devices' time where it had an end."""
    since = alert.changed_us if alert.ended_us is None else alert.ended_us
    return event.ts_us - since <= policy.hold_off_s * 1e6
