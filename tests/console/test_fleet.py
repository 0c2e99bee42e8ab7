"""What is known of a device is the newest of what it said, whatever order it came in."""

from __future__ import annotations

from tidegate_cloud.console.fleet import Fleet
from tidegate_cloud.console.views import DeviceView
from tidegate_protocols.batch import batch_from_rows
from tidegate_protocols.registry import Device
from tidegate_protocols.schema import Channel, Schema

POSITION = Schema("pos", (Channel("lat"), Channel("lon"), Channel("speed", unit="m/s"), Channel("fuel", "int64", "%")))
TEMP = Schema("temp", (Channel("cargo", unit="Cel"),))
S = 1_000_000


def one(fleet: Fleet, device: str = "d") -> DeviceView:
    (view,) = fleet.views([device])
    return view


def test_the_newest_position_and_readings_of_several_schemas():
    fleet = Fleet()
    fleet.batch(
        batch_from_rows("d", POSITION, [(1 * S, (30.0, -97.0, 3.0, 50)), (2 * S, (30.1, -97.1, 4.0, None))]), 3 * S
    )
    fleet.batch(batch_from_rows("d", TEMP, [(2 * S, (5.5,))]), 4 * S)
    view = one(fleet)
    assert (view.lat, view.lon, view.speed, view.ts_us, view.heard_us) == (30.1, -97.1, 4.0, 2 * S, 4 * S)
    assert {name: (r.value, r.unit) for name, r in view.readings.items()} == {
        "speed": (4.0, "m/s"), "fuel": (50, "%"), "cargo": (5.5, "Cel"),
    }  # fmt: skip


def test_a_backlog_does_not_take_the_place_of_the_present():
    fleet = Fleet()
    fleet.batch(batch_from_rows("d", POSITION, [(9 * S, (30.0, -97.0, 3.0, 50))]), 10 * S)
    fleet.batch(batch_from_rows("d", POSITION, [(5 * S, (20.0, -90.0, 9.0, 90))]), 11 * S)
    view = one(fleet)
    assert (view.lat, view.speed, view.ts_us, view.heard_us) == (30.0, 3.0, 9 * S, 11 * S)
    assert view.readings["fuel"].value == 50


def test_a_clock_that_was_ahead_does_not_hide_what_comes_after_it_is_right():
    fleet = Fleet()
    fleet.batch(batch_from_rows("d", POSITION, [(999 * S, (20.0, -90.0, 9.0, 90))]), 10 * S)
    fleet.batch(batch_from_rows("d", POSITION, [(11 * S, (30.0, -97.0, 3.0, 50))]), 11 * S)
    view = one(fleet)
    assert (view.lat, view.ts_us, view.readings["fuel"].value) == (30.0, 11 * S, 50)


def test_a_fix_without_a_place_keeps_the_last_place():
    fleet = Fleet()
    fleet.batch(batch_from_rows("d", POSITION, [(1 * S, (30.0, -97.0, 3.0, 50))]), 1 * S)
    fleet.batch(
        batch_from_rows("d", POSITION, [(2 * S, (None, -97.2, 0.0, 49)), (3 * S, (float("nan"), -97.2, 0.0, 48))]),
        3 * S,
    )
    view = one(fleet)
    assert (view.lat, view.lon, view.ts_us) == (30.0, -97.0, 3 * S)
    assert view.readings["fuel"].value == 48


def test_values_that_are_no_numbers_become_null():
    fleet = Fleet()
    fleet.batch(batch_from_rows("d", TEMP, [(1 * S, (float("inf"),))]), 1 * S)
    assert one(fleet).readings["cargo"].value is None


def test_names_come_and_go_and_who_was_named_but_never_heard_is_listed():
    fleet = Fleet()
    fleet.name("d", Device(id="d", name="Van 1", group="City", report_interval_s=2.0))
    assert (one(fleet).name, one(fleet).heard_us, one(fleet).report_interval_s) == ("Van 1", None, 2.0)
    fleet.batch(batch_from_rows("d", TEMP, [(1 * S, (1.0,))]), 1 * S)
    fleet.name("d", None)
    assert (one(fleet).name, one(fleet).heard_us) == ("", 1 * S)
    fleet.name("e", Device(id="e", name="E"))
    fleet.name("e", None)
    assert list(fleet.views(["e"])) == []
