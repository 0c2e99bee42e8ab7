"""What is told about a stay: its length, speed and hours, corridors and switches; and what receivers get wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_cloud.operators import Control, Level
from tidegate_cloud.operators.geofence import BELIEVED, POINTWISE, Geofence, GeofenceSettings
from tidegate_protocols.registry import Device, Fence

from tests.support.blocks import POSITION, Named, block_of_rows, check_batching, run

US = 1_000_000
M = 1 / 111_195
Fix = tuple[float, float, float]  # seconds, metres east, metres north


def area(fence_id: str = "yard", **terms: object) -> Fence:
    shape = shapely.transform(shapely.box(0, 0, 1000, 1000), lambda xy: xy * M)
    return Fence(id=fence_id, name="Yard", geometry=shapely.to_geojson(shape), **terms)  # type: ignore[arg-type]


def control_of(*fences: Fence) -> Control:
    control = Control()
    for fence in fences:
        control.put_fence(fence)
    return control


def block_of(fixes: list[Fix], speeds: list[float | None] | None = None, start_s: float = 0.0):  # type: ignore[no-untyped-def]
    speeds = speeds or [None] * len(fixes)
    rows = [
        ("a", int((start_s + t) * US), [north * M, east * M, speed, 5.0])
        for (t, east, north), speed in zip(fixes, speeds, strict=True)
    ]
    return block_of_rows(POSITION, rows)


def brief(events: list[Named], start_s: float = 0.0) -> list[tuple[int, str, float]]:
    return [(seq, event.kind, round(event.ts_us / US - start_s, 1)) for _, seq, event in events]


def test_a_long_stay_is_told_when_it_is_long_enough_and_when_it_is_over() -> None:
    fixes = [(0, -50, 500), (10, 50, 500), (40, 300, 500), (80, 500, 500), (90, 1500, 500)]
    events, state = run(Geofence(POINTWISE), [block_of(fixes[:4])], control_of(area(dwell_s=60.0)))
    assert brief(events) == [(1, "entered", 10), (3, "dwelt", 70)]
    assert (events[1][2].value, events[1][2].unit, events[1][2].phase) == (60.0, "s", "begin")
    assert events[1][2].attrs["because"] == "it is still inside"
    assert Geofence().levels(state, "a") == [Level("dwelt", "yard", 70 * US), Level("entered", "yard", 10 * US)]
    events, state = run(Geofence(POINTWISE), [block_of(fixes[4:])], control_of(area(dwell_s=60.0)), state)
    assert brief(events) == [(0, "moved-on", 90), (0, "exited", 90)]
    assert Geofence().levels(state, "a") == []


def test_a_stay_that_became_long_after_the_last_fix_inside_is_told_too() -> None:
    fixes = [(0, -50, 500), (10, 50, 500), (100, 1950, 500)]
    control = control_of(area(dwell_s=45.0))
    events, _ = run(Geofence(GeofenceSettings(line_max_s=120.0)), [block_of(fixes)], control)
    # In at 5 s, out at 55 s: long enough, though no fix says so.
    assert brief(events) == [(1, "entered", 5), (2, "dwelt", 50), (2, "moved-on", 55), (2, "exited", 55)]


def test_a_fence_that_no_longer_asks_for_a_stay_ends_it() -> None:
    control = control_of(area(dwell_s=10.0))
    operator = Geofence(POINTWISE)
    _, state = run(operator, [block_of([(0, 50, 500), (20, 60, 500)])], control)
    control.put_fence(area(version=2))
    events, state = run(operator, [block_of([(30, 60, 500)])], control, state)
    assert brief(events) == [(0, "moved-on", 30)]
    assert events[0][2].attrs["reason"] == "the fence no longer asks for it"
    assert [level.kind for level in operator.levels(state, "a")] == ["entered"]


def test_speeding_begins_with_two_fixes_and_ends_with_its_highest_speed() -> None:
    east = [100.0, 120, 150, 180, 220, 250, 260, 270, 280]
    speeds = [8.0, 12, 9, 13, 17, 15, 9, 8, 7]
    fixes = [(float(i), east[i], 500.0) for i in range(9)]
    events, _ = run(Geofence(BELIEVED), [block_of(fixes, list(speeds))], control_of(area(speed_limit_mps=10.0)))
    told = [(seq, e.kind, e.ts_us / US, e.value, e.limit, e.unit) for _, seq, e in events if e.kind != "entered"]
    assert told == [(4, "speeding", 3, 17, 10, "m/s"), (7, "sped", 6, 17, 10, "m/s")]
    sped = events[-1][2]
    assert sped.lon == pytest.approx(220 * M)
    assert sped.attrs["because"] == "two fixes one after the other say so"


def test_a_device_that_states_no_speed_is_timed_by_its_way() -> None:
    fixes = [(10.0 * i, 100 + 200.0 * i, 500.0) for i in range(4)]
    events, _ = run(Geofence(BELIEVED), [block_of(fixes)], control_of(area(speed_limit_mps=15.0)))
    kinds = [(seq, event.kind) for _, seq, event in events]
    # 20 m/s, less what both accuracies of 5 m may make of it.
    assert (3, "speeding") in kinds or (2, "speeding") in kinds
    assert events[-1][2].value == pytest.approx(19.0, abs=0.1)


def test_leaving_ends_speeding() -> None:
    fixes = [(0.0, 900.0, 500.0), (1, 920, 500), (2, 940, 500), (3, 1100, 500)]
    events, state = run(
        Geofence(POINTWISE), [block_of(fixes, [20.0, 22, 21, 20])], control_of(area(speed_limit_mps=10.0))
    )
    assert brief(events) == [(0, "entered", 0), (0, "speeding", 0), (3, "sped", 3), (3, "exited", 3)]
    assert events[2][2].value == 22
    assert Geofence().levels(state, "a") == []


MONDAY = datetime(2026, 3, 2, tzinfo=UTC).timestamp()


def test_being_there_at_the_wrong_hour_is_told_from_when_the_windows_closed() -> None:
    hours = {"schedule": "Mo-Fr 08:00-18:00", "time_zone": "America/New_York"}  # 13:00 to 23:00 UTC in winter
    fixes = [(22 * 3600.0, 50.0, 500.0), (23.5 * 3600, 60, 500), (37.5 * 3600, 60, 500)]
    events, state = run(Geofence(POINTWISE), [block_of(fixes[:2], start_s=MONDAY)], control_of(area(**hours)))
    assert brief(events, MONDAY) == [(0, "entered", 22 * 3600), (1, "out-of-schedule", 23 * 3600)]
    assert [level.kind for level in Geofence().levels(state, "a")] == ["entered", "out-of-schedule"]
    events, _ = run(Geofence(POINTWISE), [block_of(fixes[2:], start_s=MONDAY)], control_of(area(**hours)), state)
    assert brief(events, MONDAY) == [(0, "in-schedule", 37 * 3600)]


def test_daylight_saving_moves_the_hours() -> None:
    hours = {"schedule": "08:00-18:00", "time_zone": "Europe/Berlin"}
    for day, begin in ((datetime(2026, 3, 28, tzinfo=UTC), 7), (datetime(2026, 3, 30, tzinfo=UTC), 6)):
        start = day.timestamp()
        fixes = [(begin * 3600.0 - 1, 50.0, 500.0), (begin * 3600.0, 51, 500)]
        events, _ = run(Geofence(POINTWISE), [block_of(fixes, start_s=start)], control_of(area(**hours)))
        assert [event.kind for _, _, event in events] == ["entered", "out-of-schedule", "in-schedule"]


def test_a_fence_that_is_there_in_its_hours_alone() -> None:
    hours = {"schedule": "Mo 08:00-09:00", "schedule_mode": "active"}
    fixes = [(3600.0 * h, 50.0 + h, 500.0) for h in (7, 8, 8.5, 9, 10)]
    events, state = run(Geofence(POINTWISE), [block_of(fixes, start_s=MONDAY)], control_of(area(**hours)))
    assert brief(events, MONDAY) == [(1, "entered", 8 * 3600), (3, "exited", 9 * 3600)]
    assert events[1][2].attrs["reason"] == "the fence's hours are over"
    assert state.to_bytes("a") == b""


def test_a_corridor_is_left() -> None:
    line = {"type": "LineString", "coordinates": [[0, 0], [0, 2000 * M]]}
    lane = Fence(id="lane", name="Lane", geometry=json.dumps(line), distance_m=100.0)
    fixes = [(0.0, 20.0, 100.0), (10, 50, 300), (20, 120, 500), (30, 90, 700)]
    events, _ = run(Geofence(POINTWISE), [block_of(fixes)], control_of(lane))
    assert brief(events) == [(0, "entered", 0), (2, "left-corridor", 20), (3, "entered", 30)]
    assert events[1][2].phase == "end"


@pytest.mark.parametrize(
    ("switches", "kinds"),
    [
        ({"enter_events": False}, ["exited"]),
        ({"exit_events": False}, ["entered"]),
        ({"enter_events": False, "exit_events": False, "dwell_s": 5.0}, ["dwelt", "moved-on"]),
    ],
)
def test_switches(switches: dict[str, object], kinds: list[str]) -> None:
    fixes = [(0.0, 50.0, 500.0), (10, 60, 500), (20, 1500, 500)]
    control = control_of(area(**switches))
    events, state = run(Geofence(POINTWISE), [block_of(fixes[:2])], control)
    levels = {level.kind for level in Geofence().levels(state, "a")}
    assert levels == {kind for kind in kinds if kind in ("entered", "dwelt")}
    more, _ = run(Geofence(POINTWISE), [block_of(fixes[2:])], control, state)
    assert [event.kind for _, _, event in events + more] == kinds


def test_events_say_version_and_accuracy() -> None:
    fixes = [(0.0, 50.0, 500.0), (10, 60, 500)]
    events, _ = run(Geofence(POINTWISE), [block_of(fixes)], control_of(area(version=7, dwell_s=5.0)))
    for _, _, event in events:
        assert event.attrs["fence_version"] == "7"
        assert event.attrs["name"] == "Yard"
        assert event.attrs["accuracy_m"] == "5"


def moves(kind: str, fixes: list[Fix], speeds: list[float | None] | None = None) -> list[str]:
    control = control_of(area())
    control.put_device(Device(id="a", type=kind))
    events, _ = run(Geofence(BELIEVED), [block_of(fixes, speeds)], control)
    return [event.kind for _, _, event in events]


def test_what_a_device_cannot_do_depends_on_its_type() -> None:
    """300 m in 5 s and back: a jump for a ship, a flight for an aircraft."""
    fixes = [(5.0 * i, -400.0 + 10 * i, 500.0) for i in range(8)]
    away = [(40.0, -20.0, 500.0), (45, 280, 500), (50, 580, 500), (55, 880, 500)]
    assert moves("aircraft", fixes + away, [60.0] * 12) == ["entered"]
    assert moves("ship", [*fixes, (40.0, 300.0, 500.0), (45.0, -310.0, 500.0)]) == []


def test_a_jump_that_asks_for_too_much_acceleration_is_left_out() -> None:
    """250 m in 6 s are no speed for a car, but it stood."""
    fixes = [(6.0 * i, -60.0 + i, 500.0) for i in range(8)]
    jump = [(48.0, 340.0, 500.0), (54, -51, 500), (60, -50, 500)]
    assert moves("car", fixes + jump) == []


def test_a_receiver_that_starts_cold_is_not_believed_at_once() -> None:
    """After a long silence it wanders through the yard until it has found itself, outside."""
    before = [(10.0 * i, -300.0, 500.0 + i) for i in range(5)]
    cold = [(2000.0, 200.0, 500.0), (2003, 150, 500), (2006, 60, 500), (2009, -100, 500), (2012, -290, 500),
            (2015, -300, 501), (2100, -300, 502)]  # fmt: skip
    assert moves("", before + cold) == []
    # One that says how fast it goes is believed.
    assert moves("", before + cold[:3], [0.0] * 5 + [10.0] * 3) == ["entered"]


def test_the_same_position_again_is_no_second_witness() -> None:
    """A receiver that is stuck at a wrong place for some fixes, and comes back."""
    fixes = [(10.0 * i, -60.0 - 0.1 * i, 500.0) for i in range(4)]
    stuck = [(40.0, 60.0, 500.0), (45, 60, 500), (50, 60, 500)]
    back = [(60.0, -60.2, 500.0), (70, -60.3, 500)]
    assert moves("", fixes + stuck + back) == []
    # It stays there: after a minute it is believed.
    assert moves("", fixes + [(40.0 + 10 * i, 60.0, 500.0) for i in range(8)]) == ["entered"]


ROWS = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.integers(0, 40), st.sampled_from([-300.0, -40.0, 20.0, 60.0, 500.0, 980.0, 1300.0]),
        st.sampled_from([None, 0.0, 5.0, 20.0]),
    ),
    min_size=1, max_size=40,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(ROWS, st.sets(st.integers(1, 39)), st.permutations([0, 1]), st.booleans())
def test_any_sequence_gives_the_same_under_every_batching(
    rows: list[tuple[str, int, float, float | None]], cuts: set[int], order: list[int], believed: bool
) -> None:
    control = control_of(
        area(dwell_s=30.0, speed_limit_mps=10.0, schedule="Th 00:01-00:02; Th 00:05-24:00"),
        area("gate", schedule="Th 00:00-00:03", schedule_mode="active", enter_events=False),
    )
    at, scans = {"a": 0, "b": 0}, []
    for device, step, east, speed in rows:
        at[device] += step
        scans.append((device, at[device] * US, [500 * M, east * M, speed, None]))
    block = block_of_rows(POSITION, scans)
    operator = Geofence(BELIEVED if believed else POINTWISE)
    check_batching(operator, block, control, cuts, [i for i in order if i < len(block.devices)])


def test_begins_and_ends_alternate_and_levels_are_what_stands_open() -> None:
    pairs = {"entered": "exited", "dwelt": "moved-on", "speeding": "sped", "out-of-schedule": "in-schedule"}
    ends = {end: begin for begin, end in pairs.items()}
    control = control_of(area(dwell_s=30.0, speed_limit_mps=10.0, schedule="Th 00:01-00:02; Th 00:05-24:00"))
    fixes = [(7.0 * i, [-300.0, 60, 80, 500, 980, 1300, 700, 650][(i * i) % 8], 500.0 + i) for i in range(120)]
    speeds: list[float | None] = [float((7 * i) % 25) for i in range(120)]
    for settings_ in (POINTWISE, BELIEVED):
        events, state = run(Geofence(settings_), [block_of(fixes, speeds)], control)
        open_: set[str] = set()
        for _, _, event in events:
            if event.kind in pairs:
                assert event.kind not in open_
                open_.add(event.kind)
            elif event.kind in ends:
                open_.remove(ends[event.kind])
        assert {level.kind for level in Geofence().levels(state, "a")} == open_
        assert len(events) > 10
