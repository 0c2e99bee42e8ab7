"""Power fails at any step of a push: what the agent remembers is from before the step or from after it, and whole."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tidegate_edge.ota.memory import Memory, Record
from tidegate_protocols.ota import CHUNK

from .repository import Pair

TABLE = os.urandom(CHUNK + 1000)
LAYER = b"[batch]\nmax_scans = 3\n"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Disk:
    """A folder as a disk would have it after a power cut: what was synced is there, of the rest anything may be.

    `cut` is called before and after each change that can be told apart, and gets the images.
    """

    def __init__(self, root: Path, images: Path, cut: Callable[[Path], None]) -> None:
        self.root, self.images, self.cut = root, images, cut
        self.count = 0
        self._contents: dict[int, bytes] = {}  # inode → bytes as synced
        self._entries: dict[Path, dict[str, Any]] = {root: {}}  # folder → its entries as synced
        self._fsync = os.fsync

    def fsync(self, handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if not path.is_relative_to(self.root):
            self._fsync(handle)  # an image that is being looked at
            return
        self.images_now()
        self._fsync(handle)
        if path.is_dir():
            self._entries[path] = {entry.name: self._entry(entry) for entry in path.iterdir()}
        else:
            self._contents[path.stat().st_ino] = path.read_bytes()
        self.images_now()

    def _entry(self, path: Path) -> Any:
        return ("link", os.readlink(path)) if path.is_symlink() else path.is_dir() or path.stat().st_ino

    def images_now(self) -> None:
        """Three disks: nothing that was not synced; every name, but only bytes that were synced; everything."""
        for names, contents in ((True, True), (False, True), (False, False)):
            self.count += 1
            image = self.images / str(self.count)
            self._copy(self.root, image, synced_names=names, synced_contents=contents)
            self.cut(image)
            shutil.rmtree(image)

    def _copy(self, folder: Path, image: Path, *, synced_names: bool, synced_contents: bool) -> None:
        image.mkdir(parents=True)
        now = {entry.name: self._entry(entry) for entry in folder.iterdir()}
        for name, entry in (self._entries.get(folder, {}) if synced_names else now).items():
            if isinstance(entry, tuple):
                (image / name).symlink_to(entry[1])
            elif entry is True:
                if (folder / name).is_dir():  # one that was removed may be gone
                    self._copy(
                        folder / name, image / name, synced_names=synced_names, synced_contents=synced_contents
                    )  # fmt: skip
            elif synced_contents:
                synced = self._contents.get(entry)
                # Of bytes that were not synced the length may be there, and zeros.
                if synced is None and now.get(name) == entry:
                    synced = bytes((folder / name).stat().st_size)
                (image / name).write_bytes(synced or b"")
            else:
                (image / name).write_bytes((folder / name).read_bytes())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return tmp_path / "images"


def test_the_memory_is_whole_wherever_the_power_fails(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data := tmp_path / "agent").mkdir()
    said: list[Record] = [Record()]  # the last is being written, the one before was

    def look(image: Path) -> None:
        memory = Memory(image)
        assert memory.record in said[-2:], "neither what was before nor what comes after"
        for content in (LAYER, TABLE):
            if memory.has(sha(content)):
                assert memory.read(sha(content)) == content
        if memory.record.running or memory.record.state == "applying":
            # The configuration on trial names its files, and may be kept at any time from here on.
            table = image / "ota" / "sets" / str(memory.record.number) / "table.bin"
            assert table.read_bytes() == TABLE

    disk = Disk(data, images, look)
    monkeypatch.setattr(os, "fsync", disk.fsync)
    memory = Memory(data)

    def write(**changes: Any) -> None:
        said.append(Record(**{name: getattr(said[-1], name) for name in said[-1].__struct_fields__} | changes))
        memory.write(**changes)
        assert memory.record == said[-1]
        said[:] = said[-1:]
        disk.images_now()

    for number in (1, 2):
        write(desired=b"record %d" % number, offset=number)
        for content in (LAYER, TABLE):
            if not memory.has(sha(content)):
                for at in range(0, len(content), CHUNK):
                    memory.append(sha(content), content[at : at + CHUNK])
                    disk.images_now()
                memory.finish(sha(content), len(content))
                disk.images_now()
        memory.lay_out(number, {"table.bin": sha(TABLE)})
        disk.images_now()
        write(number=number, state="applying")
        write(number=number, state="running", running=number, layer=sha(LAYER))
        memory.forget((number,), [sha(LAYER), sha(TABLE)])
        disk.images_now()
    assert disk.count > 100


def damaged(folder: Path) -> Iterator[Path]:
    """Copies of a folder, each with one file that a power cut can leave: empty, half, zeros, gone."""
    for name in sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()):
        whole = (folder / name).read_bytes()
        for number, left in enumerate((b"", whole[: len(whole) // 2], bytes(len(whole)), None)):
            copy = folder.with_name(f"{name.stem}-{number}")
            shutil.copytree(folder, copy, symlinks=True)
            if left is None:
                (copy / name).unlink()
            else:
                (copy / name).unlink()
                (copy / name).write_bytes(left)
            yield copy


def test_what_tuf_remembers_may_be_damaged_and_the_newest_set_is_still_taken(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    assert pair.verify(pair.sign(1)).refusal == ""
    assert pair.verify(pair.sign(2)).refusal == ""
    newer, older = pair.sign(3), pair.sign(1)
    pair.number = 2
    copies = list(damaged(pair.memory))
    assert len(copies) >= 16
    for copy in copies:
        pair.memory = copy
        # Whatever is left, the agent itself knows the number it has taken.
        assert pair.verify(older).refusal in ("older", "mixed"), copy.name
        answer = pair.verify(newer)
        assert (answer.refusal, answer.number) == ("", 3), f"{copy.name}: {answer.why}"
