"""Entering and leaving fences: against a naive twin, under every batching, and on recorded buses against shapely."""

from __future__ import annotations

import math

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_cloud.operators import Control, Level
from tidegate_cloud.operators.geofence import POINTWISE, Geofence
from tidegate_protocols.registry import Device, Fence

from tests.support import naive
from tests.support.blocks import POSITION, block_of_rows, check_batching, run


def box(fence_id: str, west: float, south: float, east: float, north: float, **more: object) -> Fence:
    return Fence(
        id=fence_id, name=fence_id.title(), geometry=shapely.to_geojson(shapely.box(west, south, east, north)), **more
    )  # type: ignore[arg-type]


def control_of(*fences: Fence, devices: dict[str, str] | None = None) -> Control:
    control = Control()
    for fence in fences:
        control.put_fence(fence)
    for device, group in (devices or {}).items():
        control.put_device(Device(id=device, group=group))
    return control


def fixes(device: str, *positions: tuple[float, float]) -> list[tuple[str, int, list[float | None]]]:
    return [(device, 1_000_000 * i, [lat, lon, None, 5.0]) for i, (lon, lat) in enumerate(positions)]


def brief(events: list[tuple[str, int, object]]) -> list[tuple[str, int, str, str]]:
    return [(device, seq, event.kind, event.subject) for device, seq, event in events]  # type: ignore[attr-defined]


YARD = box("yard", 0, 0, 1, 1, severity="critical", alert_on="exit")


def test_a_device_enters_and_leaves() -> None:
    rows = fixes("a", (2, 0.5), (0.5, 0.5), (0.6, 0.5), (1.5, 0.5))
    events, state = run(Geofence(POINTWISE), [block_of_rows(POSITION, rows)], control_of(YARD))
    assert brief(events) == [("a", 1, "entered", "yard"), ("a", 3, "exited", "yard")]
    entered, left = events[0][2], events[1][2]
    assert (entered.phase, left.phase) == ("begin", "end")
    assert (entered.ts_us, entered.lat, entered.lon) == (1_000_000, 0.5, 0.5)
    assert entered.attrs == {
        "name": "Yard", "fence_version": "1", "severity": "critical", "alert_on": "exit", "accuracy_m": "5",
    }  # fmt: skip
    assert Geofence(POINTWISE).levels(state, "a") == []


def test_a_first_fix_inside_is_an_entry() -> None:
    events, state = run(Geofence(POINTWISE), [block_of_rows(POSITION, fixes("a", (0.5, 0.5)))], control_of(YARD))
    assert brief(events) == [("a", 0, "entered", "yard")]
    assert Geofence(POINTWISE).levels(state, "a") == [Level("entered", "yard", 0)]


def test_scans_without_a_usable_position_change_nothing() -> None:
    rows = [*fixes("a", (0.5, 0.5)), ("a", 1, [None, 7.0, None, None]), ("a", 2, [math.nan, 7.0, None, None]),
            ("a", 3, [91.0, 7.0, None, None]), ("a", 4, [0.5, 0.6, None, None])]  # fmt: skip
    events, _ = run(Geofence(POINTWISE), [block_of_rows(POSITION, rows)], control_of(YARD))
    assert brief(events) == [("a", 0, "entered", "yard")]


def test_a_hole_is_outside() -> None:
    ring = shapely.box(0, 0, 3, 3) - shapely.box(1, 1, 2, 2)
    fence = Fence(id="ring", name="", geometry=shapely.to_geojson(ring))
    rows = fixes("a", (0.5, 0.5), (1.5, 1.5), (2.5, 2.5))
    events, _ = run(Geofence(POINTWISE), [block_of_rows(POSITION, rows)], control_of(fence))
    assert [event.kind for _, _, event in events] == ["entered", "exited", "entered"]


def test_a_removed_fence_ends_the_stay_at_the_next_fix() -> None:
    control = control_of(YARD, box("town", -5, -5, 5, 5))
    operator = Geofence(POINTWISE)
    _, state = run(operator, [block_of_rows(POSITION, fixes("a", (0.5, 0.5)))], control)
    control.remove_fence("yard")
    control.remove_fence("nowhere")
    events, _ = run(operator, [block_of_rows(POSITION, fixes("a", (0.5, 0.6)))], control, state)
    assert brief(events) == [("a", 0, "exited", "yard")]
    assert events[0][2].attrs["reason"] == "the fence was removed"


def test_a_new_shape_counts_from_the_next_fix() -> None:
    control = control_of(YARD)
    operator = Geofence(POINTWISE)
    _, state = run(operator, [block_of_rows(POSITION, fixes("a", (0.5, 0.5)))], control)
    control.put_fence(box("yard", 0, 0, 1, 2, version=2))
    events, state = run(operator, [block_of_rows(POSITION, fixes("a", (0.5, 0.5)))], control, state)
    assert events == []
    control.put_fence(box("yard", 3, 0, 4, 2, version=3))
    events, state = run(operator, [block_of_rows(POSITION, fixes("a", (0.5, 0.5)))], control, state)
    assert brief(events) == [("a", 0, "exited", "yard")]
    assert events[0][2].attrs["fence_version"] == "3"


