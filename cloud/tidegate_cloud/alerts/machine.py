"""The life of one alert: a state machine without I/O and without a clock.

`STEPS` is the whole of it. A row is a state, a column what can happen to it; what is not in the table changes nothing
when it comes from an operator, and is refused when a person asked for it.

    begin       an event says that the condition has begun (again)
    again       the same, within the hold-off after the alert was resolved
    end         an event says that the condition is over, and the policy leaves the rest to a person
    clear       the same, and the policy resolves by itself
    late        an event from a backlog that the present has overtaken
    wake        the time until which a person snoozed it is over
    acknowledge, snooze, resolve, reopen, comment    a person asked

Times are those of the records that cause a step, so the same input gives the same alerts at any hour.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec
from tidegate_protocols.alerts import Alert, AlertState, Command, Severity, Transition, alert_id
from tidegate_protocols.events import Event
from tidegate_protocols.policies import Policy

from .titles import title_of

Stimulus = Literal[
    "begin", "again", "end", "clear", "late", "wake", "acknowledge", "snooze", "resolve", "reopen", "comment"
]
SYSTEM = "system"


class Step(NamedTuple):
    """What a stimulus leads to: the action that the log names, and the state after it."""

    action: str
    to: AlertState


STEPS: dict[AlertState, dict[Stimulus, Step]] = {
    "open": {
        "begin": Step("attached", "open"),
        "end": Step("ended", "open"),
        "clear": Step("resolved", "resolved"),
        "late": Step("recorded", "open"),
        "acknowledge": Step("acknowledged", "acknowledged"),
        "snooze": Step("snoozed", "snoozed"),
        "resolve": Step("resolved", "resolved"),
        "comment": Step("commented", "open"),
    },
    "acknowledged": {
        "begin": Step("attached", "acknowledged"),
        "end": Step("ended", "acknowledged"),
        "clear": Step("resolved", "resolved"),
        "late": Step("recorded", "acknowledged"),
        "snooze": Step("snoozed", "snoozed"),
        "resolve": Step("resolved", "resolved"),
        "reopen": Step("reopened", "open"),
        "comment": Step("commented", "acknowledged"),
    },
    "snoozed": {
        "begin": Step("attached", "snoozed"),
        "end": Step("ended", "snoozed"),
        "clear": Step("resolved", "resolved"),
        "late": Step("recorded", "snoozed"),
        "wake": Step("woke", "open"),
        "acknowledge": Step("acknowledged", "acknowledged"),
        "snooze": Step("snoozed", "snoozed"),
        "resolve": Step("resolved", "resolved"),
        "reopen": Step("reopened", "open"),
        "comment": Step("commented", "snoozed"),
    },
    "resolved": {
        "again": Step("reopened", "open"),
        "end": Step("ended", "resolved"),
        "clear": Step("ended", "resolved"),
        "late": Step("recorded", "resolved"),
        "reopen": Step("reopened", "open"),
        "comment": Step("commented", "resolved"),
    },
}  # fmt: skip

# Steps that decide something: a person who had not seen the last of them is told instead of obeyed.
_DECIDES = frozenset({"opened", "reopened", "acknowledged", "snoozed", "woke", "resolved"})


class Held(msgspec.Struct, frozen=True, array_like=True):
    """An alert as the engine keeps it. `decided`: the version at which its state was last decided."""

    alert: Alert
    decided: int

    @property
    def key(self) -> tuple[str, str]:
        """Rule and subject: of those that are alike, one at most is not resolved."""
        return self.alert.rule, self.alert.subject


class Stepped(NamedTuple):
    """What a step left. `held` is None where there is no alert; `changed`: whether it differs from before."""

    held: Held | None
    transition: Transition
    changed: bool = True


def opened(event: Event, policy: Policy, at_us: int) -> Stepped:
    """An event opens an alert. `at_us`: when its record was appended."""
    alert = Alert(
        id=alert_id(event.device, policy.id, event.subject, event.id), device=event.device, rule=policy.id,
        subject=event.subject, state="open", severity=severity_of(event, policy), kind=event.operator,
        title=title_of(event), started_us=event.ts_us, opened_us=at_us, changed_us=at_us, version=1, event=event.id,
        events=1, value=event.value, limit=event.limit, unit=event.unit, lat=event.lat, lon=event.lon,
    )  # fmt: skip
    return Stepped(Held(alert, 1), _transition(alert, "opened", "", at_us, SYSTEM, "", event.id))


def recorded(event: Event, policy: Policy, at_us: int) -> Stepped:
    """A late event that finds no alert: the log says what would have been opened, and nobody is told."""
    name = alert_id(event.device, policy.id, event.subject, event.id)
    return Stepped(
        None,
        Transition(
            alert=name, version=0, device=event.device, action="recorded", from_state="", to_state="", ts_us=at_us,
            who=SYSTEM, why=title_of(event), cause=event.id,
        ),
        changed=False,
    )  # fmt: skip


def on_event(held: Held, event: Event, policy: Policy, stimulus: Stimulus, at_us: int) -> Stepped | None:
    """An event meets an alert that it belongs to; None when that changes nothing."""
    alert = held.alert
    step = STEPS[alert.state].get(stimulus)
    if step is None or (step.action == "ended" and alert.ended_us is not None):
        return None
    if step.action == "attached" or step.action == "reopened":
        changes = _shown(event, alert, policy) | {"ended_us": None}
        if step.action == "reopened":
            changes |= {"who": "", "why": ""}
    elif stimulus == "late":
        changes = {"events": alert.events + 1}
    else:
        changes = {"ended_us": event.ts_us}
        if step.to == "resolved":
            changes["snoozed_until_us"] = None
    return _stepped(held, step, at_us, SYSTEM, "", event.id, changes)


def on_command(held: Held, command: Command, at_us: int) -> Stepped:
    """A person asks for something: done, or refused with the reason."""
    alert = held.alert
    reason = _refusal(held, command, at_us)
    if reason:
        return Stepped(held, refused(command, at_us, reason, alert), changed=False)
    step = STEPS[alert.state][command.action]  # type: ignore[index]  # _refusal looked
    until = command.until_us if step.to == "snoozed" and command.action == "snooze" else None
    if command.action == "comment":
        until = alert.snoozed_until_us
        changes: dict[str, object] = {"why": command.why}
    elif step.to == "open":
        changes = {"who": "", "why": command.why}
    else:
        changes = {"who": command.who, "why": command.why}
    return _stepped(held, step, at_us, command.who, command.why, command.id, changes | {"snoozed_until_us": until})


def on_wake(held: Held) -> Stepped | None:
    """The time until which the alert was snoozed is over; None when it is not snoozed."""
    until = held.alert.snoozed_until_us
    step = STEPS[held.alert.state].get("wake")
    if step is None or until is None:
        return None
    changes: dict[str, object] = {"snoozed_until_us": None, "who": "", "why": ""}
    return _stepped(held, step, until, SYSTEM, "", f"until:{until}", changes)


def refused(command: Command, at_us: int, reason: str, alert: Alert | None = None) -> Transition:
    """A command that changes nothing, with the reason, for the log."""
    state = alert.state if alert else ""
    return Transition(
        alert=command.alert, version=alert.version if alert else 0, device=command.device, action="refused",
        from_state=state, to_state=state, ts_us=at_us, who=command.who, why=reason, cause=command.id,
    )  # fmt: skip


def severity_of(event: Event, policy: Policy) -> Severity:
    """The policy's severity, else the event's, else a warning."""
    said = policy.severity or event.attrs.get("severity", "")
    return said if said in ("notice", "warning", "critical") else "warning"  # type: ignore[return-value]


_RANK: dict[Severity, int] = {"notice": 0, "warning": 1, "critical": 2}
_ASKED = {
    "acknowledge": "acknowledged", "snooze": "snoozed", "resolve": "resolved", "reopen": "re-opened",
    "comment": "commented on",
}  # fmt: skip


def _refusal(held: Held, command: Command, at_us: int) -> str:
    """Why a command cannot be done; empty when it can."""
    alert = held.alert
    if command.action not in _ASKED:
        return f"{command.action!r} is not something that can be asked of an alert"
    if command.action != "comment" and command.seen_version is not None and command.seen_version < held.decided:
        return f"it changed meanwhile: {_now(alert)}"
    if command.action not in STEPS[alert.state]:
        return f"it cannot be {_ASKED[command.action]}: {_now(alert)}"
    if command.action == "snooze" and (command.until_us is None or command.until_us <= at_us):
        return "the time to snooze until is missing or over"
    return ""


def _now(alert: Alert) -> str:
    by = f" by {alert.who}" if alert.who and alert.state != "open" else ""
    return f"it is {alert.state}{by}"


def _shown(event: Event, alert: Alert, policy: Policy) -> dict[str, object]:
    """What an alert shows of its newest event. It never becomes less severe by one."""
    severity = max(alert.severity, severity_of(event, policy), key=_RANK.__getitem__)
    return {
        "events": alert.events + 1, "severity": severity, "title": title_of(event), "value": event.value,
        "limit": event.limit, "unit": event.unit, "lat": event.lat, "lon": event.lon,
    }  # fmt: skip


def _stepped(held: Held, step: Step, at_us: int, who: str, why: str, cause: str, changes: dict[str, object]) -> Stepped:
    before = held.alert
    after = msgspec.structs.replace(
        before, **(changes | {"state": step.to, "changed_us": at_us, "version": before.version + 1})
    )
    decided = after.version if step.action in _DECIDES else held.decided
    return Stepped(Held(after, decided), _transition(after, step.action, before.state, at_us, who, why, cause))


def _transition(alert: Alert, action: str, before: str, at_us: int, who: str, why: str, cause: str) -> Transition:
    return Transition(
        alert=alert.id, version=alert.version, device=alert.device, action=action, from_state=before,
        to_state=alert.state, ts_us=at_us, who=who, why=why, cause=cause,
    )  # fmt: skip
