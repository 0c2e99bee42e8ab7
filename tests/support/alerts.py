"""Events and commands for tests of alerts and of the console, with what does not matter filled in."""

from __future__ import annotations

from typing import Any

from tidegate_protocols.alerts import Command
from tidegate_protocols.events import Event, Phase, event_id

SECOND = 1_000_000
NOON = 1_700_000_000 * SECOND
_PHASES: dict[str, Phase] = {
    "entered": "begin", "exited": "end", "above": "begin", "below": "begin", "within": "end", "anomalous": "begin",
    "settled": "end", "silent": "begin", "heard": "end", "denied": "end",
}  # fmt: skip
_OPERATORS = {
    "entered": "geofence",
    "exited": "geofence",
    "above": "limit",
    "below": "limit",
    "within": "limit",
    "silent": "presence",
    "heard": "presence",
    "joined": "engine",
}


def an_event(
    kind: str, seq: int, *, device: str = "van-1", subject: str = "yard", at_s: float = 0, **more: Any
) -> Event:
    """Event number `seq` of a device, `at_s` seconds after NOON. On a fence it carries ``alert_on=enter``."""
    operator = _OPERATORS.get(kind, "anomaly")
    attrs = {"name": "Reefer Yard", "severity": "warning", "alert_on": "enter"} if operator == "geofence" else {}
    provisional = more.get("lane") == "provisional"
    fields: dict[str, Any] = {
        "id": event_id(device, operator, kind, subject, provisional=provisional, epoch=1, seq=seq, ordinal=0),
        "device": device, "operator": operator, "kind": kind, "phase": _PHASES.get(kind, "instant"),
        "subject": subject, "ts_us": NOON + int(at_s * SECOND), "learnt_us": NOON + int(at_s * SECOND), "epoch": 1,
        "seq": seq, "ordinal": 0, "attrs": attrs,
    }  # fmt: skip
    return Event(**(fields | more))


def a_command(action: str, alert: str, name: str, *, device: str = "van-1", who: str = "Ines", **more: Any) -> Command:
    """A person's command; `name` is its idempotency key."""
    return Command(id=name, device=device, alert=alert, action=action, who=who, **more)
