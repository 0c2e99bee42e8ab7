"""The second stage for one key: alerts that may be one fault, the groups that they make, and who is told of them.

Alerts of one key that come with pauses of at most the policy's window are a burst. With the policy's `group_min`-th one
the burst is a group: the group is told instead of its alerts. An alert outside a group is told by itself, once it has
waited `group_wait_s` for others. After a longer pause a new burst begins, so an old group swallows nothing new.

Limit: 30,000 alerts that are not forgotten per key. When there are more, those that came first go: their group still
counts them, and what is asked of the group no longer reaches them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Literal

import msgspec
from tidegate_protocols.alerts import Alert, AlertState, Command, Group, group_id
from tidegate_protocols.policies import Policy

from . import machine
from .escalation import OVER, Escalation
from .group_state import HeldGroup, Kept, Member, Said, group_line, line_of, pack, passed, unpack
from .machine import RANK, STEPS, SYSTEM
from .policies import InForce
from .titles import group_title

MEMBERS_MAX = 30_000
COMMANDS_MAX = 64
SHOWN_MAX = 100
KEPT_US = 30 * 86_400_000_000
# Growth is shown this often at most, else a storm would write its group anew for every alert.
SHOW_US = 1_000_000
_Timer = Literal["tell", "tell-group", "wake", "show", "forget"]


class KeyGroups:
    """See the module's docstring. Every method that changes something yields what it left behind, in order."""

    def __init__(self, in_force: InForce) -> None:
        self._in_force = in_force
        self._members: dict[str, Member] = {}  # by alert, in the order in which they came
        self._groups: dict[str, HeldGroup] = {}
        self._burst: list[str] = []  # alerts of the burst that is no group yet
        self._first: Alert | None = None  # the first of the burst
        self._joins = ""  # the group that alerts of the burst belong to
        self._last_us = 0
        self._commands: list[str] = []
        self._rule = ""
        self._heap: list[tuple[int, str]] = []  # when alerts outside groups are to be told, some out of date
        self._edition = in_force.edition  # by which the heap was made

    @classmethod
    def from_bytes(cls, data: bytes, in_force: InForce) -> KeyGroups:
        """Read a row. Raises BadInput."""
        row = unpack(data)
        self = cls(in_force)
        self._rule, self._members = row.rule, row.members
        self._groups = {held.group.id: held for held in row.groups}
        self._burst, self._first, self._joins, self._last_us = row.burst, row.first, row.joins, row.last_us
        self._commands = row.commands
        self._set_alarms()
        return self

    def to_bytes(self) -> bytes | None:
        """The row, or None when there is nothing to keep."""
        if self.empty:
            return None
        groups = list(self._groups.values())
        return pack(
            Kept(self._rule, self._members, groups, self._burst, self._first, self._joins, self._last_us,
                 self._commands)
        )  # fmt: skip

    @property
    def empty(self) -> bool:
        """Whether there is nothing to keep."""
        return not self._members and not self._groups

    @property
    def groups(self) -> list[Group]:
        """The groups as they stand."""
        return [held.group for held in self._groups.values()]

    @property
    def due_us(self) -> int | None:
        """When time alone will change something."""
        next_one = self._next()
        return None if next_one is None else next_one[0]

    def alert(self, alert: Alert, at_us: int, key: str) -> Iterator[Said]:
        """An alert came or changed. `at_us`: when its record was appended. `key`: its record's."""
        yield from self.tick(at_us)
        member = self._members.get(alert.id)
        if member is not None:
            if alert.version > member.version:
                yield from self._changed(alert, member, at_us)
        elif alert.state != "resolved":
            yield from self._came(alert, at_us, key)

    def command(self, command: Command, at_us: int) -> Iterator[Said]:
        """A person asks something of a group: done, or refused with the reason; and passed on to its alerts."""
        if command.id in self._commands:
            return
        yield from self.tick(at_us)
        held = self._groups.get(command.alert)
        if held is None:
            yield Said(machine.refused(command, at_us, "there is no such group any more"))
            return
        self._commands = [*self._commands[1 - COMMANDS_MAX :], command.id]
        reason = machine.refusal(held.group, held.decided, command, at_us)
        if reason:
            yield Said(machine.refused(command, at_us, reason, held.group))
            return
        before = held.group.state
        step = STEPS[before][command.action]  # type: ignore[index]  # `refusal` looked
        yield from self._step(held, step, at_us, command.who, command.why, command.id, machine.asked(step, command))
        if command.action != "comment":
            held.asked = command
            yield from self._pass_on(held, command, before, self._of_group(held.group.id))

    def tick(self, at_us: int) -> Iterator[Said]:
        """Everything up to this time has been: whatever is due by then happens, each at its time."""
        while (found := self._next()) is not None and found[0] <= at_us:
            due_us, timer, name = found
            if timer == "tell":
                yield self._tell(name, due_us)
            elif timer == "forget":
                yield self._forget(name)
            else:
                held = self._groups[name]
                if timer == "tell-group":
                    yield from self._tell_group(held, due_us)
                elif timer == "show":
                    yield from self._show(held, due_us)
                else:
                    wake: dict[str, object] = {"snoozed_until_us": None, "who": "", "why": ""}
                    held.asked = None
                    yield from self._step(held, STEPS["snoozed"]["wake"], due_us, SYSTEM, "", f"until:{due_us}", wake)

    # -- alerts

    def _came(self, alert: Alert, at_us: int, key: str) -> Iterator[Said]:
        self._rule = alert.rule
        policy = self._policy
        grouping = key != alert.id and policy is not None and bool(policy.group_by)
        wait_us = int(policy.group_wait_s * 1e6) if grouping and policy is not None else 0
        member = Member(
            alert.device, alert.state, alert.severity, alert.version, bool(alert.muted), alert.title, alert.started_us
        )
        self._members[alert.id] = member
        if member.audible:
            member.telling = member.telling.started(at_us + wait_us, alert.version)
            self._set_alarm(alert.id)
        if grouping and policy is not None:
            yield from self._into_burst(alert, member, policy, at_us, key)
        self._make_room()

    def _into_burst(self, alert: Alert, member: Member, policy: Policy, at_us: int, key: str) -> Iterator[Said]:
        if at_us - self._last_us > policy.group_window_s * 1e6:
            self._burst, self._first, self._joins = [], None, ""
        self._last_us = at_us
        if self._joins in self._groups:
            held = self._groups[self._joins]
            yield from self._join(held, {alert.id: member}, at_us)
            if held.group.state == "resolved":
                yield from self._again(held, alert.id, at_us)
            else:
                yield from self._grown(held, at_us)
                self._listen(held, at_us)
            return
        self._joins = ""
        self._first = self._first or alert
        self._burst.append(alert.id)
        if len(self._burst) >= policy.group_min:
            yield from self._form(policy, at_us, key)

    def _form(self, policy: Policy, at_us: int, key: str) -> Iterator[Said]:
        """The burst is a group."""
        assert self._first is not None
        first, members = self._first, {name: self._members[name] for name in self._burst}
        group = Group(
            id=group_id(key, first.id), key=key, rule=policy.id, shared=machine.shared_by(first, policy), state="open",
            severity="notice", kind=first.kind, title="", count=0, unresolved=0, first=first.id, alerts=[],
            started_us=first.started_us, opened_us=first.opened_us, newest_us=at_us, changed_us=at_us, version=0,
        )  # fmt: skip
        held = self._groups[group.id] = HeldGroup(group, first, 0, Escalation())
        self._joins, self._burst, self._first = group.id, [], None
        yield from self._join(held, members, at_us)
        held.group = msgspec.structs.replace(held.group, version=1)
        held.decided = 1
        yield from self._written(held, "opened", "", at_us, SYSTEM, "", first.id)
        self._listen(held, at_us)

    def _join(self, held: HeldGroup, members: dict[str, Member], at_us: int) -> Iterator[Said]:
        group = held.group
        for name, member in members.items():
            severity = max(group.severity, member.severity, key=RANK.__getitem__)
            group = msgspec.structs.replace(
                group, severity=severity, count=group.count + 1, unresolved=group.unresolved + 1, newest_us=at_us,
                alerts=[*group.alerts, name] if len(group.alerts) < SHOWN_MAX else group.alerts,
                started_us=min(group.started_us, member.started_us),
            )  # fmt: skip
            held.audible += member.audible
            member.group, member.title, member.telling = group.id, "", Escalation()
            join = passed(f"join {group.id}", name, member.device, "join", SYSTEM, group.id)
            yield Said(command=join)
        held.group = msgspec.structs.replace(group, title=group_title(held.first, group.count))
        if held.asked is not None and held.group.state in ("acknowledged", "snoozed"):
            yield from self._pass_on(held, held.asked, "open", members)

    def _changed(self, alert: Alert, member: Member, at_us: int) -> Iterator[Said]:
        was, was_audible = member.state, member.audible
        member.version, member.state, member.muted = alert.version, alert.state, bool(alert.muted)
        member.severity = max(member.severity, alert.severity, key=RANK.__getitem__)
        held = self._groups.get(member.group)
        if held is None:
            member.title, member.started_us = alert.title, alert.started_us
            yield from self._by_itself(alert, member, at_us)
            return
        group = held.group
        change = (was == "resolved") - (alert.state == "resolved")
        severity = max(group.severity, member.severity, key=RANK.__getitem__)
        held.group = msgspec.structs.replace(group, unresolved=group.unresolved + change, severity=severity)
        held.audible += member.audible - was_audible
        if change > 0 and group.state == "resolved":
            yield from self._again(held, alert.id, at_us)
        elif held.group.unresolved == 0 and group.state != "resolved":
            over: dict[str, object] = {"ended_us": at_us, "snoozed_until_us": None}
            yield from self._step(held, STEPS[group.state]["clear"], at_us, SYSTEM, "", alert.id, over)
        else:
            yield from self._grown(held, at_us)
            self._listen(held, at_us)

    def _again(self, held: HeldGroup, cause: str, at_us: int) -> Iterator[Said]:
        """An alert of a group that was over is back."""
        held.asked = None
        back: dict[str, object] = {"ended_us": None, "who": "", "why": ""}
        yield from self._step(held, STEPS["resolved"]["again"], at_us, SYSTEM, "", cause, back)

    def _by_itself(self, alert: Alert, member: Member, at_us: int) -> Iterator[Said]:
        if member.state == "resolved":
            over = self._tell_over(member.telling)
            if over:
                cause = f"{member.telling.round}.{OVER}"
                yield Said(line_of(alert.id, member, self._rule, at_us, cause, over, member.telling.level))
            self._drop(alert.id)
        elif member.state != "open" or member.muted:
            member.telling = member.telling.stopped()
        elif member.telling.since_us is None:
            member.telling = member.telling.started(at_us, alert.version)
            self._set_alarm(alert.id)

    def _tell(self, name: str, due_us: int) -> Said:
        member = self._members[name]
        policy = self._policy
        assert policy is not None
        member.telling, to = member.telling.next(policy)
        self._set_alarm(name)
        return Said(line_of(name, member, policy.id, due_us, member.telling.cause(), to, member.telling.level))

    # -- groups

    def _step(
        self, held: HeldGroup, step: machine.Step, at_us: int, who: str, why: str, cause: str,
        changes: dict[str, object],
    ) -> Iterator[Said]:  # fmt: skip
        group = held.group
        if step.to == "resolved":
            changes.setdefault("ended_us", at_us if group.ended_us is None else group.ended_us)
        held.group = msgspec.structs.replace(
            group, **(changes | {"state": step.to, "changed_us": at_us, "version": group.version + 1})
        )
        if step.action in machine.DECIDES:
            held.decided = held.group.version
        tell: list[str] = []
        if step.to == "resolved" and group.state != "resolved":
            tell = self._tell_over(held.telling)
        yield from self._written(held, step.action, group.state, at_us, who, why, cause)
        if tell:
            cause = f"{held.telling.round}.{OVER}"
            yield Said(group_line(held.group, "told", "resolved", at_us, SYSTEM, "", cause, held.telling.level, tell))
            held.telling = held.telling.ended()
        self._listen(held, at_us)

    def _listen(self, held: HeldGroup, at_us: int) -> None:
        """Start or stop the telling: it goes on while the group, and one of its alerts that nothing hides, are open."""
        if held.group.state != "open" or not held.audible:
            held.telling = held.telling.stopped()
        elif held.telling.since_us is None:
            held.telling = held.telling.started(at_us, held.group.version)

    def _tell_group(self, held: HeldGroup, due_us: int) -> Iterator[Said]:
        policy = self._policy
        assert policy is not None
        held.telling, to = held.telling.next(policy)
        held.group = msgspec.structs.replace(
            held.group, level=held.telling.level, told=list(held.telling.told), changed_us=due_us
        )
        group = held.group
        cause = held.telling.cause()
        yield Said(group_line(group, "told", group.state, due_us, SYSTEM, "", cause, held.telling.level, to))
        yield Said(group=group)

    def _grown(self, held: HeldGroup, at_us: int) -> Iterator[Said]:
        if at_us - held.shown_us >= SHOW_US:
            yield from self._show(held, at_us)

    def _show(self, held: HeldGroup, at_us: int) -> Iterator[Said]:
        group = held.group
        if group.count > held.shown[0]:
            held.group = msgspec.structs.replace(group, version=group.version + 1, changed_us=at_us)
            yield from self._written(held, "grew", group.state, at_us, SYSTEM, "", f"count:{group.count}")
        elif _sizes(group) != held.shown:
            held.shown_us, held.shown = at_us, _sizes(group)
            yield Said(group=group)

    def _written(
        self, held: HeldGroup, action: str, before: str, at_us: int, who: str, why: str, cause: str
    ) -> Iterator[Said]:
        group = held.group
        held.shown_us, held.shown = at_us, _sizes(group)
        yield Said(group_line(group, action, before, at_us, who, why, cause, 0, []))
        yield Said(group=group)

    def _pass_on(
        self, held: HeldGroup, command: Command, before: AlertState, members: dict[str, Member]
    ) -> Iterator[Said]:
        """The same for each alert of the group that it can be asked of. `before`: the group's state before it."""
        for name, member in members.items():
            if command.action in STEPS[member.state] and (command.action != "reopen" or member.state == before):
                why = command.why or f"with its group: {held.group.title}"
                each = passed(command.id, name, member.device, command.action, command.who, why[:500])
                yield Said(command=msgspec.structs.replace(each, until_us=command.until_us))

    def _forget(self, name: str) -> Said:
        del self._groups[name]
        if self._joins == name:
            self._joins = ""
        for alert in self._of_group(name):
            del self._members[alert]
        return Said(gone=name)

    def _of_group(self, name: str) -> dict[str, Member]:
        return {alert: member for alert, member in self._members.items() if member.group == name}

    def _tell_over(self, telling: Escalation) -> list[str]:
        return list(telling.told) if self._policy is not None and self._policy.tell_resolved else []

    # -- what is kept, and what is due

    @property
    def _policy(self) -> Policy | None:
        return self._in_force.policy(self._rule)

    def _drop(self, name: str) -> None:
        del self._members[name]
        if name in self._burst:
            self._burst.remove(name)

    def _make_room(self) -> None:
        while len(self._members) > MEMBERS_MAX:
            name, member = next(iter(self._members.items()))
            held = self._groups.get(member.group)
            if held is not None and member.state != "resolved":
                held.audible -= member.audible
                held.group = msgspec.structs.replace(held.group, unresolved=held.group.unresolved - 1)
            self._drop(name)

    def _set_alarm(self, name: str) -> None:
        due_us = self._members[name].telling.due_us(self._policy)
        if due_us is not None:
            heapq.heappush(self._heap, (due_us, name))

    def _set_alarms(self) -> None:
        self._edition, self._heap = self._in_force.edition, []
        for name, member in self._members.items():
            if not member.group:
                self._set_alarm(name)

    def _next(self) -> tuple[int, _Timer, str] | None:
        """What is due first."""
        return min(self._timers(), default=None)

    def _timers(self) -> Iterator[tuple[int, _Timer, str]]:
        if self._edition != self._in_force.edition:
            self._set_alarms()
        while self._heap:
            due_us, name = self._heap[0]
            member = self._members.get(name)
            if member is not None and not member.group and member.telling.due_us(self._policy) == due_us:
                yield due_us, "tell", name
                break
            heapq.heappop(self._heap)
        for name, held in self._groups.items():
            group = held.group
            if group.state == "resolved":
                yield group.changed_us + KEPT_US, "forget", name
            if group.state == "snoozed" and group.snoozed_until_us is not None:
                yield group.snoozed_until_us, "wake", name
            if _sizes(group) != held.shown:
                yield held.shown_us + SHOW_US, "show", name
            due = held.telling.due_us(self._policy)
            if due is not None:
                yield due, "tell-group", name


def _sizes(group: Group) -> tuple[int, int, int]:
    """What is not written at once when it changes."""
    return group.count, group.unresolved, RANK[group.severity]
