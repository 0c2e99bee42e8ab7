"""Whose a scan is, when it was, and what the books say of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tidegate_edge.intake import Intake
from tidegate_edge.sources.repeats import KEPT_MIN, Repeats, mark_of
from tidegate_edge.sources.topics import match
from tidegate_edge.spool import Spool
from tidegate_edge.spool.reader import Reader
from tidegate_edge.spool.rows import BOOT_SHIFT, TIME_FROM_AGENT, TIME_SINCE_BOOT
from tidegate_protocols.errors import BadInput
from tidegate_protocols.scan import Scan
from tidegate_protocols.schema import Channel, Schema

from tests.support.clock import ManualClock

SCHEMA = Schema("things", (Channel("a"),))
DAY_US = 86_400_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def spool(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Spool]:
    opened = await Spool.open(tmp_path, clock)
    yield opened
    await opened.close()


async def times(spool: Spool) -> list[tuple[int, int]]:
    """Time and flags of every scan."""
    await spool.commit()
    found = []
    for chunk in await Reader(spool).read():
        chunk.load()
        found += [(ts, chunk.flags) for ts in chunk.ts]
    return found


async def test_a_devices_time_is_kept_where_it_can_be_true_and_else_the_agents_taken(
    spool: Spool, clock: ManualClock
) -> None:
    now = clock.wall_us()
    intake = Intake(spool, clock)
    kept = [now, now - DAY_US, now - 29 * DAY_US, now + 60_000_000]
    doubted = [None, 0, now - 31 * DAY_US, now + 3_600_000_000]
    intake.take("s", [Scan("d", SCHEMA, ts, (1.0,)) for ts in (*kept, *doubted)])
    assert await times(spool) == [*((ts, 0) for ts in kept), *((now, TIME_FROM_AGENT) for _ in doubted)]


async def test_while_the_agents_clock_was_never_set_a_device_that_knows_is_believed(
    spool: Spool, clock: ManualClock
) -> None:
    clock.now_us, clock.synchronised = 12_000_000, False
    intake = Intake(spool, clock)
    said = 1_790_000_000_000_000
    intake.take("s", [Scan("d", SCHEMA, said, (1.0,)), Scan("d", SCHEMA, 5_000_000, (2.0,))])
    flags = TIME_FROM_AGENT | TIME_SINCE_BOOT | 1 << BOOT_SHIFT
    assert await times(spool) == [(said, 0), (clock.boot_us(), flags)]


async def test_scans_without_a_device_and_damaged_ones_are_rejected_beside_the_good(
    spool: Spool, clock: ManualClock
) -> None:
    intake = Intake(spool, clock)
    good = Scan(None, SCHEMA, None, (1.0,))
    intake.take("s", [good, BadInput("damaged", where="byte 3"), good])
    intake.take("s", [good], "named-by-the-source")
    intake.repeated("s", 4)
    await spool.commit()
    book = spool.books.sources["s"]
    assert (book.received, book.rejected, book.duplicate, book.accepted) == (8, 3, 4, 1)
    assert spool.books.balance()


async def test_repetitions_are_known_by_packet_id_and_content_over_a_restart(
    tmp_path: Path, clock: ManualClock
) -> None:
    spool = await Spool.open(tmp_path, clock)
    repeats = Repeats(spool, "mqtt/x/", 20)
    assert not repeats.seen(1, mark_of("t", b"one"), again=False)
    assert not repeats.seen(2, mark_of("t", b"two"), again=False)
    assert repeats.seen(2, mark_of("t", b"two"), again=True)
    await spool.commit()
    assert not repeats.seen(3, mark_of("t", b"not committed"), again=False)
    await spool._release()

    spool = await Spool.open(tmp_path, clock)
    repeats = Repeats(spool, "mqtt/x/", 20)
    assert repeats.seen(1, mark_of("t", b"one"), again=True)
    assert not repeats.seen(3, mark_of("t", b"not committed"), again=True)
    assert not repeats.seen(1, mark_of("t", b"one"), again=False), "without DUP it is a new message"
    assert not repeats.seen(2, mark_of("t", b"other"), again=True)
    repeats.forget()
    await spool.commit()
    await spool.close()
    spool = await Spool.open(tmp_path, clock)
    assert not Repeats(spool, "mqtt/x/", 20).seen(1, mark_of("t", b"one"), again=True)
    await spool.close()


async def test_no_more_repetitions_are_kept_than_a_window_needs(spool: Spool) -> None:
    repeats = Repeats(spool, "mqtt/x/", 20)
    for i in range(5 * KEPT_MIN):
        repeats.seen(i % 65_535 + 1, mark_of("t", b"%d" % i), again=False)
        if i % 500 == 499:
            await spool.commit()
    await spool.commit()
    last = 5 * KEPT_MIN - 1
    assert repeats.seen(last + 1, mark_of("t", b"%d" % last), again=True)
    assert not repeats.seen(1, mark_of("t", b"0"), again=True), "memory keeps no more of them than the disk"
    rows = await spool.database.run(
        lambda c: c.execute("SELECT count(*) FROM state WHERE key LIKE 'mqtt/x/%'").fetchone()[0]
    )
    assert rows <= KEPT_MIN // 500 + 2


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("fleet/+/senml", "fleet/bus-1/senml", {"1": "bus-1"}),
        ("fleet/+/senml", "fleet/bus-1/senml/x", None),
        ("+/+/#", "a/b/c/d", {"1": "a", "2": "b", "3": "c/d"}),
        ("a/#", "a", {"1": ""}),
        ("#", "$SYS/x", None),
        ("a/b", "a/b", {}),
        ("a/+", "a", None),
    ],
)
def test_wildcards_stand_for_what_the_standard_says(pattern: str, topic: str, expected: dict[str, str] | None) -> None:
    assert match(pattern, topic) == expected
