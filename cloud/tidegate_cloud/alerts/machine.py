"""The life of one alert: a state machine without I/O and without a clock.

`STEPS` is the whole of it. A row is a state, a column what can happen to it; what is not in the table changes nothing
when it comes from an operator, and is refused when a person asked for it.

    begin       an event says that the condition has begun (again)
    again       the same, within the hold-off after the alert was resolved
    end         an event says that the condition is over, and the policy leaves the rest to a person
    clear       the same, and the policy resolves by itself
    late        an event from a backlog that the present has overtaken
    correct     the full record says that the condition began at another time than a preview told
    confirm     the full record has come, and bears out what a preview told
    deny        the full record does not bear it out
    restore     the full record does not bear out its end
    mute, unmute    a silence, or another alert of the device, begins or ceases to hide it
    flap, settle    its condition begins, or ceases, to come and go
    join        the second stage says that it belongs to a group
    wake        the time until which a person snoozed it is over
    acknowledge, snooze, resolve, reopen, comment, false-alarm    a person asked

Times are those of the records that cause a step, so the same input gives the same alerts at any hour.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec
from tidegate_protocols.alerts import Alert, AlertState, Command, Group, Severity, Transition, alert_id, group_key
from tidegate_protocols.events import Event
from tidegate_protocols.policies import Policy

from .titles import title_of

Stimulus = Literal[
    "begin", "again", "end", "clear", "late", "correct", "confirm", "deny", "restore", "mute", "unmute", "flap",
    "settle", "join", "wake", "acknowledge", "snooze", "resolve", "reopen", "comment", "false-alarm",
]  # fmt: skip
SYSTEM = "system"
DENIED = "not borne out by the full record"


class Step(NamedTuple):
    """What a stimulus leads to: the action that the log names, and the state after it."""

    action: str
    to: AlertState


def _whatever_the_state(state: AlertState) -> dict[Stimulus, Step]:
    """What changes an alert and not its state."""
    return {
        "late": Step("recorded", state),
        "correct": Step("corrected", state),
        "confirm": Step("confirmed", state),
        "comment": Step("commented", state),
        "join": Step("joined", state),
    }


def _unresolved(state: AlertState) -> dict[Stimulus, Step]:
    """What happens alike to every alert that is not resolved."""
    return _whatever_the_state(state) | {
        "begin": Step("attached", state),
        "end": Step("ended", state),
        "clear": Step("resolved", "resolved"),
        "deny": Step("resolved", "resolved"),
        "mute": Step("muted", state),
        "unmute": Step("unmuted", state),
        "flap": Step("flapping", state),
        "settle": Step("settled", state),
        "snooze": Step("snoozed", "snoozed"),
        "resolve": Step("resolved", "resolved"),
        "false-alarm": Step("false-alarm", "resolved"),
    }


STEPS: dict[AlertState, dict[Stimulus, Step]] = {
    "open": _unresolved("open") | {
        "acknowledge": Step("acknowledged", "acknowledged"),
    },
    "acknowledged": _unresolved("acknowledged") | {
        "reopen": Step("reopened", "open"),
    },
    "snoozed": _unresolved("snoozed") | {
        "wake": Step("woke", "open"),
        "acknowledge": Step("acknowledged", "acknowledged"),
        "reopen": Step("reopened", "open"),
    },
    "resolved": _whatever_the_state("resolved") | {
        "again": Step("reopened", "open"),
        "restore": Step("reopened", "open"),
        "end": Step("ended", "resolved"),
        "clear": Step("ended", "resolved"),
        "reopen": Step("reopened", "open"),
        "false-alarm": Step("false-alarm", "resolved"),
    },
}  # fmt: skip

# Steps that decide something: a person who had not seen the last of them is told instead of obeyed.
DECIDES = frozenset({"opened", "reopened", "acknowledged", "snoozed", "woke", "resolved", "false-alarm"})


class Held(msgspec.Struct, frozen=True, array_like=True):
    """An alert as the engine keeps it.

    decided    the version at which its state was last decided
    begins     append times of the last beginnings of its condition, oldest first, as many as flapping needs
    dismissed  a person said that it was a false alarm, and nobody has taken that back
    group_key  the key that alerts of the same fault share; empty: its policy does not group
    """

    alert: Alert
    decided: int
    begins: tuple[int, ...] = ()
    dismissed: bool = False
    group_key: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Rule and subject: of those that are alike, one at most is not resolved."""
        return self.alert.rule, self.alert.subject


class Stepped(NamedTuple):
    """What a step left. `held` is None where there is no alert; `changed`: whether it differs from before."""

    held: Held | None
    transition: Transition
    changed: bool = True


