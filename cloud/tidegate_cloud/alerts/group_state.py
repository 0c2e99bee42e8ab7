"""What the second stage keeps for a key, its bytes, and the lines and commands that it makes.

Layout of a row: a byte (0: as it is, 1: zlib), then MessagePack of `Kept`.
"""

from __future__ import annotations

import hashlib
import zlib

import msgspec
from tidegate_protocols.alerts import Alert, AlertState, Command, Group, Severity, Transition
from tidegate_protocols.errors import BadInput

from .escalation import Escalation
from .machine import SYSTEM

_PLAIN_MAX = 16_384
_UNPACKED_MAX = 64 * 2**20


class Said(msgspec.Struct, frozen=True):
    """What one step leaves behind, one of: a line for the log, a group's new state, a command, a group that goes."""

    transition: Transition | None = None
    group: Group | None = None
    command: Command | None = None
    gone: str | None = None


class Member(msgspec.Struct, array_like=True):
    """One alert. `title` and `started_us` are for telling of it by itself, and empty once a group has it."""

    device: str
    state: AlertState
    severity: Severity
    version: int
    muted: bool
    title: str
    started_us: int
    group: str = ""
    telling: Escalation = Escalation()

    @property
    def audible(self) -> bool:
        """Whether somebody is to be told of it."""
        return self.state == "open" and not self.muted


class HeldGroup(msgspec.Struct, array_like=True):
    """A group as the engine keeps it. `decided`: as for an alert. `asked`: the command by which somebody has it.

    `shown_us` and `shown`: when it was last written, and how many alerts it had then. `audible`: how many of its alerts
    are open and not hidden.
    """

    group: Group
    first: Alert
    decided: int
    telling: Escalation
    asked: Command | None = None
    shown_us: int = 0
    shown: tuple[int, int, int] = (0, 0, 0)
    audible: int = 0


class Kept(msgspec.Struct, array_like=True):
    """A row. See `groups.KeyGroups` for what its parts mean."""

    rule: str
    members: dict[str, Member]
    groups: list[HeldGroup]
    burst: list[str]
    first: Alert | None
    joins: str
    last_us: int
    commands: list[str]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Kept).decode


def pack(kept: Kept) -> bytes:
    """The bytes of a row."""
    data = _encode(kept)
    return b"\0" + data if len(data) <= _PLAIN_MAX else b"\1" + zlib.compress(data, 1)


def unpack(data: bytes) -> Kept:
    """Read a row. Raises BadInput."""
    try:
        return _decode(_unpacked(data))
    except (msgspec.MsgspecError, ValueError, zlib.error) as error:
        raise BadInput(f"not a row of groups: {error}") from None


def passed(cause: str, alert: str, device: str, action: str, who: str, why: str) -> Command:
    """A command for one alert of a group, the same whenever it is worked out."""
    name = hashlib.blake2b(f"{cause}\0{alert}".encode(), digest_size=16).hexdigest()
    return Command(id=name, device=device, alert=alert, action=action, who=who, why=why)


def line_of(name: str, member: Member, rule: str, at_us: int, cause: str, to: list[str], level: int) -> Transition:
    """People are told of an alert by itself."""
    return Transition(
        alert=name, version=member.version, device=member.device, action="told", from_state=member.state,
        to_state=member.state, ts_us=at_us, who=SYSTEM, why=", ".join(to), cause=cause, rule=rule, title=member.title,
        severity=member.severity, started_us=member.started_us, level=level, tell=to,
    )  # fmt: skip


def group_line(
    group: Group, action: str, before: str, at_us: int, who: str, why: str, cause: str, level: int, tell: list[str]
) -> Transition:
    return Transition(
        alert=group.id, version=group.version, device="", action=action, from_state=before, to_state=group.state,
        ts_us=at_us, who=who, why=why or ", ".join(tell), cause=cause, rule=group.rule, title=group.title,
        severity=group.severity, started_us=group.started_us, group=group.id, count=group.count, level=level, tell=tell,
    )  # fmt: skip


def _unpacked(data: bytes) -> bytes:
    if data[:1] == b"\0":
        return data[1:]
    if data[:1] != b"\1":
        raise ValueError("it begins with neither 0 nor 1")
    unpacker = zlib.decompressobj()
    found = unpacker.decompress(data[1:], _UNPACKED_MAX)
    if not unpacker.eof:
        raise ValueError("it is cut off, or too large")
    return found
