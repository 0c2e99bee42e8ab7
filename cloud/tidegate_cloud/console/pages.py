"""The pages' files: compressed once, named by their content, kept by browsers.

A file is read and compressed at its first request and stays in memory until it changes on disk; all of
them together take some 8 MB. `If-None-Match` gives 304; under `?v=` its own content's name a file is kept for good.
"""

from __future__ import annotations

import gzip
import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

# Said here, and not guessed from the system's table, which differs from one machine to the next.
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
_NOT_SQUEEZED = frozenset({".png", ".woff2"})
_SMALLEST = 512


@dataclass(frozen=True, slots=True)
class Page:
    """A file as it is served. `squeezed` is empty where compressing it gains nothing."""

    media_type: str
    etag: str
    plain: bytes
    squeezed: bytes
    stamp: tuple[int, int]


class Pages:
    """See the module's docstring. Thread-safe."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[Path, Page] = {}
        self._lock = threading.Lock()

    def get(self, path: str) -> Page | None:
        """The file at a path below the root; None where there is none."""
        try:
            wanted = (self._root / path.lstrip("/")).resolve()
            if not (wanted.is_relative_to(self._root) and wanted.is_file()):
                return None
            status = wanted.stat()
        except (ValueError, OSError):  # no file can have such a name
            return None
        stamp = (status.st_mtime_ns, status.st_size)
        known = self._known.get(wanted)
        if known is None or known.stamp != stamp:
            known = _read(wanted, stamp)
            with self._lock:
                self._known[wanted] = known
        return known


def _read(path: Path, stamp: tuple[int, int]) -> Page:
    plain = path.read_bytes()
    squeezed = b""
    if path.suffix not in _NOT_SQUEEZED and len(plain) >= _SMALLEST:
        squeezed = gzip.compress(plain, 6, mtime=0)
    etag = f'"{hashlib.sha256(plain).hexdigest()[:20]}"'
    return Page(TYPES.get(path.suffix, "application/octet-stream"), etag, plain, squeezed, stamp)


def takes_gzip(accept_encoding: str) -> bool:
    """Whether a client says that it takes gzip (RFC 9110, 12.5.3)."""
    for part in accept_encoding.split(","):
        name, _, weight = part.strip().partition(";")
        if name.strip().lower() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
