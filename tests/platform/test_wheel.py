"""What pip installs is all that the commands need at run time."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.full
def test_the_wheel_carries_schemas_the_jar_list_and_the_page(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {
        path.relative_to(ROOT / folder).as_posix()
        for folder in ("protocols", "edge", "cloud", "firmware-sim", "cli")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and not {"node_modules", "__pycache__"} & set(path.parts)
        and path.suffix not in (".pyc", ".nbi", ".nbc")
    }
    left_out = {f"tidegate_cloud/console/{name}" for name in ("package.json", "package-lock.json")}
    assert sources - names == left_out
    assert "tidegate_cloud/console/static/vendor/maplibre-gl.js" in names
    assert "tidegate_protocols/schemas/Event.avsc" in names
    assert "tidegate_cloud/broker/kafka.lock" in names
