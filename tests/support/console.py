"""Logging in to a console that a test has started: by the one-time link that it prints (`--login-link`)."""

from __future__ import annotations

import re
from typing import Any

import httpx

from tests.support.service import Service

_LINK = re.compile(r"(https?://\S+)/login#(\S+)")


def session_by(url: str, secret: str, **more: Any) -> httpx.Client:
    """A client that is logged in by a one-time link's secret."""
    client = httpx.Client(base_url=url, timeout=30, **more)
    answer = client.post("/api/v1/session", json={"link": secret})
    assert answer.status_code == 201, answer.text
    client.headers["x-csrf-token"] = answer.json()["csrf"]
    return client


def admin_of(service: Service) -> httpx.Client:
    """A client of a console that was started with `--login-link`, logged in as its admin."""
    url, secret = _LINK.findall(service.output())[-1]
    return session_by(url, secret)


def person(admin: httpx.Client, name: str, role: str, full_name: str = "") -> httpx.Client:
    """A client that is logged in as a person whom the admin makes."""
    answer = admin.put(f"/api/v1/users/{name}", json={"role": role, "full_name": full_name})
    assert answer.status_code == 200, answer.text
    link = admin.post(f"/api/v1/users/{name}/link")
    assert link.status_code == 201, link.text
    return session_by(str(admin.base_url), link.json()["path"].partition("#")[2])