def opened(
    event: Event, policy: Policy, at_us: int, *, device_group: str = "", before: tuple[int, ...] = ()
) -> Stepped:
    """An event opens an alert. `at_us`: when its record was appended. `before`: earlier beginnings of its condition."""
    alert = Alert(
        id=alert_id(event.device, policy.id, event.subject, event.id), device=event.device, rule=policy.id,
        subject=event.subject, state="open", severity=severity_of(event, policy), kind=event.operator,
        title=title_of(event, policy.title), started_us=event.ts_us, opened_us=at_us, changed_us=at_us, version=1,
        event=event.id, events=1, value=event.value, limit=event.limit, unit=event.unit, lat=event.lat, lon=event.lon,
        lane=event.lane, policy_version=policy.version, event_kind=event.kind, attrs=event.attrs,
        device_group=device_group,
    )  # fmt: skip
    begins = (*before, at_us)[-max(1, policy.flap_count) :]
    held = Held(alert, 1, begins, group_key=group_key_of(alert, policy))
    return Stepped(held, _transition(alert, "opened", "", at_us, SYSTEM, "", event.id))


def recorded(event: Event, policy: Policy, at_us: int) -> Stepped:
    """A late event that finds no alert: the log says what would have been opened, and nobody is told."""
    name = alert_id(event.device, policy.id, event.subject, event.id)
    title = title_of(event, policy.title)
    return Stepped(
        None,
        Transition(
            alert=name, version=0, device=event.device, action="recorded", from_state="", to_state="", ts_us=at_us,
            who=SYSTEM, why=title, cause=event.id, rule=policy.id, title=title, severity=severity_of(event, policy),
            started_us=event.ts_us,
        ),
        changed=False,
    )  # fmt: skip


def on_event(held: Held, event: Event, policy: Policy, stimulus: Stimulus, at_us: int) -> Stepped | None:
    """An event meets an alert that it belongs to; None when that changes nothing."""
    alert = held.alert
    step = STEPS[alert.state].get(stimulus)
    if step is None or (step.action == "ended" and alert.ended_us is not None):
        return None
    why = ""
    if stimulus in ("begin", "again"):
        changes = _shown(event, alert, policy) | {"ended_us": None}
        if stimulus == "again":
            changes |= {"who": "", "why": ""}
        if stimulus == "again" or event.lane == "authoritative":
            changes["lane"] = event.lane
        begins = held.begins
        if alert.ended_us is not None or stimulus == "again":
            begins = (*begins, at_us)[-max(1, policy.flap_count) :]
        dismissed = held.dismissed and stimulus != "again"
        held = msgspec.structs.replace(held, begins=begins, dismissed=dismissed)
    elif stimulus == "late":
        changes = {"events": alert.events + 1}
    elif stimulus == "correct":
        changes = {"started_us": event.ts_us, "lane": event.lane}
    elif stimulus == "restore":
        why = DENIED
        changes = {"ended_us": None, "lane": event.lane}
    else:
        changes = {"ended_us": event.ts_us}
        if stimulus == "deny":
            why = DENIED
            changes |= {"lane": event.lane, "who": "", "why": why}
    return _stepped(held, step, at_us, SYSTEM, why, event.id, changes)


def on_join(held: Held, event: Event, at_us: int) -> Stepped | None:
    """The full record has come: what a preview told and it did not deny is so. None when nothing waits for that."""
    if held.alert.lane != "provisional":
        return None
    step = STEPS[held.alert.state]["confirm"]
    return _stepped(held, step, at_us, SYSTEM, "", event.id, {"lane": "authoritative"})


def on_command(held: Held, command: Command, at_us: int) -> Stepped:
    """A person asks for something: done, or refused with the reason."""
    alert = held.alert
    reason = refusal(alert, held.decided, command, at_us)
    if reason:
        return Stepped(held, refused(command, at_us, reason, alert), changed=False)
    step = STEPS[alert.state][command.action]  # type: ignore[index]  # `refusal` looked
    dismissed = command.action == "false-alarm" or (held.dismissed and command.action == "comment")
    held = msgspec.structs.replace(held, dismissed=dismissed)
    return _stepped(held, step, at_us, command.who, command.why, command.id, asked(step, command))


def on_group(held: Held, command: Command, at_us: int) -> Stepped:
    """The second stage says which group it belongs to."""
    step = STEPS[held.alert.state]["join"]
    return _stepped(held, step, at_us, SYSTEM, command.why, command.id, {"group": command.why})


def asked(step: Step, command: Command) -> dict[str, object]:
    """What a command that is done changes in what is shown."""
    if command.action == "comment":
        return {"why": command.why}
    until = command.until_us if command.action == "snooze" else None
    return {"who": "" if step.to == "open" else command.who, "why": command.why, "snoozed_until_us": until}


def on_wake(held: Held) -> Stepped | None:
    """The time until which the alert was snoozed is over; None when it is not snoozed."""
    until = held.alert.snoozed_until_us
    step = STEPS[held.alert.state].get("wake")
    if step is None or until is None:
        return None
    changes: dict[str, object] = {"snoozed_until_us": None, "who": "", "why": ""}
    return _stepped(held, step, until, SYSTEM, "", f"until:{until}", changes)


def on_mute(held: Held, muted: str, at_us: int) -> Stepped | None:
    """What hides the alert is now `muted`, or nothing where that is empty. None when that changes nothing."""
    alert = held.alert
    if alert.muted == muted or alert.state == "resolved":
        return None
    step = STEPS[alert.state]["mute" if muted else "unmute"]
    return _stepped(held, step, at_us, SYSTEM, muted or alert.muted, muted or alert.muted, {"muted": muted})


