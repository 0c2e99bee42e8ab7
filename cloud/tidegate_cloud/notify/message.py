"""What is sent: the words for people, and the fields for programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from tidegate_protocols.alerts import Transition

_SIGNS = {"critical": "Critical", "warning": "Warning", "notice": "Notice"}


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message. `id` is the same however often it is sent. Times are microseconds since 1970 UTC."""

    id: str
    alert: str
    device: str
    group: str
    rule: str
    severity: str
    state: str
    title: str
    level: int
    count: int
    started_us: int | None
    asked_us: int
    receiver: str
    link: str = ""
    test: bool = False

    @property
    def subject(self) -> str:
        """One line: how grave, what, where."""
        what = f"{self.title} ({self.device})" if self.device else self.title
        if self.test:
            return f"Test: {what}"
        return f"Over: {what}" if self.state == "resolved" else f"{_SIGNS.get(self.severity, 'Alert')}: {what}"

    @property
    def text(self) -> str:
        """The rest, in plain text."""
        lines = [self.title + ("." if self.title[-1:].isalnum() else "")]
        if self.device:
            lines.append(f"Device: {self.device}")
        if self.count > 1:
            lines.append(f"Devices: {self.count}")
        if self.started_us is not None:
            lines.append(f"Since: {_clock(self.started_us)}")
        if self.state == "resolved":
            lines.append(f"Over: {_clock(self.asked_us)}")
        elif self.level > 1:
            lines.append(f"Nobody has acknowledged it; you are asked as number {self.level}.")
        if self.link:
            lines.append(self.link)
        return "\n".join(lines)

    def fields(self) -> dict[str, Any]:
        """For programs."""
        return {"type": "test" if self.test else "alert", **msgspec.structs.asdict(self), "subject": self.subject}


def message_of(line: Transition, name: str, receiver: str, public_url: str) -> Message:
    """The message that a line of the alert log asks for. `name`: its notification id."""
    link = f"{public_url.rstrip('/')}/{'groups' if line.group else 'alerts'}/{line.alert}" if public_url else ""
    return Message(
        id=name, alert=line.alert, device=line.device, group=line.group, rule=line.rule, severity=line.severity,
        state=line.to_state, title=line.title or "An alert", level=line.level, count=line.count,
        started_us=line.started_us, asked_us=line.ts_us, receiver=receiver, link=link,
    )  # fmt: skip


def _clock(us: int) -> str:
    try:
        return f"{datetime.fromtimestamp(us / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return "unknown"
