"""The pipeline's page: what it says of each stage is what the stages say of themselves, and what is old is said so."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect
from tidegate_protocols.topics import FRAMES

from tests.browser.conftest import DESK, PHONE, Screens, Stack, keep, open_page
from tests.support.kafka import produce


def stage(page: Page, name: str) -> Locator:
    return page.locator(f"[data-stage={name}]")


def fact(page: Page, name: str, words: str) -> Locator:
    return stage(page, name).locator(f"dt:text-is('{words}') + dd")


def test_it_is_reached_by_keyboard_and_says_how_each_stage_is(page: Page) -> None:
    open_page(page, "/devices")
    page.get_by_role("link", name="Pipeline").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/pipeline$"))
    expect(stage(page, "processor")).to_contain_text("answers")
    expect(fact(page, "processor", "Frames in")).to_have_text(re.compile(r"^[\d.,]*[1-9][\d.,]*/s$"))
    expect(fact(page, "processor", "99 % done within")).to_have_text(re.compile(r"\d"))
    expect(stage(page, "alerts")).to_contain_text("answers")
    expect(stage(page, "agent")).to_contain_text("not looked at")
    frames = page.locator(f"[data-topic='{FRAMES.name}'] td").nth(1)
    expect(frames).to_have_text(re.compile("[1-9]"))


def test_a_record_that_cannot_be_read_is_counted(page: Page, stack: Stack) -> None:
    stages = {each["name"]: each for each in stack.http.get("/api/v1/pipeline").json()["stages"]}
    before = stages["processor"]["dead_letters"]
    produce(stack.bootstrap, FRAMES.name, [("nobody", b"no frame")])
    open_page(page, "/pipeline")
    expect(fact(page, "processor", "Refused")).to_have_text(f"{before + 1:.0f}")


def test_without_an_answer_the_figures_stay_and_are_called_old(page: Page) -> None:
    open_page(page, "/pipeline")
    expect(stage(page, "processor")).to_contain_text("answers")
    page.route("**/api/v1/pipeline", lambda route: route.abort())
    expect(page.get_by_role("heading", level=1)).to_contain_text("How the pipeline was at")
    expect(page.get_by_role("main")).to_contain_text("the server does not answer")
    expect(stage(page, "processor")).to_contain_text("not known now")
    page.unroute("**/api/v1/pipeline")
    expect(stage(page, "processor")).to_contain_text("answers")


@pytest.mark.parametrize(
    ("name", "theme", "size"),
    [("light", "light", DESK), ("dark", "dark", DESK), ("phone", "light", PHONE)],
    ids=["light", "dark", "phone"],
)
def test_picture(screens: Screens, name: str, theme: str, size: dict[str, int]) -> None:
    page = screens(theme, size)
    open_page(page, "/pipeline")
    expect(fact(page, "processor", "Frames in")).to_have_text(re.compile(r"\d.*/s"))
    keep(page, f"pipeline-{name}")
