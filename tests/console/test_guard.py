"""Who may talk to the console: its own pages and programs, under its own names."""

from __future__ import annotations

import httpx
import pytest
from litestar.types import Receive, Scope, Send
from tidegate_cloud.console.guard import Guard


async def _behind(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"in", "more_body": False})


async def ask(method: str, headers: dict[str, str], base: str = "http://127.0.0.1:8080") -> httpx.Response:
    transport = httpx.ASGITransport(app=Guard(_behind, ["fleet.example"]))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url=base) as client:
        return await client.request(method, "/", headers=headers)


@pytest.mark.parametrize(
    "base",
    ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080", "http://10.0.0.7", "https://Fleet.Example"],
)
async def test_addresses_and_allowed_names_are_let_in(base: str):
    assert (await ask("GET", {}, base)).text == "in"
    assert (await ask("POST", {"origin": base.lower()}, base)).text == "in"


@pytest.mark.parametrize(
    "base", ["http://evil.example:8080", "http://127.0.0.1.evil.example", "http://2130706433.example"]
)
async def test_a_name_that_was_rebound_to_this_machine_is_not(base: str):
    answer = await ask("GET", {}, base)
    assert answer.status_code == 403
    assert "is not one of this console's" in answer.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
    ],
)  # fmt: skip
async def test_pages_from_elsewhere_may_not_change_anything(headers: dict[str, str]):
    assert (await ask("POST", headers)).status_code == 403
    assert (await ask("GET", headers)).status_code == 200


async def test_programs_need_no_origin():
    assert (await ask("POST", {})).status_code == 200
    assert (await ask("POST", {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:8080"})).status_code == 200


async def test_every_answer_forbids_what_comes_from_elsewhere():
    for answer in (await ask("GET", {}), await ask("GET", {}, "http://evil.example")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_user_name_before_the_host_is_no_host():
    assert (await ask("GET", {"host": "evil.example@127.0.0.1"})).status_code == 403
