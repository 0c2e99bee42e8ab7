"""Lines between fixes, and changes that wait until they can be believed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_cloud.operators import Control, Level
from tidegate_cloud.operators.geofence import BELIEVED, POINTWISE, Geofence, GeofenceSettings
from tidegate_protocols.registry import Fence

from tests.support.blocks import POSITION, Named, block_of_rows, check_batching, run

US = 1_000_000
M = 1 / 111_195  # one metre in degrees of latitude, or of longitude on the equator
LINES = GeofenceSettings(line_max_s=120.0)
Fix = tuple[float, float, float]  # seconds, metres east, metres north


def control_of(**shapes: shapely.Geometry) -> Control:
    control = Control()
    for fence_id, shape in shapes.items():
        inside = shapely.transform(shape, lambda xy: xy * M)
        control.put_fence(Fence(id=fence_id, name="", geometry=shapely.to_geojson(inside)))
    return control


def disc(fence_id: str, east: float, north: float, radius_m: float) -> Fence:
    return Fence(
        id=fence_id, name="", geometry=f'{{"type":"Point","coordinates":[{east * M},{north * M}]}}', radius_m=radius_m
    )


def block_of(fixes: list[Fix], *, accuracy: float | None = 5.0, speed: float | None = None, gaps: tuple[int, ...] = ()):  # type: ignore[no-untyped-def]
    rows = [("a", int(t * US), [north * M, east * M, speed, accuracy]) for t, east, north in fixes]
    return block_of_rows(POSITION, rows, gaps)


def brief(events: list[Named]) -> list[tuple[int, str, str, float]]:
    """(scan, kind, fence, seconds)"""
    return [(seq, event.kind, event.subject, round(event.ts_us / US, 2)) for _, seq, event in events]


YARD = shapely.box(0, 0, 100, 100)


def test_a_crossing_between_two_fixes_has_its_time_and_place() -> None:
    events, _ = run(Geofence(LINES), [block_of([(0, -50, 50), (10, 50, 50), (20, 150, 50)])], control_of(yard=YARD))
    assert brief(events) == [(1, "entered", "yard", 5.0), (2, "exited", "yard", 15.0)]
    assert events[0][2].lon == pytest.approx(0, abs=1e-9)
    assert events[1][2].lon == pytest.approx(100 * M, abs=1e-9)


def test_a_fence_between_two_fixes_is_entered_and_left() -> None:
    control = control_of(yard=YARD, aside=shapely.box(0, 200, 100, 300), corner=shapely.box(-60, 90, 160, 120))
    events, _ = run(Geofence(LINES), [block_of([(0, -100, 50), (30, 200, 50)])], control)
    assert brief(events) == [
        (1, "entered", "yard", 10.0), (1, "exited", "yard", 20.0), (1, "crossed", "yard", 20.0)
    ]  # fmt: skip
    assert (events[2][2].phase, events[2][2].value, events[2][2].unit) == ("instant", 10.0, "s")


def test_a_circle_between_two_fixes_too() -> None:
    control = Control()
    control.put_fence(disc("stop", 50, 0, 30.0))
    events, _ = run(Geofence(LINES), [block_of([(0, -50, 0), (20, 150, 0)])], control)
    assert brief(events) == [
        (1, "entered", "stop", 7.0), (1, "exited", "stop", 13.0), (1, "crossed", "stop", 13.0)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fixes", "gaps"),
    [
        ([(0, -100, 50), (121, 200, 50)], ()),
        ([(0, -100, 50), (30, 200, 50)], (1,)),
        ([(0, -100, 50), (30, 6000, 50)], ()),
    ],
)  # fmt: skip
def test_no_line_over_a_pause_a_gap_or_too_far(fixes: list[Fix], gaps: tuple[int, ...]) -> None:
    assert run(Geofence(LINES), [block_of(fixes, gaps=gaps)], control_of(yard=YARD))[0] == []


def test_a_moving_device_is_believed_with_the_next_fix() -> None:
    fixes = [(0, -150, 50), (10, -50, 50), (20, 50, 50), (30, 60, 50), (40, 200, 50), (50, 300, 50)]
    events, _ = run(Geofence(BELIEVED), [block_of(fixes)], control_of(yard=YARD))
    assert brief(events) == [(3, "entered", "yard", 15.0), (5, "exited", "yard", 32.86)]
    assert events[0][2].attrs["because"] == "it moved, and the next fix agrees"


def test_one_fix_inside_on_the_way_through_is_a_visit() -> None:
    events, _ = run(Geofence(BELIEVED), [block_of([(0, -150, 50), (20, 50, 50), (40, 250, 50)])], control_of(yard=YARD))
    assert brief(events) == [(2, "entered", "yard", 15.0), (2, "exited", "yard", 25.0)]


def test_none_inside_on_the_way_through_is_a_visit_too() -> None:
    fixes = [(0, -150, 50), (30, 150, 50), (60, 450, 50)]
    events, _ = run(Geofence(BELIEVED), [block_of(fixes)], control_of(yard=YARD))
    assert brief(events) == [
        (2, "entered", "yard", 15.0), (2, "exited", "yard", 25.0), (2, "crossed", "yard", 25.0)
    ]  # fmt: skip
    assert events[0][2].attrs["because"] == "the line between two fixes crosses the fence"


@pytest.mark.parametrize(
    ("fixes", "expected"),
    [
        # Through the yard to a fix 3 m before its far border.
        ([(0, -100, 50), (20, 97, 50), (40, 300, 50)], [("entered", 10.15), ("exited", 20.3)]),
        # A fix 3 m behind the near border, then through the yard and out.
        ([(0, -100, 50), (10, 3, 50), (30, 203, 50), (40, 300, 50)],
         [("entered", 10.0), ("exited", 19.7), ("crossed", 19.7)]),
        # Both.
        ([(0, -100, 50), (10, 3, 50), (20, 97, 50), (40, 300, 50)], [("entered", 10.0), ("exited", 20.3)]),
        # It had been in before the fix that counts.
        ([(0, -100, 50), (10, 3, 50), (20, 50, 50), (30, 51, 50)], [("entered", 10.0)]),
        # It passes through, and then the next fix lies inside: a stay of its own.
        ([(0, -100, 50), (30, 200, 50), (50, 60, 50), (60, 55, 50)],
         [("entered", 10.0), ("exited", 20.0), ("crossed", 20.0), ("entered", 44.29)]),
        # Along the border, never deep: nothing.
        ([(0, -100, 3), (10, 3, 3), (20, 97, 3), (40, 300, 3)], []),
    ],
)  # fmt: skip
def test_fixes_too_near_to_the_border_to_count_hide_no_transit(
    fixes: list[Fix], expected: list[tuple[str, float]]
) -> None:
    events, _ = run(Geofence(BELIEVED), [block_of(fixes)], control_of(yard=YARD))
    assert [(kind, at) for _, kind, _, at in brief(events)] == expected


@pytest.mark.parametrize("spike", [(20, 60, 50), (20, 180, 50)])
def test_a_spike_into_or_through_a_fence_is_not_believed(spike: Fix) -> None:
    fixes = [(0, -80, 50), (10, -80, 52), spike, (30, -79, 50), (40, -81, 50), (50, -80, 50)]
    assert run(Geofence(BELIEVED), [block_of(fixes)], control_of(yard=YARD))[0] == []


def test_a_spike_out_of_a_fence_is_not_believed() -> None:
    still = [(10.0 * i, 50.0, 50.0) for i in range(9)]
    fixes = [*still, (90, 250, 50), *((100 + 10.0 * i, 51.0, 50.0) for i in range(9))]
    events, state = run(Geofence(BELIEVED), [block_of(fixes)], control_of(yard=YARD))
    assert [event.kind for _, _, event in events] == ["entered"]
    assert Geofence().levels(state, "a") == [Level("entered", "yard", 0)]


def test_a_still_device_must_stay_clear_of_the_border() -> None:
    control = control_of(yard=YARD)
    near = [(10.0 * i, 8.0 * (-1) ** i, 50.0) for i in range(100)]
    assert run(Geofence(BELIEVED), [block_of(near)], control)[0] == []
    creeping = [(10.0 * i, -30 + 2.0 * i, 50.0) for i in range(40)]
    events, _ = run(Geofence(BELIEVED), [block_of(creeping)], control)
    assert brief(events) == [(29, "entered", "yard", 230.0)]
    assert events[0][2].attrs["because"] == "it stayed on this side"


def test_an_impossible_jump_and_position_zero_are_left_out() -> None:
    control = control_of(yard=YARD, null=shapely.box(-1, -1, 1, 1))
    far = [(10.0 * i, 5000.0, 50.0) for i in range(4)]
    fixes = [*far, (40, 50, 50), (50, 0.0, 0.0), (60, 5000, 50), (70, 5001, 50)]
    assert run(Geofence(BELIEVED), [block_of(fixes)], control)[0] == []


def test_a_jump_that_the_next_fixes_bear_out_is_taken() -> None:
    fixes = [(0, 50_000, 50), (10, 50_000, 51), *((20 + 10.0 * i, 50.0, 50.0) for i in range(12))]
    events, _ = run(Geofence(BELIEVED), [block_of(fixes)], control_of(yard=YARD))
    assert [event.kind for _, _, event in events] == ["entered"]


SHAPES = {
    "a": shapely.box(0, 0, 100, 100), "b": shapely.box(60, 60, 200, 160), "c": shapely.box(-200, 40, 300, 60),
    "d": shapely.box(-100, -100, 250, 250) - shapely.box(-50, -50, 200, 200),
}  # fmt: skip
FIXES = st.lists(
    st.tuples(
        st.sampled_from("xyz"), st.sampled_from([0, 5, 10, 30, 100, 500]), st.integers(-25, 35), st.integers(-25, 35),
        st.sampled_from([None, 3.0, 20.0]), st.sampled_from([None, 0.0, 12.0]),
    ),
    min_size=1, max_size=50,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(FIXES, st.sets(st.integers(1, 49)), st.permutations([0, 1, 2]), st.sampled_from([LINES, BELIEVED]))
def test_no_batching_shows(rows, cuts, order, how) -> None:  # type: ignore[no-untyped-def]
    control = control_of(**SHAPES)
    control.put_fence(disc("e", 100, 100, 70.0))
    clock = 0
    made = []
    for device, step, east, north, accuracy, speed in rows:
        clock += step * US
        made.append((device, clock, [(10 * north + 0.5) * M, (10 * east + 0.5) * M, speed, accuracy]))
    block = block_of_rows(POSITION, made, {cut for cut in cuts if cut < len(made) and cut % 3 == 0})
    check_batching(Geofence(how), block, control, cuts, [i for i in order if i < len(block.devices)])


@settings(max_examples=40, deadline=None)
@given(FIXES)
def test_with_lines_off_every_point_counts_as_before(rows) -> None:  # type: ignore[no-untyped-def]
    """The line kernel with a line of no use says what the point kernel says."""
    control = control_of(**SHAPES)
    made = [
        (device, i * 1000 * US, [(10 * north + 0.5) * M, (10 * east + 0.5) * M, speed, accuracy])
        for i, (device, _, east, north, accuracy, speed) in enumerate(rows)
    ]
    block = block_of_rows(POSITION, made)
    pointwise, _ = run(Geofence(POINTWISE), [block], control)
    lines, _ = run(Geofence(GeofenceSettings(line_max_s=0.5)), [block], control)
    assert repr(pointwise) == repr(lines)


def test_every_true_transit_is_found_between_sparse_fixes() -> None:
    """Vehicles on straight roads through random fences: entries and exits as shapely cuts their lines."""
    rng = np.random.default_rng(11)
    shapes = {}
    for i in range(60):
        east, north = rng.uniform(-2000, 2000, 2)
        angle = np.sort(rng.uniform(0, 2 * np.pi, 9))
        ring = np.column_stack((east + 150 * np.cos(angle), north + 150 * np.sin(angle)))
        shapes[f"f{i}"] = shapely.Polygon(ring).convex_hull
    rows, expected = [], []
    for v in range(60):
        start, end = rng.uniform(-2500, 2500, (2, 2))
        n = max(2, int(np.linalg.norm(end - start) / 150))
        points = start + (end - start) * np.linspace(0, 1, n)[:, None]
        rows += [(f"v{v}", int(10 * i * US), [p[1] * M, p[0] * M, None, None]) for i, p in enumerate(points)]
        for fence_id, shape in shapes.items():
            part = shapely.LineString([start, end]).intersection(shape)
            if part.is_empty or part.length < 0.01:
                continue
            at = [np.linalg.norm(np.array(p) - start) / np.linalg.norm(end - start) * 10 * (n - 1) for p in part.coords]
            if not shape.contains(shapely.Point(start)):
                expected.append((f"v{v}", fence_id, "entered", min(at)))
            if not shape.contains(shapely.Point(end)):
                expected.append((f"v{v}", fence_id, "exited", max(at)))
    events, _ = run(Geofence(LINES), [block_of_rows(POSITION, rows)], control_of(**shapes))
    found = [
        (v, e.subject, e.kind, e.ts_us / US)
        for v, _, e in events
        if e.kind == "exited" or (e.kind == "entered" and e.ts_us)
    ]
    assert sorted(e[:3] for e in found) == sorted(e[:3] for e in expected)
    for mine, truth in zip(sorted(found), sorted(expected), strict=True):
        assert math.isclose(mine[3], truth[3], abs_tol=0.01)
