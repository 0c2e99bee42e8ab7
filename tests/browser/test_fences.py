"""The page of fences: drawn, edited, refused with the reason, repaired, published; by mouse and by keyboard."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from tidegate_protocols.registry import Fence

from tests.browser.conftest import DESK, LOOKS, PHONE, Screens, Stack, fits_a_phone, keep, open_page, serious
from tests.support.fleet import register
from tests.support.wait import until


def drawing(page: Page) -> Locator:
    return page.get_by_test_id("fence-map")


def click_on_map(page: Page, *places: tuple[float, float]) -> None:
    """Click at places given as shares of the map's width and height."""
    box = drawing(page).bounding_box()
    assert box is not None
    for x, y in places:
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])


def begin(page: Page, tool: str) -> None:
    """Choose what is drawn, and wait until it is."""
    expect(page.locator("[data-fence]").first).to_be_visible()
    page.get_by_role("button", name=tool).click()
    expect(page.get_by_role("button", name=tool)).to_have_attribute("aria-pressed", "true")
    expect(drawing(page)).to_have_attribute("data-points", "0")


def square(stack: Stack, name: str, lon: float = 2.85, **more: Any) -> str:
    """A fence of its own for a test, known to the console; its id."""
    ring = [[lon, 51.17], [lon + 0.01, 51.17], [lon + 0.01, 51.18], [lon, 51.18], [lon, 51.17]]
    geometry = f'{{"type": "Polygon", "coordinates": [{ring}]}}'
    register(stack.bootstrap, Fence(id=name, name=name.title(), geometry=geometry, **more))
    until(lambda: stack.http.get(f"/api/v1/fences/{name}").status_code == 200, what="the fence on the console")
    return name


