"""A recorded day of buses: point by point against shapely and Vincenty, believed against an exact oracle."""

from __future__ import annotations

import csv
import functools
import gzip
import itertools
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import numpy as np
import shapely
from tidegate_cloud.operators import Control
from tidegate_cloud.operators.geofence import BELIEVED, POINTWISE, Geofence
from tidegate_protocols.registry import Fence

from tests.support import data, naive
from tests.support.blocks import POSITION, block_of_rows, run

Position = tuple[float, float, float]  # longitude, latitude, m/s
LINE_US, LINE_M = 180_000_000, 5000.0
DEEP_M = 20.0  # twice the accuracy that a fix is taken to have
SECOND = 1_000_000


@functools.cache
def recorded_fixes() -> list[tuple[str, int, Position]]:
    """(vehicle, microseconds since 1970, position), in order of vehicle and time."""
    seen: dict[tuple[str, str], Position] = {}
    with gzip.open(data.need("capmetrics/2016-03-22.csv.gz"), "rt") as file:
        for row in csv.DictReader(file):
            position = float(row["longitude"]), float(row["latitude"]), 0.44704 * float(row["speed"] or 0)
            seen.setdefault((row["vehicle_id"], row["timestamp"]), position)
    return sorted((v, int(datetime.fromisoformat(t).timestamp() * 1e6), p) for (v, t), p in seen.items())


def control_of(fences: list[Fence]) -> Control:
    control = Control()
    for fence in fences:
        control.put_fence(fence)
    return control


