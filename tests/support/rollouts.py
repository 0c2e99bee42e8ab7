"""Agents that say what a test lets them say, and pushes of configuration, on a real Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
from tidegate_cloud.rollouts import asking
from tidegate_protocols.ota import Reported, desired_key
from tidegate_protocols.rollouts import Gate, Order, RolloutCommand
from tidegate_protocols.topics import REPORTED

from tests.support.kafka import produce
from tests.support.wait import until


def says(bootstrap: str, agents: Sequence[str], number: int, state: str, **more: Any) -> None:
    """Let agents report how it went with the configuration of this number."""
    records = []
    for agent in agents:
        said = Reported(agent=agent, number=number, state=state, **more)  # type: ignore[arg-type]
        records.append((desired_key(agent), said.encode()))
    produce(bootstrap, REPORTED.name, records)


def push(bootstrap: str, layer: str, agents: Sequence[str], content: str, *, why: str = "a trial", **more: Any) -> str:
    """Start a rollout on agents, once they were heard; its id. Without `more` it waits long for everything."""
    says(bootstrap, agents, 0, "running")
    until(lambda: set(agents) <= asking.read(bootstrap).fleet.heard.keys(), what="the agents to be heard")
    options: dict[str, Any] = {"waves": ["100%"], "gate": Gate(hold_s=600), "timeout_s": 600.0} | more
    body = msgspec.json.encode(Order(layer=layer, content=content, **options)).decode()

    def started() -> str:
        command = RolloutCommand(id=uuid.uuid4().hex, action="push", who="Mo", why=why, body=body)
        step = asking.ask(bootstrap, command, 30)
        return step.rollout if step.action == "started" else ""

    return str(until(started, what="the rollout to start"))
