"""The agent is killed at each step of a push: it starts with the old configuration or the new one, and ends with the
new one; no reading is lost on the way.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.edge.running import Publisher, RunningAgent
from tests.support import frames
from tests.support.kafka import KafkaNode
from tests.support.wait import until

from .running import Running
from .test_on_kafka import push, reported, said


def _state(agent: RunningAgent, name: str) -> dict[str, object]:
    path: Path = agent.config.parent / "agent" / name
    try:
        found: dict[str, object] = json.loads(path.read_text("utf-8").partition("\n")[0])
    except (OSError, ValueError):
        return {}
    return found


STEPS: dict[str, Callable[[RunningAgent, int], bool]] = {
    "told": lambda agent, number: bool(base64.b64decode(str(_state(agent, "ota/state.json").get("desired", "")))),
    "applying": lambda agent, number: _state(agent, "ota/state.json").get("number") == number,
    "on trial": lambda agent, number: _state(agent, "config.json").get("trial") is not None,
    "decided": lambda agent, number: f"over the air, {number}" in str(_state(agent, "config.json").get("good")),
    "running": lambda agent, number: _state(agent, "ota/state.json").get("running") == number,
}


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=[] if step == "on trial" else [pytest.mark.full]) for step in STEPS]
)
def test_a_kill_at_any_step_leaves_old_or_new_and_ends_with_the_new(
    step: str, fresh_kafka: KafkaNode, server: Running, agent: RunningAgent, publisher: Publisher
) -> None:
    bootstrap = fresh_kafka.bootstrap
    publisher.publish(20)
    until(lambda: said(bootstrap) is not None, what="the agent to report")
    push(bootstrap, "[batch]\nmax_scans = 3\n", "c1")
    until(lambda: STEPS[step](agent, 1), 60, what=f"the agent to be {step}")
    agent.kill()
    publisher.publish(20)
    agent.start()
    until(lambda: reported(bootstrap, "running", 1), 90, what="the agent to run what was pushed")
    assert "max_scans = 3" in str(_state(agent, "config.json")["good"])
    publisher.publish(20)
    until(lambda: agent.books()["accepted"] == 60 and agent.books()["pending"] == 0, 60, what="every reading")
    assert len(frames.once(frames.batches(bootstrap))) == 60