def kept(stack: Stack, name: str) -> dict[str, Any]:
    answer = stack.http.get(f"/api/v1/fences/{name}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ready(page: Page, name: str, points: int = 4) -> None:
    """Open a fence and wait until it is drawn."""
    open_page(page, f"/fences/{name}")
    expect(drawing(page)).to_have_attribute("data-points", str(points))


def publish(page: Page, version: int, why: str = "") -> None:
    page.get_by_label("What changed and why").fill(why)
    page.get_by_role("button", name=f"Publish v{version}").click()
    expect(page.get_by_role("button", name="Publish")).to_have_count(0)


def test_what_crosses_itself_is_refused_with_the_place_and_offered_repaired(page: Page, stack: Stack) -> None:
    open_page(page, "/fences")
    begin(page, "Polygon")
    click_on_map(page, (0.3, 0.3), (0.6, 0.3), (0.3, 0.6), (0.6, 0.6))
    expect(drawing(page)).to_have_attribute("data-points", "4")
    page.get_by_role("button", name="Finish").click()
    page.get_by_label("Name").fill("Turning Loop")
    expect(page.get_by_role("alert")).to_contain_text(re.compile(r"self-intersection at \[2\.\d+, 51\.\d+\]"))
    expect(drawing(page)).to_have_attribute("data-bad", re.compile(r"^2\.\d+,51\.\d+$"))
    expect(page.get_by_role("button", name="Publish v1")).to_be_disabled()
    page.get_by_role("button", name="Repair: make it 2 polygons of 6 corners").click()
    expect(page.get_by_test_id("shape")).to_contain_text("2 polygons, 6 points")
    expect(page.get_by_role("alert")).to_have_count(0)
    publish(page, 1, "vans turn here")
    expect(page).to_have_url(re.compile("/fences/turning-loop$"))
    fence = kept(stack, "turning-loop")
    assert (fence["geometry"]["type"], fence["properties"]["name"]) == ("MultiPolygon", "Turning Loop")
    expect(page.locator("[data-version='1']")).to_contain_text("vans turn here")
    expect(page.locator("[data-version='1']")).to_contain_text("operator")


def test_drawn_and_published_by_keyboard_alone(page: Page, stack: Stack) -> None:
    open_page(page, "/fences")
    expect(page.locator("[data-fence]").first).to_be_visible()
    page.keyboard.press("n")
    expect(page.get_by_role("application")).to_be_focused()
    for way in ("ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(" ")
        page.keyboard.press(way)
    page.keyboard.press(" ")
    expect(drawing(page)).to_have_attribute("data-points", "4")
    page.keyboard.press("Backspace")
    expect(drawing(page)).to_have_attribute("data-points", "3")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("shape")).to_contain_text("polygon, 3 points")
    page.get_by_label("Name").focus()
    page.keyboard.type("By Hand")
    expect(page.get_by_role("button", name="Publish v1")).to_be_enabled()
    page.get_by_role("button", name="Publish v1").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/fences/by-hand$"))
    assert len(kept(stack, "by-hand")["geometry"]["coordinates"][0]) == 4


def test_points_are_moved_removed_added_and_undone_by_keyboard(page: Page, stack: Stack) -> None:
    name = square(stack, "key-yard")
    ready(page, name)
    page.keyboard.press("e")
    expect(page.get_by_role("application")).to_be_focused()
    page.keyboard.press("Tab")
    expect(drawing(page)).to_have_attribute("data-selected", "0")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Tab")
    page.keyboard.press("Delete")
    expect(drawing(page)).to_have_attribute("data-points", "3")
    page.keyboard.press("u")
    expect(drawing(page)).to_have_attribute("data-points", "4")
    page.keyboard.press("i")
    expect(drawing(page)).to_have_attribute("data-points", "5")
    expect(page.get_by_role("application")).to_have_attribute(
        "aria-label", re.compile(r"^Point \d of 5, latitude 51\.17")
    )
    expect(page.get_by_text("The shape and the rules are valid")).to_be_visible()
    publish(page, 2, "the gate moved")
    lon, lat = kept(stack, name)["geometry"]["coordinates"][0][0]
    east_m = (lon - 2.85) * 111_195 * math.cos(math.radians(51.17))
    assert (east_m, (lat - 51.17) * 111_195) == (pytest.approx(10, abs=0.1), pytest.approx(1, abs=0.1))


def test_points_are_dragged_and_added_by_mouse(page: Page, stack: Stack) -> None:
    name = square(stack, "mouse-yard")
    ready(page, name)
    corner = page.locator("svg.draft .point").nth(2).bounding_box()
    middle = page.locator("svg.draft .middle").nth(0).bounding_box()
    assert corner is not None
    assert middle is not None
    for box, by in ((corner, -60), (middle, 50)):
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + by / 2, y + by / 2)
        page.mouse.move(x + by, y + by)
        page.mouse.up()
    expect(drawing(page)).to_have_attribute("data-points", "5")
    page.get_by_role("button", name="Undo").click()  # the whole drag at once
    expect(drawing(page)).to_have_attribute("data-points", "4")
    publish(page, 2)
    lon, lat = kept(stack, name)["geometry"]["coordinates"][0][2]
    assert lon < 2.86
    assert lat > 51.18  # to the left, and up: south is down


def test_a_circle_gets_rules_and_wrong_hours_are_refused_with_the_reason(page: Page, stack: Stack) -> None:
    open_page(page, "/fences")
    begin(page, "Circle")
    click_on_map(page, (0.5, 0.5))
    page.get_by_label("Name").fill("School Lane")
    page.get_by_role("spinbutton", name="Radius").fill("120")
    page.get_by_label("Alert when a vehicle").select_option("exit")
    page.get_by_label("Severity").select_option("critical")
    page.get_by_role("button", name="City vans").click()
    page.get_by_role("switch", name="Alert on long stays").check()
    page.get_by_label("Longer than").fill("45")
    page.get_by_role("switch", name="Alert on speed").check()
    page.get_by_label("Faster than").fill("30")
    page.get_by_label("Hours, as").fill("Mo-Fr 7 to 4")
    expect(page.get_by_role("alert")).to_contain_text("Mo-Fr 7 to 4")
    page.get_by_label("Hours, as").fill("Mo-Fr 07:30-16:00")
    page.get_by_label("In these hours").select_option("active")
    page.get_by_label("Time zone").fill("Europe/Brussels")
    expect(page.locator(".says")).to_contain_text(
        "When a vehicle of City vans stays longer than 45 min, raise a critical alert."
    )
    publish(page, 1)
    fence = kept(stack, "school-lane")
    wanted = {
        "radius_m": 120.0, "alert_on": "exit", "severity": "critical", "groups": ["City vans"], "dwell_s": 2700.0,
        "schedule": "Mo-Fr 07:30-16:00", "schedule_mode": "active", "time_zone": "Europe/Brussels",
    }  # fmt: skip
    assert {key: fence["properties"][key] for key in wanted} == wanted
    assert fence["properties"]["speed_limit_mps"] == pytest.approx(30 / 3.6)
    assert fence["geometry"]["type"] == "Point"


