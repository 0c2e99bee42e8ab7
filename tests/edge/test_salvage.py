"""A damaged spool costs the chunks that were hit, whatever was hit, and those are named and counted."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tidegate_edge.spool import Spool
from tidegate_edge.spool.migrations import migrate
from tidegate_edge.spool.reader import Reader
from tidegate_edge.spool.store import connect
from tidegate_edge.spool.wal import read_log
from tidegate_protocols.schema import Channel, Schema

from tests.support.clock import ManualClock

SCHEMA = Schema("things", (Channel("a"), Channel("n", "int64")))
WIDE = Schema("wide", tuple(Channel(f"c{i}") for i in range(600)))  # a scan of it does not fit into a page
Value = tuple[str, int, float]


def put(spool: Spool, device: str, values: Iterator[float] | range, schema: Schema = SCHEMA) -> None:
    book = spool.book("s")
    spool.touch("s", book)
    for value in values:
        row = (float(value), *[None if schema is SCHEMA else value / 3] * (len(schema.channels) - 1))
        spool.put(spool.stream(device, schema), 1_700_000_000_000_000 + int(value), row, 0)
        book.received += 1
        book.accepted += 1


async def fill(folder: Path, rounds: int = 40) -> tuple[int, set[Value]]:
    """A spool as a kill leaves it: chunks of several sizes, some of them acknowledged, the log not yet in the file.

    Returns its epoch and every scan that it ever stored, by name.
    """
    work = folder.with_name("work")
    spool = await Spool.open(work, ManualClock())
    for i in range(rounds):
        put(spool, f"d{i % 7}", range(100 * i, 100 * i + 1 + 5 * (i % 9)))
        put(spool, "wide", range(i, i + 1), WIDE)
        await spool.commit()
        if i == rounds // 3:
            stored, _ = await read_all(spool)
            for chunk in await Reader(spool).read():
                if chunk.id < 20:
                    spool.acknowledge(chunk.stream, chunk.seq, chunk.stop, [chunk])
            await spool.commit(settle=True)
    stored |= (await read_all(spool))[0]
    assert len(stored) == spool.books.accepted
    copy_files(work, folder)
    await spool._release()
    return spool.epoch, stored


def copy_files(old: Path, new: Path) -> None:
    new.mkdir()
    for file in old.iterdir():
        if not file.name.endswith("-shm"):
            (new / file.name).write_bytes(file.read_bytes())


async def read_all(spool: Spool) -> tuple[set[Value], int]:
    """What can be read, with its names, and how many scans are names only."""
    reader = Reader(spool)
    await reader.rewind()
    found: set[Value] = set()
    lost = 0
    ends: dict[int, int] = {}
    while not reader.at_end:
        for chunk in await reader.read():
            stream = chunk.stream
            if stream.number in ends:
                assert chunk.seq == ends[stream.number], "a stream has no hole that is not named"
            ends[stream.number] = chunk.stop
            if chunk.lost:
                lost += chunk.n
                continue
            chunk.load()
            for i, row in enumerate(chunk.values):
                found.add((f"{stream.device}/{stream.epoch}", chunk.seq + i, row[0]))
    return found, lost


def damage(file: Path, rng: random.Random, count: int = 64) -> None:
    data = bytearray(file.read_bytes())
    for _ in range(count):
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    file.write_bytes(data)


@pytest.mark.parametrize("hit", ["spool.db", "spool.db-wal", "both", "streams", "epoch"])
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(2, 40))])
async def test_64_damaged_bytes_cost_at_most_the_chunks_that_held_them(tmp_path: Path, hit: str, seed: int) -> None:
    print("seed", seed)
    rng = random.Random(f"{seed}{hit}")
    folder = tmp_path / "spool"
    epoch, stored = await fill(folder)
    if hit in ("spool.db", "both"):  # what the log holds is in the file too
        log = (folder / "spool.db-wal").read_bytes()
        connection = sqlite3.connect(folder / "spool.db")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        if hit == "both":
            (folder / "spool.db-wal").write_bytes(log)
    copy = tmp_path / "copy"
    copy_files(folder, copy)
    intact = await Spool.open(copy, ManualClock())
    before, _ = await read_all(intact)
    await intact._release()

    for name in ("spool.db", "spool.db-wal") if hit == "both" else (hit,):
        damage(folder / name, rng)
    spool = await Spool.open(folder, ManualClock())
    found, lost = await read_all(spool)
    assert spool.books.balance(), spool.books
    assert found <= stored, "where a stream's row was hit, what Kafka has may be sent again, under the same names"
    missing = before - found
    assert len(missing) <= 64 * 41, "no byte costs more than the largest chunk"
    if hit in ("streams", "epoch"):
        assert not missing
        assert spool.epoch == epoch
    if spool.epoch != epoch:
        assert spool.epoch > epoch
        assert list(folder.glob("spool.db.damaged-*")), "the damaged file is kept"
        assert spool.books.accepted >= len(stored) - len(missing)
    put(spool, "d1", range(5))
    await spool.commit()
    again, _ = await read_all(spool)
    assert len(again) == len(found) + 5
    assert spool.books.pending == len(again) + lost
    await spool.close()


async def test_damage_that_is_found_while_the_agent_runs_is_mended_under_it(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path, ManualClock())
    for i in range(40):
        put(spool, f"d{i % 3}", range(10 * i, 10 * i + 10))
        await spool.commit()
    spool.recent(0)
    epoch = spool.epoch
    await spool.database.run(lambda c: c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    await spool.database.run(lambda c: c.execute("PRAGMA shrink_memory").fetchall())
    data = bytearray((tmp_path / "spool.db").read_bytes())
    for at in range(4096, len(data), 4096):  # every page but the first has its head spoilt
        data[at : at + 8] = b"\xff" * 8
    (tmp_path / "spool.db").write_bytes(data)
    reader = Reader(spool)
    assert await reader.read() == []
    assert spool.generation == 1
    put(spool, "d0", range(400, 410))
    await spool.commit()
    found, lost = await read_all(spool)
    assert (len(found), lost) == (410, 0), "pages are searched, whatever their heads say"
    assert spool.epoch == epoch
    assert spool.books.balance()
    await spool.close()
    again = await Spool.open(tmp_path, ManualClock())
    assert (again.epoch, again.books.pending) == (epoch, 410)
    await again.close()


async def test_a_log_that_is_torn_by_a_power_cut_is_not_taken_for_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    epoch, _ = await fill(folder)
    log = folder / "spool.db-wal"
    data = bytearray(log.read_bytes())
    data[-200] ^= 1  # in the last frame of the last transaction
    log.write_bytes(data)
    found = read_log(log)
    assert found is not None
    assert found.damaged is None
    spool = await Spool.open(folder, ManualClock())
    assert spool.epoch == epoch
    assert spool.books.balance()
    await spool.close()


async def test_a_kill_in_the_middle_of_an_exchange_is_made_good(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    await fill(folder)
    spool = await Spool.open(folder, ManualClock())
    pending = spool.books.pending
    await spool.close()
    (folder / "spool.db").rename(folder / "spool.db.salvaged")
    spool = await Spool.open(folder, ManualClock())
    assert spool.books.pending == pending
    await spool.close()


_LAYOUT_1 = """
CREATE TABLE schema (fingerprint BLOB PRIMARY KEY, json BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE stream (
    number INTEGER PRIMARY KEY, device TEXT NOT NULL, fingerprint BLOB NOT NULL, epoch INTEGER NOT NULL,
    next_seq INTEGER NOT NULL, acknowledged INTEGER NOT NULL, evicted INTEGER NOT NULL,
    UNIQUE (device, fingerprint, epoch));
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, seq INTEGER NOT NULL, n INTEGER NOT NULL,
    flags INTEGER NOT NULL, committed_ms INTEGER NOT NULL, size INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE reject (
    id INTEGER PRIMARY KEY, source TEXT NOT NULL, at_us INTEGER NOT NULL, place TEXT NOT NULL, error TEXT NOT NULL,
    payload BLOB NOT NULL);
PRAGMA user_version=1;
"""


def layout_1(file: Path) -> None:
    """A spool as the first version left it: 15 scans of one stream, the first two acknowledged."""
    import msgspec

    connection = connect(file)
    for statement in _LAYOUT_1.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute("INSERT INTO schema VALUES (?, ?)", (SCHEMA.fingerprint, SCHEMA.canonical_json))
    connection.execute("INSERT INTO stream VALUES (1, 'a', ?, 77, 15, 2, 0)", (SCHEMA.fingerprint,))
    for chunk, seq, n in ((3, 0, 10), (4, 10, 5)):
        data = msgspec.msgpack.encode(
            (list(range(1000 + seq, 1000 + seq + n)), [(float(seq + i), i) for i in range(n)])
        )
        connection.execute("INSERT INTO chunk VALUES (?, 1, ?, ?, 1, 5000, 99, ?)", (chunk, seq, n, data))
    book = msgspec.msgpack.encode((15, 0, 0, 0, 15))
    state = {"epoch": b"77", "settled": b"4", "bytes": b"198", "source/s": book}
    connection.executemany("INSERT INTO state VALUES (?, ?)", state.items())
    connection.close()


async def test_a_spool_of_the_first_layout_keeps_its_backlog_and_its_books(tmp_path: Path) -> None:
    layout_1(tmp_path / "spool.db")
    spool = await Spool.open(tmp_path, ManualClock())
    assert (spool.epoch, spool.books.accepted, spool.books.acknowledged, spool.books.pending) == (77, 15, 2, 13)
    found, lost = await read_all(spool)
    assert (found, lost) == ({("a/77", i, float(i)) for i in range(15)}, 0)
    (stream,) = spool.every()
    assert stream.sent_as == 77, "its scans were sent under the spool's own epoch before"
    await spool.close()


def test_a_migration_that_is_killed_begins_again(tmp_path: Path) -> None:
    file = tmp_path / "spool.db"
    layout_1(file)
    connection = connect(file)
    size = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={size}")
    with pytest.raises(sqlite3.OperationalError):  # no room to do it in
        migrate(connection, 1)
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert connection.execute("SELECT count(*), sum(n) FROM chunk").fetchone() == (2, 15)
    connection.close()


async def test_of_a_full_spool_the_lowest_priority_leaves_first_and_of_that_the_oldest(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path, ManualClock(), max_bytes=1_500)
    spool.stream("keep", SCHEMA, 9)
    spool.stream("drop", SCHEMA, 1)
    for i in range(12):
        put(spool, "keep", range(10 * i, 10 * i + 3))
        put(spool, "drop", range(10 * i, 10 * i + 3))
        await spool.commit()
    keep, drop = spool.stream("keep", SCHEMA), spool.stream("drop", SCHEMA)
    assert (keep.evicted, keep.next_seq) == (0, 36)
    assert 0 < drop.evicted < 36
    for i in range(12, 40):
        put(spool, "keep", range(10 * i, 10 * i + 3))
        await spool.commit()
    assert drop.evicted == 36
    assert keep.evicted > 0
    assert spool.books.balance()
    assert spool.books.bytes <= 1_500
    await spool.close()