def recorded_fences() -> list[Fence]:
    """150 m circles round 100 stops, spread over the file, and a few polygons with holes."""
    with gzip.open(data.need("capmetrics/stops.csv.gz"), "rt") as file:
        stops = list(csv.DictReader(file))
    fences = [
        Fence(id=f"stop-{stop['stop_id']}", name=stop["stop_name"], radius_m=150.0,
              geometry=json.dumps({"type": "Point", "coordinates": [float(stop["stop_lon"]), float(stop["stop_lat"])]}))
        for stop in stops[:: len(stops) // 100][:100]
    ]  # fmt: skip
    for i, (lon, lat, size) in enumerate([(-97.74, 30.27, 0.02), (-97.70, 30.33, 0.03), (-97.78, 30.22, 0.025)]):
        ring = np.array([[math.cos(a), 0.8 * math.sin(a)] for a in np.arange(0, 2 * math.pi, math.pi / 9)])
        shape = shapely.Polygon((lon, lat) + size * ring, [(lon, lat) + 0.4 * size * ring[::-1]])
        fences.append(Fence(id=f"zone-{i}", name=f"Zone {i}", geometry=shapely.to_geojson(shape)))
    return fences


def test_recorded_buses_enter_and_leave_as_shapely_and_vincenty_say() -> None:
    """A whole day, point by point: polygons by shapely, circles by geodesic distance (no point is on a border)."""
    rows = recorded_fixes()
    fences = recorded_fences()
    events, _ = run(
        Geofence(POINTWISE), [block_of_rows(POSITION, [(v, t, [p[1], p[0], None, None]) for v, t, p in rows])],
        control_of(fences),
    )  # fmt: skip

    lon, lat, _ = np.array([row[2] for row in rows]).T
    points = shapely.points(lon, lat)
    inside: dict[str, np.ndarray] = {}
    for fence in fences:
        shape = shapely.from_geojson(fence.geometry)
        if fence.radius_m is None:
            inside[fence.id] = shapely.contains(shape, points)
            continue
        near = np.flatnonzero((abs(lon - shape.x) < 0.003) & (abs(lat - shape.y) < 0.003))
        away = np.array([naive.vincenty_m(shape.x, shape.y, lon[i], lat[i]) for i in near])
        assert (abs(away - 150) > 1e-4).all()  # 0.1 mm: no point is so near a border that it could be either side
        inside[fence.id] = np.zeros(len(lon), bool)
        inside[fence.id][near] = away <= 150
    expected = []
    last: dict[str, tuple[int, set[str]]] = {}
    for i, (vehicle, _, _) in enumerate(rows):
        seq, before = last.get(vehicle, (-1, set()))
        now = {fence_id for fence_id, holds in inside.items() if holds[i]}
        expected += [(vehicle, seq + 1, "entered", f) for f in now - before]
        expected += [(vehicle, seq + 1, "exited", f) for f in before - now]
        last[vehicle] = (seq + 1, now)
    assert len(expected) > 1000
    assert sorted((v, seq, event.kind, event.subject) for v, seq, event in events) == sorted(expected)


@dataclass
class Visit:
    """A stretch of a vehicle's way inside a fence: lines from fix to fix, none over a silence.

    begin, end      microseconds: where the line crosses the border, or the fix on this side of a silence
    crossed         whether a line crosses the border at both ends
    deep            microseconds: the first and last time at which it was DEEP_M or more from the border; None: never
    last            number of the fix at its end
    """

    begin: float
    end: float
    crossed: bool
    deep: tuple[float, float] | None
    last: int


class Piece(NamedTuple):
    """A stretch of a line inside a fence, from `u` to `v` in parts of the line; deep: the same of what is deep."""

    u: float
    v: float
    deep: tuple[float, float] | None


def in_disc(a: np.ndarray, b: np.ndarray, radius: float) -> tuple[float, float] | None:
    """The parts of the line from a to b between which it lies in a disc about 0."""
    d = b - a
    square, along, excess = float(d @ d), float(a @ d), float(a @ a) - radius**2
    if radius <= 0 or square == 0:
        return (0.0, 1.0) if radius > 0 and excess <= 0 else None
    root = along**2 - square * excess
    if root <= 0:
        return None
    u, v = max(0.0, (-along - math.sqrt(root)) / square), min(1.0, (-along + math.sqrt(root)) / square)
    return (u, v) if v > u else None


class Plane:
    """A fence on the plane that touches the ellipsoid at its middle: true to 1e-5 in the few kilometres it has."""

    def __init__(self, fence: Fence) -> None:
        shape = shapely.from_geojson(fence.geometry)
        self.middle = np.array([shape.centroid.x, shape.centroid.y])
        s = math.sin(math.radians(self.middle[1]))
        w = 1 - 6.69437999014e-3 * s * s
        a = math.radians(6378137.0)
        self.metres = np.array([a / math.sqrt(w) * math.sqrt(1 - s * s), a * (1 - 6.69437999014e-3) / w**1.5])
        self.radius = fence.radius_m
        self.shape = shapely.transform(shape, self.of) if self.radius is None else None
        self.core = None if self.shape is None else self.shape.buffer(-DEEP_M)
        self.reach = self.radius or 1 + max(np.hypot(*c) for c in shapely.get_coordinates(self.shape))

    def of(self, degrees: np.ndarray) -> np.ndarray:
        return np.asarray((degrees - self.middle) * self.metres)

    def pieces(self, a: np.ndarray, b: np.ndarray) -> list[Piece]:
        if self.radius is not None:
            uv = in_disc(a, b, self.radius)
            return [] if uv is None else [Piece(*uv, in_disc(a, b, self.radius - DEEP_M))]
        line = shapely.LineString([a, b])
        deep = self._parts(line, self.core)
        return [
            Piece(u, v, next(((max(u, p), min(v, q)) for p, q in deep if p < v and q > u), None))
            for u, v in self._parts(line, self.shape)
        ]

    @staticmethod
    def _parts(line: shapely.LineString, shape: shapely.Geometry) -> list[tuple[float, float]]:
        if line.length == 0:
            return [(0.0, 1.0)] if shape.contains(shapely.Point(line.coords[0])) else []
        inside = line.intersection(shape)
        parts = [p for p in getattr(inside, "geoms", [inside]) if p.geom_type == "LineString" and p.length > 0]
        ends = [sorted(line.project(shapely.Point(p.coords[i]), normalized=True) for i in (0, -1)) for p in parts]
        return sorted((u, v) for u, v in ends)


def visits(plane: Plane, us: np.ndarray, xy: np.ndarray) -> Iterator[Visit]:
    """The visits of one vehicle, in order. us, xy: its fixes, on the fence's plane."""
    d = np.diff(xy, axis=0)
    length = np.hypot(*d.T)
    # Where a line is nearest to the middle.
    at = np.clip(-(xy[:-1] * d).sum(axis=1) / np.where(length > 0, length, 1) ** 2, 0, 1)
    near = np.hypot(*(xy[:-1] + at[:, None] * d).T) <= plane.reach
    if not near.any() and not (np.hypot(*xy.T) <= plane.reach).any():
        return
    joined = (np.diff(us) > 0) & (np.diff(us) <= LINE_US) & (length <= LINE_M)
    here = None
    for i in range(len(us)):
        if i == 0 or not joined[i - 1]:
            if here:
                yield here
            here = None
            for _, _, deep in plane.pieces(xy[i], xy[i]) if np.hypot(*xy[i]) <= plane.reach else ():
                t = float(us[i])
                here = Visit(t, t, False, (t, t) if deep else None, i)
        elif near[i - 1] or here:
            pieces = plane.pieces(xy[i - 1], xy[i])
            if here and not (pieces and pieces[0].u < 1e-9):
                yield here  # it ended at the fix, to the last bit
                here = None
            for u, v, deep in pieces:
                begin, end = (us[i - 1] + np.array([u, v]) * (us[i] - us[i - 1])).tolist()
                there = tuple((us[i - 1] + np.array(deep) * (us[i] - us[i - 1])).tolist()) if deep else None
                if here and u < 1e-9:
                    first = here.deep[0] if here.deep else there[0] if there else None
                    both = (first, there[1] if there else here.deep[1]) if first is not None else None  # type: ignore[index]
                    here = Visit(here.begin, end, here.crossed, both, i)
                else:
                    here = Visit(begin, end, u >= 1e-9, there, i)  # type: ignore[arg-type]
                if v < 1 - 1e-9:
                    yield here
                    here = None
    if here:
        here.crossed = False
        yield here


def overlap(v: Visit, stay: tuple[float, float]) -> bool:
    """Whether a stay that was told and a visit share half of the shorter one."""
    shared = min(v.end, stay[1]) - max(v.begin, stay[0])
    return shared >= 0.5 * min(v.end - v.begin, stay[1] - stay[0]) - 1


def is_told(v: Visit, before: Visit | None, us: np.ndarray, way: list[tuple[int, Position]], xy: np.ndarray) -> bool:
    """Whether a visit must be told.

    It is deep, begins and ends on a line, and the fix after it agrees; two fixes lie between it and the visit before;
    and it is not what a spike looks like: one deep fix away from where the vehicle was and is, that states no speed.
    """
    if not (v.crossed and v.deep and v.last + 1 < len(us) and us[v.last + 1] - us[v.last] <= LINE_US):
        return False
    first = int(np.searchsorted(us, v.begin))
    if before is not None and first - int(np.searchsorted(us, before.end)) < 2:
        return False
    before_it, it, after_it = xy[first - 1], xy[first], xy[first + 1]
    back = np.hypot(*(after_it - before_it)) < 0.5 * np.hypot(*(it - before_it))
    spike = back and way[first][1][2] < 1.5 and v.deep[1] <= us[first + 1]
    return not spike


def test_recorded_buses_are_believed_on_every_true_transit_and_on_nothing_else() -> None:
    """Its times are the crossings', unless a fix lay near the border, where it could be on either side: then they are
    no later (earlier) than the first (last) deep place."""
    fences = recorded_fences()
    block = block_of_rows(POSITION, [(v, t, [p[1], p[0], p[2], None]) for v, t, p in recorded_fixes()])
    events, _ = run(Geofence(BELIEVED), [block], control_of(fences))
    stays: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for vehicle, _, event in events:
        of = stays[vehicle, event.subject]
        if event.kind == "entered":
            of.append((event.ts_us, math.inf))
        elif event.kind == "exited":
            of[-1] = (of[-1][0], event.ts_us)
    ways: dict[str, list[tuple[int, Position]]] = defaultdict(list)
    for vehicle, t, position in recorded_fixes():
        ways[vehicle].append((t, position))
    wanted = exact = 0
    lost, extra = [], []
    for fence in fences:
        plane = Plane(fence)
        for vehicle, way in ways.items():
            us = np.array([t for t, _ in way])
            xy = plane.of(np.array([p[:2] for _, p in way]))
            found = list(visits(plane, us, xy))
            told = stays.pop((vehicle, fence.id), [])
            # A stay that was told is a visit, or several that no fix parts that is clear of the border.
            extra += [(vehicle, fence.id, stay) for stay in told if not any(overlap(v, stay) for v in found)]
            for before, v in itertools.pairwise([None, *found]):
                assert v is not None
                mine = [stay for stay in told if overlap(v, stay)]
                extra += [(vehicle, fence.id, stay) for stay in mine[1:]]
                if is_told(v, before, us, way, xy):
                    assert v.deep is not None
                    wanted += 1
                    if not mine or not (mine[0][0] <= v.deep[0] + SECOND and v.deep[1] - SECOND <= mine[0][1]):
                        lost.append((vehicle, fence.id, v, mine))
                    else:
                        exact += max(abs(mine[0][0] - v.begin), abs(mine[0][1] - v.end)) <= SECOND
    assert not stays
    assert (lost, extra) == ([], [])
    assert wanted > 3000
    assert exact / wanted > 0.95
