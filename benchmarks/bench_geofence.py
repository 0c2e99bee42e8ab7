"""Geofence: fixes per second against shapely's STRtree, building and editing the index, and parked vehicles at an edge.

The city is 10,000 fences over 40 x 40 km, 70 % of them in 25 clusters, a fifth circles; the region is the same spread
ten times as wide. 10,000 vehicles move 100 m a fix in random curves; their fixes arrive interleaved. Times are CPU time
of one core. `fixes_per_s` is the operator up to its columns (index, state, changes), without the events' attributes.

Jitter: vehicles stand within 30 m of a fence's edge for a day, a fix each 10 s. Noise: AR(1), 0.95 from fix to fix,
5 m, plus 2 m white, plus one fix in 1,000 off by 60 to 250 m, half of which claim an accuracy of 2 to 6 m. Nothing
true happens there. Transits: vehicles drive through fences of 30 to 300 m radius with the same noise; a transit counts
when it leads at least 20 m deep into the fence, and is kept when both its events are found.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import shapely

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tidegate_cloud.operators import Block, Control, names
from tidegate_cloud.operators.fences import Circle, Shape
from tidegate_cloud.operators.geofence import BELIEVED, POINTWISE, Geofence, GeofenceSettings
from tidegate_cloud.operators.geofence_index import FenceIndex
from tidegate_protocols.registry import Fence
from tidegate_protocols.schema import Channel, Schema

from benchmarks.common import Row, run

POSITION = Schema("position", (Channel("lat"), Channel("lon"), Channel("accuracy", unit="m")))
LON, LAT = 2.35, 48.85
NORTH_M = 111_195.0
EAST_M = NORTH_M * np.cos(np.radians(LAT))
FENCES = 10_000
HUBS = 25


def degrees(east_m: np.ndarray, north_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return LON + east_m / EAST_M, LAT + north_m / NORTH_M


def hubs(rng: np.random.Generator, scale: float) -> np.ndarray:
    return rng.normal(0, 7000 * scale, (HUBS, 2))


def make_shapes(scale: float) -> list[Shape]:
    """The fences of a city (scale 1) or a region (scale 10)."""
    rng = np.random.default_rng(1)
    centre = hubs(rng, scale)
    spread = rng.uniform(600, 2500, HUBS)
    shapes = []
    for _ in range(FENCES):
        if rng.random() < 0.7:
            hub = rng.integers(HUBS)
            east, north = centre[hub] + spread[hub] * rng.normal(0, 1, 2)
        else:
            east, north = rng.uniform(-20_000 * scale, 20_000 * scale, 2)
        radius = float(np.clip(rng.lognormal(np.log(180), 0.8), 30, 4000))
        if rng.random() < 0.2:
            lon, lat = degrees(east, north)
            shapes.append(Shape(circle=Circle(float(lon), float(lat), radius)))
            continue
        corners = int(rng.integers(8, 65))
        angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
        reach = radius * rng.uniform(0.55, 1.3, corners)
        ring = np.column_stack(degrees(east + reach * np.cos(angle), north + reach * np.sin(angle)))
        shapes.append(Shape(rings=(np.vstack((ring, ring[:1])),)))
    return shapes


def make_block(scale: float, vehicles: int, steps: int) -> Block:
    """Vehicles that move about, a fix each 10 s."""
    rng = np.random.default_rng(2)
    centre = hubs(np.random.default_rng(1), scale)
    start = np.where(
        (rng.random(vehicles) < 0.6)[:, None],
        centre[rng.integers(HUBS, size=vehicles)] + rng.normal(0, 2500, (vehicles, 2)),
        rng.uniform(-20_000 * scale, 20_000 * scale, (vehicles, 2)),
    )
    heading = rng.uniform(0, 2 * np.pi, vehicles) + np.cumsum(rng.normal(0, 0.35, (steps, vehicles)), axis=0)
    step = np.abs(rng.normal(100, 50, (steps, vehicles)))
    east = start[:, 0] + np.cumsum(step * np.cos(heading), axis=0)
    north = start[:, 1] + np.cumsum(step * np.sin(heading), axis=0)
    return block_of_paths(east, north, np.full(east.shape, 5.0), 10.0)


def block_of_paths(east: np.ndarray, north: np.ndarray, accuracy: np.ndarray, step_s: float) -> Block:
    """Arrays [time, vehicle] of metres as a block, interleaved as they would arrive."""
    steps, vehicles = east.shape
    n = steps * vehicles
    lon, lat = degrees(east.ravel(), north.ravel())
    return Block(
        POSITION, [f"v{i}" for i in range(vehicles)], np.tile(np.arange(vehicles, dtype=np.int32), steps),
        np.repeat((np.arange(steps) * step_s * 1e6).astype(np.int64), vehicles), (lat, lon, accuracy.ravel()),
        (None, None, None), np.repeat(np.arange(steps, dtype=np.int64), vehicles), np.zeros(n, np.int64),
        np.zeros(n, np.int32), np.zeros(n, np.bool_),
    )  # fmt: skip


def cpu_seconds(function: Callable[[], object], repeat: int) -> float:
    """Shortest CPU time of `repeat` runs."""
    best = np.inf
    for _ in range(repeat):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best


def control_of(shapes: list[Shape]) -> Control:
    """A control with these shapes, put straight into the index (their GeoJSON is not what is measured)."""
    control = Control()
    for i, shape in enumerate(shapes):
        number = names.number_of(f"f{i}")
        control.book.index.put(number, shape)
        control.book.fences(number + 1).term["active"][number] = 1
    return control


def speed_rows(quick: bool) -> Iterator[Row]:
    for case, scale in (("city", 1.0), ("region", 10.0)):
        shapes = make_shapes(scale)
        control = control_of(shapes)
        block = make_block(scale, 10_000, 10 if quick else 50)
        polygons = [shape for shape in shapes if shape.circle is None]
        tree = shapely.STRtree([shapely.Polygon(shape.rings[0]) for shape in polygons])
        few = slice(0, 10_000)
        points = shapely.points(block.columns[1][few], block.columns[0][few])
        peer = 10_000 / cpu_seconds(lambda points=points, tree=tree: tree.query(points, predicate="within"), 3)
        for name, settings in (("", POINTWISE), ("/segments", BELIEVED)):
            operator = Geofence(settings)
            # Twice on the same state: the first pass finds everybody's first fences.
            state = operator.new_state()
            operator.find(block, state, control)
            seconds = cpu_seconds(lambda o=operator, b=block, s=state, c=control: o.find(b, s, c), 3)
            against = "" if name else "shapely STRtree, polygons only, no state"
            yield Row(
                f"{case}/{FENCES}{name}", "fixes_per_s", len(block) / seconds, "1/s", against or None,
                peer if against else None,
            )  # fmt: skip


def index_rows(quick: bool) -> Iterator[Row]:
    shapes = make_shapes(1.0)
    seconds = cpu_seconds(lambda: build(shapes), 2 if quick else 5)
    index = build(shapes)
    yield Row(f"build/{FENCES}", "seconds", seconds, "s")
    yield Row(f"build/{FENCES}", "bytes", index.nbytes, "B")
    control = control_of(shapes)
    fences = [
        Fence(id=f"f{i}", name="", geometry=shapely.to_geojson(shapely.Polygon(shape.rings[0])))
        for i, shape in enumerate(shapes[:300])
        if shape.circle is None
    ]
    fences = [fence for fence in fences if shapely.from_geojson(fence.geometry).is_valid]
    control.put_fence(fences[0])  # warm
    worst = max(cpu_seconds(lambda fence=fence: control.put_fence(fence), 1) for fence in fences)
    yield Row(f"edit/{FENCES}", "seconds", worst, "s")


def build(shapes: list[Shape]) -> FenceIndex:
    index = FenceIndex()
    for number, shape in enumerate(shapes):
        index.put(number, shape)
    return index


def noise(rng: np.random.Generator, steps: int, vehicles: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors east and north, and stated accuracies, [time, vehicle]."""
    error = np.empty((2, steps, vehicles))
    drift = rng.normal(0, 5, (2, vehicles))
    for t in range(steps):
        drift = 0.95 * drift + np.sqrt(1 - 0.95**2) * 5 * rng.normal(size=(2, vehicles))
        error[:, t] = drift + 2 * rng.normal(size=(2, vehicles))
    off = rng.random((steps, vehicles)) < 0.001
    error[0] += np.where(off, rng.choice([-1, 1], off.shape) * rng.uniform(60, 250, off.shape), 0)
    vague = np.where(rng.random(off.shape) < 0.5, rng.uniform(30, 150, off.shape), rng.uniform(2, 6, off.shape))
    return error[0], error[1], np.where(off, vague, rng.uniform(4, 9, off.shape))


