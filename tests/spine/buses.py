"""An evening of buses in Austin, Texas, as the spine's tests use it: fences round their stops, and what is true.

The recorded positions are ../shared/data/capmetrics (MIT); see `tests.support.data`.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely
from pyproj import Geod
from tidegate_protocols.registry import Fence

from tests.support.data import need

EVENING = "capmetrics/2016-03-22.csv.gz"
CIRCLE_M = 150.0
_STOPS = 100
_WGS84 = Geod(ellps="WGS84")


class Fix(NamedTuple):
    """One position as it was sent: degrees, microseconds since 1970 UTC."""

    device: str
    ts_us: int
    lat: float
    lon: float


class Crossing(NamedTuple):
    """One entered or exited, at the first fix on the other side."""

    device: str
    ts_us: int
    kind: str
    fence: str


def evening() -> Path:
    """The recorded file; skips the test, and says so, where it is not at hand."""
    return need(EVENING)


def fences() -> list[Fence]:
    """150 m circles round 100 stops spread over the city, and four polygons, three of them with holes."""
    with gzip.open(need("capmetrics/stops.csv.gz"), "rt", encoding="utf-8") as file:
        stops = list(csv.DictReader(file))
    every = len(stops) // _STOPS
    circles = [
        Fence(
            id=f"stop-{stop['stop_id']}",
            name=stop["stop_name"].title(),
            geometry=json.dumps({"type": "Point", "coordinates": [float(stop["stop_lon"]), float(stop["stop_lat"])]}),
            radius_m=CIRCLE_M,
        )
        for stop in stops[: every * _STOPS : every]
    ]
    centre = _box(-97.755, 30.258, -97.730, 30.290)
    shapes = {
        "downtown": {"type": "Polygon", "coordinates": [centre, _box(-97.745, 30.268, -97.740, 30.275)[::-1]]},
        "north": {
            "type": "Polygon",
            "coordinates": [
                [[-97.74, 30.30], [-97.69, 30.31], [-97.66, 30.36], [-97.71, 30.39], [-97.74, 30.30]],
                [[-97.71, 30.33], [-97.72, 30.35], [-97.70, 30.36], [-97.69, 30.34], [-97.71, 30.33]],
            ],
        },
        "both-banks": {
            "type": "MultiPolygon",
            "coordinates": [
                [_box(-97.80, 30.20, -97.75, 30.24), _box(-97.78, 30.215, -97.77, 30.225)[::-1]],
                [_box(-97.72, 30.22, -97.68, 30.26)],
            ],
        },
        "south-star": {"type": "Polygon", "coordinates": [_star(-97.77, 30.21, 0.03, 0.012, 7)]},
    }
    return circles + [Fence(id=name, name=name, geometry=json.dumps(shape)) for name, shape in shapes.items()]


def _box(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def _star(lon: float, lat: float, outer: float, inner: float, points: int) -> list[list[float]]:
    corners = []
    for i in range(2 * points):
        radius = inner if i % 2 else outer
        angle = math.pi * i / points
        corners.append([lon + radius * math.cos(angle), lat + radius * math.sin(angle)])
    return [*corners, corners[0]]


def sent(manifest: Path) -> list[Fix]:
    """What the replay says it sent."""
    with manifest.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [Fix(row["device"], row["ts_us"], row["lat"], row["lon"]) for row in rows]


def crossings(fixes: Iterable[Fix], fences: Iterable[Fence]) -> set[Crossing]:
    """Every change of side, point by point, by shapely (polygons) and by PROJ's geodesic distance (circles).

    A device that is inside at its first fix enters with it.
    """
    tracks: dict[str, list[Fix]] = defaultdict(list)
    for fix in fixes:
        tracks[fix.device].append(fix)
    insides = [(fence.id, *_shape(fence)) for fence in fences]
    return set(_changes(tracks, insides))


def _shape(fence: Fence) -> tuple[shapely.Geometry, float | None]:
    shape = shapely.from_geojson(fence.geometry)
    shapely.prepare(shape)
    return shape, fence.radius_m


def _changes(
    tracks: dict[str, list[Fix]], insides: list[tuple[str, shapely.Geometry, float | None]]
) -> Iterator[Crossing]:
    for device, track in tracks.items():
        track.sort(key=lambda fix: fix.ts_us)
        for fence, shape, radius_m in insides:
            was = False
            lons, lats = [fix.lon for fix in track], [fix.lat for fix in track]
            if radius_m is None:
                sides = shapely.contains_xy(shape, lons, lats)
            else:
                n = len(track)
                sides = np.array(_WGS84.inv(lons, lats, [shape.x] * n, [shape.y] * n)[2]) <= radius_m
            for fix, now in zip(track, sides, strict=True):
                if now != was:
                    yield Crossing(device, fix.ts_us, "entered" if now else "exited", fence)
                was = now
