"""The spool on a disk that fails, against a simple model in memory: nothing acknowledged is ever lost or renamed."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tidegate_edge.spool import Chunk, Spool
from tidegate_edge.spool.reader import Reader
from tidegate_protocols.errors import BadInput
from tidegate_protocols.schema import Channel, Schema

from tests.support.clock import ManualClock
from tests.support.faulty_disk import FaultyDisk

SCHEMA = Schema("things", (Channel("a"),))
DEVICES = "abcd"
ACTIONS = 400


class Walk:
    """Random actions on a spool and on the model: per device the values that were put, in order, and how many of them
    the spool said are durable, acknowledged or given up."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.disk = FaultyDisk(self.rng)
        self.folder = Path(tempfile.mkdtemp(prefix="power-"))
        self.clock = ManualClock()
        self.put: dict[str, list[float]] = {device: [] for device in DEVICES}
        self.told: dict[str, int] = dict.fromkeys(DEVICES, 0)
        self.named: dict[tuple[str, int], float] = {}
        self.count = 0.0
        self.cuts = self.failures = 0

    async def run(self, actions: int) -> None:
        await self.open()
        try:
            await self.act(actions)
        finally:  # its thread would outlive a walk that failed
            self.disk.full = self.disk.broken = 0.0
            await self.spool._release()

    async def act(self, actions: int) -> None:
        choices = [self.put_some, self.commit, self.send, self.cut, self.trouble]
        weights = [5, 4, 3, 1, 1]
        for _ in range(actions):
            await self.rng.choices(choices, weights)[0]()
        await self.cut()
        await self.settle()
        self.check(full=True)

    async def open(self) -> None:
        self.disk.full = self.disk.broken = 0.0
        self.spool = await Spool.open(
            self.folder, self.clock, max_bytes=60_000, connector=self.disk.connect
        )  # fmt: skip
        assert not list(self.folder.glob("spool.db.damaged*")), "a power cut is no damage"
        self.reader = Reader(self.spool)
        await self.reader.rewind()
        self.unsent: list[Chunk] = []
        await self.read()
        for device in DEVICES:
            stream = self.spool.stream(device, SCHEMA)
            assert stream.next_seq >= self.told[device], f"{device}: what was acknowledged is lost"
            # What was not committed never had a name; its source brings it again.
            del self.put[device][stream.next_seq :]
            self.told[device] = stream.next_seq
        self.check(full=True)

    def check(self, *, full: bool = False) -> None:
        books = self.spool.books
        assert books.balance(), books
        if full:
            assert books.accepted == sum(stream.next_seq for stream in self.spool.every())

    async def put_some(self) -> None:
        device = self.rng.choice(DEVICES)
        book = self.spool.book("s")
        self.spool.touch("s", book)
        for _ in range(self.rng.choice([1, 1, 3, 30])):
            self.count += 1
            self.spool.put(self.spool.stream(device, SCHEMA), int(self.count), (self.count,), 0)
            self.put[device].append(self.count)
            book.received += 1
            book.accepted += 1
        length = len(self.put[device])

        def durable() -> None:
            self.told[device] = max(self.told[device], length)

        self.spool.then(durable)

    async def commit(self) -> None:
        try:
            await self.spool.commit(settle=self.rng.random() < 0.3)
        except sqlite3.OperationalError:
            self.failures += 1
        self.check()

    async def read(self) -> None:
        for chunk in await self.reader.read():
            chunk.load()
            assert not chunk.lost
            device = chunk.stream.device
            for i, row in enumerate(chunk.values):
                name = device, chunk.seq + i
                assert self.named.setdefault(name, row[0]) == row[0] or name[1] >= self.told[device]
                self.named[name] = row[0]
                if chunk.seq + i < self.told[device]:
                    assert self.put[device][chunk.seq + i] == row[0], "a name means another scan"
            self.unsent.append(chunk)

    async def send(self) -> None:
        try:
            await self.read()
        except sqlite3.OperationalError:
            self.failures += 1
        for chunk in self.unsent[: self.rng.randrange(4)]:
            leave = self.spool.give_up if self.rng.random() < 0.1 else self.spool.acknowledge
            leave(chunk.stream, chunk.seq, chunk.stop, [chunk])
            self.unsent.remove(chunk)

    async def trouble(self) -> None:
        self.disk.full = self.rng.choice([0.0, 0.0, 0.05, 1.0])
        self.disk.broken = self.rng.choice([0.0, 0.0, 0.02, 1.0])

    async def cut(self) -> None:
        """The power goes: nothing more is written, and the disk is what it may be."""
        self.cuts += 1
        self.disk.broken = 1.0
        files = {name: (file.durable, list(file.sectors)) for name, file in self.disk.files.items()}
        if self.spool._timer is not None:
            self.spool._timer.cancel()
        await self.spool._release()
        for name, (durable, sectors) in files.items():
            tracked = self.disk.files.get(name)
            if tracked is None:  # closing deleted it; a cut does not
                self.disk.files[name] = tracked = type(next(iter(self.disk.files.values())))(durable)
            tracked.durable, tracked.sectors = durable, sectors
        self.disk.power_cut()
        await self.open()

    async def settle(self) -> None:
        await self.spool.commit(settle=True)

    def close(self) -> None:
        self.disk.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def walk(seed: int, actions: int) -> Walk:
    print("seed", seed)
    found = Walk(seed)
    try:
        asyncio.run(found.run(actions))
    finally:
        found.close()
    return found


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "tidegate_edge")


@settings(
    max_examples=25, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # fmt: skip
@given(st.integers(0, 2**32 - 1))
def test_10_000_actions_over_power_cuts_full_disks_and_io_errors(seed: int) -> None:
    found = walk(seed, ACTIONS)
    assert found.cuts


@pytest.mark.full
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1))
def test_160_000_actions(seed: int) -> None:
    walk(seed, ACTIONS)


def test_a_disk_that_lies_about_syncs_is_found_out() -> None:
    """The model can fail: where syncs do nothing, acknowledged scans are lost within a few walks."""

    class Lying(FaultyDisk):
        def connect(self, path: Path):  # type: ignore[no-untyped-def]
            connection = super().connect(path)
            connection.execute("PRAGMA synchronous=OFF")
            return connection

    def lies(seed: int) -> bool:
        found = Walk(seed)
        found.disk.close()
        found.disk = Lying(found.rng)
        try:
            asyncio.run(found.run(150))
        except (AssertionError, BadInput, sqlite3.Error):
            return True
        finally:
            found.close()
        return False

    assert any(lies(seed) for seed in range(20))
