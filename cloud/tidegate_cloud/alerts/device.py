"""The alerts of one device: the row of state that the engine keeps for it.

Limits: 50 resolved alerts and 64 ids of commands. When there are more, the oldest go: a resolved alert is then removed
from `fleet.alerts` (the log keeps its story), and a command repeated after 64 others is taken for a new one. Resolved
alerts go after 30 days in any case.

Layout of a row: MessagePack, ``[[held …], [command id …], [seen …], floor]``: alerts with what belongs to them
(`machine.Held`) in the order in which they opened; events that were there (`seen`).

Invariant: of the alerts with one rule and subject only the one that opened last may be other than resolved.

Time: what is due fires before anything that was appended later, in order, at the time at which it was due; so it makes
no difference when a tick comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec
from tidegate_protocols.alerts import Alert, Command, Transition
from tidegate_protocols.errors import BadInput
from tidegate_protocols.events import Event
from tidegate_protocols.policies import Policy
from tidegate_protocols.registry import Feedback

from . import machine
from .machine import Held, Stepped
from .policies import InForce
from .seen import Entry, Seen

RESOLVED_MAX = 50
COMMANDS_MAX = 64
KEPT_US = 30 * 86_400_000_000
_NO_POLICY = Policy(id="", operator="", opens=[])  # for alerts whose policy is no more
_Timer = Literal["wake", "settle", "silence", "forget", "expire"]


class Change(msgspec.Struct, frozen=True):
    """What one step leaves behind: a line for the log, and the alert's new state where it has one.

    key        where a group may gather it: the key that alerts of one fault share, else its own id
    gone       id of an alert that is to be removed from `fleet.alerts`
    feedback   what a person said of the alert
    unsaid     id of an alert of which that is taken back
    """

    transition: Transition | None = None
    alert: Alert | None = None
    key: str = ""
    gone: str | None = None
    feedback: Feedback | None = None
    unsaid: str | None = None


class _Row(msgspec.Struct, array_like=True):
    alerts: list[Held]
    commands: list[str]
    seen: list[Entry] = []
    floor_us: int = -1


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Row).decode


class DeviceAlerts:
    """See the module's docstring. Every method that changes something yields what it left behind, in order."""

    def __init__(self, in_force: InForce) -> None:
        self._in_force = in_force
        self._alerts: dict[str, Held] = {}  # by id, in the order in which they opened
        self._newest: dict[tuple[str, str], str] = {}  # (rule, subject) → id
        self._commands: list[str] = []
        self._seen = Seen([], -1)
        self._checked: dict[str, int] = {}  # alert → up to when silences have been looked at
        self._due: tuple[int, int | None] | None = None  # (edition, time) as last worked out

    @classmethod
    def from_bytes(cls, data: bytes, in_force: InForce) -> DeviceAlerts:
        """Read a row. Raises BadInput."""
        try:
            row = _decode(data)
        except (msgspec.MsgspecError, ValueError) as error:
            raise BadInput(f"not a row of alerts: {error}") from None
        self = cls(in_force)
        for held in row.alerts:
            self._put(held)
        self._commands = row.commands
        self._seen = Seen(row.seen, row.floor_us)
        return self

    def to_bytes(self) -> bytes | None:
        """The row, or None when there is nothing to keep."""
        if self.empty:
            return None
        return _encode(_Row(list(self._alerts.values()), self._commands, self._seen.entries(), self._seen.floor_us))

    def __iter__(self) -> Iterator[Alert]:
        """The alerts, in the order in which they opened."""
        return (held.alert for held in self._alerts.values())

    def __contains__(self, event: Event) -> bool:
        """Whether an event that concerned alerts is here for the second time."""
        return event in self._seen

    @property
    def empty(self) -> bool:
        """Whether there is nothing to keep."""
        return not self._alerts and not self._commands and not self._seen.entries()

    @property
    def unresolved(self) -> bool:
        """Whether any alert is not resolved."""
        return any(alert.state != "resolved" for alert in self)

    @property
    def due_us(self) -> int | None:
        """When time alone will change something."""
        if self._due is None or self._due[0] != self._in_force.edition:
            self._due = self._in_force.edition, min((due for due, _, _ in self._timers()), default=None)
        return self._due[1]

    def event(self, event: Event, at_us: int) -> Iterator[Change]:
        """An event, by every policy that it concerns. `at_us`: when its record was appended.

        Events that carry a `reason` come from an edit by people, not from what the device did: they may end an alert
        and open none.
        """
        yield from self.tick(at_us)
        if event.operator == "engine":
            if event.kind == "joined":
                for held in list(self._alerts.values()):
                    yield from self._after(machine.on_join(held, event, at_us))
            return
        concerned = False
        for policy in self._in_force.policies_of(event.operator):
            for change in self._by_policy(event, policy, at_us):
                concerned = True
                yield change
        for change in self._orphans(event, at_us):
            concerned = True
            yield change
        if concerned:
            self._seen.add(event)
            self._due = None
            yield from self._review(at_us)

    def command(self, command: Command, at_us: int) -> Iterator[Change]:
        """A person's command. One that was here before changes nothing."""
        if command.id in self._commands:
            return
        self._commands = [*self._commands[1 - COMMANDS_MAX :], command.id]
        yield from self.tick(at_us)
        held = self._alerts.get(command.alert)
        if command.action == "join" and command.who == machine.SYSTEM:
            if held is not None:
                yield from self._after(machine.on_group(held, command, at_us))
        elif held is None:
            yield Change(machine.refused(command, at_us, "there is no such alert any more"))
        elif command.action == "reopen" and self._newest[held.key] != held.alert.id:
            yield Change(machine.refused(command, at_us, "a newer alert has taken its place", held.alert))
        else:
            stepped = machine.on_command(held, command, at_us)
            yield from self._after(stepped)
            if stepped.transition.action == "false-alarm":
                yield Change(feedback=_feedback(held.alert, command, at_us))
            elif held.dismissed and stepped.transition.action == "reopened":
                yield Change(unsaid=held.alert.id)
            yield from self._review(at_us)

    def tick(self, at_us: int) -> Iterator[Change]:
        """Everything up to this time has been: whatever is due by then happens, each at its time."""
        while self.due_us is not None and self.due_us <= at_us:
            due_us, timer, name = min(self._timers(), key=lambda found: found[0])
            if timer == "expire":
                self._seen.expire(due_us - KEPT_US)
                self._due = None
                yield Change()
                continue
            held = self._alerts[name]
            if timer == "forget":
                self._seen.expire(held.alert.changed_us)
                yield self._forget(held.alert)
            elif timer == "wake":
                yield from self._after(machine.on_wake(held))
            elif timer == "settle":
                resolves = self._policy_of(held).auto_resolve
                yield from self._after(machine.on_settle(held, due_us, resolves=resolves))
                yield from self._review(due_us)
            else:
                self._checked[name] = due_us
                self._due = None
                yield from self._review(due_us)

    def review(self, at_us: int) -> Iterator[Change]:
        """People may have edited policies or silences: what hides alerts is worked out anew."""
        yield from self.tick(at_us)
        yield from self._review(at_us)

    def _by_policy(self, event: Event, policy: Policy, at_us: int) -> Iterator[Change]:
        if event.kind == "denied":
            yield from self._denied(event, policy, at_us)
        elif event.kind in policy.opens:
            if _carries(event, policy) and "reason" not in event.attrs and self._is_for(policy, event.device):
                yield from self._begins(event, policy, at_us)
        elif event.kind in policy.ends:
            yield from self._ends(event, policy, at_us)

    def _is_for(self, policy: Policy, device: str) -> bool:
        return not policy.groups or self._in_force.group_of(device) in policy.groups

    def _begins(self, event: Event, policy: Policy, at_us: int) -> Iterator[Change]:
        held = self._of(policy.id, event)
        if event.lane == "historical":
            if held is None:
                yield Change(machine.recorded(event, policy, at_us).transition)
            else:
                yield from self._after(machine.on_event(held, event, policy, "late", at_us))
            return
        if held is not None and event.attrs.get("correction") == "start" and held.alert.event_kind == event.kind:
            yield from self._after(machine.on_event(held, event, policy, "correct", at_us))
            return
        if held is None or (held.alert.state == "resolved" and not _within_hold_off(held.alert, event, policy)):
            before = () if held is None else held.begins
            group = self._in_force.group_of(event.device)
            yield from self._after(machine.opened(event, policy, at_us, device_group=group, before=before))
        else:
            stimulus: machine.Stimulus = "again" if held.alert.state == "resolved" else "begin"
            yield from self._after(machine.on_event(held, event, policy, stimulus, at_us))
        now = self._of(policy.id, event)
        if now is not None and _flaps(now, policy):
            yield from self._after(machine.on_flap(now, at_us))

    def _ends(self, event: Event, policy: Policy, at_us: int) -> Iterator[Change]:
        held = self._of(policy.id, event)
        if held is not None:
            stimulus: machine.Stimulus = "clear" if policy.auto_resolve and not held.alert.flapping else "end"
            if event.lane == "historical":
                stimulus = "late"
            yield from self._after(machine.on_event(held, event, policy, stimulus, at_us))

    def _denied(self, event: Event, policy: Policy, at_us: int) -> Iterator[Change]:
        held = self._of(policy.id, event)
        if held is None:
            return
        alert, denied = held.alert, event.attrs.get("denies", "")
        if denied in policy.opens and alert.event_kind in ("", denied):
            yield from self._after(machine.on_event(held, event, policy, "deny", at_us))
        elif denied in policy.ends and alert.state == "resolved" and alert.ended_us is not None and not alert.who:
            yield from self._after(machine.on_event(held, event, policy, "restore", at_us))

    def _orphans(self, event: Event, at_us: int) -> Iterator[Change]:
        """Alerts whose policy was removed or disabled end with any end of what they are about."""
        if event.phase != "end" or event.lane == "historical":
            return
        for held in list(self._alerts.values()):
            alert = held.alert
            if (
                (alert.kind, alert.subject) == (event.operator, event.subject)
                and alert.state != "resolved"
                and self._in_force.policy(alert.rule) is None
            ):
                yield from self._after(machine.on_event(held, event, _NO_POLICY, "clear", at_us))

    def _of(self, rule: str, event: Event) -> Held | None:
        name = self._newest.get((rule, event.subject))
        return None if name is None else self._alerts[name]

    def _policy_of(self, held: Held) -> Policy:
        return self._in_force.policy(held.alert.rule) or _NO_POLICY

    def _after(self, stepped: Stepped | None) -> Iterator[Change]:
        if stepped is None:
            return
        held, transition = stepped.held, stepped.transition
        if held is None or not stepped.changed:
            yield Change(transition)
            return
        if transition.action in ("opened", "reopened"):  # it is hidden from the beginning where it is to be
            muted = self._hidden_by(held, transition.ts_us)
            held = msgspec.structs.replace(held, alert=msgspec.structs.replace(held.alert, muted=muted))
            transition = msgspec.structs.replace(transition, why=transition.why or muted)
        self._put(held)
        yield Change(transition, held.alert, held.group_key or held.alert.id)
        if held.alert.state == "resolved":
            yield from self._crowd_out()

    def _put(self, held: Held) -> None:
        if held.alert.id not in self._alerts:
            self._newest[held.key] = held.alert.id
        self._alerts[held.alert.id] = held
        self._due = None

    def _review(self, at_us: int) -> Iterator[Change]:
        for held in list(self._alerts.values()):
            if held.alert.state != "resolved":
                yield from self._after(machine.on_mute(held, self._hidden_by(held, at_us), at_us))

    def _hidden_by(self, held: Held, at_us: int) -> str:
        """What hides an alert that is not resolved: a silence, an earlier alert of the device, or its flapping."""
        alert = held.alert
        if silence := self._in_force.silenced(alert, at_us):
            return f"silence:{silence}"
        order = list(self._alerts)
        mine = _began(held), order.index(alert.id) if alert.id in self._alerts else len(order)
        for place, other in enumerate(self._alerts.values()):
            if (
                other.alert.state != "resolved"
                and (_began(other), place) < mine
                and self._in_force.inhibits(other.alert, alert)
            ):
                return f"inhibited:{other.alert.id}"
        return "flapping" if alert.flapping else ""

    def _timers(self) -> Iterator[tuple[int, _Timer, str]]:
        if not self._alerts and (newest_us := self._seen.newest_us) is not None:
            yield newest_us + KEPT_US, "expire", ""
        for name, held in self._alerts.items():
            alert = held.alert
            if alert.state == "resolved":
                yield alert.changed_us + KEPT_US, "forget", name
                continue
            if alert.state == "snoozed" and alert.snoozed_until_us is not None:
                yield alert.snoozed_until_us, "wake", name
            if alert.flapping:
                yield _began(held) + int(self._policy_of(held).flap_window_s * 1e6), "settle", name
            since = max(alert.changed_us, self._checked.get(name, 0))
            change = self._in_force.next_silence_change(alert, since)
            if change is not None:
                yield change, "silence", name

    def _crowd_out(self) -> Iterator[Change]:
        resolved = [alert for alert in self if alert.state == "resolved"]
        for alert in sorted(resolved, key=lambda alert: alert.changed_us)[: max(0, len(resolved) - RESOLVED_MAX)]:
            yield self._forget(alert)

    def _forget(self, alert: Alert) -> Change:
        key = self._alerts.pop(alert.id).key
        self._checked.pop(alert.id, None)
        self._due = None
        if self._newest[key] == alert.id:
            del self._newest[key]
            for name, held in self._alerts.items():
                if held.key == key:
                    self._newest[key] = name
        return Change(gone=alert.id)


def _began(held: Held) -> int:
    return held.begins[-1] if held.begins else held.alert.opened_us


def _flaps(held: Held, policy: Policy) -> bool:
    """Whether the condition has begun so often within the window that it is said to flap, and was not before."""
    count = policy.flap_count
    return (
        count > 0
        and not held.alert.flapping
        and len(held.begins) >= count
        and held.begins[-1] - held.begins[-count] <= policy.flap_window_s * 1e6
    )


def _carries(event: Event, policy: Policy) -> bool:
    return all(event.attrs.get(name) == value for name, value in policy.when.items())


def _within_hold_off(alert: Alert, event: Event, policy: Policy) -> bool:
    """Whether the condition is back soon enough to be the same one: by the devices' time where it had an end."""
    since = alert.changed_us if alert.ended_us is None else alert.ended_us
    return event.ts_us - since <= policy.hold_off_s * 1e6


def _feedback(alert: Alert, command: Command, at_us: int) -> Feedback:
    return Feedback(
        id=alert.id, device=alert.device, operator=alert.kind, subject=alert.subject, ts_us=at_us, who=command.who,
        value=alert.value,
    )  # fmt: skip
