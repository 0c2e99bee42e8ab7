"""Where numba keeps what it compiled: apart for each state of the sources, so that no stale kernel ever runs.

numba notices a change of the file that a kernel is in, but not of the files that the kernel's callees are in: after an
edit or an upgrade it would run the old callee, silently. So a package of kernels calls `keep_apart` before it imports
any of them, and its compiled code lies in a folder named after a digest of all the package's sources, under
``$NUMBA_CACHE_DIR``, or ``tidegate/kernels`` in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

_KEPT = 4  # folders of one package: other checkouts and versions may be in use beside this one


def keep_apart(package: str, sources: Path) -> Path | None:
    """Send what is compiled from now on to the folder of this state of `sources`, the package's folder.

    Returns the folder, or None where none can be written: then numba keeps to its own ways.
    """
    from numba import config

    digest = hashlib.sha256()
    for source in sorted(sources.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    folder = _base() / f"{package}-{digest.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        _forget_oldest(folder.parent, package)
    except OSError:
        return None
    config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    return folder


def _base() -> Path:
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "tidegate" / "kernels"


def _forget_oldest(base: Path, package: str) -> None:
    """Remove all but the folders of this package that were used last."""
    folders = sorted(base.glob(f"{package}-" + "[0-9a-f]" * 16), key=lambda folder: folder.stat().st_mtime)
    for folder in folders[:-_KEPT]:
        shutil.rmtree(folder, ignore_errors=True)
