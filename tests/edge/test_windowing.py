"""Deadbands and aggregates: exact arithmetic, exact books, late scans by the stated rule, nothing lost over a kill."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_edge.config import WindowSettings
from tidegate_edge.intake import Intake
from tidegate_edge.spool import Spool
from tidegate_edge.spool.reader import Reader
from tidegate_edge.windowing import Windows, folding
from tidegate_protocols.codec import backend
from tidegate_protocols.scan import Scan, Value
from tidegate_protocols.schema import Channel, Schema

from tests.support.clock import ManualClock

SCHEMA = Schema("pump", (Channel("temp", unit="Cel"), Channel("rpm", "int64"), Channel("on", "bool")))
PLACE = Schema("bus", (Channel("lat"), Channel("lon"), Channel("speed")))
SECOND = 1_000_000
STATS: list[Any] = ["min", "max", "mean", "last", "count", "first", "std"]


def aggregate(every_s: float = 10, late_s: float = 2, channel: str = "*", stats: list[Any] = STATS) -> WindowSettings:
    return WindowSettings(mode="aggregate", every_s=every_s, late_s=late_s, channel=channel, stats=stats)


class Host:
    def __init__(self, spool: Spool, clock: ManualClock, rules: Sequence[WindowSettings]) -> None:
        self.spool, self.clock = spool, clock
        self.windows = Windows(rules, spool, clock)
        self.intake = Intake(spool, clock, windows=self.windows)
        self.intake.put(self.windows.restore())
        self.base = clock.wall_us() // (60 * SECOND) * 60 * SECOND - 3600 * SECOND

    def take(self, at_s: float, *values: Value, schema: Schema = SCHEMA, device: str = "d") -> None:
        self.intake.take("s", [Scan(device, schema, self.base + int(at_s * SECOND), values)])

    async def rows(self) -> list[tuple[str, float, dict[str, Value]]]:
        """Everything stored: schema, seconds after the base, the values that are there."""
        await self.spool.commit()
        reader, found = Reader(self.spool), []
        while chunks := await reader.read():
            for chunk in chunks:
                chunk.load()
                names = [channel.name for channel in chunk.stream.schema.channels]
                for ts, row in zip(chunk.ts, chunk.values, strict=True):
                    there = {name: value for name, value in zip(names, row, strict=True) if value is not None}
                    found.append((chunk.stream.schema.name, (ts - self.base) / SECOND, there))
        return found

    def books(self) -> tuple[int, ...]:
        """received, duplicate, folded, accepted."""
        assert self.spool.books.balance()
        book = self.spool.books.sources["s"]
        return book.received, book.duplicate, book.folded, book.accepted


@pytest.fixture
async def open_host(tmp_path: Path) -> AsyncIterator[Any]:
    hosts: list[Host] = []
    clock = ManualClock()

    async def open_one(*rules: WindowSettings) -> Host:
        if hosts:
            await hosts[-1].spool._release()  # as a kill: what was not committed is gone
        hosts.append(Host(await Spool.open(tmp_path, clock), clock, rules))
        return hosts[-1]

    yield open_one
    await hosts[-1].spool.close()


async def test_a_window_gives_one_scan_with_the_statistics_of_each_channel(open_host: Any) -> None:
    host = await open_host(aggregate())
    for i, value in enumerate([4.0, 1.5, 2.5]):
        host.take(i, value, 10 - i, i == 1)
    host.take(3, None, None, None)
    host.take(12, 9.0, None, None)
    ((name, at, values),) = await host.rows()
    assert (name, at) == ("pump_10s", 0)
    assert values == {
        "temp_min": 1.5, "temp_max": 4.0, "temp_mean": 8 / 3, "temp_last": 2.5, "temp_count": 3, "temp_first": 4.0,
        "temp_std": pytest.approx(statistics.stdev([4.0, 1.5, 2.5]), rel=1e-15),
        "rpm_min": 8, "rpm_max": 10, "rpm_mean": 9.0, "rpm_last": 8, "rpm_count": 3, "rpm_first": 10, "rpm_std": 1.0,
        "on_min": False, "on_max": True, "on_mean": pytest.approx(1 / 3), "on_last": False, "on_count": 3,
        "on_first": False, "on_std": pytest.approx(3**-0.5),
    }  # fmt: skip
    assert host.books() == (6, 0, 5, 1)
    schema = next(stream.schema for stream in host.spool.streams())
    assert schema.channels[schema.index["temp_min"]].unit == "Cel"
    assert schema.channels[schema.index["rpm_last"]].type == "int64"


async def test_a_late_scan_counts_while_its_window_is_open_and_is_stored_by_itself_after(open_host: Any) -> None:
    host = await open_host(aggregate(late_s=3, channel="temp", stats=["count", "last", "first"]))
    host.take(8, 1.0, None, None)
    host.take(12, 2.0, None, None)
    host.take(5, 3.0, None, None)  # late, its window still open: the earliest of it now
    host.take(13, 4.0, None, None)  # closes [0, 10)
    host.take(9, 5.0, None, None)  # too late
    assert await host.rows() == [
        ("pump_10s", 0, {"temp_count": 2, "temp_last": 1.0, "temp_first": 3.0}),
        ("pump", 9, {"temp": 5.0}),
    ]
    assert host.books() == (6, 0, 4, 2)


async def test_a_device_that_falls_silent_gets_its_window_closed_by_the_clock(open_host: Any) -> None:
    host = await open_host(aggregate(channel="temp", stats=["count"]))
    host.take(1, 1.0, None, None)
    host.clock.advance(11.9)
    host.intake.put(host.windows.tick())
    assert await host.rows() == []
    host.clock.advance(0.2)
    host.intake.put(host.windows.tick())
    assert await host.rows() == [("pump_10s", 0, {"temp_count": 1})]


async def test_open_windows_are_stored_with_the_commit_and_go_on_after_a_kill(open_host: Any) -> None:
    host = await open_host(aggregate(channel="temp", stats=["count", "mean"]))
    host.take(1, 1.0, 5, None)
    host.take(2, 2.0, None, None)
    await host.spool.commit()
    assert host.books() == (2, 0, 1, 1), "the scan's raw part is stored by itself"
    host.take(3, 100.0, None, None)  # never committed, so never acknowledged: it comes again
    host = await open_host(aggregate(channel="temp", stats=["count", "mean"]))
    host.take(3, 6.0, None, None)
    host.take(20, 0.0, None, None)
    assert ("pump_10s", 0, {"temp_count": 3, "temp_mean": 3.0}) in await host.rows()
    assert host.books() == (5, 0, 3, 2)


async def test_a_window_that_the_configuration_asks_for_no_longer_is_closed_and_told(open_host: Any) -> None:
    host = await open_host(aggregate(channel="temp", stats=["count"]))
    host.take(1, 1.0, None, None)
    await host.spool.commit()
    host = await open_host(aggregate(every_s=60, channel="temp", stats=["count"]))
    assert await host.rows() == [("pump_10s", 0, {"temp_count": 1})]
    host.take(2, 1.0, None, None)
    host.intake.put(host.windows.close())
    assert ("pump_60s", 0, {"temp_count": 1}) in await host.rows()
    host = await open_host()
    assert len(await host.rows()) == 2


async def test_a_deadband_keeps_what_moved_and_a_sign_of_life(open_host: Any) -> None:
    host = await open_host(WindowSettings(mode="deadband", band=0.5, max_silence_s=60))
    for at, value in [(0, 1.0), (1, 1.5), (2, 1.51), (3, 1.2), (4, None), (62, 1.4), (63, 1.4)]:
        host.take(at, value, None, None)
    found = await host.rows()
    assert [(at, values["temp"]) for _, at, values in found] == [(0, 1.0), (2, 1.51), (62, 1.4)]
    assert host.books() == (7, 0, 4, 3)


async def test_a_position_is_one_quantity(open_host: Any) -> None:
    host = await open_host(
        aggregate(channel="l*"), WindowSettings(mode="deadband", band=0.001, channel="l*"), aggregate(channel="speed")
    )
    host.take(0, 30.0, -97.0, 5.0, schema=PLACE)
    host.take(1, 30.0005, -97.0, 5.0, schema=PLACE)
    host.take(2, 30.0, -97.01, 5.0, schema=PLACE)
    found = await host.rows()
    assert [(at, values) for _, at, values in found] == [
        (0, {"lat": 30.0, "lon": -97.0}), (2, {"lat": 30.0, "lon": -97.01}),
    ]  # fmt: skip


async def test_windows_are_of_one_device_each_and_rules_choose_by_name(open_host: Any) -> None:
    rule = aggregate(channel="temp", stats=["count"])
    rule.device = "cold-*"
    host = await open_host(rule)
    for device in ("cold-1", "cold-2", "warm"):
        host.take(1, 1.0, None, None, device=device)
        host.take(30, 1.0, None, None, device=device)
    found = await host.rows()
    assert sorted(name for name, *_ in found) == ["pump", "pump", "pump_10s", "pump_10s"]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_or_counted_twice_whatever_the_order(data: Any) -> None:
    """Counts of all aggregates and late scans together are what came in; at most a few windows are open."""
    from tidegate_edge.windowing.rules import aggregate_of
    from tidegate_edge.windowing.tumbling import Tumbling

    every, late = data.draw(st.sampled_from([(10, 0), (10, 5), (10, 45)]))
    plan = aggregate_of(SCHEMA, [0], [["count"]], every, late)
    tumbling = Tumbling(plan, ("float64",))
    times = data.draw(st.lists(st.integers(0, 200), max_size=60))
    told: dict[int, int] = {}
    late_scans = 0
    for ts in times:
        late_scans += not tumbling.take(ts, (1.0,), 0, 0.0)
        closed = tumbling.due(0.0)
        assert len(tumbling) <= late // every + 2
        if data.draw(st.booleans()):
            image = tumbling.to_bytes()
            tumbling = Tumbling(plan, ("float64",))
            tumbling.restore(image, 0.0)
        for start, (count,) in closed:
            assert start not in told, "no window is told twice"
            told[start] = int(count or 0)
    for start, (count,) in tumbling.close():
        assert start not in told
        told[start] = int(count or 0)
    assert sum(told.values()) + late_scans == len(times)


_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_LONGS = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.skipif(not backend.available(), reason="needs numba")
@given(st.data())
@settings(max_examples=150, deadline=None)
def test_numba_and_numpy_give_the_same_bits(data: Any) -> None:
    if not folding.ready():
        folding.load()
    kernel = folding._kernel
    assert kernel is not None
    dtype, element = data.draw(st.sampled_from([(np.float64, _FLOATS), (np.int64, _LONGS)]))
    channels = data.draw(st.integers(1, 4))
    compiled, plain = folding.Accumulator(channels, dtype), folding.Accumulator(channels, dtype)
    for _ in range(data.draw(st.integers(1, 3))):
        n = data.draw(st.integers(0, 8))
        rows = data.draw(st.lists(st.lists(st.none() | element, min_size=channels, max_size=channels),
                                  min_size=n, max_size=n))  # fmt: skip
        values = np.array([[0 if v is None else v for v in row] for row in rows], dtype).reshape(n, channels)
        valid = np.array([[v is not None for v in row] for row in rows], np.bool_).reshape(n, channels)
        ts = np.array(data.draw(st.lists(st.integers(0, 20), min_size=n, max_size=n)), np.int64)
        kernel(values, valid, ts, *compiled.arrays())
        folding.fold_numpy(values, valid, ts, *plain.arrays())
        assert compiled.to_bytes() == plain.to_bytes()


def test_the_agent_that_windows_without_numba_says_nothing_and_numba_is_compiled_elsewhere() -> None:
    """Nothing here imports numba in the process that windows: the kernel comes in later, by a thread."""
    code = (
        "import sys; from tidegate_edge.windowing import Windows, folding;"
        "assert 'numba' not in sys.modules; assert not folding.ready()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
