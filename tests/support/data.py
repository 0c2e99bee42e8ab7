"""Recorded data for tests and benchmarks. It is not part of the repository: `TIDEGATE_DATA` says where it lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def data_dir() -> Path:
    """The folder that holds capmetrics/ and nab/."""
    return Path(os.environ.get("TIDEGATE_DATA") or _BESIDE_THE_CHECKOUT)


def find(name: str) -> Path | None:
    """A recorded file by its path inside the folder, or None where it is not at hand."""
    path = data_dir() / name
    return path if path.exists() else None


def need(name: str) -> Path:
    """The same for a test that cannot do without: it is skipped, and says so, where the file is not at hand."""
    path = find(name)
    if path is None:
        pytest.skip(f"{name} is not in {data_dir()} (set TIDEGATE_DATA)")
    return path
