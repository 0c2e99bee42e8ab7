"""The console on a real Kafka, over real HTTP, with the alert engine beside it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner
from tidegate_cloud.console.users import users
from tidegate_protocols.alerts import ALERT, COMMAND, TRANSITION
from tidegate_protocols.events import EVENT, Event
from tidegate_protocols.ids import partition_of
from tidegate_protocols.registry import Device
from tidegate_protocols.schema import Channel, Schema
from tidegate_protocols.topics import ALERT_LOG, ALERTS, COMMANDS, DEVICE_PARTITIONS, EVENTS

from tests.support import fleet
from tests.support.alerts import an_event
from tests.support.console import admin_of, person, session_by
from tests.support.kafka import KafkaNode, consume_all, newest_by_key, produce
from tests.support.service import Service, Services, services
from tests.support.wait import until


class Console:
    """A running console and ways to ask it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.admin = admin_of(service)
        self.url = str(self.admin.base_url)
        self.people = {name: person(self.admin, name.lower(), "operator", name) for name in ("Ines", "Mo")}
        self.http = self.people["Ines"]

    def get(self, path: str, **query: Any) -> Any:
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def command(self, alert: str, action: str, name: str, *, who: str = "Ines", **more: Any) -> httpx.Response:
        body = {"action": action, "id": name} | more
        return self.people[who].post(f"/api/v1/alerts/{alert}/commands", json=body)

    def alerts(self, *devices: str) -> list[dict[str, Any]]:
        """Alerts of these devices."""
        return [alert for alert in self.get("/api/v1/alerts", limit=1000)["alerts"] if alert["device"] in devices]

    def only(self, device: str) -> dict[str, Any]:
        """The one alert that a device has, once it is there."""
        until(lambda: self.alerts(device), what=f"an alert of {device} on the console")
        (alert,) = self.alerts(device)
        return alert


class Stream:
    """A client of the stream, reading in a thread until it is closed."""

    def __init__(self, console: Console, token: str | None) -> None:
        self.events: list[tuple[str, Any, str]] = []
        self.ended = threading.Event()
        self._client = httpx.Client(timeout=None, cookies=console.http.cookies)
        self._thread = threading.Thread(target=self._read, args=(console.url, token), daemon=True)
        self._closing = False
        self._thread.start()

    def _read(self, url: str, token: str | None) -> None:
        try:
            query = {} if token is None else {"from": token}
            with self._client.stream("GET", f"{url}/api/v1/stream", params=query) as answer:
                fields: dict[str, str] = {}
                for line in answer.iter_lines():
                    if self._closing:
                        return
                    if line:
                        name, _, value = line.partition(": ")
                        fields[name] = value
                    else:
                        if "event" in fields:
                            self.events.append(
                                (fields["event"], msgspec.json.decode(fields["data"]), fields.get("id", ""))
                            )
                        fields = {}
        except httpx.HTTPError:
            pass
        finally:
            self.ended.set()

    def of(self, kind: str) -> list[Any]:
        return [data for name, data, _ in list(self.events) if name == kind]

    @property
    def token(self) -> str:
        return [token for _, _, token in self.events if token][-1]

    def close(self) -> None:
        self._closing = True
        self.ended.wait(5)  # the next sign of life is a second away at most
        self._client.close()


@contextmanager
def following(console: Console, token: str | None = None) -> Iterator[Stream]:
    stream = Stream(console, token)
    until(lambda: stream.of("health"), what="a sign of life on the stream")
    try:
        yield stream
    finally:
        stream.close()


def session_of(url: str, secret: str) -> httpx.Client | None:
    try:
        return session_by(url, secret)
    except AssertionError:
        return None


def find(kafka: KafkaNode, *events: Event) -> None:
    produce(kafka.bootstrap, EVENTS.name, [(event.device, EVENT.encode(event)) for event in events])


def start_console(group: Services, kafka: KafkaNode, name: str, *more: str) -> Console:
    return Console(
        group.add(name, "console", "--bootstrap", kafka.bootstrap, "--port", "0", "--login-link", *more).start()
    )


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Services]:
    with services(tmp_path) as group:
        yield group


