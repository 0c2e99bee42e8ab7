"""What is taken from npm: pinned by content, without addresses, under licences that allow it, and complete."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tidegate_cloud.console import assets

_ALLOWED = {"MIT", "ISC", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "OFL-1.1", "0BSD"}


def test_the_lock_file_pins_by_content_and_holds_no_address() -> None:
    text = assets.LOCK.read_text("utf-8")
    packages = {path: entry for path, entry in json.loads(text)["packages"].items() if path}
    assert all("integrity" in entry and "resolved" not in entry for entry in packages.values())
    # What remains are the addresses where packages ask for donations.
    funding = {
        url
        for entry in packages.values()
        for url in re.findall(r"https?://[^\"]+", json.dumps(entry.get("funding", "")))
    }
    assert set(re.findall(r"https?://[^\"]+", text)) <= funding


def test_everything_that_ships_has_a_licence_that_allows_it() -> None:
    for name, licence in assets.shipped_packages():
        assert set(re.findall(r"[\w.-]+", licence)) - {"OR", "AND"} <= _ALLOWED, f"{name}: {licence}"


def test_modules_name_each_other_by_path(vendor: Path) -> None:
    for name in assets.MODULES.values():
        text = (vendor / name).read_text("utf-8")
        for specifier in re.findall(r"""\bfrom\s*["']([^"'\s]+)["']""", text):
            assert specifier.startswith("."), f"{name} imports {specifier}"
    assert (vendor / assets.NOTICES).read_text("utf-8").count("MIT") > 5


def test_a_second_run_does_nothing(vendor: Path) -> None:
    before = (vendor / ".stamp").stat().st_mtime_ns
    assert assets.ensure() is False
    assert (vendor / ".stamp").stat().st_mtime_ns == before


def test_an_import_that_is_not_copied_is_named() -> None:
    assert assets.rewrite('import{h}from"preact";') == 'import{h}from"./preact.js";'
    with pytest.raises(assets.AssetsError, match=r"left-pad.*MODULES"):
        assets.rewrite('import pad from "left-pad";', "somewhere.mjs")
