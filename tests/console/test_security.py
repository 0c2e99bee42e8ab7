"""Who may ask what: every route as every role and as nobody, logging in, and what an attacker would try."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from tidegate_cloud.console.app import create_app, routes_of
from tidegate_cloud.console.security.limits import PER_ADDRESS, PER_NAME, WINDOW_S, Failures
from tidegate_cloud.console.security.passwords import Hashing, check_new
from tidegate_cloud.console.service import ConsoleService
from tidegate_protocols.accounts import PERMISSIONS
from tidegate_protocols.errors import BadInput
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.support.console import admin_of, person, session_by
from tests.support.kafka import KafkaNode
from tests.support.service import Service, services
from tests.support.wait import until

PASSWORD = "seven tall ships"
ROLES = tuple(PERMISSIONS)


class Site:
    """A console and its people."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.admin = admin_of(service)
        self.url = str(self.admin.base_url)
        self.people = {role: person(self.admin, f"a-{role}", role) for role in ROLES}
        self.nobody = httpx.Client(base_url=self.url, timeout=30)


@pytest.fixture(scope="module")
def site(kafka: KafkaNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    kafka.refresh_topics()
    with services(tmp_path_factory.mktemp("site")) as group:
        arguments = ("--bootstrap", kafka.bootstrap, "--port", "0", "--login-link")
        yield Site(group.add("console", "console", *arguments).start())


def routes() -> list[tuple[str, str, str]]:
    """(method, path, what it needs) of everything that the application answers."""
    return routes_of(create_app(ConsoleService("127.0.0.1:1")))


def test_every_route_states_what_it_needs():
    found = routes()
    assert len(found) > 20
    assert {needs for _, _, needs in found} <= {"nobody", "read", "act", "edit", "admin"}
    open_to_all = {(method, path) for method, path, needs in found if needs == "nobody"}
    assert open_to_all == {("GET", "/"), ("GET", "/{path:path}"), ("GET", "/healthz"), ("POST", "/api/v1/session")}


@pytest.mark.parametrize("role", [*ROLES, "nobody"])
def test_every_route_answers_those_who_may_and_nobody_else(site: Site, role: str):
    client = site.nobody if role == "nobody" else site.people[role]
    for method, path, needs in routes():
        if (method, path) == ("DELETE", "/api/v1/session") and role != "nobody":
            continue  # it works, and then nothing else would
        address = re.sub(r"\{\w+:\w+\}", "x", path)
        if method == "WEBSOCKET":
            assert opens(client, address) == (role != "nobody" and needs in PERMISSIONS[role]), path
            continue
        with client.stream(method, address, **({"json": {}} if method in ("POST", "PUT") else {})) as answer:
            status = answer.status_code
        if needs == "nobody":
            assert status != 403, (method, path)
        elif role == "nobody":
            assert status == 401, (method, path)
        elif needs in PERMISSIONS[role]:
            assert status not in (401, 403), (method, path)
        else:
            assert status == 403, (method, path)


def opens(client: httpx.Client, path: str) -> bool:
    """Whether a WebSocket is let in."""
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.cookies.jar)
    address = str(client.base_url).replace("http", "ws") + path
    try:
        with connect(address, additional_headers={"cookie": cookies}):
            return True
    except InvalidStatus:
        return False


def test_what_states_nothing_is_shut(site: Site):
    assert site.nobody.options("/api/v1/devices").status_code == 401
    assert site.admin.options("/api/v1/devices").status_code == 403


def test_a_new_person_gets_in_by_a_link_that_works_once_and_then_by_a_password(site: Site):
    site.admin.put("/api/v1/users/ines", json={"role": "operator", "full_name": "Ines Varga"})
    secret = site.admin.post("/api/v1/users/ines/link").json()["path"].removeprefix("/login#")
    ines = session_by(site.url, secret)
    me = ines.get("/api/v1/session").json()
    assert (me["who"], me["role"], me["password_due"]) == ("Ines Varga", "operator", True)
    again = site.nobody.post("/api/v1/session", json={"link": secret})
    assert (again.status_code, "cookie" in str(again.headers)) == (401, False)

    for bad in ("short", "aaaaaaaaaaaaaa", "ines is my name"):
        assert ines.put("/api/v1/session/password", json={"new": bad}).status_code == 422
    answer = ines.put("/api/v1/session/password", json={"new": PASSWORD})
    assert answer.status_code == 200, answer.text
    ines.headers["x-csrf-token"] = answer.json()["csrf"]
    assert ines.put("/api/v1/session/password", json={"new": "another good one"}).status_code == 422  # without the old

    fresh = httpx.Client(base_url=site.url)
    for body in ({"name": "ines", "password": "wrong"}, {"name": "nobody-here", "password": PASSWORD}):
        answer = fresh.post("/api/v1/session", json=body)
        assert (answer.status_code, answer.json()["detail"]) == (401, "the name or the password is not right")
    answer = fresh.post("/api/v1/session", json={"name": "ines", "password": PASSWORD})
    assert answer.status_code == 201
    cookie, csrf = answer.headers.get_list("set-cookie")
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    assert "HttpOnly" not in csrf
    assert fresh.get("/api/v1/session").json()["password_due"] is False


