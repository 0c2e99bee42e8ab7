"""The description of the interface and what answers are the same thing: schemathesis asks the real console."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.console import admin_of
from tests.support.kafka import KafkaNode
from tests.support.service import services

# What would end the session that asks.
_LEFT_OUT = {("DELETE", "/api/v1/session"), ("PUT", "/api/v1/session/password")}


@pytest.fixture(scope="module")
def admin(kafka: KafkaNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    kafka.refresh_topics()
    with services(tmp_path_factory.mktemp("schema")) as group:
        arguments = ("--bootstrap", kafka.bootstrap, "--port", "0", "--login-link")
        yield admin_of(group.add("console", "console", *arguments).start())


def test_the_description_is_openapi_3_1_and_says_of_each_route_what_it_is_for(admin: httpx.Client):
    described = admin.get("/schema/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    for path, item in described["paths"].items():
        for method, operation in item.items():
            assert operation.get("description") or operation.get("summary"), (method, path)
    ids = [operation["operationId"] for item in described["paths"].values() for operation in item.values()]
    assert len(set(ids)) == len(ids)


def test_what_the_console_answers_is_what_the_description_says(admin: httpx.Client):
    schema = schemathesis.openapi.from_dict(admin.get("/schema/openapi.json").json())
    asked = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if (operation.method.upper(), operation.path) in _LEFT_OUT:
            continue

        @settings(
            max_examples=8, deadline=None, database=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def ask(case: schemathesis.Case) -> None:
            nonlocal asked
            answer = case.call(
                base_url=str(admin.base_url), headers={"x-csrf-token": admin.headers["x-csrf-token"]},
                cookies=dict(admin.cookies), timeout=30,
            )  # fmt: skip
            asked += 1
            assert answer.status_code < 500 or answer.status_code == 503, (case.method, case.path, answer.text)
            case.validate_response(
                answer, checks=[status_code_conformance, content_type_conformance, response_schema_conformance]
            )

        given(case=operation.as_strategy())(ask)()
    assert asked > 100