def parked(vehicles: int) -> tuple[Control, Block]:
    """Vehicles along the straight western edge of a fence, within 30 m of it."""
    rng = np.random.default_rng(5)
    east, north, accuracy = noise(rng, 8640, vehicles)
    east = east + rng.uniform(-30, 30, vehicles)
    north = north + rng.uniform(-4000, 4000, vehicles)
    lon, lat = degrees(np.array([0.0, 3000.0]), np.array([-5000.0, 5000.0]))
    box = shapely.box(lon[0], lat[0], lon[1], lat[1])
    control = Control()
    control.put_fence(Fence(id="edge", name="", geometry=shapely.to_geojson(box)))
    return control, block_of_paths(east, north, accuracy, 10.0)


def transits(vehicles: int) -> tuple[Control, list[tuple[float, Block]], dict[str, float]]:
    """Vehicles on straight roads past or through one circle each; blocks by fix interval; depth in metres by id."""
    rng = np.random.default_rng(6)
    control = Control()
    blocks, depth = [], {}
    for step_s in (1.0, 5.0, 10.0, 30.0):
        steps = int(600 / step_s)
        radius = rng.uniform(30, 300, vehicles)
        offset = rng.uniform(0, 1, vehicles) * radius
        speed = rng.uniform(4, 25, vehicles)
        place = 3000.0 * np.arange(vehicles)
        error_e, error_n, accuracy = noise(rng, steps, vehicles)
        along = (np.arange(steps)[:, None] * step_s - 300 + rng.uniform(0, step_s, vehicles)) * speed
        block = block_of_paths(along + error_e, offset + 0.05 * place + error_n, accuracy, step_s)
        block = Block(
            block.schema, [f"t{step_s:g}-{i}" for i in range(vehicles)], block.device, block.ts_us, block.columns,
            block.valid, block.seq, block.epoch, block.message, block.gap,
        )  # fmt: skip
        for i in range(vehicles):
            lon, lat = degrees(np.array(0.0), np.array(0.05 * place[i]))
            name = f"t{step_s:g}-{i}"
            geometry = f'{{"type":"Point","coordinates":[{lon},{lat}]}}'
            control.put_fence(Fence(id=name, name="", geometry=geometry, radius_m=float(radius[i])))
            depth[name] = float(radius[i] - offset[i])
        blocks.append((step_s, block))
    return control, blocks, depth


