"""The operator's way through the pages, against the real stack: see an alert, take it, trust what the screen says."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser import town
from tests.browser.conftest import Stack
from tests.support.wait import until


def row(page: Page, device: str) -> Locator:
    """The row of a device's alert, in whichever list the page shows."""
    return page.locator("[data-alert]").filter(has_text=device)


def alert_of(stack: Stack, device: str, wanted: Callable[[dict[str, object]], bool] = lambda alert: True) -> str:
    """The id of the alert that the server has for a device, once it is as wanted."""

    def found() -> str | None:
        alerts = stack.http.get("/api/v1/alerts", params={"device": device}).json()["alerts"]
        return next((alert["id"] for alert in alerts if wanted(alert)), None)

    return str(until(found, 90, f"an alert of {device}"))


def state_is(state: str, who: str | None = None) -> Callable[[dict[str, object]], bool]:
    return lambda alert: alert["state"] == state and (who is None or alert["who"] == who)


def test_an_alert_appears_on_an_open_page_without_a_reload(stack: Stack, page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("status").filter(has_text="Live")).to_be_visible()
    expect(row(page, "TRK-appears")).to_have_count(0)
    stack.visit("TRK-appears", town.YARD_AT)
    expect(row(page, "TRK-appears")).to_contain_text("Entered Reefer Yard")
    expect(page.get_by_test_id("need-you")).to_contain_text(re.compile(r"\d+ needs? you"))
    expect(page.locator(".nav .badge")).to_have_attribute("aria-label", re.compile(r"\d+ critical open"))


def test_acknowledged_by_mouse_it_stays_so_over_a_reload(stack: Stack, page: Page) -> None:
    stack.visit("TRK-mouse", town.YARD_AT)
    page.goto("/")
    row(page, "TRK-mouse").click()
    row(page, "TRK-mouse").get_by_role("button", name="Acknowledge").click()
    expect(row(page, "TRK-mouse")).to_have_attribute("data-state", "acknowledged")
    expect(row(page, "TRK-mouse")).to_contain_text("You")
    expect(row(page, "TRK-mouse")).not_to_contain_text("sending")  # the alert itself has said so
    alert_of(stack, "TRK-mouse", state_is("acknowledged", "operator"))
    page.reload()
    expect(row(page, "TRK-mouse")).to_have_attribute("data-state", "acknowledged")


def test_acknowledged_and_resolved_by_keyboard_alone(stack: Stack, page: Page) -> None:
    stack.visit("TRK-keys", town.YARD_AT)
    page.goto("/")
    expect(row(page, "TRK-keys")).to_be_visible()
    select_by_keyboard(page, "TRK-keys")
    page.keyboard.press("a")
    expect(row(page, "TRK-keys")).to_have_attribute("data-state", "acknowledged")
    expect(page.get_by_role("status").filter(has_text="Acknowledged: TRK-keys")).to_be_attached()
    alert_of(stack, "TRK-keys", state_is("acknowledged"))
    select_by_keyboard(page, "TRK-keys")
    page.keyboard.press("r")
    expect(row(page, "TRK-keys")).to_have_count(0)
    alert_of(stack, "TRK-keys", state_is("resolved"))
    page.goto("/alerts?state=resolved")
    expect(row(page, "TRK-keys")).to_contain_text("Resolved")


def select_by_keyboard(page: Page, device: str) -> None:
    """Press j until the row is the current one."""
    for _ in range(page.locator("[data-alert]").count() + 1):
        if row(page, device).get_attribute("aria-current") == "true":
            return
        page.keyboard.press("j")
    raise AssertionError(f"j never came to {device}")


def test_keys_open_an_alert_and_come_back_and_list_themselves(stack: Stack, page: Page) -> None:
    stack.visit("TRK-way", town.YARD_AT)
    page.goto("/")
    expect(row(page, "TRK-way")).to_be_visible()
    select_by_keyboard(page, "TRK-way")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Entered Reefer Yard")
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"/alerts$"))
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("/")
    page.keyboard.type("TRK-way")
    expect(page.get_by_role("option").first).to_contain_text("TRK-way")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/devices/TRK-way$"))


def test_single_keys_can_be_switched_off(stack: Stack, page: Page) -> None:
    stack.visit("TRK-off", town.YARD_AT)
    page.goto("/alerts?flat=1")
    row(page, "TRK-off").locator("td.dk").first.click()
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keys").get_by_role("switch").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("a")
    expect(row(page, "TRK-off").get_by_role("button", name="Acknowledge")).to_be_visible()
    assert row(page, "TRK-off").get_attribute("data-state") == "open"
    page.reload()  # it is remembered
    row(page, "TRK-off").locator("td.dk").first.click()
    page.keyboard.press("a")
    assert row(page, "TRK-off").get_attribute("data-state") == "open"


