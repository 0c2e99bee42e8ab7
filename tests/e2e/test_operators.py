"""From faults that the simulator makes to alerts on two operators' screens, and what these say while things break.

One stack on a Kafka of its own: two consoles, one of them behind a network that can fail. Each test goes on from where
the one before ended, and lets machines of its own fail.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect, sync_playwright
from tidegate_cloud.broker import free_port
from tidegate_cloud.console import assets
from tidegate_protocols.batch import batch_from_rows
from tidegate_protocols.policies import POLICY, Policy
from tidegate_protocols.registry import RULE, Rule
from tidegate_protocols.schema import Channel, Schema
from tidegate_protocols.topics import POLICIES, RULES
from tidegate_sim.faults import Fault
from tidegate_sim.machine import REEFER, Machine
from tidegate_sim.scenario import AUSTIN
from tidegate_sim.truth import Truth

from tests.browser.conftest import _CHROMIUM, watch
from tests.support.console import admin_of, person, session_by
from tests.support.fleet import announce, send
from tests.support.kafka import KafkaNode, produce
from tests.support.proxy import Proxy
from tests.support.service import Service, services
from tests.support.wait import until

pytestmark = pytest.mark.timeout(900)

SECOND = 1_000_000
START_S = 500  # the processor compiles first where its sources are new
SCHEMA = Schema("reefer", tuple(Channel(quantity.name, unit=quantity.unit) for quantity in REEFER))
TOO_WARM = Rule(id="too-warm", name="Too warm", channel="temperature", high=-10.0, hysteresis=1.0, severity="critical")
# Each fault is a row of its own; that a rise is unusual, and that these machines then say nothing, is beside the point.
POLICIES_HERE = (
    Policy(id="limit", operator="limit", opens=["above", "below"], ends=["within"], group_by=[]),
    Policy(id="anomaly", operator="anomaly", opens=["never"]),
    Policy(id="silent", operator="presence", opens=["never"]),
)
RISE_S = 20  # a fault of this kind takes so long to show
LASTS_S = 1200


class Simulated:
    """Machines of the simulator, their readings straight to Kafka, and the truth about their faults."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._out = io.StringIO()
        self._truth = Truth(AUSTIN, [], self._out)

    def run(self, device: str, *, fails_at_s: float | None, until_s: float = 10 * LASTS_S) -> None:
        """The last 20 minutes of a machine that may fail, as frames of a minute."""
        fault = None if fails_at_s is None else Fault("over-limit", "temperature", fails_at_s, until_s, -4.0)
        never = Fault("stuck", "battery", 1e9, 2e9, 0.0)
        machine = Machine(REEFER, 0, 0, (len(device), *device.encode()), first_fault=fault or never, faults_per_hour=0)
        start_us = (int(time.time()) - LASTS_S) * SECOND
        rows = []
        for second in range(1, LASTS_S + 1):
            for began in machine.advance(second, 43_200):
                self._truth.fault(device, start_us, began, "Cel")
            rows.append((start_us + second * SECOND, tuple(machine.values[q.name] for q in REEFER)))
        send(self._bootstrap, *(
            batch_from_rows(device, SCHEMA, rows[at : at + 60], epoch=1, seq=at) for at in range(0, LASTS_S, 60)
        ))  # fmt: skip

    def fail(self, *devices: str) -> None:
        """These have failed five minutes ago, and go on."""
        for device in devices:
            self.run(device, fails_at_s=LASTS_S - 300)

    @property
    def faults(self) -> list[dict[str, object]]:
        """The truth."""
        return [json.loads(line) for line in self._out.getvalue().splitlines()]


@dataclass
class Site:
    """Everything; `near` is the first operator's way to the first console, through `network`."""

    kafka: KafkaNode
    simulated: Simulated
    consoles: tuple[Service, Service]
    network: Proxy
    http: httpx.Client
    ines: Page
    okafor: Page

    def standing(self) -> set[str]:
        """Ids of the alerts that are not resolved, by the second console."""
        alerts = self.http.get("/api/v1/alerts", params={"limit": 1000}).json()["alerts"]
        return {alert["id"] for alert in alerts if alert["state"] != "resolved"}


def a_page(context: BrowserContext, client: httpx.Client) -> Page:
    url = str(client.base_url)
    context.add_cookies([{"name": each.name, "value": each.value, "url": url} for each in client.cookies.jar])
    context.set_default_navigation_timeout(120_000)
    page = context.new_page()
    page.goto(url)
    return page


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("e2e")
    assets.ensure()
    node = KafkaNode(folder / "kafka").start()
    ports = [free_port(), free_port()]
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    try:
        with services(folder) as group, Proxy(ports[0]) as network, sync_playwright() as playwright:
            announce(node.bootstrap, SCHEMA)
            produce(node.bootstrap, RULES.name, [(TOO_WARM.id, RULE.encode(TOO_WARM))])
            produce(node.bootstrap, POLICIES.name, [(policy.id, POLICY.encode(policy)) for policy in POLICIES_HERE])
            at = ("--bootstrap", node.bootstrap)
            for name in ("processor", "alerts"):
                group.add(name, name, *at, "--metrics-port", "0").start(timeout=START_S)
            first, second = (
                group.add(f"console-{n}", "console", *at, "--port", str(port), "--login-link").start(timeout=START_S)
                for n, port in enumerate(ports)
            )
            admin = admin_of(second)
            okafor = person(admin, "okafor", "operator", "M. Okafor")
            admin.put("/api/v1/users/ines", json={"role": "operator", "full_name": "Ines"}).raise_for_status()
            link = admin.post("/api/v1/users/ines/link").json()["path"].partition("#")[2]
            ines = until(lambda: _logged_in(f"http://{network.address}", link), what="the first console to know Ines")
            browser = playwright.chromium.launch(executable_path=chromium, args=_CHROMIUM)
            pages = [a_page(browser.new_context(), client) for client in (ines, okafor)]
            problems = [watch(page) for page in pages]
            yield Site(node, Simulated(node.bootstrap), (first, second), network, okafor, *pages)
            browser.close()
            assert problems == [[], []]
    finally:
        node.kill()


