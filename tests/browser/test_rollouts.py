"""The page of rollouts: how a change reaches the agents, who did not take it, and people steering it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from tidegate_cloud.rollouts import asking, keys
from tidegate_protocols.registry import Device
from tidegate_protocols.rollouts import Gate

from tests.browser.conftest import DESK, LOOKS, PHONE, Screens, Stack, fits_a_phone, keep, open_page, serious
from tests.support.fleet import register
from tests.support.rollouts import push, says
from tests.support.service import services
from tests.support.wait import until

TRACTORS = [f"TRK-{n:03}" for n in range(301, 381)]


@pytest.fixture(scope="module")
def server(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A rollouts' server beside the stack: where Kafka is."""
    folder = tmp_path_factory.mktemp("keys") / "keys"
    keys.create(folder)
    with services(tmp_path_factory.mktemp("rollouts")) as group:
        group.add("rollouts", "rollouts", "--bootstrap", stack.bootstrap, "--keys", folder).start()
        yield stack.bootstrap


@pytest.fixture(scope="module")
def wide(server: str) -> str:
    """A rollout over 80 tractors in its second wave: most have it, some do not, some were not heard."""
    register(server, *(Device(id=name, name=name, group="Road tractors", type="tractor") for name in TRACTORS))
    until(lambda: set(TRACTORS) <= asking.read(server).fleet.groups.keys(), what="the tractors to be named")
    content = "[batch]\nmax_scans = 50\n\n[limits]\nbrake_pressure_bar = 8.5\n"
    rollout = push(
        server, "group/Road tractors", TRACTORS, content, why="repairs brake pressure on road tractors",
        waves=["4", "30", "30", "100%!"], gate=Gate(success=0.85, hold_s=2, answers=1), timeout_s=3600.0,
    )  # fmt: skip

    def told(wave: int) -> list[str]:
        controller = asking.read(server)
        agents = list(controller.members(rollout)[wave])
        return agents if all(controller.fleet.told.get(agent) is not None for agent in agents) else []

    says(server, until(lambda: told(0), what="the canary to be told"), 1, "running", running=1)
    second = until(lambda: told(1), 60, "the second wave to be told")
    says(server, second[:19], 1, "running", running=1)
    says(server, second[19:21], 1, "refused", why="not enough room: it needs 3.1 MB and has 1.8")
    says(server, second[21:22], 1, "rolled-back", why="no readings from any source within its probation")
    says(server, second[22:27], 1, "applying")
    return rollout


def one(bootstrap: str, agent: str) -> str:
    """A rollout on an agent of its own."""
    return push(bootstrap, f"agent/{agent}", [agent], "[batch]\nmax_scans = 7\n")


def state_of(stack: Stack, rollout: str) -> str:
    return str(stack.http.get(f"/api/v1/rollouts/{rollout}").json()["state"])


def test_it_says_which_agents_did_not_take_it_and_why(page: Page, wide: str) -> None:
    open_page(page, f"/rollouts/{wide}")
    expect(page.get_by_test_id("state")).to_have_text("Running, wave 2 of 4")
    expect(page.get_by_role("main")).to_contain_text("19 of 30 in wave 2 run it, 3 did not take it")
    expect(page.locator("[data-wave='2'] .dots:not(.one) i.a")).to_have_count(19)
    expect(page.locator("[data-wave='2'] .dots:not(.one) i.x")).to_have_count(3)
    expect(page.locator("[data-wave='4']")).to_contain_text("needs a person")
    expect(page.locator("[data-agent]")).to_have_count(3)
    expect(page.locator("[data-agent]").first).to_contain_text("it needs 3.1 MB and has 1.8")
    expect(page.locator("[data-gate=success]")).to_contain_text("86.4 %")
    expect(page.locator(".diff")).to_contain_text("+brake_pressure_bar = 8.5")


def test_it_goes_on_by_itself_while_it_is_looked_at(page: Page, server: str) -> None:
    rollout = one(server, "tug-live")
    open_page(page, "/rollouts")
    page.locator(f"[data-rollout={rollout}]").click()
    expect(page.get_by_role("main")).to_contain_text("0 of 1 in wave 1 run it")
    says(server, ["tug-live"], 1, "running", running=1)
    expect(page.get_by_role("main")).to_contain_text("1 of 1 in wave 1 run it")
    expect(page.get_by_role("main")).to_contain_text("unless someone pauses it")
    expect(page.locator("[data-gate=answers]")).to_contain_text("holds")


