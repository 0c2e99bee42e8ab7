"""What is known of a device is the newest of what it said, whatever order it came in."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tidegate_cloud.console.fleet import Fleet
from tidegate_cloud.console.views import DeviceView
from tidegate_protocols.batch import Batch, batch_from_rows
from tidegate_protocols.registry import Device
from tidegate_protocols.schema import Channel, Schema

from tests.support.batches import as_block

POSITION = Schema("pos", (Channel("lat"), Channel("lon"), Channel("speed", unit="m/s"), Channel("fuel", "int64", "%")))
TEMP = Schema("temp", (Channel("cargo", unit="Cel"),))
S = 1_000_000


def one(fleet: Fleet, device: str = "d") -> DeviceView:
    (view,) = fleet.views([device])
    return view


def take(fleet: Fleet, batch: Batch, append_us: int) -> None:
    """Take in one batch, which Kafka had at this time."""
    fleet.block(as_block([batch]), [batch.device], np.full(len(batch), append_us))


def test_the_newest_position_and_readings_of_several_schemas():
    fleet = Fleet()
    take(
        fleet,
        batch_from_rows("d", POSITION, [(1 * S, (30.0, -97.0, 3.0, 50)), (2 * S, (30.1, -97.1, 4.0, None))]),
        3 * S,
    )
    take(fleet, batch_from_rows("d", TEMP, [(2 * S, (5.5,))]), 4 * S)
    view = one(fleet)
    assert (view.lat, view.lon, view.speed, view.ts_us, view.heard_us) == (30.1, -97.1, 4.0, 2 * S, 4 * S)
    assert {name: (r.value, r.unit) for name, r in view.readings.items()} == {
        "speed": (4.0, "m/s"), "fuel": (50, "%"), "cargo": (5.5, "Cel"),
    }  # fmt: skip


def test_a_backlog_does_not_take_the_place_of_the_present():
    fleet = Fleet()
    take(fleet, batch_from_rows("d", POSITION, [(9 * S, (30.0, -97.0, 3.0, 50))]), 10 * S)
    take(fleet, batch_from_rows("d", POSITION, [(5 * S, (20.0, -90.0, 9.0, 90))]), 11 * S)
    view = one(fleet)
    assert (view.lat, view.speed, view.ts_us, view.heard_us) == (30.0, 3.0, 9 * S, 11 * S)
    assert view.readings["fuel"].value == 50


def test_a_clock_that_was_ahead_does_not_hide_what_comes_after_it_is_right():
    fleet = Fleet()
    take(fleet, batch_from_rows("d", POSITION, [(999 * S, (20.0, -90.0, 9.0, 90))]), 10 * S)
    take(fleet, batch_from_rows("d", POSITION, [(11 * S, (30.0, -97.0, 3.0, 50))]), 11 * S)
    view = one(fleet)
    assert (view.lat, view.ts_us, view.readings["fuel"].value) == (30.0, 11 * S, 50)


def test_a_fix_without_a_place_keeps_the_last_place():
    fleet = Fleet()
    take(fleet, batch_from_rows("d", POSITION, [(1 * S, (30.0, -97.0, 3.0, 50))]), 1 * S)
    take(
        fleet,
        batch_from_rows("d", POSITION, [(2 * S, (None, -97.2, 0.0, 49)), (3 * S, (float("nan"), -97.2, 0.0, 48))]),
        3 * S,
    )
    view = one(fleet)
    assert (view.lat, view.lon, view.ts_us) == (30.0, -97.0, 3 * S)
    assert view.readings["fuel"].value == 48


def test_values_that_are_no_numbers_become_null():
    fleet = Fleet()
    take(fleet, batch_from_rows("d", TEMP, [(1 * S, (float("inf"),))]), 1 * S)
    assert one(fleet).readings["cargo"].value is None


def test_names_come_and_go_and_who_was_named_but_never_heard_is_listed():
    fleet = Fleet()
    fleet.name("d", Device(id="d", name="Van 1", group="City", report_interval_s=2.0))
    assert (one(fleet).name, one(fleet).heard_us, one(fleet).report_interval_s) == ("Van 1", None, 2.0)
    take(fleet, batch_from_rows("d", TEMP, [(1 * S, (1.0,))]), 1 * S)
    fleet.name("d", None)
    assert (one(fleet).name, one(fleet).heard_us) == ("", 1 * S)
    fleet.name("e", Device(id="e", name="E"))
    fleet.name("e", None)
    assert list(fleet.views(["e"])) == []


SCANS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 40),  # when, by its own clock, which may be ahead
        st.none() | st.integers(-80, 80),
        st.none() | st.integers(0, 9),
        st.integers(0, 2),  # how much later Kafka has the next
    ),
    max_size=40,
)


@given(SCANS, st.lists(st.integers(0, 40), max_size=6))
def test_blocks_say_what_their_scans_say_one_by_one(scans: list[tuple], cuts: list[int]):
    whole, single = Fleet(), Fleet()
    append_us, batches, appends = 20 * S, [], []
    for device, at, lat, fuel, later in scans:
        append_us += later * S
        batches.append(batch_from_rows(device, POSITION, [(at * S, (lat and float(lat), 1.0, float(at), fuel))]))
        appends.append(append_us)
        take(single, batches[-1], append_us)
    edges = sorted({0, len(batches), *(cut for cut in cuts if cut < len(batches))})
    for begin, end in itertools.pairwise(edges):
        devices = list(dict.fromkeys(batch.device for batch in batches[begin:end]))
        whole.block(as_block(batches[begin:end]), devices, np.array(appends[begin:end]))
    assert whole.views("abc") == single.views("abc")
    for device in {scan[0] for scan in scans}:
        mine = [
            (min(at * S, appended), n)
            for n, ((name, at, *_), appended) in enumerate(zip(scans, appends, strict=True))
            if name == device
        ]
        assert one(whole, device).ts_us == scans[max(mine)[1]][1] * S
    shown = {view.id: (view.lat, view.lon) for view in whole.views("abc") if view.lat is not None}
    places = whole.places("abc")
    told = dict(zip(places.ids, zip(places.lat.tolist(), places.lon.tolist(), strict=True), strict=True))
    assert {device: place for device, place in told.items() if not np.isnan(place[0])} == shown
    assert told.keys() == {scan[0] for scan in scans}