def _logged_in(url: str, link: str) -> httpx.Client | None:
    try:
        return session_by(url, link)
    except AssertionError:  # the account is on its way through Kafka
        return None


def row(page: Page, device: str) -> Locator:
    return page.locator("[data-alert]").filter(has_text=device)


def says(page: Page, word: str) -> None:
    expect(page.get_by_test_id("freshness").get_by_role("status")).to_have_text(word, timeout=60_000)


def shows_exactly(site: Site, page: Page, devices: list[str]) -> None:
    """Each of these once; and all in all what the server has, nothing missing and nothing doubled."""
    for device in devices:
        expect(row(page, device)).to_have_count(1, timeout=60_000)
    standing = until(lambda: site.standing() if len(site.standing()) >= len(devices) else None, 60)
    rows = page.locator("[data-alert]")
    expect(rows).to_have_count(len(standing))
    assert {each.get_attribute("data-alert") for each in rows.all()} == standing


def test_what_truly_failed_and_only_that_is_on_the_page(site: Site) -> None:
    says(site.ines, "Live")
    site.simulated.run("reefer-well", fails_at_s=None)
    site.simulated.run("reefer-over", fails_at_s=300.0, until_s=600.0)
    site.simulated.fail("reefer-fails-0", "reefer-fails-1")
    faults = {str(fault["device"]): fault for fault in site.simulated.faults}
    assert set(faults) == {"reefer-over", "reefer-fails-0", "reefer-fails-1"}
    shows_exactly(site, site.ines, ["reefer-fails-0", "reefer-fails-1"])

    def resolved() -> list[dict[str, object]]:
        return list(site.http.get("/api/v1/alerts", params={"state": "resolved"}).json()["alerts"])

    until(lambda: [alert["device"] for alert in resolved()] == ["reefer-over"], 60, "the fault that is over")
    alerts = [*resolved(), *site.http.get("/api/v1/alerts", params={"state": "open"}).json()["alerts"]]
    assert sorted(str(alert["device"]) for alert in alerts) == sorted(faults)
    for alert in alerts:
        fault = faults[str(alert["device"])]
        assert fault["start_us"] <= alert["started_us"] <= fault["start_us"] + RISE_S * SECOND  # type: ignore[operator]
        if alert["state"] == "resolved":
            assert abs(alert["ended_us"] - fault["end_us"]) <= RISE_S * SECOND  # type: ignore[operator]


def test_what_one_acknowledges_the_other_sees(site: Site) -> None:
    row(site.ines, "reefer-fails-0").click()
    row(site.ines, "reefer-fails-0").get_by_role("button", name="Acknowledge").click()
    theirs = row(site.okafor, "reefer-fails-0")
    expect(theirs).to_have_attribute("data-state", "acknowledged")
    expect(theirs).to_contain_text("Ines")
    expect(row(site.ines, "reefer-fails-0")).to_contain_text("You")


def test_while_the_network_is_dead_the_page_says_so_and_then_catches_up(site: Site) -> None:
    asked: list[str] = []
    site.ines.on("request", lambda request: asked.append(request.url))
    site.network.blackhole()  # no end of any connection tells the page
    says(site.ines, "Reconnecting")
    expect(site.ines.get_by_test_id("freshness")).to_contain_text(re.compile(r"data as of \d\d:\d\d:\d\d"))
    missed = [f"reefer-missed-{n}" for n in range(3)]
    site.simulated.fail(*missed)
    shows_exactly(site, site.okafor, missed)
    assert [row(site.ines, device).count() for device in missed] == [0, 0, 0]
    site.network.restore()
    says(site.ines, "Live")
    shows_exactly(site, site.ines, missed)
    assert not [url for url in asked if url.endswith("/snapshot")], "it resumed, and did not begin anew"


def test_a_killed_console_costs_nothing_but_the_time(site: Site) -> None:
    _, second = site.consoles
    second.kill()
    says(site.okafor, "Reconnecting")
    site.simulated.fail("reefer-unseen")
    expect(row(site.ines, "reefer-unseen")).to_have_count(1, timeout=60_000)
    second.start(timeout=START_S)
    says(site.okafor, "Live")
    for page in (site.okafor, site.ines):
        shows_exactly(site, page, ["reefer-unseen"])


@pytest.mark.full
def test_while_kafka_is_killed_both_pages_say_so_and_nothing_is_lost(site: Site) -> None:
    site.kafka.kill()
    for page in (site.ines, site.okafor):
        says(page, "Behind")
        expect(page.get_by_test_id("freshness")).to_contain_text("Kafka does not answer")
    row(site.ines, "reefer-fails-1").click()
    row(site.ines, "reefer-fails-1").get_by_role("button", name="Acknowledge").click()
    expect(row(site.ines, "reefer-fails-1")).to_contain_text("queued", timeout=60_000)
    site.kafka.start()
    site.simulated.fail("reefer-after")
    for page in (site.ines, site.okafor):
        says(page, "Live")
        shows_exactly(site, page, ["reefer-after"])
        expect(row(page, "reefer-fails-1")).to_have_attribute("data-state", "acknowledged", timeout=60_000)
    alert = str(row(site.okafor, "reefer-fails-1").get_attribute("data-alert"))
    lines = site.http.get(f"/api/v1/alerts/{alert}").json()["transitions"]
    assert [line["action"] for line in lines].count("acknowledged") == 1  # sent again under one key, done once