def test_a_cookie_alone_changes_nothing(site: Site):
    client = httpx.Client(base_url=site.url, cookies=site.people["admin"].cookies)
    body = {"role": "admin"}
    assert client.get("/api/v1/users").status_code == 200
    assert client.put("/api/v1/users/mallory", json=body).status_code == 403
    assert client.put("/api/v1/users/mallory", json=body, headers={"x-csrf-token": "0" * 32}).status_code == 403
    good = {"x-csrf-token": site.people["admin"].headers["x-csrf-token"]}
    evil = good | {"origin": "http://evil.example"}
    assert client.put("/api/v1/users/mallory", json=body, headers=evil).status_code == 403
    assert "mallory" not in client.get("/api/v1/users").text


def test_logging_out_ends_the_session_and_its_streams(site: Site):
    client = person(site.admin, "leaver", "viewer")
    with client.stream("GET", "/api/v1/stream") as stream:
        assert stream.status_code == 200
        assert client.delete("/api/v1/session").status_code == 204
        for _ in stream.iter_bytes():
            pass  # it ends
    cookies = httpx.Client(base_url=site.url, cookies=person(site.admin, "goner", "viewer").cookies)
    assert cookies.get("/api/v1/session").status_code == 200
    assert site.admin.delete("/api/v1/users/goner").status_code == 204
    assert cookies.get("/api/v1/session").status_code == 401


def test_tokens_may_what_they_say_and_no_more_than_their_person(site: Site):
    operator = person(site.admin, "builder", "operator")
    assert operator.post("/api/v1/tokens", json={"name": "x", "permissions": ["admin"]}).status_code == 422
    made = operator.post("/api/v1/tokens", json={"name": "wallboard", "permissions": ["read"]}).json()
    program = httpx.Client(base_url=site.url, headers={"authorization": f"Bearer {made['token']}"})
    assert program.get("/api/v1/devices").status_code == 200
    assert program.post("/api/v1/alerts/x/commands", json={"action": "resolve", "id": "1"}).status_code == 403
    assert program.post("/api/v1/tokens", json={"name": "y", "permissions": ["read"]}).status_code == 403
    assert made["token"] not in operator.get("/api/v1/tokens").text
    for wrong in ("", "Bearer", "Bearer tg_x_y", f"Basic {made['token']}", f"Bearer {made['token'][:-1]}"):
        assert httpx.get(f"{site.url}/api/v1/devices", headers={"authorization": wrong}).status_code == 401
    assert site.people["viewer"].delete(f"/api/v1/tokens/{made['id']}").status_code == 404
    assert operator.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
    assert program.get("/api/v1/devices").status_code == 401


def test_the_last_admin_stays_and_changes_are_on_record(site: Site):
    for name in [user["name"] for user in site.admin.get("/api/v1/users").json() if user["role"] == "admin"]:
        if name != "admin":
            site.admin.put(f"/api/v1/users/{name}", json={"role": "viewer"})
    assert site.admin.put("/api/v1/users/admin", json={"role": "viewer"}).status_code == 409
    assert site.admin.delete("/api/v1/users/admin").status_code == 409
    site.admin.put("/api/v1/users/a-admin", json={"role": "admin"})

    def noted() -> bool:
        lines = site.admin.get("/api/v1/audit", params={"user": "admin"}).json()
        return any(
            (line["action"], line["status"], line["via"]) == ("DELETE /api/v1/users/admin", 409, "session")
            for line in lines
        )

    until(noted, what="the refused removal on the audit log")


def test_whoever_guesses_must_wait(site: Site):
    for n in range(PER_ADDRESS + 1):
        answer = site.nobody.post("/api/v1/session", json={"name": "admin", "password": f"guess {n}"})
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= WINDOW_S + 1
    assert site.admin.get("/api/v1/session").status_code == 200


def test_guesses_are_counted_by_address_and_by_name_and_forgotten():
    failures = Failures()
    for n in range(PER_ADDRESS):
        assert failures.wait_s("1.1.1.1", f"n{n}", n) == 0
        failures.failed("1.1.1.1", f"n{n}", n)
    assert failures.wait_s("1.1.1.1", "other", PER_ADDRESS) > 0
    assert failures.wait_s("2.2.2.2", "n0", PER_ADDRESS) == 0
    assert failures.wait_s("1.1.1.1", "other", WINDOW_S + PER_ADDRESS) == 0
    for n in range(PER_NAME):
        failures.failed(f"3.3.3.{n}", "victim", 0)
    assert failures.wait_s("4.4.4.4", "victim", 1) > 0


async def test_passwords_are_argon2id_and_no_password_matches_nothing():
    hashing = Hashing()
    known = await hashing.hashed(PASSWORD)
    assert known.startswith("$argon2id$")
    assert await hashing.matches(known, PASSWORD)
    assert not await hashing.matches(known, PASSWORD + " ")
    assert not await hashing.matches("", "")
    assert not await hashing.matches("not a hash", PASSWORD)
    assert not await hashing.matches(known, "x" * 10_000)
    with pytest.raises(BadInput):
        check_new("x" * 300, "ines")
