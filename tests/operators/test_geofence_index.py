"""The fence index says what shapely says, whatever was put in and taken out before."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_cloud.operators.fences import Circle, Shape, parse_shape, repaired
from tidegate_cloud.operators.geofence_index import FenceIndex
from tidegate_protocols.errors import BadInput
from tidegate_protocols.registry import Fence

from tests.support.naive import vincenty_m

EDGE = 1e-9  # degrees: nearer to an edge a point may count as either side


def star(rng: np.random.Generator, lon: float, lat: float, size: float, corners: int) -> np.ndarray:
    """A closed ring without self-crossings round a point."""
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = size * rng.uniform(0.4, 1.0, corners)
    ring = np.column_stack((lon + radius * np.cos(angle), lat + radius * np.sin(angle)))
    return np.vstack((ring, ring[:1]))


def random_polygon(rng: np.random.Generator) -> shapely.Geometry:
    """A valid polygon or multipolygon, some with holes, some with corners on round numbers, of any size."""
    size = 10 ** rng.uniform(-4, 1.3)
    lon, lat = rng.uniform(-150, 150), rng.uniform(-60, 60)
    kind = rng.integers(5)
    if kind == 0:
        shape = shapely.box(round(lon), round(lat), round(lon) + size, round(lat) + size / 2)
    elif kind == 1:  # corners and edges on borders of cells
        step = 360 / 4.0 ** rng.integers(3, 9)
        x, y = -180 + step * round((lon + 180) / step), -90 + step / 2 * round((lat + 90) / step * 2)
        shape = shapely.box(x, y, x + step * rng.integers(1, 5), y + step / 2 * rng.integers(1, 5))
    else:
        shape = shapely.Polygon(star(rng, lon, lat, size, rng.integers(3, 60)))
        shape = shape if shape.is_valid else shape.convex_hull
    if kind == 3:
        shape = shape - shapely.Polygon(star(rng, lon, lat, size * 0.3, 12)).buffer(0)
    if kind == 4:
        shape = shape | shapely.Polygon(star(rng, lon + 2.5 * size, lat, size, 9)).buffer(0)
    return shape if shape.is_valid and shape.area > 0 else shapely.box(lon, lat, lon + size, lat + size)


def as_fence(shape: shapely.Geometry, fence_id: str = "f") -> Fence:
    return Fence(id=fence_id, name=fence_id, geometry=shapely.to_geojson(shape))


def points_near(shape: shapely.Geometry, rng: np.random.Generator, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Points all over the shape, close to its edges, and level with its corners."""
    west, south, east, north = shape.bounds
    w, h = east - west, north - south
    lon, lat = rng.uniform(west - w, east + w, n), rng.uniform(south - h, north + h, n)
    corners = shapely.get_coordinates(shape)
    pick = corners[rng.integers(len(corners), size=n)]
    near = pick + rng.normal(0, 1, (n, 2)) * np.array([w, h]) * 10 ** rng.uniform(-8, -1, (n, 1))
    level = np.column_stack((rng.uniform(west - w, east + w, n), pick[:, 1]))
    upright = np.column_stack((pick[:, 0], rng.uniform(south - h, north + h, n)))
    every = np.vstack((np.column_stack((lon, lat)), near, level, upright))
    every = every[(abs(every[:, 0]) <= 180) & (abs(every[:, 1]) <= 90)]
    return every[:, 0], every[:, 1]


