"""The rollouts' server and a thousand simulated agents in one loop, with a clock that the test moves."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from tidegate_cloud.rollouts.controller import Controller, Effects
from tidegate_cloud.rollouts.machine import SECOND
from tidegate_protocols.ota import Claim, Desired, Reported
from tidegate_protocols.registry import Device
from tidegate_protocols.rollouts import Order, RolloutCommand, RolloutStep
from tidegate_sim.agents import SimAgent

NOON = 1_800_000_000 * SECOND
BAD = "max_age_ms = 59999"
WELL = "[batch]\nmax_age_ms = 100\n"
BROKEN = f"[batch]\n{BAD}\n"


class Town:
    """`run` moves time. What the server would keep on Kafka is in `record`: `crash` starts it anew from that."""

    def __init__(self, agents: list[SimAgent], group: str = "vans") -> None:
        self.agents = {agent.name: agent for agent in agents}
        self.group = group
        self.now_us = NOON
        self.record: list[tuple[str, str, Any]] = []
        self.steps: list[RolloutStep] = []
        self.asked = 0
        self.controller = self._new()
        for agent in agents:
            # What it measures is of another name, under which its alerts come.
            self._keep("claim", f"{agent.name}-engine", Claim(1, "spool", agent.name).encode())
            if agent.nature == "dead" or agent.back_us:  # it was heard once, long ago
                said = Reported(agent=agent.name, number=0, state="running")
                self._keep("reported", agent.name, (said.encode(), NOON - 30 * 86_400 * SECOND))
        self._speak()

    def _new(self) -> Controller:
        controller = Controller()
        for name in self.agents:
            controller.fleet.put_device(name, Device(id=name, group=self.group))
        return controller

    def crash(self) -> None:
        """The server is killed, and another one reads the record."""
        self.controller = self._new()
        for kind, key, value in self.record:
            self._put(kind, key, value)

    def _put(self, kind: str, key: str, value: Any) -> None:
        fleet = self.controller.fleet
        if kind == "rollout":
            self.controller.put_rollout(key, value)
        elif kind == "layer":
            self.controller.put_layer(key, value)
        elif kind == "reported":
            fleet.put_reported(key, *value)
        elif kind == "desired":
            fleet.put_desired(key, *value)
        elif kind == "alert":
            fleet.alert_opened(key, value)
        elif kind == "claim":
            fleet.put_claim(key, value)
        elif kind == "done":
            self.controller.done(key)

    def push(self, content: str, **more: Any) -> str:
        """Push the group's layer; the id of the rollout, or "" and the refusal as the last step."""
        order = Order(layer=f"group/{self.group}", content=content, **more)
        self.ask("push", body=msgspec.json.encode(order).decode())
        step = self.steps[-1]
        return "" if step.action == "refused" else step.rollout

    def ask(self, action: str, rollout: str = "", **more: Any) -> None:
        """A person's command."""
        self.asked += 1
        command = RolloutCommand(id=f"c{self.asked}", action=action, rollout=rollout, who="Ines", **more)
        out = Effects()
        self.controller.command(command, self.now_us, out)
        self._carry_out(out)
        self._keep("done", command.id, None, put=False)

    def run(self, seconds: float, step_s: float = 1.0, *, crash_at: frozenset[int] = frozenset()) -> None:
        """Move time. `crash_at`: turns before whose effects are committed the server is killed."""
        for turn in range(round(seconds / step_s)):
            self.now_us += int(step_s * SECOND)
            self._speak()
            out = Effects()
            self.controller.turn(self.now_us, out)
            if turn in crash_at:
                self.crash()
            else:
                self._carry_out(out)

    def _speak(self) -> None:
        for agent in self.agents.values():
            alerts = agent.alerts
            for report in agent.step(self.now_us):
                self._keep("reported", agent.name, (report.encode(), self.now_us))
            for _ in range(agent.alerts - alerts):
                self._keep("alert", f"{agent.name}-engine", self.now_us)

    def _carry_out(self, out: Effects) -> None:
        for tell in out.tells:
            bad = BAD.encode() in tell.content.data
            self._keep("desired", tell.agent, (desired_of(tell.agent, tell.number, tell.rollout), self.now_us))
            self.agents[tell.agent].tell(tell.number, bad, self.now_us)
        for key, members in out.members.items():
            self._keep("rollout", key, msgspec.json.encode(members), put=False)
        for name, rollout in out.rollouts.items():
            self._keep("rollout", name, msgspec.json.encode(rollout), put=False)
        for name, layer in out.layers.items():
            self._keep("layer", name, layer, put=False)
        self.steps += out.steps

    def _keep(self, kind: str, key: str, value: Any, *, put: bool = True) -> None:
        self.record.append((kind, key, value))
        if put:
            self._put(kind, key, value)

    def story(self, rollout: str) -> list[str]:
        """What happened to a rollout, in short."""
        return [step.action for step in self.steps if step.rollout == rollout]

    def content(self, agent: str) -> str:
        """What an agent should run now."""
        told = self.controller.fleet.told.get(agent)
        return self.controller.content_of(agent, told.rollout if told else "").data.decode()


def desired_of(agent: str, number: int, rollout: str) -> bytes:
    """An unsigned Desired: the server believes its own records, and simulated agents verify nothing."""
    targets = json.dumps({"signed": {"custom": {"number": number, "rollout": rollout}}}).encode()
    return Desired(agent, number, number, b"", b"", targets).encode()
