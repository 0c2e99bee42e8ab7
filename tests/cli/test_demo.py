"""`tidegate demo` as a person runs it: it comes up, shows an alert, ends in order, and goes on where it ended."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tidegate_cli.demo_fleet import busiest_places
from tidegate_cli.supervisor import RunFile, end_leftovers, is_alive, read_run_file
from tidegate_cloud.broker import free_port
from tidegate_sim.records import Record

from tests.support.console import session_by
from tests.support.wait import until

pytestmark = pytest.mark.timeout(600)


class Demo:
    """One `tidegate demo`; what it prints is in `output`."""

    def __init__(self, directory: Path, *arguments: object) -> None:
        self.directory = directory
        self.port = free_port()
        self._session: httpx.Client | None = None
        self._log = directory.with_suffix(f".{time.monotonic_ns()}.out")
        command = [
            sys.executable,
            "-m",
            "tidegate_cli.main",
            "demo",
            "--dir",
            directory,
            "--port",
            self.port,
            *arguments,
        ]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env={**os.environ, "COLUMNS": "200"}, start_new_session=True,
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self._log.read_text("utf-8", "replace")

    @property
    def run(self) -> RunFile:
        run = read_run_file(self.directory)
        assert run is not None
        return run

    def until_up(self) -> Demo:
        def up() -> bool:
            assert self.process.poll() is None, self.output
            return "The page is at" in self.output

        until(up, timeout=300, what="the demo to say where its page is")
        assert f"http://127.0.0.1:{self.port}/" in self.output
        return self

    def get(self, path: str) -> Any:
        if self._session is None:
            address, secret = re.findall(r"The page is at (\S+)/login#(\S+)", self.output)[-1]
            self._session = session_by(address, secret)
        answer = self._session.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(90)

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(90)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        run = read_run_file(self.directory)
        if run is not None:
            end_leftovers(run)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "demo"


@pytest.fixture
def start(directory: Path) -> Iterator[Any]:
    demos: list[Demo] = []

    def begin(*arguments: object) -> Demo:
        demos.append(Demo(directory, *arguments))
        return demos[-1]

    yield begin
    for demo in demos:
        demo.clean_up()


def test_the_first_alert_comes_and_a_second_start_goes_on(start: Any) -> None:
    demo = start().until_up()
    for step in ("Starting broker, mqtt", "Making topics", "Starting processor", "Waiting for", "Starting devices"):
        assert step in demo.output
    services = demo.run.services
    assert [service.name for service in services] == [
        "broker", "mqtt", "processor", "alerts", "console", "agent", "devices", "history",
    ]  # fmt: skip
    until(lambda: demo.get("/api/v1/snapshot")["alerts"], timeout=60, what="the first alert")
    devices = {device["id"] for device in demo.get("/api/v1/snapshot")["devices"]}
    assert len(devices) == 12
    first = {alert["id"] for alert in demo.get("/api/v1/snapshot")["alerts"]}
    status = subprocess.run(
        [sys.executable, "-m", "tidegate_cli.main", "status", "--dir", demo.directory, "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert status.returncode == 0, status.stdout + status.stderr
    stages = {stage["name"]: stage for stage in json.loads(status.stdout)["stages"]}
    assert all(stages[name]["came_in"] > 0 for name in ("agent", "processor", "alerts", "console", "history"))

    def past() -> str:
        device = sorted(devices)[0]
        query = f"/api/v1/devices/{device}/series?channel=lat&from_us=0&max_points=10"
        return str(demo.get(query)["source"])

    until(lambda: past() == "history", timeout=60, what="a chart of what history keeps")

    second = Demo(demo.directory)
    assert second.process.wait(60) == 1
    assert f"a demo already runs there (process {demo.process.pid})" in second.output

    assert demo.interrupt() == 0, demo.output
    assert "Everything has ended" in demo.output
    assert not any(is_alive(service) for service in services)
    assert read_run_file(demo.directory) is None

    again = start().until_up()
    kept = {alert["id"] for alert in again.get("/api/v1/snapshot")["alerts"]}
    assert first <= kept
    assert again.interrupt() == 0, again.output


@pytest.mark.full
def test_a_service_that_dies_is_named_and_everything_ends(start: Any) -> None:
    demo = start("--devices", "4").until_up()
    services = demo.run.services
    (victim,) = (service for service in services if service.name == "alerts")
    os.kill(victim.pid, signal.SIGKILL)
    assert demo.process.wait(90) == 1
    assert "Error: alerts was ended by SIGKILL" in demo.output
    assert not any(is_alive(service) for service in services)


@pytest.mark.full
def test_what_a_killed_demo_left_running_is_ended_by_the_next(start: Any) -> None:
    demo = start("--devices", "4").until_up()
    services = demo.run.services
    demo.process.kill()
    demo.process.wait()
    again = start("--devices", "4").until_up()
    assert "Ended what an earlier demo left running: history, devices, agent" in again.output
    assert not any(is_alive(service) for service in services)
    assert again.interrupt() == 0


def test_recorded_positions_are_replayed(start: Any, tmp_path: Path) -> None:
    data = tmp_path / "positions.csv"
    with data.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["vehicle_id", "timestamp", "speed", "latitude", "longitude"])
        for second in range(0, 240, 2):
            for vehicle in range(1, 5):
                stamp = f"2016-03-22T10:{second // 60:02d}:{second % 60:02d}+00:00"
                rows.writerow([vehicle, stamp, 10.0, 30.25 + second * 1e-4, -97.75 + vehicle * 1e-5])
    demo = start("--data", data, "--speed", "20").until_up()
    assert "recorded times reach now only when the replay ends" in demo.output
    until(lambda: "all recorded positions have been sent" in demo.output, timeout=90)
    until(lambda: len(demo.get("/api/v1/snapshot")["devices"]) == 4, what="four vehicles on the page")
    until(lambda: demo.get("/api/v1/alerts"), timeout=30, what="an alert of a busy place")
    assert demo.interrupt() == 0, demo.output


def test_a_port_in_use_is_one_sentence(directory: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for option in ("--port", "--kafka-port", "--mqtt-port"):
            done = _demo("--dir", directory, "--port", free_port(), option, port)
            assert done.returncode == 1, done.stderr
            assert f"port {port} on 127.0.0.1 is in use" in done.stderr
            assert len(done.stderr.strip().splitlines()) == 1


def test_a_missing_file_is_named(directory: Path, tmp_path: Path) -> None:
    done = _demo("--dir", directory, "--data", tmp_path / "none.csv")
    assert done.returncode == 2
    assert f"File '{tmp_path / 'none.csv'}' does not exist" in done.stderr
    (tmp_path / "empty.csv").write_text("vehicle_id,timestamp,speed,latitude\n")
    done = _demo("--dir", directory, "--data", tmp_path / "empty.csv", "--port", free_port())
    assert done.returncode == 1
    assert done.stderr == f"Error: {tmp_path}/empty.csv, line 1: no column longitude\n"


def test_a_directory_that_cannot_be_made_is_one_sentence() -> None:
    done = _demo("--dir", "/proc/x", "--port", free_port())
    assert done.returncode == 1
    assert done.stderr.startswith("Error: /proc/x: the directory cannot be made: ")
    assert done.stderr.endswith(" (choose another --dir)\n")


def _demo(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tidegate_cli.main", "demo", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_busy_places_are_where_most_vehicles_were() -> None:
    def at(vehicle: int, lat: float, lon: float) -> Record:
        return Record(str(vehicle), vehicle, lat, lon, None)

    crowd = [at(vehicle, 30.2700, -97.7400) for vehicle in range(9)]
    lonely = [at(99, 30.4000, -97.9000) for _ in range(50)]
    lost = [at(vehicle, 0.0, 0.0) for vehicle in range(20)]
    found = busiest_places([*lonely, *crowd, *lost], count=1)
    (feature,) = found["features"]  # type: ignore[misc]
    assert feature["geometry"]["coordinates"] == [-97.74, 30.27]
