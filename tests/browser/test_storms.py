"""Alerts by the many: storms as one row, several at once, false alarms, snoozes, silences; by mouse and keyboard."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from tidegate_protocols.registry import FEEDBACK
from tidegate_protocols.topics import FEEDBACK as FEEDBACK_TOPIC

from tests.browser import town
from tests.browser.conftest import DESK, LOOKS, PHONE, Screens, Stack, fits_a_phone, keep, open_page, serious
from tests.browser.test_alerts import alert_of, row, select_by_keyboard, state_is
from tests.support.kafka import consume_all
from tests.support.wait import until

STORM = [f"STORM-{n}" for n in range(8)]


def group_of(stack: Stack, alert: str, state: str) -> dict[str, Any]:
    """The group that an alert is part of, once it stands so."""

    def found() -> dict[str, Any] | None:
        name = stack.http.get(f"/api/v1/alerts/{alert}").json()["group"]
        groups: list[dict[str, Any]] = stack.http.get("/api/v1/groups").json()
        return next((group for group in groups if group["id"] == name and group["state"] == state), None)

    group: dict[str, Any] = until(found, 60, f"a group that is {state}")
    return group


def members(stack: Stack, group: str) -> set[str]:
    """The devices of a group's alerts."""
    alerts = stack.http.get("/api/v1/alerts", params={"group": group}).json()["alerts"]
    return {alert["device"] for alert in alerts}


def entered(page: Page, device: str) -> Locator:
    """The row of a device's alert about a fence, and of none besides: one that stops reporting goes silent."""
    return row(page, device).filter(has_text="Entered")


def silences(stack: Stack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stack.http.get("/api/v1/silences").json()["silences"]
    return found


@pytest.fixture(scope="module")
def storm(stack: Stack) -> str:
    """Eight devices with one fault: the id of the group that the last of them is in.

    On a slow machine the first may come so long before the others that they are a storm of their own.
    """
    for device in STORM:
        stack.visit(device, town.QUARRY_AT)
    alerts = [alert_of(stack, device, lambda alert: alert["rule"] == "fence-entered") for device in STORM]
    return str(group_of(stack, alerts[-1], "open")["id"])


def test_a_storm_is_one_row_with_its_alerts_beneath(page: Page, stack: Stack, storm: str) -> None:
    open_page(page, "/alerts")
    expect(page.locator(f"[data-group='{storm}']")).to_contain_text(re.compile(r"\d+ devices"))
    expect(entered(page, STORM[-1])).to_have_count(0)
    page.locator(f"[data-group='{storm}']").get_by_role("button", name=re.compile("Holm quarry")).click()
    devices = members(stack, storm)
    assert len(devices) >= 5
    expect(page.locator("[data-member]")).to_have_count(len(devices))
    for device in devices:
        expect(page.locator("[data-member]").filter(has_text=device)).to_be_attached()
    expect(page.get_by_text("Why this is one alert")).to_be_visible()
    page.get_by_role("switch", name="Group one fault as one row").click()
    expect(entered(page, STORM[-1])).to_have_count(1)
    expect(page).to_have_url(re.compile("flat=1"))


def test_filters_stand_in_the_address_and_say_what_they_hide(page: Page, storm: str) -> None:
    open_page(page, "/alerts?flat=1&q=storm-5")
    expect(entered(page, "STORM-5")).to_have_count(1)
    expect(page.locator("[data-alert]").filter(has_not_text="STORM-5")).to_have_count(0)
    page.get_by_role("button", name="Critical").click()
    expect(page.get_by_role("main")).to_contain_text(re.compile(r"\d+ alerts? hidden by these filters"))
    page.get_by_role("link", name="Clear filters").click()
    expect(page).to_have_url(re.compile("/alerts$"))


def test_a_storm_is_acknowledged_by_keyboard_with_all_its_alerts(page: Page, stack: Stack, storm: str) -> None:
    open_page(page, "/alerts")
    line = page.locator(f"[data-group='{storm}']")
    expect(line).to_be_visible()
    for _ in range(page.locator("[data-alert], [data-group]").count() + 1):
        if line.get_attribute("aria-current") == "true":
            break
        page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("[data-member]").first).to_be_visible()
    page.keyboard.press("a")
    expect(line).to_have_count(0)
    for device in members(stack, storm):
        alert_of(stack, device, state_is("acknowledged", "operator"))
    page.goto("/alerts?state=acknowledged")
    expect(line).to_contain_text("You")