class Stage:
    """An alert engine and two consoles on one Kafka. Tests keep to devices of their own."""

    def __init__(self, kafka: KafkaNode, group: Services) -> None:
        self.kafka = kafka
        self.group = group
        self.engine = group.add("alerts", "alerts", "--bootstrap", kafka.bootstrap).start()
        self.one = start_console(group, kafka, "one", "--metrics-port", "0")
        self.two = start_console(group, kafka, "two")


@pytest.fixture(scope="module")
def stage(kafka: KafkaNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    kafka.refresh_topics()
    with services(tmp_path_factory.mktemp("stage")) as group:
        yield Stage(kafka, group)


def test_events_become_alerts_that_people_on_two_consoles_handle_as_one(stage: Stage):
    kafka, one, two = stage.kafka, stage.one, stage.two
    with following(one, one.get("/api/v1/snapshot")["resume"]) as page, following(two) as other_page:
        find(kafka, an_event("entered", 1, device="truck"))
        alert = one.only("truck")
        assert (alert["title"], alert["state"], alert["version"]) == ("Entered Reefer Yard", "open", 1)
        until(lambda: page.of("alert") and other_page.of("alert"), what="the alert on both pages")

        answer = one.command(alert["id"], "acknowledge", "c1", why="driver called", seen_version=1)
        assert (answer.status_code, answer.json()) == (202, {"id": "c1"})
        until(lambda: two.only("truck")["state"] == "acknowledged", what="the other console to show it")
        # Somebody who still looks at version 1 is too late, and is told so with a name.
        assert two.command(alert["id"], "resolve", "c2", who="Mo", seen_version=1).status_code == 202
        until(lambda: other_page.of("refused"), what="word of the refusal")
        refused = other_page.of("refused")[0]
        assert (refused["command"], refused["who"]) == ("c2", "Mo")
        assert refused["why"] == "it changed meanwhile: it is acknowledged by Ines"

        assert stage.engine.stop() == 0
        assert one.command(alert["id"], "acknowledge", "c1").status_code == 202  # again, after an answer that was lost
        assert two.command(alert["id"], "resolve", "c3", who="Mo", seen_version=2).status_code == 202
        stage.engine.start()
        until(
            lambda: one.only("truck")["state"] == two.only("truck")["state"] == "resolved", what="the engine to go on"
        )
        until(lambda: page.of("alert")[-1]["state"] == "resolved")

    assert one.only("truck") == two.only("truck")
    detail = one.get(f"/api/v1/alerts/{alert['id']}")
    assert [(line["action"], line["who"]) for line in detail["transitions"]] == [
        ("opened", "system"), ("acknowledged", "Ines"), ("refused", "Mo"), ("resolved", "Mo"),
    ]  # fmt: skip
    assert detail["transitions_complete"] is True
    late = one.command(alert["id"], "acknowledge", "c4")
    assert (late.status_code, late.json()["detail"]) == (409, "it is resolved by Mo already")
    assert one.command(alert["id"], "resolve", "c3", who="Mo").status_code == 202  # that very command was done

    log = [TRANSITION.decode(message.value()) for message in consume_all(kafka.bootstrap, ALERT_LOG.name)]
    assert [line.action for line in log if line.device == "truck"] == ["opened", "acknowledged", "refused", "resolved"]
    states = consume_all(kafka.bootstrap, ALERTS.name)
    newest = newest_by_key(states)[alert["id"].encode()]
    assert ALERT.decode(newest).state == "resolved"
    partition = partition_of(b"truck", DEVICE_PARTITIONS)
    assert {message.partition() for message in states if message.key() == alert["id"].encode()} == {partition}


def devices_of(page: Stream) -> set[str]:
    return {alert["device"] for alert in page.of("alert")}


def changes_of(page: Stream) -> list[tuple[str, int]]:
    return [(alert["id"], alert["version"]) for alert in page.of("alert")]


def test_the_stream_resumes_with_exactly_what_was_missed_even_on_a_new_console(stage: Stage):
    kafka, console = stage.kafka, stage.one
    vans = [f"van-{n}" for n in range(10)]

    def enter(*devices: str) -> None:
        find(kafka, *(an_event("entered", 1, device=device) for device in devices))

    with following(console, console.get("/api/v1/snapshot")["resume"]) as page:
        enter(*vans[:5])
        until(lambda: devices_of(page) == set(vans[:5]), what="five alerts on the page")
    token = page.token
    enter(*vans[5:9])
    until(lambda: len(console.alerts(*vans)) == 9)
    with following(console, token) as again:
        until(lambda: devices_of(again) >= set(vans[5:9]))
        enter(vans[9])
        until(lambda: vans[9] in devices_of(again))
    # Other changes may come meanwhile (alerts of one fault become a group), but none twice and none again.
    assert len(set(changes_of(again))) == len(changes_of(again))
    assert not set(changes_of(page)) & set(changes_of(again))

    fresh = start_console(stage.group, kafka, "fresh")
    with following(fresh, token) as elsewhere:
        until(lambda: devices_of(elsewhere) >= set(vans[5:]))
    assert len(set(changes_of(elsewhere))) == len(changes_of(elsewhere))
    assert not set(changes_of(page)) & set(changes_of(elsewhere))
    with following(fresh, fresh.get("/api/v1/snapshot")["resume"]) as current:
        assert current.of("alert") == []
    assert fresh.service.stop() == 0


def test_positions_charts_and_health_follow_the_frames(stage: Stage):
    kafka = stage.kafka
    now_us = time.time_ns() // 1000
    fleet.register(kafka.bootstrap, fleet.YARD, Device(id="van-0", name="Van nought", group="City"))
    fleet.announce(kafka.bootstrap, fleet.POSITION)
    before = [(now_us - (60 - i) * 1_000_000, (*fleet.where(0, i), i % 2 == 0)) for i in range(60)]
    fleet.send(kafka.bootstrap, fleet.a_batch("van-0", 0, before))
    console = stage.one
    late = start_console(stage.group, kafka, "late")  # it was not there when they came
    until(lambda: late.http.get("/api/v1/devices/van-0").json().get("heard_us"), what="the frames of the last hour")
    chart = late.get("/api/v1/devices/van-0/series", channel="cargo")
    assert chart["ts_us"] == [ts for ts, _ in before]
    assert late.service.stop() == 0
    snapshot = console.get("/api/v1/snapshot")
    (fence,) = snapshot["fences"]["features"]
    assert (fence["properties"]["name"], fence["properties"]["radius_m"]) == ("Reefer Yard", 400.0)
    van = next(device for device in snapshot["devices"] if device["id"] == "van-0")
    assert (van["name"], van["group"], van["ts_us"]) == ("Van nought", "City", before[-1][0])
    assert van["lat"] == pytest.approx(before[-1][1][0])
    assert van["readings"]["cargo"]["unit"] == "Cel"

    with following(console, snapshot["resume"]) as page:
        row = (30.5, -97.5, 1.0, 2.0, 3.0, 7.25, True)
        fleet.send(kafka.bootstrap, fleet.a_batch("van-0", 60, [(now_us, row)]))
        moved = until(lambda: page.of("positions"), what="the new position")[0]
        assert [(device["id"], device["lat"], device["ts_us"]) for device in moved] == [("van-0", 30.5, now_us)]
        fleet.register(kafka.bootstrap, msgspec.structs.replace(fleet.YARD, version=2, name="Cold Yard"))
        fences = until(lambda: page.of("fences"), what="the edited fence")[0]
        assert fences["features"][0]["properties"]["name"] == "Cold Yard"
        until(lambda: page.of("health")[-1]["readings_per_s"] > 0, what="the rate of readings")
        until(lambda: page.of("health")[-1]["behind_ms"] == 0, what="the console to have caught up")

    chart = console.get("/api/v1/devices/van-0/series", channel="cargo")
    assert chart["ts_us"] == [ts for ts, _ in before] + [now_us]
    assert chart["values"][-1] == 7.25
    assert (chart["unit"], chart["since_us"]) == ("Cel", before[0][0])
    part = console.get("/api/v1/devices/van-0/series", channel="cargo", from_us=before[50][0], max_points=10)
    assert part["ts_us"][0] == before[50][0]
    assert len(part["ts_us"]) <= 10
    assert console.get("/api/v1/status")["history_bytes"] > 0
    metrics = next(word for word in console.service.output().split() if word.endswith("/metrics"))
    text = httpx.get(metrics).text
    assert "tidegate_console_clients" in text
    assert "tidegate_console_reading_to_page_seconds_count 1" in text


def test_frames_wait_for_their_schema(stage: Stage):
    schema = Schema("late", (Channel("rpm"),))
    now_us = time.time_ns() // 1000
    fleet.send(stage.kafka.bootstrap, fleet.a_batch("pump", 0, [(now_us, (900.0,))], schema))
    fleet.announce(stage.kafka.bootstrap, schema)
    until(
        lambda: stage.one.http.get("/api/v1/devices/pump").status_code == 200,
        what="the device whose schema came after its frame",
    )


def test_what_is_wrong_with_a_request_is_said_by_field(stage: Stage):
    kafka, console = stage.kafka, stage.one
    find(kafka, an_event("entered", 1, device="odd"))
    name = console.only("odd")["id"]
    good = {"action": "acknowledge", "id": "k1"}
    for change, field in [
        ({"action": "dance"}, "action"), ({"who": "Mo"}, "who"), ({"id": "no spaces"}, "id"), ({"other": 1}, "other"),
        ({"seen_version": "x"}, "seen_version"), ({"why": "x" * 501}, "why"), ({"action": "snooze"}, "until_us"),
    ]:  # fmt: skip
        answer = console.http.post(f"/api/v1/alerts/{name}/commands", json=good | change)
        assert answer.status_code == 422, answer.text
        assert field in answer.json()["detail"]
        assert set(answer.json()) == {"detail"}
    assert console.http.post(f"/api/v1/alerts/{name}/commands", content=b"{").status_code == 422
    for body in (
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"until_us":' + b"9" * 30 + b"}",
        b'{"seen_version":' + b"9" * 30 + b"}",
    ):
        answer = console.http.post(f"/api/v1/alerts/{name}/commands", content=body)
        assert answer.status_code == 422, (body[:20], answer.text)
    for path in ("/%00", "/a%00b", "/" + "a" * 5000):
        assert console.http.get(path).status_code in (200, 404), path[:10]
    assert console.command("0" * 32, "acknowledge", "k2").status_code == 404
    elsewhere = {"origin": "http://evil.example"}
    assert console.http.post(f"/api/v1/alerts/{name}/commands", json=good, headers=elsewhere).status_code == 403
    answer = console.http.get("/api/v1/alerts", params={"state": "odd"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("state: ")
    assert console.http.get("/api/v1/devices/none/series", params={"channel": "t"}).status_code == 404
    assert console.http.get("/api/v1/stream", params={"from": "nonsense"}).status_code == 422
    assert console.http.get("/api/v1/nothing").status_code == 404
    assert console.http.get("/api/v1/nothing").json()["detail"]
    asked = [COMMAND.decode(message.value()) for message in consume_all(kafka.bootstrap, COMMANDS.name)]
    assert not [command for command in asked if command.device == "odd" and command.who == "Ines"]
    assert console.get("/schema/openapi.json")["openapi"].startswith("3.1")
    page = console.http.get("/alerts/anything")
    assert page.headers["content-type"].startswith("text/html")
    assert console.http.get("/app/main.js").headers["content-type"].startswith("text/javascript")
    assert console.http.get("/%2e%2e/cli.py").status_code == 404


def test_while_kafka_is_away_the_console_says_so_and_keeps_what_it_knows(private_kafka: KafkaNode, group: Services):
    kafka = private_kafka
    group.add("alerts", "alerts", "--bootstrap", kafka.bootstrap).start()
    console = start_console(group, kafka, "console")
    find(kafka, an_event("entered", 1))
    alert = console.only("van-1")
    kafka.stop()
    until(lambda: console.http.get("/healthz").status_code == 503, what="the console to notice")
    health = until(
        lambda: (h := console.get("/api/v1/status")["health"])["behind_ms"] > 0 and h, what="its lag to grow"
    )
    assert health["kafka"] == "away"
    assert console.alerts("van-1") == [alert]
    answer = console.command(alert["id"], "acknowledge", "k1")
    assert answer.status_code == 503
    assert "asking again under the same id is safe" in answer.json()["detail"]
    kafka.start()
    until(lambda: console.command(alert["id"], "acknowledge", "k1").status_code == 202, what="Kafka to take it")
    until(lambda: console.only("van-1")["state"] == "acknowledged", timeout=60, what="the command to be done")
    until(lambda: console.http.get("/healthz").status_code == 200)


def test_a_port_in_use_and_a_kafka_that_is_not_there_are_said_in_a_sentence(stage: Stage, group: Services):
    port = stage.one.url.rsplit(":", 1)[1]
    second = group.add("second", "console", "--bootstrap", stage.kafka.bootstrap, "--port", port).start(ready=False)
    assert second.wait() == 1
    assert f"port {port} on 127.0.0.1 is in use" in second.output()
    assert "Traceback" not in second.output()
    lost = group.add("lost", "console", "--bootstrap", "127.0.0.1:1", "--port", "0").start(ready=False)
    assert lost.wait() == 1
    assert "no Kafka answers there" in lost.output()
    assert "Traceback" not in lost.output()


def test_fences_and_rules_are_edited_with_versions_and_what_is_wrong_is_said_by_place(stage: Stage):
    console, other = stage.one, stage.two
    ring = [[2.0, 51.0], [2.1, 51.0], [2.1, 51.1], [2.0, 51.0]]
    area = {"type": "Polygon", "coordinates": [ring]}
    properties = {"name": "Quay <b>4</b>", "severity": "critical", "alert_on": "enter"}
    feature = {"type": "Feature", "geometry": area, "properties": properties}
    with following(console) as page:
        made = console.http.put("/api/v1/fences/quay-4", json=feature, headers={"if-match": '"0"'})
        assert (made.status_code, made.headers.get("etag")) == (200, '"1"'), made.text
        until(lambda: any("Quay <b>4</b>" in str(fences) for fences in page.of("fences")), what="the fence on the page")
    assert console.http.put("/api/v1/fences/quay-4", json=feature, headers={"if-match": '"0"'}).status_code == 412
    again = console.http.put("/api/v1/fences/quay-4", json=feature, headers={"if-match": '"1"'}).json()
    assert (again["properties"]["version"], again["geometry"]) == (2, area)
    until(lambda: other.http.get("/api/v1/fences/quay-4").headers.get("etag") == '"2"', what="the other console")

    bow = [[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]
    for change, place in [
        ({"geometry": {"type": "Polygon", "coordinates": [bow]}}, "0.5"),
        ({"geometry": {"type": "Polygon", "coordinates": [ring[:3]]}}, "coordinates[0]"),
        ({"geometry": None}, "geometry"), ({"properties": {"odd": 1}}, "odd"), ({"type": "Point"}, "Feature"),
        ({"properties": {"severity": "dire"}}, "severity"),
    ]:  # fmt: skip
        for method, path in (("PUT", "/api/v1/fences/bad"), ("POST", "/api/v1/fences/check")):
            answer = console.http.request(method, path, json=feature | change)
            assert answer.status_code == 422, (change, answer.text)
            assert place in answer.json()["detail"], answer.text
    assert console.http.get("/api/v1/fences/bad").status_code == 404
    assert console.http.post("/api/v1/fences/check", json=feature).json()["geometry"] == area
    for odd in ([], "x", [1]):
        assert console.http.put("/api/v1/fences/bad", json=odd).status_code == 422
    assert console.http.put("/api/v1/fences/quay-4", json=feature, headers={"if-match": "x"}).status_code == 422

    twisted = feature | {"geometry": {"type": "Polygon", "coordinates": [bow]}}
    offered = console.http.post("/api/v1/fences/repair", json=twisted).json()
    assert offered["words"] == "2 polygons of 6 corners"
    assert console.http.post("/api/v1/fences/check", json=offered["feature"]).status_code == 200
    assert console.http.post("/api/v1/fences/repair", json=feature).json() == {
        "feature": {"id": "new"} | feature,
        "words": "",
    }
    flat = feature | {"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]}}
    for odd in (flat, feature | {"properties": [1]}, twisted | {"properties": {"radius_m": "wide"}}):
        assert console.http.post("/api/v1/fences/repair", json=odd).status_code == 422

    answer = console.http.put("/api/v1/fences/quay-4", params={"why": "the quay is longer"}, json=feature)
    assert answer.json()["properties"]["version"] == 3

    def versions() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = console.get("/api/v1/fences/quay-4/versions")
        return found

    until(lambda: versions()[0]["why"] == "the quay is longer", what="the audit log to say why")
    assert [(each["version"], each["who"]) for each in versions()] == [(3, "ines"), (2, "ines"), (1, "ines")]
    assert versions()[-1]["feature"]["geometry"] == area

    rule = {"name": "Cold chain", "channel": "cargo", "high": 7.0, "severity": "critical"}
    assert console.http.put("/api/v1/rules/cold", json=rule).json()["version"] == 1
    assert console.http.put("/api/v1/rules/cold", json=rule | {"high": "hot"}).status_code == 422
    assert [each["id"] for each in console.get("/api/v1/rules")["rules"]] == ["cold"]
    assert console.http.put("/api/v1/devices/TRK-9", json={"name": "Truck nine", "group": "Hazmat"}).status_code == 200
    until(lambda: console.http.get("/api/v1/devices/TRK-9").json().get("name") == "Truck nine")
    assert console.http.put("/api/v1/devices/no%20spaces", json={}).status_code == 422
    for path in ("fences/quay-4", "rules/cold", "devices/TRK-9"):
        assert console.http.delete(f"/api/v1/{path}").status_code == 204
        assert console.http.delete(f"/api/v1/{path}").status_code == 404


def test_a_group_is_acted_on_as_one_and_so_are_its_alerts(stage: Stage):
    console = stage.one
    devices = [f"barge-{n}" for n in range(6)]
    find(stage.kafka, *(an_event("entered", 1, device=device) for device in devices))

    def grouped() -> dict[str, Any] | None:
        alerts = console.alerts(*devices)
        names = {alert["group"] for alert in alerts}
        if len(alerts) < len(devices) or len(names) != 1 or "" in names:
            return None
        groups: list[dict[str, Any]] = console.get("/api/v1/groups")
        return next((group for group in groups if group["id"] in names), None)

    group = until(grouped, 60, "one group of all six")
    body = {"action": "acknowledge", "id": "g1", "seen_version": group["version"]}
    answer = console.http.post(f"/api/v1/groups/{group['id']}/commands", json=body)
    assert (answer.status_code, answer.json()) == (202, {"id": "g1"})
    until(
        lambda: all((a["state"], a["who"]) == ("acknowledged", "Ines") for a in console.alerts(*devices)), 60,
        "each of its alerts to be had",
    )  # fmt: skip
    assert console.http.post("/api/v1/groups/none/commands", json=body).status_code == 404
    no_time = {"action": "snooze", "id": "g2"}
    assert console.http.post(f"/api/v1/groups/{group['id']}/commands", json=no_time).status_code == 422


def test_when_the_topic_was_made_anew_pages_are_told_to_reload_and_see_what_is_there_now(stage: Stage):
    """The last one: nothing is left afterwards."""
    kafka, console = stage.kafka, stage.one
    find(kafka, an_event("entered", 1, device="ferry"))
    console.only("ferry")
    token = console.get("/api/v1/snapshot")["resume"]
    stage.engine.kill()
    stream = Stream(console, token)
    until(lambda: stream.of("health"))
    kafka.refresh_topics()
    assert stream.ended.wait(30), "the stream goes on although the topic is gone"
    assert stream.events[-1][0] == "reload"
    # Accounts went with the topics: the command makes the next first person.
    made = CliRunner().invoke(users, ["add", "next", "--role", "admin", "--bootstrap", kafka.bootstrap])
    assert made.exit_code == 0, made.output
    secret = made.output.strip().removeprefix("/login#")
    console.http = until(lambda: session_of(console.url, secret), what="the link to be good")
    until(lambda: console.get("/api/v1/alerts")["alerts"] == [], what="the console to forget the old topic's alerts")
    late = Stream(console, token)
    assert late.ended.wait(10)
    assert [name for name, _, _ in late.events] == ["reload"]