def test_undo_opens_it_again(stack: Stack, page: Page) -> None:
    stack.visit("TRK-undo", town.YARD_AT)
    page.goto("/")
    row(page, "TRK-undo").click()
    row(page, "TRK-undo").get_by_role("button", name="Acknowledge").click()
    page.get_by_role("button", name="Undo").click()  # at once: it waits until the first has been carried out
    expect(row(page, "TRK-undo")).to_have_attribute("data-state", "open")
    alert = alert_of(stack, "TRK-undo")

    def done() -> list[str]:
        lines = stack.http.get(f"/api/v1/alerts/{alert}").json()["transitions"]
        return [line["action"] for line in lines if line["who"] == "operator"]

    until(lambda: done() == ["acknowledged", "reopened"], 30, "the one after the other, and neither refused")
    expect(row(page, "TRK-undo").get_by_text("sending")).to_have_count(0)
    expect(row(page, "TRK-undo")).to_have_attribute("data-state", "open")


def test_the_one_who_came_second_is_told(stack: Stack, page: Page, context: BrowserContext) -> None:
    """Two consoles resolve the same alert; the slower one sees its action refused and the alert as it is."""
    stack.visit("TRK-race", town.YARD_AT)
    alert = alert_of(stack, "TRK-race")
    page.goto("/")
    row(page, "TRK-race").click()
    # What this page sends is held until the other person's command has been carried out.
    context.set_offline(True)
    row(page, "TRK-race").get_by_role("button", name="Acknowledge").click()
    expect(row(page, "TRK-race")).to_contain_text("queued")
    body = {"action": "resolve", "id": f"race-{time.time_ns()}"}
    stack.okafor.post(f"/api/v1/alerts/{alert}/commands", json=body).raise_for_status()
    alert_of(stack, "TRK-race", state_is("resolved", "M. Okafor"))
    context.set_offline(False)
    expect(page.get_by_role("status").filter(has_text="Not saved")).to_contain_text("M. Okafor")


def test_an_alert_shows_its_history_and_where_it_began(stack: Stack, page: Page) -> None:
    stack.visit("TRK-story", town.YARD_AT)
    page.goto(f"/alerts/{alert_of(stack, 'TRK-story')}")
    expect(page.get_by_role("heading", name="Where it began")).to_be_visible()
    timeline = page.locator(".tl")
    expect(timeline).to_contain_text("Opened")
    page.keyboard.press("a")
    expect(timeline).to_contain_text("Acknowledged by operator")
    expect(page.locator(".tags")).to_contain_text("You")


def test_a_device_shows_its_channels_and_goes_on_live(stack: Stack, page: Page) -> None:
    page.goto("/devices/van-001")
    expect(page.get_by_role("heading", level=1)).to_contain_text("VAN-403")
    page.get_by_role("button", name="Battery").click()
    expect(page.get_by_role("heading", name="Battery")).to_be_visible()
    caption = page.locator("figcaption")
    expect(caption).to_contain_text(re.compile(r"Battery: between 27\.\d+ and 27\.\d+"))
    before = caption.text_content()
    expect(caption).not_to_have_text(str(before))  # a newer reading has been appended


def test_after_the_console_restarts_the_page_catches_up_exactly(stack: Stack, page: Page) -> None:
    page.goto("/")
    expect(page.get_by_role("status").filter(has_text="Live")).to_be_visible()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    stack.console.stop()
    expect(page.get_by_role("status").filter(has_text="Reconnecting")).to_be_visible()
    expect(page.get_by_test_id("freshness")).to_contain_text(re.compile(r"data as of \d\d:\d\d:\d\d"))
    missed = [f"TRK-missed-{n}" for n in range(5)]
    for device in missed:
        stack.visit(device, town.YARD_AT)
    stack.console.start()
    expect(page.get_by_role("status").filter(has_text="Live")).to_be_visible()
    for device in missed:
        expect(row(page, device)).to_have_count(1)
    assert not [url for url in requests if url.endswith("/snapshot")], "it resumed, and did not begin anew"
    # Nothing missed and nothing doubled: what the page lists is what the server has.
    alerts = stack.http.get("/api/v1/alerts").json()["alerts"]
    standing = {alert["id"] for alert in alerts if alert["state"] != "resolved"}
    rows = page.locator("[data-alert]")
    expect(rows).to_have_count(len(standing))
    assert {r.get_attribute("data-alert") for r in rows.all()} == standing