def test_a_false_alarm_is_learnt_from_by_key_and_by_mouse(page: Page, stack: Stack) -> None:
    for device in ("TRK-false-1", "TRK-false-2"):
        stack.visit(device, town.YARD_AT)
    ids = [alert_of(stack, device) for device in ("TRK-false-1", "TRK-false-2")]
    open_page(page, "/alerts?flat=1")
    expect(entered(page, "TRK-false-1")).to_be_visible()
    select_by_keyboard(page, "TRK-false-1")
    page.keyboard.press("f")
    expect(entered(page, "TRK-false-1")).to_have_count(0)
    page.goto(f"/alerts/{ids[1]}")
    page.locator(".actions").get_by_role("button", name="False alarm").click()
    expect(page.locator(".tl")).to_contain_text("Called a false alarm by operator")
    for device in ("TRK-false-1", "TRK-false-2"):
        alert_of(stack, device, state_is("resolved", "operator"))

    def learnt() -> set[str]:
        messages = consume_all(stack.bootstrap, FEEDBACK_TOPIC.name)
        return {FEEDBACK.decode(value).id for message in messages if (value := message.value()) is not None}

    until(lambda: set(ids) <= learnt(), what="the feedback of both")


def test_snoozed_by_two_keys_and_by_the_menu(page: Page, stack: Stack) -> None:
    for device in ("TRK-nap-1", "TRK-nap-2"):
        stack.visit(device, town.YARD_AT)
        alert_of(stack, device)
    open_page(page, "/alerts?flat=1")
    expect(entered(page, "TRK-nap-1")).to_be_visible()
    select_by_keyboard(page, "TRK-nap-1")
    page.keyboard.press("s")
    expect(page.get_by_role("menu", name="Snooze for")).to_be_visible()
    page.keyboard.press("2")
    expect(entered(page, "TRK-nap-1")).to_have_count(0)
    entered(page, "TRK-nap-2").hover()
    entered(page, "TRK-nap-2").get_by_role("button", name="Snooze").click()
    page.get_by_role("menuitem", name=re.compile("^4 hours")).click()
    expect(entered(page, "TRK-nap-2")).to_have_count(0)
    for device in ("TRK-nap-1", "TRK-nap-2"):
        alert_of(stack, device, state_is("snoozed", "operator"))
    page.goto("/alerts?state=snoozed&flat=1")
    expect(entered(page, "TRK-nap-1")).to_contain_text(re.compile(r"until \d\d:\d\d"))


def test_several_are_marked_and_acted_on_at_once_and_undone(page: Page, stack: Stack) -> None:
    for device in ("TRK-bulk-1", "TRK-bulk-2"):
        stack.visit(device, town.YARD_AT)
        alert_of(stack, device)
    open_page(page, "/alerts?flat=1")
    expect(entered(page, "TRK-bulk-2")).to_be_visible()
    select_by_keyboard(page, "TRK-bulk-1")
    page.keyboard.press("x")
    entered(page, "TRK-bulk-2").get_by_role("checkbox").check()
    expect(page.get_by_role("status").filter(has_text="2 marked")).to_be_visible()
    page.get_by_role("group", name="Act on what is marked").get_by_role("button", name="Acknowledge").click()
    for device in ("TRK-bulk-1", "TRK-bulk-2"):
        alert_of(stack, device, state_is("acknowledged"))
    page.keyboard.press("u")
    for device in ("TRK-bulk-1", "TRK-bulk-2"):
        alert_of(stack, device, state_is("open"))


