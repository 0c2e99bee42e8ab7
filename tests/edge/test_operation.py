"""Running an agent for years: what it says of itself, its log under a flood, what systemd hears, the unit it ships."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tidegate_edge import systemd
from tidegate_edge.logs import BURST, JsonFormatter, RateLimit

from tests.edge.running import Publisher, RunningAgent
from tests.support.mqtt import MqttBroker
from tests.support.wait import until

TIDEGATE = [sys.executable, "-m", "tidegate_cli.main"]


@pytest.fixture
def agent(tmp_path: Path, mqtt_broker: MqttBroker) -> Iterator[RunningAgent]:
    made = RunningAgent(tmp_path, "127.0.0.1:1", mqtt_broker, grace_s=0)
    yield made
    made.kill()


def status(agent: RunningAgent, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*TIDEGATE, "agent", "status", "--config", str(agent.config), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_status_says_how_a_running_agent_is_and_that_none_runs(agent: RunningAgent, mqtt_broker: MqttBroker) -> None:
    assert status(agent).returncode == 2
    agent.start()
    publisher = Publisher(mqtt_broker)
    publisher.publish(50)
    publisher.close()
    until(lambda: json.loads(status(agent, "--json").stdout)["spool"]["accepted"] == 50)
    done = status(agent, "--json")
    assert done.returncode == 1, "Kafka is not there"
    found = json.loads(done.stdout)
    parts = {part["part"]: part for part in found["parts"]}
    assert parts["mqtt"]["well"] is True
    assert parts["mqtt"]["heard_us"] > 0
    assert parts["uplink"]["well"] is False
    assert found["sources"]["mqtt"]["received"] == 50
    assert found["config"]["on_probation"] is False
    assert not os.path.lexists(agent.config.parent / "agent" / "agent.sock.new")
    words = status(agent).stdout
    assert "well     mqtt: connected, last heard 20" in words
    assert "trouble  uplink: " in words
    assert "pending 50" in words
    agent.kill()
    assert status(agent).returncode == 2, "a socket that was left behind is not an agent"
    agent.start()
    assert status(agent).returncode == 1


def test_the_data_folder_may_have_a_path_longer_than_a_sockets(tmp_path: Path, mqtt_broker: MqttBroker) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    agent = RunningAgent(deep, "127.0.0.1:1", mqtt_broker, grace_s=0)
    try:
        agent.start()
        until(lambda: status(agent).returncode == 1)
    finally:
        agent.kill()


# ---- the log


def written(kinds: list[tuple[float, str, tuple[object, ...]]]) -> list[str]:
    now = [0.0]
    limit = RateLimit(lambda: now[0])
    out = []
    for at, template, arguments in kinds:
        now[0] = at
        record = logging.LogRecord("x", logging.WARNING, "", 0, template, arguments, None)
        if limit.filter(record):
            out.append(record.getMessage())
    return out


def test_a_flood_of_one_message_is_counted_and_drowns_no_other() -> None:
    flood = [(i / 100, "port %d is gone", (i,)) for i in range(1000)]
    found = written([*flood, (10, "something else", ()), (61, "port %d is gone", (1000,))])
    assert found == [
        *(f"port {i} is gone" for i in range(BURST)), "something else",
        f"port 1000 is gone ({1000 - BURST} more like this were left out)",
    ]  # fmt: skip


def test_a_line_of_json_holds_a_message_of_many_lines_and_its_traceback() -> None:
    try:
        raise ValueError("odd")
    except ValueError:
        record = logging.LogRecord("a.b", logging.ERROR, "", 0, "one\ntwo %s", ("é",), sys.exc_info())
    line = JsonFormatter().format(record)
    assert "\n" not in line
    found = json.loads(line)
    assert (found["level"], found["logger"], found["message"]) == ("error", "a.b", "one\ntwo é")
    assert "ValueError: odd" in found["error"]


# ---- systemd


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield listening


def test_without_a_service_manager_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    assert not systemd.notify("READY=1")
    assert systemd.watchdog_s() is None
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    assert systemd.watchdog_s() == 30
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert systemd.watchdog_s() is None


def test_systemd_hears_when_the_agent_is_ready_and_that_it_lives(
    manager: socket.socket, agent: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent._env |= {"NOTIFY_SOCKET": os.environ["NOTIFY_SOCKET"], "WATCHDOG_USEC": "100000"}
    agent.start()
    heard = {manager.recv(4096).decode().split("\n")[0] for _ in range(10)}
    heard |= {manager.recv(4096).decode().split("\n")[0] for _ in range(40)} if "READY=1" not in heard else set()
    assert heard == {"WATCHDOG=1", "READY=1"}


def test_the_unit_that_is_shipped_is_one_that_systemd_takes(tmp_path: Path) -> None:
    text = subprocess.run([*TIDEGATE, "agent", "unit"], capture_output=True, text=True, check=True).stdout
    assert "Type=notify" in text
    assert "@EXECUTABLE@" not in text
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    unit = tmp_path / "tidegate-agent.service"
    executable = next(line for line in text.splitlines() if line.startswith("ExecStart=")).split()[0]
    unit.write_text(text.replace(executable, "ExecStart=/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
