"""What the agent remembers of configurations over the air, durably: ``ota/state.json`` in its data folder.

Replaced as a whole, like `last_good`. Beside it:

    tuf/          what TUF's client has believed (`verify`)
    store/SHA256  contents that were fetched and checked; SHA256.part is one under way
    sets/NUMBER/  the files of one desired state, by name: links into the store
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import msgspec
from tidegate_protocols.errors import BadInput

from .. import durable

log = logging.getLogger(__name__)

State = Literal["applying", "running", "refused", "rolled-back"]


class Record(msgspec.Struct, frozen=True):
    """The agent and what it was told.

    number, state, why, since_us  as in `Reported`
    running, layer    the desired number whose layer lies over the agent's own file, and its SHA-256; 0 and "": none
    desired           the last record for this agent, as it came: it is looked at again after a start
    offset            the next record of device.desired to read; -1: none was read yet
    """

    number: int = 0
    state: State = "running"
    why: str = ""
    since_us: int = 0
    running: int = 0
    layer: str = ""
    desired: bytes = b""
    offset: int = -1


class Memory:
    """The folder ``ota`` of an agent. Every method may block on the disk, and raises OSError."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "ota"
        self.tuf = self.folder / "tuf"
        self._store = self.folder / "store"
        self._store.mkdir(parents=True, exist_ok=True)
        for each in (self.folder, data_dir):
            durable.sync(each)
        self._path = self.folder / "state.json"
        self.record = Record()
        try:
            self.record = msgspec.json.decode(durable.unseal(self._path.read_bytes()), type=Record)
        except FileNotFoundError:
            pass
        except ValueError as error:
            # What runs is on record elsewhere (`last_good`); the server is asked to tell anew.
            log.error("%s cannot be read and is begun anew: %s", self._path, error)

    def write(self, **changes: object) -> None:
        """Change the record; durable when this returns."""
        record = msgspec.structs.replace(self.record, **changes)
        durable.replace(self._path, durable.seal(msgspec.json.encode(record)))
        self.record = record

    def has(self, sha256: str) -> bool:
        """Whether a content is here, whole."""
        return (self._store / sha256).exists()

    def part(self, sha256: str) -> int:
        """How many chunks' bytes of a content are here already."""
        part = self._store / f"{sha256}.part"
        return part.stat().st_size if part.exists() else 0

    def append(self, sha256: str, chunk: bytes) -> None:
        """Add the next chunk of a content."""
        with open(self._store / f"{sha256}.part", "ab") as file:
            file.write(chunk)

    def drop_part(self, sha256: str) -> None:
        """Forget what was fetched of a content."""
        (self._store / f"{sha256}.part").unlink(missing_ok=True)

    def finish(self, sha256: str, length: int) -> None:
        """Check a content that was fetched, and keep it. Raises BadInput, and forgets it, where it is another one."""
        part = self._store / f"{sha256}.part"
        data = part.read_bytes() if part.exists() else b""
        if len(data) != length or hashlib.sha256(data).hexdigest() != sha256:
            part.unlink(missing_ok=True)
            raise BadInput(f"{len(data)} bytes that are not the {length} that were signed", where=f"file {sha256[:12]}")
        durable.sync(part)
        os.replace(part, self._store / sha256)
        durable.sync(self._store)

    def read(self, sha256: str) -> bytes:
        """A content that is here."""
        return (self._store / sha256).read_bytes()

    def lay_out(self, number: int, files: Mapping[str, str]) -> Path:
        """The folder with the files of one desired state, by name. Kept beside those of the one that runs."""
        folder = self.folder / "sets" / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        for name, sha256 in files.items():
            link = folder / name
            link.unlink(missing_ok=True)
            link.symlink_to(Path("..") / ".." / "store" / sha256)
        # A configuration that names files here may be kept as the last good one from now on.
        for each in (folder, folder.parent, self.folder):
            durable.sync(each)
        return folder

    def forget(self, keep_numbers: Iterable[int], keep: Iterable[str]) -> None:
        """Remove what no state needs any more."""
        numbers = {str(number) for number in keep_numbers}
        sets = self.folder / "sets"
        for folder in sets.iterdir() if sets.exists() else ():
            if folder.name not in numbers:
                shutil.rmtree(folder, ignore_errors=True)
        wanted = set(keep)
        for folder in sets.iterdir() if sets.exists() else ():
            wanted |= {os.readlink(link).rsplit("/", 1)[-1] for link in folder.iterdir() if link.is_symlink()}
        for file in self._store.iterdir():
            if file.name not in wanted:
                file.unlink(missing_ok=True)

    def size(self) -> int:
        """Bytes of contents that are kept."""
        return sum(file.stat().st_size for file in self._store.iterdir())
