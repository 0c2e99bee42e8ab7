"""Loops that numba compiles. Each takes arrays whose shapes and types its caller has checked, and writes into arrays
that its caller made. A naive twin in tests/support/naive.py says what is right.

numba keeps compiled kernels beside these files, and looks for a newer source in the file of the kernel itself only: a
kernel that has taken in another one from a file that changed since would run the old code, silently. So what was
compiled from other sources than these is removed when this package is imported.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def _drop_stale() -> None:
    here = Path(__file__).parent
    cache = here / "__pycache__"
    digest = hashlib.sha256()
    for source in sorted(here.glob("*.py")):
        digest.update(source.read_bytes())
    stamp = cache / "sources.sha256"
    try:
        if stamp.exists() and stamp.read_text() == digest.hexdigest():
            return
        for compiled in cache.glob("*.nb[ci]"):
            compiled.unlink(missing_ok=True)
        cache.mkdir(exist_ok=True)
        stamp.write_text(digest.hexdigest())
    except OSError:
        # Not ours to write: then numba cannot keep anything here either.
        return


_drop_stale()
