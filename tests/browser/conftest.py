"""The real stack behind a real browser: Kafka, processor, alert engine and console as processes, headless Chromium."""

from __future__ import annotations

import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from tidegate_cloud.broker import free_port
from tidegate_cloud.console import assets
from tidegate_protocols.batch import Batch, batch_from_rows
from tidegate_protocols.policies import POLICY
from tidegate_protocols.registry import RULE
from tidegate_protocols.topics import POLICIES, RULES

from tests.browser import town
from tests.support.console import admin_of, person
from tests.support.fleet import announce, register, send
from tests.support.kafka import KafkaNode, produce
from tests.support.service import Service, Services, services

VANS = 48
HISTORY_S = 900
STEP_S = 2
# WebGL without a GPU, and without asking whether that is wise.
_CHROMIUM = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]

_START_S = 500
_PICTURES = Path(__file__).parents[2] / "docs" / "img"

expect.set_options(timeout=20_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of the folder waits for the whole stack to start."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(_START_S + 200))


class Stack:
    """A running Tidegate with a town of vehicles. Vehicles drive until `close`."""

    def __init__(self, bootstrap: str, group: Services) -> None:
        self.bootstrap = bootstrap
        port = str(free_port())
        self.url = f"http://127.0.0.1:{port}"
        metrics = {name: str(free_port()) for name in ("processor", "alerts")}
        self.processor, self.alerts = (
            group.add(name, name, "--bootstrap", bootstrap, "--metrics-port", at) for name, at in metrics.items()
        )
        scraped = [f"--scrape={name}=http://127.0.0.1:{at}/metrics" for name, at in metrics.items()]
        self.console: Service = group.add(
            "console", "console", "--bootstrap", bootstrap, "--port", port, "--login-link", *scraped
        )
        self._walkers = town.walkers(VANS)
        self._begin_s = int(time.time()) - HISTORY_S
        self._steps = 0
        self._seqs: dict[str, int] = {}
        self._driving = threading.Thread(target=self._drive_on, daemon=True)
        self._closing = threading.Event()

    def start(self) -> Stack:
        announce(self.bootstrap, town.VEHICLE)
        register(self.bootstrap, *town.FENCES, *town.devices(VANS), *town.ACTORS)
        produce(self.bootstrap, RULES.name, [(rule.id, RULE.encode(rule)) for rule in town.RULES])
        produce(self.bootstrap, POLICIES.name, [(policy.id, POLICY.encode(policy)) for policy in town.POLICIES])
        self.drive(HISTORY_S // STEP_S)
        with ThreadPoolExecutor() as pool:  # the processor compiles first where its sources are new
            list(pool.map(lambda service: service.start(timeout=_START_S), (self.processor, self.alerts, self.console)))
        admin = admin_of(self.console)
        self.http = person(admin, "operator", "operator")
        self.okafor = person(admin, "okafor", "operator", "M. Okafor")
        self.cookies = [
            {"name": cookie.name, "value": cookie.value, "url": self.url} for cookie in self.http.cookies.jar
        ]
        self._driving.start()
        return self

    def close(self) -> None:
        self._closing.set()
        self._driving.join()

    def drive(self, steps: int) -> None:
        """Move every vehicle on by so many steps of two seconds, in frames of up to a minute."""
        batches: list[Batch] = []
        rows: list[list[tuple[int, town.Values]]] = [[] for _ in self._walkers]
        for _ in range(steps):
            at_s = self._begin_s + self._steps * STEP_S
            self._steps += 1
            for number, walker in enumerate(self._walkers):
                rows[number].append((at_s * 1_000_000, town.values(*walker.step(STEP_S), at_s, number)))
        for number, all_rows in enumerate(rows):
            for i in range(0, len(all_rows), 30):
                batches.append(self._batch(f"van-{number + 1:03}", all_rows[i : i + 30]))
        send(self.bootstrap, *batches)

    def report(self, device: str, rows: Sequence[tuple[int, town.Values]]) -> None:
        """Let a device say something."""
        send(self.bootstrap, self._batch(device, rows))

    def visit(
        self,
        device: str,
        place_m: tuple[float, float],
        *,
        start_m: tuple[float, float] = town.crossing(9, 3),
        warming: float | None = None,
    ) -> None:
        """A device drives to a place and stays there: metres east and north of the centre.

        `warming`: its cargo's temperature at the end, in °C.
        """
        (x0, y0), (x1, y1) = start_m, place_m
        now, steps = int(time.time()), 30
        rows = []
        for i in range(steps + 1):
            share = min(1.0, i / (steps - 3))
            place = town.at(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share)
            at_s = now - (steps - i) * STEP_S
            cargo = None if warming is None else 4.0 + (warming - 4.0) * (i / steps) ** 2
            heading = math.degrees(math.atan2(x1 - x0, y1 - y0)) % 360
            rows.append((at_s * 1_000_000, town.values(place, 12.0 if share < 1 else 0.0, heading, at_s, 3, cargo)))
        self.report(device, rows)

    def _batch(self, device: str, rows: Sequence[tuple[int, town.Values]]) -> Batch:
        seq = self._seqs.get(device, 0)
        self._seqs[device] = seq + len(rows)
        return batch_from_rows(device, town.VEHICLE, rows, epoch=1, seq=seq)

    def _drive_on(self) -> None:
        while not self._closing.wait(1.0):
            due = (int(time.time()) - self._begin_s) // STEP_S - self._steps
            if due > 0:
                self.drive(due)


@pytest.fixture(scope="session")
def vendor() -> Path:
    """The pages' libraries, installed unless they are there."""
    assets.ensure()
    return assets.VENDOR


@pytest.fixture(scope="package")
def stack(kafka: KafkaNode, vendor: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for all tests of this folder: each lets a device of its own alert."""
    kafka.refresh_topics()
    with services(tmp_path_factory.mktemp("stack")) as group:
        made = Stack(kafka.bootstrap, group).start()
        yield made
        made.close()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Headless Chromium. It ends with this folder: its event loop would stand in the way of other tests' own."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=_CHROMIUM)
        yield launched
        launched.close()


@pytest.fixture
def context(browser: Browser, stack: Stack) -> Iterator[BrowserContext]:
    """A fresh profile on a laptop's screen, in light colours."""
    made = browser.new_context(base_url=stack.url, viewport={"width": 1440, "height": 900}, color_scheme="light")
    made.add_cookies(stack.cookies)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page that must not fail: an uncaught error or a violation of the security policy fails the test."""
    made = context.new_page()
    problems = watch(made)
    yield made
    assert not problems, problems


def watch(page: Page) -> list[str]:
    """What goes wrong on a page from now on: errors that nobody caught, and what the security policy refused."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if "Content Security" in message.text else None)
    return problems


DESK = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
LOOKS = [("light", DESK), ("dark", DESK), ("light", PHONE), ("dark", PHONE)]
Screens = Callable[[str, dict[str, int]], Page]


@pytest.fixture
def screens(browser: Browser, stack: Stack) -> Iterator[Screens]:
    """Pages on a screen of some size, in some theme."""
    contexts = []

    def make(theme: str, size: dict[str, int]) -> Page:
        context = browser.new_context(
            base_url=stack.url, viewport=size, color_scheme=theme, reduced_motion="reduce", has_touch=size is PHONE
        )
        context.add_cookies(stack.cookies)
        contexts.append(context)
        return context.new_page()

    yield make
    for context in contexts:
        context.close()


def open_page(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.get_by_role("status").filter(has_text="Live")).to_be_visible()


def serious(page: Page) -> list[tuple[str, str]]:
    """What axe finds that is serious or worse: the rule, and where."""
    page.evaluate((assets.NODE_MODULES / "axe-core" / "axe.min.js").read_text("utf-8"))
    found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']})")
    return [
        (rule["id"], rule["nodes"][0]["html"][:200])
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
    ]


def fits_a_phone(page: Page) -> None:
    """Nothing is cut off at the side, and what is pressed is large enough for a thumb."""
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= PHONE["width"], f"{page.url} is {wide} px wide"
    for button in page.get_by_role("main").locator(".btn:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44, f"{page.url}: {button.text_content()} is {box['height']} px high"


def keep(page: Page, name: str) -> None:
    """Take a picture; it is kept for the docs where TIDEGATE_SCREENSHOTS=1."""
    shot = page.screenshot()
    assert shot.startswith(b"\x89PNG")
    if os.environ.get("TIDEGATE_SCREENSHOTS") == "1":
        _PICTURES.mkdir(parents=True, exist_ok=True)
        (_PICTURES / f"{name}.png").write_bytes(shot)
