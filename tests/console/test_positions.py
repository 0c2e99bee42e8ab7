"""Positions in columns: what a page reads out of the messages is where devices are, to the promised precision."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tidegate_cloud.console.positions import Places, Positions, View

NOW_US = 1_700_000_000_000_000


class Position(NamedTuple):
    """One device's place, as the tests speak of it."""

    id: str
    lat: float
    lon: float
    speed: float | None
    heading: float | None
    ts_us: int
    heard_us: int = NOW_US


def put(positions: Positions, places: Sequence[Position]) -> None:
    """Tell of the last of each device."""
    last = list({each.id: each for each in places}.values())
    lat, lon, speed, heading = np.array([each[1:5] for each in last], np.float64).reshape(-1, 4).T
    ts_us, heard_us = np.array([each[5:7] for each in last], np.int64).reshape(-1, 2).T
    positions.put(Places([each.id for each in last], lat, lon, speed, heading, ts_us, heard_us))


def read(message: bytes) -> dict[int, tuple[float, float, float, float, int, int]]:
    """slot: (lat, lon, ms of the reading, ms when it was heard, speed, heading), as a page works it out."""
    version, kind, _, n, base = struct.unpack_from("<BBHId", message)
    assert (version, kind, len(message)) == (2, 1, 16 + 24 * n)
    at, columns = 16, []
    for kind_of in ("<u4", "<i4", "<i4", "<i4", "<i4", "<u2", "<u2"):
        column = np.frombuffer(message, kind_of, n, at)
        columns.append(column.tolist())
        at += column.nbytes
    return {
        slot: (lat / 1e7, lon / 1e7, base - age, base - heard, speed, heading)
        for slot, lat, lon, age, heard, speed, heading in zip(*columns, strict=True)
    }


PLACES = st.builds(
    Position, id=st.sampled_from([f"van-{n}" for n in range(6)]), lat=st.floats(-90, 90), lon=st.floats(-180, 180),
    speed=st.none() | st.floats(-5, 1e9), heading=st.none() | st.floats(-1e6, 1e6),
    ts_us=st.integers(NOW_US - 10**12, NOW_US + 10**9), heard_us=st.integers(NOW_US - 10**12, NOW_US),
)  # fmt: skip


@given(st.lists(st.lists(PLACES, max_size=6), max_size=5))
def test_a_message_says_where_devices_are(rounds: list[list[Position]]):
    positions, newest = Positions(), {}
    for batch in rounds:
        before = positions.seq
        put(positions, batch)
        newest.update({each.id: each for each in batch})
        said = read(positions.message(positions.changed(before), NOW_US))
        assert {positions.ids[slot] for slot in said} == {each.id for each in batch}
    said = read(positions.message(positions.inside(View()), NOW_US))
    assert {positions.ids[slot] for slot in said} == set(newest)
    for slot, (lat, lon, ms, heard_ms, speed, heading) in said.items():
        known = newest[positions.ids[slot]]
        assert abs(lat - known.lat) <= 1e-7
        assert abs(lon - known.lon) <= 1e-7
        assert abs(ms - known.ts_us / 1000) <= 1.5
        assert abs(heard_ms - known.heard_us / 1000) <= 1.5
        assert speed == (65535 if known.speed is None else min(65534, max(0, round(known.speed * 100))))
        assert (heading == 65535) if known.heading is None else (0 <= heading < 36000)


def test_views_may_cross_the_antimeridian_and_gone_devices_are_nowhere():
    positions = Positions()
    put(positions, [Position("fiji", -17.8, 179.0, None, None, 1), Position("samoa", -13.8, -172.0, None, None, 1)])
    assert positions.inside(View(175, -30, -170, 0)).tolist() == [True, True]
    assert positions.inside(View(-175, -30, -170, 0)).tolist() == [False, True]
    assert positions.remove("samoa") == 1
    assert positions.inside(View()).tolist() == [True, False]
    put(positions, [Position("samoa", -13.8, -172.0, None, None, 1)])
    assert positions.ids == ["fiji", "samoa", "samoa"]


def test_a_device_without_a_place_is_in_every_view_and_says_when_it_was_heard():
    positions = Positions()
    positions.put(Places(["pump"], *np.full((4, 1), np.nan), np.array([NOW_US]), np.array([NOW_US - 2_000_000])))
    said = read(positions.message(positions.inside(View(1, 1, 2, 2)), NOW_US))
    assert said == {0: (-(2**31) / 1e7, -(2**31) / 1e7, NOW_US / 1000, NOW_US / 1000 - 2000, 65535, 65535)}


def test_there_is_room_for_any_number_of_devices():
    positions = Positions()
    put(positions, [Position(f"d{n}", n / 100, n / 100, 1.0, 2.0, NOW_US) for n in range(3000)])
    said = read(positions.message(positions.inside(View()), NOW_US))
    assert len(said) == 3000
    assert said[2999][0] == 29.99
