"""Files that a power cut leaves as they were or as they were to be, and never neither."""

from __future__ import annotations

import os
import zlib
from pathlib import Path


def replace(path: Path, data: bytes) -> None:
    """Write a file whole, durably when this returns. Raises OSError; then it is as it was."""
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """A file's bytes, or what was renamed in a folder, are on the disk when this returns. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def seal(data: bytes) -> bytes:
    """A JSON text with a line after it that says whether it is whole (JSON, too)."""
    return b'%b\n{"crc32":%d}\n' % (data, zlib.crc32(data))


def unseal(data: bytes) -> bytes:
    """The reverse. Raises ValueError where the text is damaged."""
    text, _, _ = data.rstrip(b"\n").rpartition(b"\n")
    if seal(text) != data:
        raise ValueError("its checksum does not fit")
    return text