def test_a_fence_is_for_its_groups() -> None:
    fence = box("depot", 0, 0, 1, 1, groups=["buses", "trams"])
    control = control_of(fence, devices={"a": "buses", "b": "vans"})
    rows = [*fixes("a", (0.5, 0.5)), *fixes("b", (0.5, 0.5)), *fixes("c", (0.5, 0.5))]
    operator = Geofence(POINTWISE)
    events, state = run(operator, [block_of_rows(POSITION, rows)], control)
    assert brief(events) == [("a", 0, "entered", "depot")]
    control.put_device(Device(id="a", group="vans"))
    events, _ = run(operator, [block_of_rows(POSITION, rows)], control, state)
    assert brief(events) == [("a", 0, "exited", "depot")]
    assert events[0][2].attrs["reason"] == "the fence is not for this group"


def test_thousands_of_fences_may_hold_one_device() -> None:
    control = control_of(*(box(f"f{i:04}", -1 - i / 1e4, -1, 1, 1) for i in range(3000)))
    rows = fixes("a", (0.5, 0.5), (0.5, 0.6), (5, 5))
    events, state = run(Geofence(POINTWISE), [block_of_rows(POSITION, rows)], control)
    assert brief(events) == [
        ("a", seq, kind, f"f{i:04}") for seq, kind in ((0, "entered"), (2, "exited")) for i in range(3000)
    ]
    assert state.to_bytes("a") == b""


def test_the_order_of_edits_does_not_show() -> None:
    fences = [box(f"f{i}", 0, 0, 1 + i, 1) for i in range(6)]
    block = block_of_rows(POSITION, fixes("a", (0.5, 0.5), (3.5, 0.5)))
    there = control_of(*fences)
    back = control_of(*reversed(fences))
    back.remove_fence("f2")
    back.put_fence(fences[2])
    one, two = run(Geofence(POINTWISE), [block], there), run(Geofence(POINTWISE), [block], back)
    assert repr(one[0]) == repr(two[0])
    assert one[1].to_bytes("a") == two[1].to_bytes("a")


BOXES = [(0, 0, 2, 2), (1, 1, 3, 2), (0, 3, 1, 1), (3, 0, 1, 4)]
RING = shapely.box(0.5, 0.5, 3.5, 3.5) - shapely.box(1.5, 1.5, 2.5, 2.5)
GRID = [
    *(box(f"b{i}", x, y, x + w, y + h) for i, (x, y, w, h) in enumerate(BOXES)),
    Fence(id="ring", name="", geometry=shapely.to_geojson(RING)),
    Fence(id="disc", name="", geometry='{"type":"Point","coordinates":[2,2]}', radius_m=120_000.0, groups=["g"]),
]
HALF = st.integers(-1, 9).map(lambda k: k / 2 + 0.25)  # off every edge
ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 10), st.one_of(HALF, st.none(), st.just(math.nan)), HALF),
    min_size=1, max_size=40,
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(ROWS, st.sets(st.integers(1, 39)), st.permutations([0, 1, 2]))
def test_any_sequence_equals_the_naive_twin_under_every_batching(
    rows: list[tuple[str, int, float | None, float]], cuts: set[int], order: list[int]
) -> None:
    control = control_of(*GRID, devices={"a": "g"})
    block = block_of_rows(POSITION, [(device, ts, [lat, lon, None, None]) for device, ts, lat, lon in rows])
    check_batching(Geofence(POINTWISE), block, control, cuts, [i for i in order if i < len(block.devices)])

    shapes = {fence.id: shapely.from_geojson(fence.geometry) for fence in GRID}
    expected = []
    twins: dict[str, naive.EnterExit] = {}
    seqs: dict[str, int] = {}
    for device, _, lat, lon in rows:
        seq = seqs[device] = seqs.get(device, -1) + 1

        def holds(x: float, y: float, device: str = device) -> list[str]:
            inside = [
                i for i, shape in shapes.items() if shape.geom_type != "Point" and shape.contains(shapely.Point(x, y))
            ]
            return inside + (["disc"] if device == "a" and naive.vincenty_m(2, 2, x, y) <= 120_000 else [])

        twin = twins.setdefault(device, naive.EnterExit(holds))
        twin.holds = holds
        entered, left = twin.fix(device, lon, math.nan if lat is None else lat)
        expected += [(device, seq, "entered", fence) for fence in entered] + [
            (device, seq, "exited", fence) for fence in left
        ]
    events, _ = run(Geofence(POINTWISE), [block], control)
    assert sorted(brief(events)) == sorted(expected)


def test_a_schema_without_positions_gives_nothing() -> None:
    from tidegate_protocols.schema import Channel, Schema

    block = block_of_rows(Schema("s", (Channel("lat"),)), [("a", 0, [0.5])])
    assert len(Geofence(POINTWISE).process(block, Geofence(POINTWISE).new_state(), control_of(YARD))) == 0


@pytest.mark.parametrize("lon", [180.0, -180.0])
def test_the_borders_of_the_world_are_in_it(lon: float) -> None:
    fence = Fence(id="f", name="", geometry=shapely.to_geojson(shapely.box(179, -10, 181, 10)))
    events, _ = run(Geofence(POINTWISE), [block_of_rows(POSITION, fixes("a", (lon, 0)))], control_of(fence))
    assert [event.kind for _, _, event in events] == ["entered"]
