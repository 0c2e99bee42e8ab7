"""What the devices do follows from the seed alone, and is plausible."""

from __future__ import annotations

import io
import itertools
import json
import math

import msgspec
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_protocols.errors import BadInput
from tidegate_protocols.registry import Device, Fence, Rule
from tidegate_sim.faults import Fault
from tidegate_sim.machine import REEFER, Machine
from tidegate_sim.roads import ARTERIAL_MPS, RoadGrid
from tidegate_sim.scenario import AUSTIN, make_scenario
from tidegate_sim.truth import FenceOracle, Truth
from tidegate_sim.vehicle import STEP_S, Vehicle


@given(st.lists(st.floats(0.0, 40.0), max_size=10), st.integers(0, 50))
@settings(max_examples=30)
def test_where_a_vehicle_is_does_not_depend_on_how_often_it_is_asked(stops: list[float], seed: int) -> None:
    once, often = Vehicle(RoadGrid(), (seed,)), Vehicle(RoadGrid(), (seed,))
    path = list(once.advance(60.0))
    pieces = [state for stop in [*sorted(stops), 60.0] for state in often.advance(stop)]
    assert pieces == path
    assert often.fix() == once.fix()


@pytest.mark.parametrize("seed", range(5))
def test_a_vehicle_drives_as_vehicles_do(seed: int) -> None:
    path = list(Vehicle(RoadGrid(), (seed,)).advance(1800.0))
    assert max(state.speed_mps for state in path) <= ARTERIAL_MPS + 1e-6
    assert any(state.speed_mps == 0 for state in path)
    assert len({round(state.heading_deg) for state in path}) >= 3
    for a, b in itertools.pairwise(path):
        assert math.hypot(b.x_m - a.x_m, b.y_m - a.y_m) <= 1.01 * (max(a.speed_mps, b.speed_mps) * STEP_S) + 0.55
        assert b.speed_mps - a.speed_mps <= 1.3 * STEP_S + 0.31
    driven = sum(math.hypot(b.x_m - a.x_m, b.y_m - a.y_m) for a, b in itertools.pairwise(path))
    assert 1500 < driven < 1800 * ARTERIAL_MPS


def test_the_receiver_is_as_good_as_it_says() -> None:
    inside = total = 0
    for seed in range(40):
        vehicle = Vehicle(RoadGrid(), (seed,), parked_s=1e9)
        for second in range(30, 1800, 30):
            list(vehicle.advance(float(second)))
            fix, true = vehicle.fix(), vehicle.state
            inside += math.hypot(fix.x_m - true.x_m, fix.y_m - true.y_m) <= fix.accuracy_m
            total += 1
    assert 0.6 < inside / total < 0.95


def test_a_parked_vehicle_creeps_but_does_not_leave() -> None:
    vehicle = Vehicle(RoadGrid(), (3,), parked_s=1e9)
    fixes = []
    for second in range(1, 600):
        list(vehicle.advance(float(second)))
        fixes.append(vehicle.fix())
    assert len({(fix.x_m, fix.y_m) for fix in fixes}) == len(fixes)
    assert all(fix.heading_deg is None and fix.speed_mps < 1.5 for fix in fixes)
    assert all(math.hypot(f.x_m - vehicle.state.x_m, f.y_m - vehicle.state.y_m) < 30 for f in fixes)


@pytest.mark.parametrize(
    ("fault", "elapsed", "says"),
    [
        (Fault("spike", "t", 10.0, 11.0, 5.0), 10.5, 7.0),
        (Fault("step", "t", 10.0, 100.0, -5.0), 10.5, -3.0),
        (Fault("drift", "t", 10.0, 20.0, 8.0), 15.0, 6.0),
        (Fault("stuck", "t", 10.0, 20.0, 8.0), 15.0, 1.5),
        (Fault("over-limit", "t", 10.0, 100.0, 12.0), 20.0, 7.0),
        (Fault("over-limit", "t", 10.0, 100.0, 12.0), 60.0, 12.0),
    ],
)
def test_how_faults_show(fault: Fault, elapsed: float, says: float) -> None:
    assert fault.active(elapsed)
    assert not fault.active(fault.end_s)
    assert fault.apply(2.0, 1.5, elapsed) == pytest.approx(says)


def test_every_fault_that_shows_is_told_and_nothing_else() -> None:
    calm = Machine(REEFER, 0.0, 0.0, (1,), faults_per_hour=0.0)
    sick = Machine(REEFER, 0.0, 0.0, (1,), faults_per_hour=60.0)
    told: list[Fault] = []
    differing = 0
    for step in range(1, 5 * 3600):
        at_s = step * STEP_S
        assert calm.advance(at_s, 0.0) == []
        told += sick.advance(at_s, 0.0)
        for name, value in sick.values.items():
            if value != calm.values[name]:
                differing += 1
                assert any(fault.channel == name and fault.active(at_s) for fault in told)
    assert len(told) > 10
    assert differing > 1000
    assert all(a.end_s <= b.start_s for a, b in itertools.pairwise(told))


