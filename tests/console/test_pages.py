"""The pages' files: nothing outside their folder, small on the way, and not sent twice."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from tidegate_cloud.console.pages import Pages, takes_gzip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "static"
    (root / "app").mkdir(parents=True)
    (root / "app" / "main.js").write_text("let a = 1;\n" * 500)
    (root / "icon.png").write_bytes(os.urandom(2000))
    (tmp_path / "secret.txt").write_text("no")
    (root / "way-out").symlink_to(tmp_path / "secret.txt")
    return root


def test_files_are_compressed_and_named_by_their_content(root: Path):
    pages = Pages(root)
    page = pages.get("/app/main.js")
    assert page is not None
    assert page.media_type.startswith("text/javascript")
    assert gzip.decompress(page.squeezed) == page.plain
    assert len(page.squeezed) < len(page.plain) / 5
    assert pages.get("/app/main.js") is page
    (root / "app" / "main.js").write_text("let b = 2;\n" * 501)
    fresh = pages.get("/app/main.js")
    assert fresh is not None
    assert fresh.etag != page.etag
    picture = pages.get("/icon.png")
    assert picture is not None
    assert picture.squeezed == b""


@pytest.mark.parametrize(
    "path",
    ["/../secret.txt", "/app/../../secret.txt", "/way-out", "/app", "/", "/a\0b", "/" + "a" * 5000, "//etc/passwd"],
)
def test_nothing_else_is_served(root: Path, path: str):
    assert Pages(root).get(path) is None


@pytest.mark.parametrize(
    ("said", "taken"),
    [("gzip, deflate, br", True), ("*", True), ("gzip;q=0", False), ("br", False), ("", False), ("GZIP; q=0.5", True)],
)
def test_who_takes_gzip(said: str, taken: bool):
    assert takes_gzip(said) is taken
