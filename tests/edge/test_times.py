"""The agent's own times: held while the clock is wrong, re-stamped once it is right, flagged where it never was."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tidegate_edge.clock import SystemClock, is_set
from tidegate_edge.intake import Intake
from tidegate_edge.spool import Spool
from tidegate_edge.spool.reader import Reader
from tidegate_edge.spool.rows import TIME_ESTIMATED, TIME_FROM_AGENT
from tidegate_edge.times import Times
from tidegate_protocols.scan import Scan
from tidegate_protocols.schema import Channel, Schema

from tests.support.clock import ManualClock

SCHEMA = Schema("things", (Channel("a"),))
TRUE_US = 1_790_000_000_000_000
HOUR_US = 3_600_000_000
Y2040_US = 2_208_988_800_000_000


class Machine:
    """A spool and its times on a clock that is moved by hand; `restart` is what a reboot of the machine does."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.folder, self.clock = folder, clock

    async def start(self, hold_s: float = 60.0) -> Machine:
        self.spool = await Spool.open(self.folder, self.clock)
        self.times = Times(self.spool, self.clock, hold_s)
        self.intake = Intake(self.spool, self.clock, times=self.times)
        return self

    async def scan(self) -> None:
        self.intake.take("s", [Scan("d", SCHEMA, None, (1.0,))])
        await self.spool.commit()

    async def leave(self) -> list[tuple[int, int] | None]:
        """(time, flags) with which each scan would leave now; None for one that waits."""
        await self.spool.commit()
        reader, found = Reader(self.spool), []
        await reader.rewind()
        for chunk in await reader.read():
            resolved = self.times.resolve(chunk)
            chunk.load()
            found += [None if resolved is None else (ts + resolved[0], resolved[1]) for ts in chunk.ts]
        return found


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    found = Machine(tmp_path, ManualClock(TRUE_US))
    yield found
    await found.spool.close()


@pytest.mark.parametrize("wrong_us", [-5 * HOUR_US, 3 * HOUR_US, 5_000_000 - TRUE_US])
async def test_a_clock_that_is_wrong_by_hours_and_set_later_gives_true_times(machine: Machine, wrong_us: int) -> None:
    """Also while it is stepped about before it is synchronised, and from 1970 on."""
    clock = machine.clock
    clock.synchronised = False
    clock.now_us = TRUE_US + wrong_us
    await machine.start()
    rng = random.Random(wrong_us)
    truth = []
    for _ in range(20):
        truth.append(TRUE_US + clock.since_boot_us - 20_000_000)
        await machine.scan()
        clock.advance(rng.uniform(0, 2))
        if rng.random() < 0.3:  # somebody sets it, wrongly
            clock.now_us += rng.randrange(-HOUR_US, HOUR_US)
    assert await machine.leave() == [None] * 20
    clock.now_us = TRUE_US + clock.since_boot_us - 20_000_000
    clock.synchronised = True
    clock.advance(1)
    left = await machine.leave()
    assert all(each is not None and abs(each[0] - true) <= 50_000 for each, true in zip(left, truth, strict=True))
    assert {each and each[1] for each in left} == {TIME_FROM_AGENT}
    await machine.scan()
    assert (await machine.leave())[-1] == (clock.wall_us(), TIME_FROM_AGENT)


async def test_what_is_held_over_a_kill_is_stamped_by_the_same_boot(machine: Machine) -> None:
    clock = machine.clock
    clock.synchronised, clock.now_us = False, TRUE_US - HOUR_US
    await machine.start()
    await machine.scan()
    await machine.spool._release()
    clock.advance(100)
    clock.now_us, clock.synchronised = TRUE_US + 100_000_000, True
    await machine.start()
    assert await machine.leave() == [(TRUE_US, TIME_FROM_AGENT)]


async def test_after_the_time_that_they_are_held_scans_leave_as_estimates(machine: Machine) -> None:
    clock = machine.clock
    clock.synchronised, clock.now_us = False, TRUE_US + 7_000_000
    await machine.start(hold_s=30)
    await machine.scan()
    clock.advance(29)
    assert await machine.leave() == [None]
    assert machine.times.status == "not synchronised, scans wait"
    clock.advance(2)
    assert await machine.leave() == [(TRUE_US + 7_000_000, TIME_FROM_AGENT | TIME_ESTIMATED)]
    await machine.scan()
    assert None not in await machine.leave(), "the time that they are held counts from the start, not for each scan"


async def test_a_boot_without_a_clock_is_an_estimate_for_ever_and_not_before_what_was_known(machine: Machine) -> None:
    clock = machine.clock
    await machine.start()
    await machine.scan()
    known = clock.wall_us()
    await machine.spool.close()
    clock.reboot("boot-2", 8_000_000)  # 1970
    await machine.start()
    await machine.scan()
    await machine.spool.close()
    clock.reboot("boot-3", TRUE_US + HOUR_US, synchronised=True)
    await machine.start()
    await machine.scan()
    first, second, third = await machine.leave()
    assert first == (known, TIME_FROM_AGENT)
    assert second == (known, TIME_FROM_AGENT | TIME_ESTIMATED)
    assert third == (TRUE_US + HOUR_US, TIME_FROM_AGENT)


async def test_once_synchronised_a_clock_that_loses_its_source_is_still_believed(machine: Machine) -> None:
    await machine.start()
    machine.clock.synchronised = False
    machine.clock.advance(3600)
    await machine.scan()
    assert await machine.leave() == [(machine.clock.wall_us(), TIME_FROM_AGENT)]


async def test_times_after_2038_are_times_like_others(machine: Machine) -> None:
    machine.clock.now_us = Y2040_US
    await machine.start()
    await machine.scan()
    assert machine.spool.epoch == Y2040_US // 1_000_000
    assert await machine.leave() == [(Y2040_US, TIME_FROM_AGENT)]


def test_the_systems_clock_can_be_asked() -> None:
    clock = SystemClock()
    assert clock.is_synchronised() in (True, False)
    assert clock.boot_id
    assert clock.boot_us() > 0
    assert is_set(clock.wall_us())
