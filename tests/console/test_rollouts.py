"""Rollouts on the console: what it says is what the rollouts' server does, and what people ask reaches it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from tidegate_cloud.rollouts import keys

from tests.support.console import admin_of, person
from tests.support.kafka import KafkaNode
from tests.support.rollouts import push, says
from tests.support.service import Services, services
from tests.support.wait import until


class Yard:
    """A rollouts' server and a console beside it; agents say what the test lets them say."""

    def __init__(self, bootstrap: str, group: Services, folder: Path) -> None:
        keys.create(folder)
        self.bootstrap = bootstrap
        self.server = group.add("rollouts", "rollouts", "--bootstrap", bootstrap, "--keys", folder).start()
        console = group.add("console", "console", "--bootstrap", bootstrap, "--port", "0", "--login-link").start()
        admin = admin_of(console)
        self.ines = person(admin, "ines", "operator", "Ines Varga")
        self.viewer = person(admin, "looker", "viewer")

    def says(self, agent: str, number: int, state: str, **more: Any) -> None:
        says(self.bootstrap, [agent], number, state, **more)

    def push(self, agent: str, content: str) -> str:
        """A rollout on an agent that nobody has named before; its id."""
        return push(self.bootstrap, f"agent/{agent}", [agent], content)

    def get(self, path: str, **query: Any) -> Any:
        answer = self.ines.get(f"/api/v1/rollouts{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def seen(self, rollout: str, state: str) -> dict[str, Any]:
        """A rollout, once the console has it in this state."""

        def found() -> dict[str, Any] | None:
            answer = self.ines.get(f"/api/v1/rollouts/{rollout}")
            return answer.json() if answer.status_code == 200 and answer.json()["state"] == state else None

        return until(found, what=f"{rollout} to be {state} on the console")

    def ask(self, rollout: str, action: str, *, client: httpx.Client | None = None, **more: Any) -> httpx.Response:
        body = {"action": action, "id": uuid.uuid4().hex, "why": "the test wants it"} | more
        return (client or self.ines).post(f"/api/v1/rollouts/{rollout}/commands", json=body)


@pytest.fixture(scope="module")
def yard(kafka: KafkaNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    kafka.refresh_topics()
    with services(tmp_path_factory.mktemp("yard")) as group:
        yield Yard(kafka.bootstrap, group, tmp_path_factory.mktemp("keys") / "keys")


def test_it_says_who_has_it_who_does_not_and_why(yard: Yard):
    rollout = yard.push("tug-1", "[batch]\nmax_scans = 1\n")
    view = yard.seen(rollout, "running")
    assert (view["who"], view["why"], view["agents"], view["reached"]) == ("Mo", "a trial", 1, 1)
    assert view["actions"] == ["pause", "abort", "rollback", "retry"]
    assert view["difference"][-1] == "+max_scans = 1"
    assert [gate["name"] for gate in view["gates"]] == ["success", "answers", "alerts"]
    assert view["next_us"] is None
    yard.says("tug-1", 1, "running", running=1)
    until(lambda: yard.get(f"/{rollout}")["waves"][0]["counts"] == {"took": 1}, what="the agent to be counted")
    assert yard.get(f"/{rollout}/agents") == {"agents": [], "total": 0}
    (agent,) = yard.get(f"/{rollout}/agents", stand="took")["agents"]
    assert (agent["agent"], agent["wave"], agent["running"], agent["failed"]) == ("tug-1", 0, 1, False)
    until(lambda: yard.get(f"/{rollout}")["next_us"], what="the gate to hold")
    gates = {gate["name"]: gate["holds"] for gate in yard.get(f"/{rollout}")["gates"]}
    assert gates == {"success": True, "answers": True, "alerts": True}


def test_what_is_asked_is_done_once_with_who_and_why_on_record(yard: Yard):
    rollout = yard.push("tug-2", "[batch]\nmax_scans = 2\n")
    version = yard.seen(rollout, "running")["version"]
    name = uuid.uuid4().hex
    answer = yard.ask(rollout, "pause", id=name, why="the depot is closed", seen_version=version)
    assert (answer.status_code, answer.json()["state"]) == (200, "paused")
    again = yard.ask(rollout, "pause", id=name, why="the depot is closed", seen_version=version)
    assert again.json() == answer.json()
    late = yard.ask(rollout, "resume", seen_version=version)
    assert late.status_code == 409
    assert "changed since you looked" in late.json()["detail"]
    assert yard.ask(rollout, "approve").status_code == 409
    assert yard.ask(rollout, "resume").json()["state"] == "running"
    steps = [(step["action"], step["who"], step["why"]) for step in yard.seen(rollout, "running")["steps"]]
    assert steps == [
        ("started", "Mo", "a trial"), ("paused", "Ines Varga", "the depot is closed"),
        ("resumed", "Ines Varga", "the test wants it"),
    ]  # fmt: skip


def test_a_failure_stays_known_after_the_agent_went_back(yard: Yard):
    rollout = yard.push("tug-3", "[batch]\nmax_scans = 3\n")
    yard.seen(rollout, "running")
    yard.says("tug-3", 1, "refused", why="max_scans: it is odd")
    view = yard.seen(rollout, "rolling-back")
    assert view["reason"].startswith("1 of 1 that answered did not take it")
    yard.says("tug-3", 2, "running", running=2)
    view = yard.seen(rollout, "rolled-back")
    assert view["waves"][0]["counts"] == {"back": 1}
    (agent,) = yard.get(f"/{rollout}/agents")["agents"]
    assert (agent["stand"], agent["failed"], agent["why"]) == ("back", True, "max_scans: it is odd")
    assert view["actions"] == []


def test_without_a_why_or_the_right_nothing_is_asked(yard: Yard):
    rollout = yard.push("tug-4", "[batch]\nmax_scans = 4\n")
    yard.seen(rollout, "running")
    assert yard.ask(rollout, "abort", why="").status_code == 422
    assert yard.ask(rollout, "abort", client=yard.viewer).status_code == 403
    assert yard.ask("R-999", "abort").status_code == 404
    assert yard.viewer.get(f"/api/v1/rollouts/{rollout}").status_code == 200
    assert yard.seen(rollout, "running")["version"] == 1


def test_a_server_that_is_away_leaves_the_command_standing(yard: Yard):
    rollout = yard.push("tug-5", "[batch]\nmax_scans = 5\n")
    yard.seen(rollout, "running")
    yard.server.stop()
    answer = yard.ask(rollout, "pause")
    assert (answer.status_code, answer.json()["answered"]) == (202, False)
    yard.server.start()
    yard.seen(rollout, "paused")


def test_the_stream_carries_the_list(yard: Yard):
    rollout = yard.push("tug-6", "[batch]\nmax_scans = 6\n")
    yard.seen(rollout, "running")
    with yard.ines.stream("GET", "/api/v1/stream") as stream:
        yard.ask(rollout, "pause").raise_for_status()
        lines = stream.iter_lines()
        for line in lines:
            if line == "event: rollouts" and (found := _data(lines, rollout)) and found["state"] == "paused":
                return


def _data(lines: Iterator[str], rollout: str) -> dict[str, Any] | None:
    data = next(line for line in lines if line.startswith("data: "))
    listed = msgspec.json.decode(data.removeprefix("data: "))
    return next((each for each in listed if each["id"] == rollout), None)