def test_a_reefer_stays_within_its_limits_while_nothing_fails() -> None:
    machine = Machine(REEFER, 0.0, 0.0, (2,), faults_per_hour=0.0)
    for second in range(10, 43_200, 600):
        machine.advance(float(second), 0.0)
        assert -21 < machine.values["temperature"] < -14
        assert 12 < machine.values["battery"] < 14


def test_the_same_seed_gives_the_same_fleet(tmp_path: pytest.TempPathFactory) -> None:
    first, again, other = make_scenario(16, 5), make_scenario(16, 5), make_scenario(16, 6)
    assert first.fences == again.fences != other.fences
    for a, b in zip(first.devices, again.devices, strict=True):
        assert (a.id, a.protocol) == (b.id, b.protocol)
        if isinstance(a.model, Vehicle) and isinstance(b.model, Vehicle):
            assert list(a.model.advance(30.0)) == list(b.model.advance(30.0))


def test_a_mix_shares_the_devices_out() -> None:
    def count(devices: int, **mix: float) -> dict[str, int]:
        made = make_scenario(devices, mix=mix or None).devices
        return {p: sum(d.protocol == p for d in made) for p in ("nmea", "packets", "senml", "sparkplug")}

    assert count(12) == {"nmea": 3, "packets": 3, "senml": 3, "sparkplug": 3}
    assert sum(count(7).values()) == 7
    assert count(10, nmea=3.0, senml=1.0) == {"nmea": 8, "packets": 0, "senml": 2, "sparkplug": 0}
    with pytest.raises(BadInput, match="--mix"):
        make_scenario(4, mix={"morse": 1.0})
    with pytest.raises(BadInput, match="--devices"):
        make_scenario(0)


@pytest.mark.parametrize("seed", range(6))
def test_the_first_conditions_come_within_half_a_minute(seed: int) -> None:
    scenario = make_scenario(12, seed)
    out = io.StringIO()
    truth = Truth(scenario.place, scenario.fences, out)
    for device in scenario.devices:
        if isinstance(device.model, Vehicle):
            truth.at(device.id, 0, device.model.state.x_m, device.model.state.y_m)
            for state in device.model.advance(60.0):
                truth.at(device.id, round(device.model.elapsed_s * 1e6), state.x_m, state.y_m)
        else:
            device.model.advance(30.0, 0.0)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    waiting = [x for x in lines if x["type"] == "crossing" and x["fence"] == "no-waiting-1" and x["kind"] == "entered"]
    assert waiting
    assert 2e6 < waiting[0]["ts_us"] < 60e6
    reefer = next(device for device in scenario.devices if device.name == "reefer-001")
    generator = next(device for device in scenario.devices if device.name == "generator-001")
    assert isinstance(reefer.model, Machine)
    assert isinstance(generator.model, Machine)
    assert reefer.model.values["temperature"] > -10.0
    assert generator.model.values["oil_pressure"] < 300.0


def test_files_for_the_registry_hold_its_own_structures(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path)) / "made"
    scenario = make_scenario(12, 1)
    scenario.write(folder, report_interval_s=1.0)
    collection = json.loads((folder / "fences.geojson").read_text())
    fences = [
        msgspec.convert(f["properties"] | {"geometry": json.dumps(f["geometry"])}, Fence)
        for f in collection["features"]
    ]
    assert fences == scenario.fences
    assert msgspec.json.decode((folder / "rules.json").read_bytes(), type=list[Rule]) == scenario.rules
    devices = msgspec.json.decode((folder / "devices.json").read_bytes(), type=list[Device])
    assert [device.id for device in devices] == [device.id for device in scenario.devices]
    assert {group for rule in scenario.rules for group in rule.groups} <= {device.group for device in devices}


@given(st.floats(-2600, 2600), st.floats(-2600, 2600))
def test_the_oracle_agrees_with_the_fences_as_degrees(x: float, y: float) -> None:
    scenario = make_scenario(4, 1)
    lat, lon = AUSTIN.to_degrees(x, y)
    inside = FenceOracle(AUSTIN, scenario.fences).inside(x, y)
    for fence in scenario.fences:
        shape = shapely.from_geojson(fence.geometry)
        if fence.radius_m is None:
            near = shapely.distance(shapely.boundary(shape), shapely.Point(lon, lat)) < 2e-5
            assert near or (fence.id in inside) == bool(shapely.intersects_xy(shape, lon, lat))
        else:
            px, py = AUSTIN.to_metres(shape.y, shape.x)
            distance = math.hypot(px - x, py - y)
            assert abs(distance - fence.radius_m) < 0.5 or (fence.id in inside) == (distance <= fence.radius_m)