def jitter_rows(quick: bool) -> Iterator[Row]:
    vehicles = 60 if quick else 1000
    control, block = parked(vehicles)
    through, blocks, depth = transits(100 if quick else 500)
    curve = {
        "jitter": BELIEVED,
        "jitter/point by point": POINTWISE,
        **{
            f"jitter/margin {margin:g} m, {hold:g} s": GeofenceSettings(
                line_max_s=180, confirm=True, still_margin_m=margin, still_hold_s=hold
            )
            for margin, hold in ((10.0, 30.0), (10.0, 60.0), (20.0, 60.0), (25.0, 120.0))
        },
    }
    for case, settings in curve.items():
        operator = Geofence(settings)
        events = operator.process(block, operator.new_state(), control)
        # The first event of a vehicle inside is its start, no error.
        scan = np.asarray(events.scan)
        starts = len(np.unique(block.device[scan[np.asarray(events.kind) == 0]])) if len(scan) else 0
        yield Row(case, "false_events_per_vehicle_day", max(0, len(events) - starts) / vehicles, "1")
        kept = wanted = 0
        for _, part in blocks:
            found: dict[str, set[str]] = {}
            for event in operator.process(part, operator.new_state(), through):
                device = part.devices[part.device[event.scan]]
                if device == event.subject:
                    found.setdefault(device, set()).add(event.kind)
            for device in part.devices:
                if depth[device] >= 20:
                    wanted += 1
                    kept += found.get(device, set()) >= {"entered", "exited"}
        yield Row(case, "transits_kept", kept / wanted, "1")


def measure(quick: bool) -> list[Row]:
    return [*speed_rows(quick), *index_rows(quick), *jitter_rows(quick)]


if __name__ == "__main__":
    run("geofence", measure, packages=["numpy", "numba", "shapely"])
