"""Damaged frames: every decoder reads them alike or refuses them, and none reads or writes outside its arrays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import fuzz_frames


@pytest.mark.usefixtures("compiled")
def test_damaged_frames_are_read_alike_or_refused_by_every_decoder() -> None:
    read, refused = fuzz_frames.run(6_400, 1, twin=20)
    assert read > 50
    assert refused > 3_000


@pytest.mark.full
@pytest.mark.timeout(1_500)
def test_no_index_of_the_compiled_decoder_leaves_its_array(tmp_path: Path) -> None:
    env = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.support.fuzz_frames", "200000", "2"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
