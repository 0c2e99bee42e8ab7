"""The rollouts' server without Kafka: records in, `Effects` out. Same records, same times: same effects.

Everything that it knows is in records, so that a server that was killed reads them again and goes on: rollouts and
layers as they stand, what agents were told and what they said. Effects of one turn belong into one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.rollouts import (
    OVER,
    Layer,
    Members,
    Order,
    Rollout,
    RolloutCommand,
    RolloutState,
    RolloutStep,
    order_of,
)

from . import commands, layers, plan
from .fleet import Content, Fleet
from .machine import FAILED, SECOND, Step, Told, answer_of, back_of, decide

_MEMBERS_AT_ONCE = 5_000
_TELL_AT_ONCE = 2_000
RENEW_S = 7 * 86_400.0
_STEPS = 50


class Tell(NamedTuple):
    """Tell an agent what to run."""

    agent: str
    number: int
    rollout: str
    content: Content


@dataclass(slots=True)
class Effects:
    """What a turn leads to."""

    tells: list[Tell] = field(default_factory=list)
    renew: list[str] = field(default_factory=list)
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    members: dict[str, Members] = field(default_factory=dict)  # by key
    layers: dict[str, Layer | None] = field(default_factory=dict)
    steps: list[RolloutStep] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.tells or self.renew or self.rollouts or self.layers or self.steps)


class Controller:
    """`turn` after what came in was put. `fleet` is told of what agents were told by whoever carries effects out."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.rollouts: dict[str, Rollout] = {}
        self.layers: dict[str, Layer] = {}
        self._members: dict[str, list[dict[str, None]]] = {}  # rollout → by wave, its agents
        self._done: dict[str, None] = {}  # ids of commands that were dealt with

    # What is on record

    def put_rollout(self, key: str, value: bytes) -> None:
        """A record of fleet.rollouts. Raises BadInput."""
        try:
            if "/" in key:
                members = msgspec.json.decode(value, type=Members)
                waves = self._members.setdefault(key.split("/")[0], [])
                for agent, wave in members.waves.items():
                    while len(waves) <= wave:
                        waves.append({})
                    waves[wave][agent] = None
            else:
                self.rollouts[key] = msgspec.json.decode(value, type=Rollout)
        except msgspec.MsgspecError as error:
            raise BadInput(f"damaged: {error}", where=f"rollout {key}") from None

    def put_layer(self, name: str, layer: Layer | None) -> None:
        """A record of registry.configs."""
        if layer is None:
            self.layers.pop(name, None)
        else:
            self.layers[name] = layer

    def done(self, command: str) -> None:
        """A command that the log says was dealt with."""
        self._done[command] = None

    def members(self, rollout: str) -> list[dict[str, None]]:
        """The agents of a rollout by wave."""
        return self._members.get(rollout, [])

    # Commands

    def command(self, command: RolloutCommand, now_us: int, out: Effects) -> None:
        """Do what a person asked, once."""
        if command.id in self._done:
            return
        self._done[command.id] = None
        if command.action == "push":
            self._push(command, now_us, out)
            return
        rollout = self.rollouts.get(command.rollout)
        outcome = commands.apply(rollout, command)
        if outcome.refusal or rollout is None:
            self._refuse(command, rollout, outcome.refusal, now_us, out)
            return
        if outcome.action == "rolling-back" and rollout.state == "done":
            layer = self.layers.get(rollout.order.layer)
            if layer is None or layer.rollout != rollout.id:
                said = f"{rollout.order.layer} was changed after {rollout.id}: push what should run now"
                self._refuse(command, rollout, said, now_us, out)
                return
        state = outcome.state
        changed = msgspec.structs.replace(rollout, resumes=rollout.state if outcome.action == "paused" else None)
        if outcome.action == "approved":
            changed.let = changed.wave + 1
            if changed.wave + 1 < len(changed.waves):
                changed.wave, changed.since_us, changed.good_us = changed.wave + 1, now_us, None
            else:
                state = "done"
                self._settle(changed, out)
        told = 0
        if outcome.retry:
            told = self._retry(changed, now_us, out)
            if changed.state == "stopped":
                state = "running"
        why = command.why or outcome.action
        self._move(changed, outcome.action, state, why, now_us, out, who=command.who, cause=command.id, agents=told)

    def _push(self, command: RolloutCommand, now_us: int, out: Effects) -> None:
        number = 1 + max((int(name.removeprefix("R-")) for name in self.rollouts), default=0)
        name = f"R-{number}"
        try:
            order = order_of(command.body)
            layers.check(Layer(id=order.layer, content=order.content, files=order.files))
            plan.check_windows(order.windows)
            agents = self.changes(order)
            if not agents:
                raise BadInput("nothing changes for any agent that is known", where=order.layer)
            self._refuse_conflicts(order, agents)
            heard = {
                agent for agent in agents
                if (last := self.fleet.heard.get(agent)) is not None and last.at_us > now_us - order.heard_s * SECOND
            }  # fmt: skip
            waves, members = plan.cut(order, name, agents, heard)
        except BadInput as error:
            self._refuse(command, None, str(error), now_us, out)
            return
        for old in self._stood_aside(order, agents):
            why = f"followed by {name}"
            self._move(old, "done", "done", why, now_us, out, who=command.who, cause=command.id)
        before = self.layers.get(order.layer)
        rollout = Rollout(
            id=name, version=0, order=order, who=command.who, why=command.why, state="running", created_us=now_us,
            changed_us=now_us, waves=waves, had=before is not None, since_us=now_us,
            before="" if before is None else before.content, before_files={} if before is None else before.files,
            cause=command.id, let=0,
        )  # fmt: skip
        items = list(members.items())
        for start in range(0, len(items), _MEMBERS_AT_ONCE):
            key = f"{name}/members/{rollout.members}"
            out.members[key] = Members(dict(items[start : start + _MEMBERS_AT_ONCE]))
            rollout.members += 1
        by_wave: list[dict[str, None]] = [{} for _ in waves]
        for agent, wave in items:
            by_wave[wave][agent] = None
        self._members[name] = by_wave
        self.rollouts[name] = rollout
        why = command.why or order.title or f"{order.layer} for {len(items)} agents"
        self._move(
            rollout, "started", "running", why, now_us, out, who=command.who, cause=command.id, agents=len(items)
        )

    def changes(self, order: Order) -> list[str]:
        """The agents that would run something else under `order` than they were told last."""
        after = self._with(order.layer, self._proposed(order, ""))
        found = []
        for agent in self._of_layer(order.layer):
            content = self.fleet.compiled(after, agent)
            if self._last_content(agent) != (content.sha256, content.files):
                found.append(agent)
        return found

    def _of_layer(self, layer: str) -> list[str]:
        kind, _, name = layer.partition("/")
        if kind == "agent":
            return [name]
        groups = self.fleet.groups
        return [agent for agent in self.fleet.agents() if kind == "base" or groups.get(agent) == name]

    def _last_content(self, agent: str) -> tuple[str, object] | None:
        """What an agent was told last, by the layers and rollouts that it came from."""
        told = self.fleet.told.get(agent)
        if told is None:
            return None
        content = self.content_of(agent, told.rollout)
        return content.sha256, content.files

    def content_of(self, agent: str, rollout: str) -> Content:
        """What `agent` runs when it was told for `rollout` ("R-1", "R-1/back", or "" for the layers as they stand)."""
        name, _, back = rollout.partition("/")
        under_way = self.rollouts.get(name)
        if under_way is None or (under_way.state in OVER):
            return self.fleet.compiled(self.layers, agent)
        order = under_way.order
        layer: Layer | None = self._proposed(order, name)
        if back:
            layer = self._before(under_way)
        return self.fleet.compiled(self._with(order.layer, layer), agent)

    def _proposed(self, order: Order, rollout: str) -> Layer:
        version = 1 + (self.layers[order.layer].version if order.layer in self.layers else 0)
        return Layer(id=order.layer, version=version, content=order.content, rollout=rollout, files=order.files)

    def _before(self, rollout: Rollout) -> Layer | None:
        if not rollout.had:
            return None
        current = self.layers.get(rollout.order.layer)
        version = 1 if current is None else current.version
        return Layer(
            id=rollout.order.layer, version=version, content=rollout.before, rollout=back_of(rollout.id),
            files=rollout.before_files,
        )  # fmt: skip

    def _with(self, name: str, layer: Layer | None) -> Mapping[str, Layer]:
        found = dict(self.layers)
        if layer is None:
            found.pop(name, None)
        else:
            found[name] = layer
        return found

    def _refuse_conflicts(self, order: Order, agents: Iterable[str]) -> None:
        for rollout, shared in self._in_the_way(agents):
            if not _follows(order, rollout):
                raise BadInput(
                    f"{rollout.id} is {rollout.state} on {shared} of these agents", where=order.layer,
                    hint=f"wait for it, or: tidegate config abort|rollback {rollout.id}",
                )  # fmt: skip

    def _stood_aside(self, order: Order, agents: Iterable[str]) -> list[Rollout]:
        return [rollout for rollout, _ in self._in_the_way(agents) if _follows(order, rollout)]

    def _in_the_way(self, agents: Iterable[str]) -> list[tuple[Rollout, int]]:
        """Rollouts that are not over, with how many of these agents each has; those with none are left out."""
        wanted = set(agents)
        found = [
            (rollout, sum(agent in wanted for wave in self.members(rollout.id) for agent in wave))
            for rollout in self.rollouts.values()
            if rollout.state not in OVER
        ]
        return [(rollout, shared) for rollout, shared in found if shared]

    def _retry(self, rollout: Rollout, now_us: int, out: Effects) -> int:
        failed = [
            agent
            for wave in self.members(rollout.id)[: rollout.wave + 1]
            for agent in wave
            if answer_of(rollout, self.fleet.told.get(agent), self.fleet.heard.get(agent), now_us) in FAILED
        ]
        self._tell(failed, rollout.id, now_us, out)
        return len(failed)

    def _refuse(self, command: RolloutCommand, rollout: Rollout | None, why: str, now_us: int, out: Effects) -> None:
        version, state = (rollout.version, rollout.state) if rollout is not None else (0, "")
        out.steps.append(
            RolloutStep(
                rollout=command.rollout or command.id, version=version, action="refused", from_state=state,
                to_state=state, ts_us=now_us, who=command.who, why=why, cause=command.id,
            )
        )  # fmt: skip

    # Time

    def turn(self, now_us: int, out: Effects) -> None:
        """Let every rollout do what is due, and tell those who asked."""
        for rollout in list(self.rollouts.values()):
            if rollout.state in ("running", "rolling-back"):
                self._advance(rollout, now_us, out)
        self._answer_wants(now_us, out)
        self._renew(now_us, out)

    def _advance(self, rollout: Rollout, now_us: int, out: Effects) -> None:
        for _ in range(_STEPS):
            rollout = self.rollouts[rollout.id]
            step = self._decide(rollout, now_us)
            if step.tell:
                name = back_of(rollout.id) if rollout.state == "rolling-back" else rollout.id
                self._tell(step.tell[: _TELL_AT_ONCE - len(out.tells)], name, now_us, out)
                return
            if not step.action:
                if step.good_us != rollout.good_us and rollout.state == "running":
                    changed = msgspec.structs.replace(rollout, good_us=step.good_us)
                    self.rollouts[rollout.id] = out.rollouts[rollout.id] = changed
                return
            changed = msgspec.structs.replace(rollout, good_us=step.good_us)
            if step.wave:
                changed.wave, changed.since_us, changed.good_us = rollout.wave + 1, now_us, None
            if step.action == "done":
                self._settle(changed, out)
            if step.action == "rolled-back":
                self._restore(changed, out)
            self._move(changed, step.action, step.state, step.why, now_us, out)

    def _decide(self, rollout: Rollout, now_us: int) -> Step:
        members = self.members(rollout.id)
        back = rollout.state == "rolling-back"
        agents = [agent for wave in members for agent in wave] if back else list(members[rollout.wave])
        reached = [agent for wave in members[: rollout.wave + 1] for agent in wave]
        mine = [agent for agent in reached if self._is_told(agent, rollout.id)]
        alerts = self.fleet.alerts_since(mine, rollout.order.gate.before_s, now_us)
        return decide(rollout, agents, self.fleet.told, self.fleet.heard, alerts, now_us)

    def _is_told(self, agent: str, rollout: str) -> bool:
        told = self.fleet.told.get(agent)
        return told is not None and told.rollout == rollout

    def _tell(self, agents: Iterable[str], rollout: str, now_us: int, out: Effects) -> None:
        for agent in agents:
            told, heard = self.fleet.told.get(agent), self.fleet.heard.get(agent)
            number = 1 + max(told.number if told else 0, heard.said.number if heard else 0)
            out.tells.append(Tell(agent, number, rollout, self.content_of(agent, rollout)))
            self.fleet.told[agent] = Told(number, rollout, now_us)

    def _answer_wants(self, now_us: int, out: Effects) -> None:
        for agent in list(self.fleet.wants)[:_TELL_AT_ONCE]:
            del self.fleet.wants[agent]
            told, heard = self.fleet.told.get(agent), self.fleet.heard.get(agent)
            if told is not None and (heard is None or heard.said.number <= told.number):
                content = self.content_of(agent, told.rollout)
                out.tells.append(Tell(agent, told.number, told.rollout, content))
            elif any(name in self.layers for name in layers.layer_ids(agent, self.fleet.groups.get(agent, ""))):
                self._tell([agent], "", now_us, out)

    def _renew(self, now_us: int, out: Effects) -> None:
        """Fresh timestamps, before those who are told nothing new think that something is held back from them."""
        for agent, at_us in self.fleet.renewed.items():
            if at_us + RENEW_S * SECOND > now_us or len(out.renew) >= _TELL_AT_ONCE:
                break
            out.renew.append(agent)

    # Transitions

    def _settle(self, rollout: Rollout, out: Effects) -> None:
        """The layer becomes what the rollout brought."""
        self._put(self._proposed(rollout.order, rollout.id), out)

    def _restore(self, rollout: Rollout, out: Effects) -> None:
        """The layer is what it was. Where the rollout had not got through, it never was anything else."""
        current = self.layers.get(rollout.order.layer)
        if current is None or current.rollout != rollout.id:
            return
        if rollout.had:
            files = rollout.before_files
            self._put(replace_layer(current, rollout.before, back_of(rollout.id), files), out)
        else:
            del self.layers[current.id]
            out.layers[current.id] = None

    def _put(self, layer: Layer, out: Effects) -> None:
        self.layers[layer.id] = out.layers[layer.id] = layer

    def _move(
        self,
        rollout: Rollout,
        action: str,
        state: RolloutState | None,
        why: str,
        now_us: int,
        out: Effects,
        *,
        who: str = "system",
        cause: str = "",
        agents: int = 0,
    ) -> None:
        before = self.rollouts[rollout.id].state if rollout.version else ""
        changed = msgspec.structs.replace(
            rollout, version=rollout.version + 1, state=state or rollout.state, reason=why, changed_us=now_us
        )
        self.rollouts[rollout.id] = out.rollouts[rollout.id] = changed
        out.steps.append(
            RolloutStep(
                rollout=rollout.id, version=changed.version, action=action, from_state=before, to_state=changed.state,
                ts_us=now_us, who=who, why=why, cause=cause, agents=agents,
            )
        )  # fmt: skip


def _follows(order: Order, rollout: Rollout) -> bool:
    """Whether an order goes over what a rollout left undone: it was given up, and is about the same layer."""
    return rollout.state == "aborted" and rollout.order.layer == order.layer


def replace_layer(layer: Layer, content: str, rollout: str, files: Mapping[str, object]) -> Layer:
    """The next version of a layer."""
    return msgspec.structs.replace(
        layer, version=layer.version + 1, content=content, rollout=rollout, files=dict(files)
    )
