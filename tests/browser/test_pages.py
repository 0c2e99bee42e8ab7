"""How the pages look and who can use them: both themes, a phone, a screen reader; and the pictures of the docs."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser import town
from tests.browser.conftest import DESK, PHONE, Screens, Stack, fits_a_phone, keep, open_page, serious, watch
from tests.browser.test_alerts import alert_of, row, select_by_keyboard, state_is


@pytest.fixture(scope="module")
def alerting(stack: Stack) -> str:
    """An alert that stands, for pages to show: its id."""
    stack.visit("TRK-stands", town.YARD_AT)
    stack.visit("EXC-stands", town.QUARRY_AT)
    return alert_of(stack, "TRK-stands")


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(screens: Screens, alerting: str, theme: str, size: dict[str, int]) -> None:
    page = screens(theme, size)
    for address in ("/", "/alerts", f"/alerts/{alerting}", "/devices", "/devices/van-001", "/pipeline", "/rollouts"):
        open_page(page, address)
        expect(page.get_by_role("main")).not_to_contain_text("Loading")
        assert serious(page) == [], address


def test_on_a_phone_nothing_is_cut_off_and_targets_are_large(screens: Screens, alerting: str) -> None:
    page = screens("dark", PHONE)
    for address in ("/", "/alerts", f"/alerts/{alerting}", "/devices", "/devices/van-001", "/pipeline"):
        open_page(page, address)
        fits_a_phone(page)
    page.goto(f"/alerts/{alerting}")
    expect(page.locator(".bottom").get_by_role("button").first).to_be_in_viewport()


def test_what_is_not_there_is_said_so(screens: Screens, stack: Stack) -> None:
    page = screens("light", DESK)
    for address, words in (
        ("/devices/bus.7", "bus.7 has never reported"),
        ("/alerts/00000000000000000000000000000000", "There is no such alert"),
        ("/nowhere", "There is no such page"),
    ):
        open_page(page, address)
        expect(page.get_by_role("main")).to_contain_text(words)


def test_two_keys_go_to_any_page_and_one_alone_to_none(screens: Screens, stack: Stack) -> None:
    page = screens("light", DESK)
    open_page(page, "/alerts")
    for key, address in (("r", "/rollouts"), ("f", "/fences"), ("d", "/devices"), ("p", "/pipeline"), ("a", "/alerts")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        expect(page).to_have_url(stack.url + address)
    page.keyboard.press("d")
    expect(page).to_have_url(stack.url + "/alerts")


def test_the_theme_follows_the_system_and_the_reader(screens: Screens, alerting: str) -> None:
    page = screens("dark", DESK)
    open_page(page, "/")
    background = "getComputedStyle(document.querySelector('.top')).backgroundColor"
    assert page.evaluate(background) == "rgb(16, 24, 31)"
    page.get_by_role("button", name="Use light colours").click()
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.reload()
    assert page.evaluate(background) == "rgb(255, 255, 255)"


def test_the_map_draws_and_no_cluster_hides_who_alerts(screens: Screens, stack: Stack, alerting: str) -> None:
    page = screens("light", DESK)
    problems = watch(page)
    open_page(page, "/")
    expect(page.locator(".legend")).to_contain_text(re.compile(r"\d+ OK"))
    page.get_by_role("button", name="Zoom out").click(click_count=3)
    # What WebGL drew, by the map's own account: every standing alert, apart from and above the clusters.
    expect(page.locator(".mapwrap > .mapbox")).to_have_attribute("data-clusters", re.compile(r"^[1-9]"))
    alerts = stack.http.get("/api/v1/alerts").json()["alerts"]
    alerting_devices = {alert["device"] for alert in alerts if alert["state"] in ("open", "acknowledged")}
    expect(page.locator(".mapwrap > .mapbox")).to_have_attribute("data-alerts", str(len(alerting_devices)))
    assert not problems, problems


def test_nothing_is_fetched_from_elsewhere(screens: Screens, stack: Stack, alerting: str) -> None:
    page = screens("light", DESK)
    elsewhere: list[str] = []
    page.on("request", lambda r: None if r.url.startswith((stack.url, "blob:", "data:")) else elsewhere.append(r.url))
    for address in ("/", f"/alerts/{alerting}", "/devices/van-001"):
        open_page(page, address)
    assert not elsewhere, elsewhere


def test_pictures_for_the_docs(screens: Screens, stack: Stack) -> None:
    """The map with an open alert, and the same alert acknowledged. Kept where TIDEGATE_SCREENSHOTS=1."""
    for alert in stack.http.get("/api/v1/alerts").json()["alerts"]:
        if alert["state"] != "resolved":  # what other tests left behind
            command(stack, alert["id"], "resolve")
    stack.visit("TRK-204", town.crossing(5, 1), start_m=town.crossing(5, 4), warming=8.2)
    command(stack, alert_of(stack, "TRK-204", state_is("open")), "acknowledge")
    stack.visit("EXC-22", town.QUARRY_AT, start_m=town.crossing(8, 0))
    stack.visit("RF-2107", town.crossing(8, 7), start_m=town.crossing(8, 2), warming=9.1)
    stack.visit("TRK-118", town.YARD_AT, start_m=town.crossing(13, 3))
    for device in ("EXC-22", "RF-2107", "TRK-118"):
        alert_of(stack, device, state_is("open"))
    page = screens("light", DESK)
    open_page(page, "/")
    expect(row(page, "TRK-118")).to_be_visible()
    select_by_keyboard(page, "TRK-118")
    expect(row(page, "TRK-118").get_by_role("button", name="Acknowledge")).to_be_visible()
    picture(page, "map-open-alert")
    page.keyboard.press("a")
    expect(row(page, "TRK-118")).to_have_attribute("data-state", "acknowledged")
    alert_of(stack, "TRK-118", state_is("acknowledged"))
    expect(row(page, "TRK-118")).not_to_contain_text("sending")
    row(page, "TRK-118").click()
    picture(page, "map-acknowledged-alert")


def command(stack: Stack, alert: str, action: str) -> None:
    body = {"action": action, "id": f"{action}-{alert}"}
    stack.okafor.post(f"/api/v1/alerts/{alert}/commands", json=body).raise_for_status()


def picture(page: Page, name: str) -> None:
    expect(page.locator(".mapwrap > .mapbox")).to_have_attribute("data-alerts", re.compile("^[1-9]"))
    expect(page.locator(".mapwrap > .mapbox")).to_have_attribute("data-roads", re.compile(r"^\d{4,}"))
    expect(page.locator(".mapwrap > .mapbox")).to_have_attribute("data-trail", re.compile(r"^\d{2,}"))
    keep(page, name)