def test_a_corridor_is_drawn_and_removed_and_brought_back_from_its_versions(page: Page, stack: Stack) -> None:
    open_page(page, "/fences")
    begin(page, "Corridor")
    click_on_map(page, (0.3, 0.5), (0.5, 0.45), (0.7, 0.5))
    page.get_by_role("button", name="Finish").click()
    page.get_by_label("Name").fill("Low Bridge Road")
    page.get_by_label("Half its width").fill("40")
    expect(page.get_by_test_id("shape")).to_contain_text(re.compile(r"corridor, 3 points, .* long, 80 m wide"))
    publish(page, 1)
    assert kept(stack, "low-bridge-road")["properties"]["distance_m"] == 40
    page.get_by_label("Name").fill("Low Bridge")
    publish(page, 2, "people call it that")
    page.locator("[data-version='1']").get_by_role("button", name="Show").click()
    expect(page.locator("svg.draft .ghost").first).to_be_attached()
    page.locator("[data-version='1']").get_by_role("button", name="Bring back").click()
    expect(page.get_by_label("Name")).to_have_value("Low Bridge Road")
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("button", name="Remove…").click()
    page.get_by_role("button", name="Remove Low Bridge").click()
    expect(page).to_have_url(re.compile("/fences$"))
    assert stack.http.get("/api/v1/fences/low-bridge-road").status_code == 404
    versions = stack.http.get("/api/v1/fences/low-bridge-road/versions").json()
    assert [version["version"] for version in versions] == [None, 2, 1]


def test_two_people_at_one_fence_do_not_overwrite_each_other(page: Page, stack: Stack) -> None:
    name = square(stack, "busy-yard", lon=2.87)
    ready(page, name)
    page.get_by_label("Name").fill("Busy Yard of mine")
    theirs = kept(stack, name)
    theirs["properties"] = {"name": "Busy Yard of theirs"}
    stack.okafor.put(f"/api/v1/fences/{name}", json=theirs).raise_for_status()
    expect(page.get_by_role("alert")).to_contain_text("Somebody published v2 meanwhile")
    expect(page.get_by_role("button", name="Publish")).to_be_disabled()
    page.get_by_role("button", name="Go on with mine").click()
    publish(page, 3)
    assert kept(stack, name)["properties"]["name"] == "Busy Yard of mine"


@pytest.mark.parametrize(("theme", "size"), LOOKS, ids=["light", "dark", "phone-light", "phone-dark"])
def test_how_it_looks(screens: Screens, stack: Stack, theme: str, size: dict[str, int]) -> None:
    page = screens(theme, size)
    open_page(page, "/fences")
    expect(page.locator("[data-fence]").first).to_be_visible()
    assert serious(page) == []
    ready(page, "reefer-yard")
    if size is DESK:
        page.get_by_role("application").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Shift+ArrowUp")
        expect(page.get_by_text("The shape and the rules are valid")).to_be_visible()
    expect(page.locator("svg.draft .shape").first).to_be_attached()
    assert serious(page) == []
    if size is PHONE:
        fits_a_phone(page)
    if (theme, size) in (("light", DESK), ("dark", DESK), ("light", PHONE)):
        keep(page, f"fences-{'phone' if size is PHONE else theme}")
