"""Compiled kernels of other sources are never run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

_PACKAGE = {
    "__init__.py": """
from pathlib import Path
from tidegate_protocols.kernel_cache import keep_apart
keep_apart("example", Path(__file__).parent)
""",
    "callee.py": "from numba import njit\n@njit(cache=True)\ndef one():\n    return 1\n",
    "caller.py": """
from numba import njit
from .callee import one
@njit(cache=True)
def twice():
    return 2 * one()
""",
}


def _run(folder: Path, cache: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from example.caller import twice; print(twice())"],
        cwd=folder, env={**os.environ, "NUMBA_CACHE_DIR": str(cache)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_a_change_of_a_callee_reaches_its_callers(tmp_path: Path) -> None:
    package = tmp_path / "example"
    package.mkdir()
    for name, text in _PACKAGE.items():
        (package / name).write_text(text)
    cache = tmp_path / "cache"
    assert _run(tmp_path, cache) == "2"
    assert len(list(cache.glob("example-*"))) == 1
    (package / "callee.py").write_text(_PACKAGE["callee.py"].replace("return 1", "return 21"))
    assert _run(tmp_path, cache) == "42"


def test_what_nobody_used_for_long_is_removed(tmp_path: Path) -> None:
    package, cache = tmp_path / "example", tmp_path / "cache"
    package.mkdir()
    for name, text in _PACKAGE.items():
        (package / name).write_text(text)
    for i in range(6):
        old = cache / f"example-{i:016x}"
        old.mkdir(parents=True)
        os.utime(old, (i, i))
    (cache / "example-notes").mkdir()
    _run(tmp_path, cache)
    left = sorted(path.name for path in cache.glob("example-*"))
    assert len(left) == 5
    assert f"example-{0:016x}" not in left
    assert "example-notes" in left


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    package, cache = tmp_path / "example", tmp_path / "cache"
    package.mkdir()
    for name, text in _PACKAGE.items():
        (package / name).write_text(text)
    cache.write_text("a file, not a folder")
    assert _run(tmp_path, cache) == "2"