def test_a_silence_is_made_from_an_alert_hides_it_and_is_ended(page: Page, stack: Stack) -> None:
    stack.visit("TRK-hush", town.YARD_AT)
    alert = alert_of(stack, "TRK-hush")
    open_page(page, f"/alerts/{alert}")
    page.get_by_role("link", name="Silence alerts like this").click()
    expect(page.get_by_label("Value").first).to_have_value("TRK-hush")
    page.get_by_role("button", name="1 hour").click()
    page.get_by_label("Why, for those").fill("its tyres are changed")
    page.get_by_role("button", name="Silence", exact=True).click()
    made = page.locator("[data-silence]").filter(has_text="TRK-hush")
    expect(made).to_contain_text("its tyres are changed")
    expect(made).to_contain_text("made by operator")
    expect(made).to_contain_text("Silenced")  # the alert that it hides is listed with it
    page.goto("/alerts?flat=1")
    expect(entered(page, "TRK-hush")).to_contain_text("Silenced")
    page.goto("/silences")
    made.get_by_role("button", name="End it now").focus()
    page.keyboard.press("Enter")
    expect(page.locator("section").filter(has=page.get_by_role("heading", name="Over"))).to_contain_text("TRK-hush")
    until(lambda: stack.http.get(f"/api/v1/alerts/{alert}").json()["muted"] == "", 30, "it to come out")


def test_a_silence_that_recurs_is_made_by_keyboard_and_taken_back(page: Page, stack: Stack) -> None:
    open_page(page, "/silences")
    page.keyboard.press("n")
    expect(page.get_by_role("form", name="New silence")).to_be_visible()
    expect(page.get_by_label("What of it")).to_be_focused()
    page.get_by_label("How").select_option("~")
    page.get_by_label("Value").focus()
    page.keyboard.type("WASH-*")
    for name in ("Again and again", "Sun"):
        page.get_by_role("button", name=name).focus()
        page.keyboard.press("Enter")
    page.get_by_label("Why, for those").focus()
    page.keyboard.type("the yard is washed")
    page.keyboard.press("Enter")
    made = page.locator("[data-silence]").filter(has_text="WASH-*")
    expect(made).to_contain_text("Sun, 22:00 to 06:00")
    (kept,) = [silence for silence in silences(stack) if silence["why"] == "the yard is washed"]
    assert (kept["days"], kept["from_time"], kept["who"]) == (["sun"], "22:00", "operator")
    made.get_by_role("button", name="Take it back").click()
    expect(made).to_have_count(0)


def test_a_comment_is_kept_with_who_said_it(page: Page, stack: Stack) -> None:
    stack.visit("TRK-word", town.YARD_AT)
    open_page(page, f"/alerts/{alert_of(stack, 'TRK-word')}")
    expect(page.get_by_label("Comment")).to_be_visible()
    page.keyboard.press("c")
    expect(page.get_by_label("Comment")).to_be_focused()
    page.keyboard.type("the driver was called")
    page.keyboard.press("Enter")
    expect(page.locator(".tl")).to_contain_text("Comment by operator")
    expect(page.locator(".tl")).to_contain_text("the driver was called")


@pytest.mark.parametrize(("theme", "size"), LOOKS, ids=["light", "dark", "phone-light", "phone-dark"])
def test_how_it_looks(screens: Screens, stack: Stack, storm: str, theme: str, size: dict[str, int]) -> None:
    page = screens(theme, size)
    state = stack.http.get("/api/v1/groups").json()
    here = next(group["state"] for group in state if group["id"] == storm)
    open_page(page, f"/alerts?state={here}")
    page.locator(f"[data-group='{storm}']").get_by_role("button", name=re.compile("Holm quarry")).click()
    expect(page.locator("[data-member]").first).to_be_visible()
    assert serious(page) == []
    if size is PHONE:
        fits_a_phone(page)
    kind = "phone" if size is PHONE else theme
    if (theme, size) in (("light", DESK), ("dark", DESK), ("light", PHONE)):
        keep(page, f"alerts-{kind}")
    for address in ("/silences", "/silences?new=1&device=TRK-118"):
        open_page(page, address)
        expect(page.get_by_role("main")).not_to_contain_text("Loading")
        assert serious(page) == [], address
        if size is PHONE:
            fits_a_phone(page)
    if (theme, size) == ("light", DESK):
        keep(page, "silences-light")