def pairs(index: FenceIndex, lon: np.ndarray, lat: np.ndarray) -> set[tuple[int, int]]:
    point, fence = index.holding(lon, lat)
    found = list(zip(point.tolist(), fence.tolist(), strict=True))
    assert len(set(found)) == len(found)
    return set(found)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_shape_holds_the_points_that_shapely_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    index = FenceIndex()
    shapes = [random_polygon(rng) for _ in range(rng.integers(1, 8))]
    for i, shape in enumerate(shapes):
        index.put(i, parse_shape(as_fence(shape)))
    lon, lat = (np.concatenate(part) for part in zip(*(points_near(shape, rng) for shape in shapes), strict=True))
    points = shapely.points(lon, lat)
    found = pairs(index, lon, lat)
    for i, shape in enumerate(shapes):
        clear = shapely.distance(shape.boundary, points) > EDGE
        inside = shapely.contains(shape, points)
        mine = np.array([(p, i) in found for p in range(len(lon))])
        wrong = np.flatnonzero(clear & (inside != mine))
        assert not wrong.size, (shapely.to_wkt(shape, 17), lon[wrong[0]], lat[wrong[0]])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_edits_leave_no_trace(seed: int) -> None:
    rng = np.random.default_rng(seed)
    edited, shapes = FenceIndex(), {}
    for _ in range(40):
        number = int(rng.integers(12))
        if number in shapes and rng.random() < 0.4:
            edited.remove(number)
            del shapes[number]
        elif rng.random() < 0.2:
            shapes[number] = Shape(circle=Circle(rng.uniform(-180, 180), rng.uniform(-85, 85), 10 ** rng.uniform(1, 6)))
            edited.put(number, shapes[number])
        else:
            shapes[number] = parse_shape(as_fence(random_polygon(rng)))
            edited.put(number, shapes[number])
    fresh = FenceIndex()
    for number, shape in shapes.items():
        fresh.put(number, shape)
    corners = [shape.rings[0] for shape in shapes.values() if shape.rings]
    lon, lat = rng.uniform(-180, 180, 2000), rng.uniform(-90, 90, 2000)
    for ring in corners:
        ring = ring[(abs(ring[:, 0]) < 179) & (abs(ring[:, 1]) < 89)]
        lon, lat = np.append(lon, ring[:, 0] + 1e-5), np.append(lat, ring[:, 1] - 1e-5)
    assert pairs(edited, lon, lat) == pairs(fresh, lon, lat)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-180, 179.99), st.floats(-89.9, 89.9), st.floats(0.1, 1_000_000), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_a_circle_is_a_geodesic_distance(lon: float, lat: float, radius_m: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    index = FenceIndex()
    index.put(5, Shape(circle=Circle(lon, lat, radius_m)))
    # Points by direction and distance on a sphere; what counts is their Vincenty distance.
    bearing, distance = rng.uniform(0, 2 * np.pi, 200), radius_m * rng.uniform(0.97, 1.03, 200) / 6371008.8
    y = math.radians(lat)
    y2 = np.arcsin(np.sin(y) * np.cos(distance) + np.cos(y) * np.sin(distance) * np.cos(bearing))
    x2 = math.radians(lon) + np.arctan2(
        np.sin(bearing) * np.sin(distance) * np.cos(y), np.cos(distance) - np.sin(y) * np.sin(y2)
    )
    plon, plat = (np.degrees(x2) + 180) % 360 - 180, np.degrees(y2)
    found = pairs(index, plon, plat)
    tolerance = max(1e-5 * radius_m, 0.001) if radius_m > 1e5 else 0.01
    for i in range(200):
        away = vincenty_m(lon, lat, plon[i], plat[i]) - radius_m
        if abs(away) > tolerance:
            assert ((i, 5) in found) == (away < 0), (plon[i], plat[i], away)


def test_a_fence_over_the_antimeridian() -> None:
    beyond = {"type": "Polygon", "coordinates": [[[170, -20], [190, -20], [190, -10], [170, -10], [170, -20]]]}
    west = {"type": "Polygon", "coordinates": [[[-190, -20], [-170, -20], [-170, -10], [-190, -10], [-190, -20]]]}
    cut = {
        "type": "MultiPolygon",
        "coordinates": [
            [[[170, -20], [180, -20], [180, -10], [170, -10], [170, -20]]],
            [[[-180, -20], [-170, -20], [-170, -10], [-180, -10], [-180, -20]]],
        ],
    }
    lon = np.array([175, -175, 169, -169, 0, 179.9999999, -179.9999999, 171, -171.0])
    lat = np.full(9, -15.0)
    for geometry in (beyond, west, cut):
        index = FenceIndex()
        index.put(0, parse_shape(Fence(id="f", name="", geometry=json.dumps(geometry))))
        assert {p for p, _ in pairs(index, lon, lat)} == {0, 1, 5, 6, 7, 8}


def test_the_whole_world_may_be_a_fence() -> None:
    index = FenceIndex()
    index.put(0, parse_shape(as_fence(shapely.box(-180, -90, 180, 90))))
    rng = np.random.default_rng(1)
    assert len(pairs(index, rng.uniform(-180, 180, 500), rng.uniform(-90, 90, 500))) == 500


GOOD = [[[0, 0], [2, 0], [2, 2], [0, 2], [0, 0]]]


@pytest.mark.parametrize(
    ("geometry", "radius_m", "words"),
    [
        ('{"type":"Polygon"', None, "not JSON"),
        ("[1]", None, "not a GeoJSON object"),
        ({"type": "Feature", "geometry": {}}, None, "a Feature, not a geometry"),
        ({"type": "LineString", "coordinates": [[0, 0], [1, 1]]}, None, "a LineString needs distance_m"),
        ({"type": "Point", "coordinates": [1, 2]}, None, "a Point needs radius_m"),
        ({"type": "Point", "coordinates": [1, 2]}, -5.0, "radius_m -5 is not above 0"),
        ({"type": "Point", "coordinates": ["1", 2]}, 5.0, "coordinates is not a position"),
        ({"type": "Polygon", "coordinates": GOOD}, 5.0, "radius_m is for a Point"),
        ({"type": "Polygon", "coordinates": []}, None, "a polygon without rings"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]}, None, "at least four positions"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1]]]}, None, "the ring is not closed"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 95], [0, 0]]]}, None, "is not on Earth"),
        (
            {"type": "Polygon", "coordinates": [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]}, None,
            r"self-intersection at \[1, 1\]",
        ),
        (
            {"type": "Polygon", "coordinates": [*GOOD, [[5, 5], [6, 5], [6, 6], [5, 5]]]}, None,
            r"hole lies outside shell at \[5, 5\]",
        ),
        ({"type": "Polygon", "coordinates": [[[170, 0], [-170, 0], [-170, 5], [170, 0]]]}, None, "340° around"),
    ],
)  # fmt: skip
def test_a_shape_that_cannot_be_is_refused_with_reason_and_place(
    geometry: object, radius_m: float | None, words: str
) -> None:
    text = geometry if isinstance(geometry, str) else json.dumps(geometry)
    with pytest.raises(BadInput, match=words) as caught:
        parse_shape(Fence(id="yard", name="", geometry=text, radius_m=radius_m))
    assert str(caught.value).startswith("fence 'yard': ")


def test_a_bow_tie_can_be_repaired() -> None:
    bow = Fence(id="f", name="", geometry='{"type":"Polygon","coordinates":[[[0,0],[2,2],[2,0],[0,2],[0,0]]]}')
    index = FenceIndex()
    index.put(0, parse_shape(repaired(bow)))
    assert {p for p, _ in pairs(index, np.array([0.2, 1.8, 1.0, 1.0]), np.array([1.0, 1.0, 0.2, 1.8]))} == {0, 1}