def on_flap(held: Held, at_us: int) -> Stepped:
    """Its condition comes and goes: from here on it stays open until that settles."""
    step = STEPS[held.alert.state]["flap"]
    return _stepped(held, step, at_us, SYSTEM, "", f"flap:{at_us}", {"flapping": True})


def on_settle(held: Held, at_us: int, *, resolves: bool) -> Stepped:
    """Its condition has not begun anew for long enough. `resolves`: it is over, and that resolves the alert."""
    over = resolves and held.alert.ended_us is not None
    step = STEPS[held.alert.state]["clear" if over else "settle"]
    why = "it has settled" if over else ""
    return _stepped(held, step, at_us, SYSTEM, why, f"settle:{at_us}", {"flapping": False})


def refused(command: Command, at_us: int, reason: str, alert: Alert | Group | None = None) -> Transition:
    """A command that changes nothing, with the reason, for the log."""
    state = alert.state if alert else ""
    return Transition(
        alert=command.alert, version=alert.version if alert else 0, device=command.device, action="refused",
        from_state=state, to_state=state, ts_us=at_us, who=command.who, why=reason, cause=command.id,
        rule=alert.rule if alert else "", title=alert.title if alert else "", severity=alert.severity if alert else "",
        group=command.alert if command.group else "",
    )  # fmt: skip


def severity_of(event: Event, policy: Policy) -> Severity:
    """The policy's severity, else the event's, else a warning."""
    said = policy.severity or event.attrs.get("severity", "")
    return said if said in ("notice", "warning", "critical") else "warning"  # type: ignore[return-value]


RANK: dict[Severity, int] = {"notice": 0, "warning": 1, "critical": 2}
_ASKED = {
    "acknowledge": "acknowledged", "snooze": "snoozed", "resolve": "resolved", "reopen": "re-opened",
    "comment": "commented on", "false-alarm": "called a false alarm",
}  # fmt: skip


def group_key_of(alert: Alert, policy: Policy) -> str:
    """The key that alerts of one fault share; empty where the policy does not group."""
    return group_key(policy.id, shared_by(alert, policy)) if policy.group_by else ""


def shared_by(alert: Alert, policy: Policy) -> dict[str, str]:
    """What an alert has in common with the others of its group: a field of its own, else an attribute of its event."""
    return {
        name: str(getattr(alert, name)) if name in GROUPING else alert.attrs.get(name, "") for name in policy.group_by
    }


GROUPING = ("subject", "event_kind", "device_group", "severity", "kind", "device")


def refusal(alert: Alert | Group, decided: int, command: Command, at_us: int) -> str:
    """Why a command cannot be done; empty when it can. `decided`: the version at which the state was last decided."""
    if command.action not in _ASKED:
        return f"{command.action!r} is not something that can be asked of an alert"
    if command.action != "comment" and command.seen_version is not None and command.seen_version < decided:
        return f"it changed meanwhile: {_now(alert)}"
    if command.action not in STEPS[alert.state]:
        return f"it cannot be {_ASKED[command.action]}: {_now(alert)}"
    if command.action == "snooze" and (command.until_us is None or command.until_us <= at_us):
        return "the time to snooze until is missing or over"
    return ""


def _now(alert: Alert | Group) -> str:
    by = f" by {alert.who}" if alert.who and alert.state != "open" else ""
    return f"it is {alert.state}{by}"


def _shown(event: Event, alert: Alert, policy: Policy) -> dict[str, object]:
    """What an alert shows of its newest event. It never becomes less severe by one."""
    severity = max(alert.severity, severity_of(event, policy), key=RANK.__getitem__)
    return {
        "events": alert.events + 1, "severity": severity, "title": title_of(event, policy.title), "value": event.value,
        "limit": event.limit, "unit": event.unit, "lat": event.lat, "lon": event.lon,
        "policy_version": policy.version, "event_kind": event.kind, "attrs": event.attrs,
    }  # fmt: skip


def _stepped(held: Held, step: Step, at_us: int, who: str, why: str, cause: str, changes: dict[str, object]) -> Stepped:
    before = held.alert
    if step.to == "resolved":
        changes |= {"snoozed_until_us": None, "muted": "", "flapping": False}
    after = msgspec.structs.replace(
        before, **(changes | {"state": step.to, "changed_us": at_us, "version": before.version + 1})
    )
    decided = after.version if step.action in DECIDES else held.decided
    transition = _transition(after, step.action, before.state, at_us, who, why, cause)
    return Stepped(msgspec.structs.replace(held, alert=after, decided=decided), transition)


def _transition(alert: Alert, action: str, before: str, at_us: int, who: str, why: str, cause: str) -> Transition:
    return Transition(
        alert=alert.id, version=alert.version, device=alert.device, action=action, from_state=before,
        to_state=alert.state, ts_us=at_us, who=who, why=why, cause=cause, rule=alert.rule, title=alert.title,
        severity=alert.severity, started_us=alert.started_us,
    )  # fmt: skip
