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
    until(lambda: status(agent).returncode == 1, what="the agent to say that Kafka is not there")
    done = status(agent, "--json")
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
    until(lambda: status(agent).returncode == 1)


def test_a_sound_file_is_shown_with_all_that_is_in_force(agent: RunningAgent) -> None:
    command = [*TIDEGATE, "agent", "check", "--config", str(agent.config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'source[0].subscribe[0].filter = "fleet/+/senml"' in done.stdout
    assert "spool.keep_free_bytes = 67108864" in done.stdout
    assert done.stdout.endswith(" is sound.\n")


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


# ---- the spool from beside


def spool(agent: RunningAgent, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*TIDEGATE, "agent", "spool", words[0], "--config", str(agent.config), *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_what_waits_is_exported_while_the_agent_runs(
    agent: RunningAgent, mqtt_broker: MqttBroker, tmp_path: Path
) -> None:
    assert "there is no spool yet" in spool(agent, "export").stderr
    agent.start()
    publisher = Publisher(mqtt_broker, devices=3)
    publisher.publish(300)
    publisher.close()
    until(lambda: agent.books()["pending"] == 300)
    done = spool(agent, "export")
    assert (done.returncode, done.stderr) == (0, "300 scans\n")
    scans = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(scan["values"]["count"] for scan in scans) == list(range(300))
    assert {scan["time"] for scan in scans} == {"device"}
    assert [scan["seq"] for scan in scans if scan["device"] == "bus-1"] == list(range(100))
    out = tmp_path / "out.csv"
    assert spool(agent, "export", "--format", "csv", "--output", str(out)).returncode == 0
    rows = [line.split(",") for line in out.read_text().splitlines()]
    assert rows[0][-3:] == ["channel", "unit", "value"]
    assert sorted(float(row[-1]) for row in rows[1:]) == list(range(300))
    assert "another agent uses this folder" in spool(agent, "repair").stderr


def test_a_damaged_spool_is_repaired_and_a_sound_one_left_alone(agent: RunningAgent, mqtt_broker: MqttBroker) -> None:
    agent.start()
    publisher = Publisher(mqtt_broker)
    publisher.publish(2000)
    publisher.close()
    until(lambda: agent.books()["pending"] == 2000)
    assert agent.stop() == 0
    assert spool(agent, "repair").stdout.startswith("sound: 2,000 scans wait")
    file = agent.config.parent / "agent" / "spool.db"
    data = bytearray(file.read_bytes())
    at = data.index(b"\xc1T", len(data) // 2)
    data[at + 20 : at + 40] = b"\x00" * 20
    file.write_bytes(data)
    done = spool(agent, "repair")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("repaired: ")
    assert "spool.db.damaged-" in done.stdout
    exported = spool(agent, "export")
    scans = len(exported.stdout.splitlines())
    assert 0 < scans < 2000
    assert exported.stderr == f"{scans:,} scans, {2000 - scans:,} lost in a damaged file\n"
    assert agent.books()["pending"] == 2000, "what is lost is named, and counted as evicted when its turn comes"
    assert spool(agent, "repair").stdout == f"sound: {scans:,} scans wait, {2000 - scans:,} are lost\n"