def test_paused_and_resumed_by_keyboard_alone_with_who_and_why(page: Page, stack: Stack, server: str) -> None:
    rollout = one(server, "tug-keys")
    open_page(page, f"/rollouts/{rollout}")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.keyboard.press("p")
    expect(page.get_by_role("dialog", name=re.compile(f"Pause: {rollout}"))).to_be_visible()
    page.keyboard.press("Enter")  # not without a reason
    expect(page.get_by_role("dialog")).to_be_visible()
    assert state_of(stack, rollout) == "running"
    page.keyboard.type("the depot is closed")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_test_id("state")).to_have_text("Paused, wave 1 of 1")
    expect(page.locator(".tl")).to_contain_text("Paused by operator")
    expect(page.locator(".tl")).to_contain_text("the depot is closed")
    assert state_of(stack, rollout) == "paused"
    page.keyboard.press("p")
    expect(page.get_by_role("dialog", name=re.compile("Resume"))).to_be_visible()
    page.keyboard.type("open again")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("state")).to_have_text("Running, wave 1 of 1")
    page.keyboard.press("b")
    expect(page.get_by_role("dialog", name=re.compile("Roll back"))).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert state_of(stack, rollout) == "running"


def test_a_wave_that_needs_a_person_is_let_on_by_mouse_and_taken_back(page: Page, stack: Stack, server: str) -> None:
    agents = ["tug-a", "tug-b"]
    register(server, *(Device(id=name, group="tugs") for name in agents))
    until(lambda: set(agents) <= asking.read(server).fleet.groups.keys(), what="the tugs to be named")
    rollout = push(
        server, "group/tugs", agents, "[batch]\nmax_scans = 9\n", waves=["1", "100%!"], gate=Gate(hold_s=0.5)
    )
    first = next(iter(asking.read(server).members(rollout)[0]))
    says(server, [first], 1, "running", running=1)
    open_page(page, f"/rollouts/{rollout}")
    expect(page.get_by_test_id("state")).to_have_text("Waits for a person, wave 1 of 2")
    page.get_by_role("button", name="Start wave 2").click()
    page.get_by_role("textbox", name="Why").fill("looks well")
    page.get_by_role("dialog").get_by_role("button", name="Start wave 2").click()
    expect(page.get_by_test_id("state")).to_have_text("Running, wave 2 of 2")
    page.get_by_role("button", name="Roll back").click()
    expect(page.get_by_role("dialog")).to_contain_text("Sends 2 agents back to what ran before")
    page.get_by_role("textbox", name="Why").fill("it was the wrong file")
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.get_by_test_id("state")).to_have_text("Rolling back")
    says(server, agents, 2, "running", running=2)
    expect(page.get_by_test_id("state")).to_have_text("Rolled back")
    expect(page.locator(".tl")).to_contain_text("it was the wrong file")


def test_who_acts_on_what_has_changed_is_told_so(page: Page, stack: Stack, server: str) -> None:
    rollout = one(server, "tug-race")
    open_page(page, f"/rollouts/{rollout}")
    page.get_by_role("button", name="Abort").click()
    body = {"action": "pause", "id": "okafor-was-first", "why": "wait"}
    stack.okafor.post(f"/api/v1/rollouts/{rollout}/commands", json=body).raise_for_status()
    page.get_by_role("textbox", name="Why").fill("not needed")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("has changed since you looked: it is paused")
    page.get_by_role("dialog").get_by_role("button", name="Abort").click()
    expect(page.get_by_test_id("state")).to_have_text("Aborted")


def test_rollouts_are_walked_through_by_keyboard(page: Page, wide: str) -> None:
    open_page(page, "/rollouts")
    links = page.locator("[data-rollout]")
    names = [link.get_attribute("data-rollout") for link in links.all()]
    assert len(names) >= 2
    page.keyboard.press("j")
    expect(page).to_have_url(re.compile(f"/rollouts/{names[1]}$"))
    page.keyboard.press("k")
    expect(page).to_have_url(re.compile(f"/rollouts/{names[0]}$"))


@pytest.mark.parametrize(("theme", "size"), LOOKS, ids=["light", "dark", "phone-light", "phone-dark"])
def test_how_it_looks(screens: Screens, wide: str, theme: str, size: dict[str, int]) -> None:
    page = screens(theme, size)
    for address in ("/rollouts", f"/rollouts/{wide}"):
        open_page(page, address)
        expect(page.locator("[data-rollout]:visible, [data-wave]:visible").first).to_be_visible()
        assert serious(page) == [], address
        if size is PHONE:
            fits_a_phone(page)
    expect(page.locator("[data-agent]")).to_have_count(3)
    if (theme, size) in (("light", DESK), ("dark", DESK), ("light", PHONE)):
        keep(page, f"rollout-{'phone' if size is PHONE else theme}")
