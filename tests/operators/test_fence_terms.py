"""Corridors become areas of the right width; terms that cannot be are refused by name."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
import shapely
from pyproj import Geod
from tidegate_cloud.operators.control import Control
from tidegate_cloud.operators.corridor import corridor_shape
from tidegate_cloud.operators.fence_terms import parse_terms
from tidegate_cloud.operators.fences import parse_shape
from tidegate_cloud.operators.geofence_index import FenceIndex
from tidegate_protocols.errors import BadInput
from tidegate_protocols.registry import Fence

WGS84 = Geod(ellps="WGS84")
LINE = '{"type":"LineString","coordinates":[[2.30,48.85],[2.31,48.86],[2.33,48.85]]}'
SQUARE = '{"type":"Polygon","coordinates":[[[0,0],[1,0],[1,1],[0,1],[0,0]]]}'


def away_m(lines: list[np.ndarray], lon: float, lat: float) -> float:
    """Geodesic distance from a place to lines that are straight in degrees, by looking at many points of them."""

    def distances(points: np.ndarray) -> np.ndarray:
        n = len(points)
        return np.asarray(WGS84.inv(np.full(n, lon), np.full(n, lat), points[:, 0], points[:, 1])[2])

    best = np.inf
    for line in lines:
        for a, b in itertools.pairwise(line):
            low, high = a, b
            for _ in range(3):
                points = low + (high - low) * np.linspace(0, 1, 400)[:, None]
                found = distances(points)
                i = int(found.argmin())
                low, high = points[max(0, i - 1)], points[min(399, i + 1)]
                best = min(best, float(found[i]))
    return best


@pytest.mark.parametrize(
    ("lat", "distance_m", "step"), [(0, 50, 0.01), (48, 100, 0.02), (60, 100, 0.5), (-75, 500, 0.3), (85, 20_000, 1)]
)
def test_a_corridor_is_as_wide_as_it_should_be(lat: float, distance_m: float, step: float) -> None:
    """Corners and middles of edges of its outline, to a thousandth; one of the lines goes over the antimeridian."""
    rng = np.random.default_rng(7)
    lines = [np.cumsum(np.vstack(([[lon, lat]], rng.normal(0, step, (4, 2)) * [1, 0.3])), 0) for lon in (179.99, 30)]
    for line in lines:
        outline = shapely.get_coordinates(corridor_shape([line], distance_m, ""))
        for place in outline[rng.integers(len(outline), size=25)]:
            assert away_m([line], *place) == pytest.approx(distance_m, rel=1e-3)
        ring = np.asarray(shapely.get_parts(corridor_shape([line], distance_m, ""))[0].exterior.coords)
        for place in (ring[1:] + ring[:-1])[rng.integers(len(ring) - 1, size=25)] / 2:
            assert away_m([line], *place) == pytest.approx(distance_m, rel=1e-3)


def test_a_corridor_cut_at_the_antimeridian_is_one_that_goes_on_beyond_180() -> None:
    whole = {"type": "LineString", "coordinates": [[179.9, 10], [180.1, 10.02]]}
    cut = {"type": "MultiLineString", "coordinates": [[[179.9, 10], [180, 10.01]], [[-180, 10.01], [-179.9, 10.02]]]}
    rng = np.random.default_rng(3)
    lon, lat = (rng.uniform(179.85, 180.15, 2000) + 180) % 360 - 180, rng.uniform(9.95, 10.05, 2000)
    found = []
    for geometry in (whole, cut):
        index = FenceIndex()
        index.put(0, parse_shape(Fence(id="f", name="", geometry=json.dumps(geometry), distance_m=1500.0)))
        found.append(set(index.holding(lon, lat)[0].tolist()))
    assert found[0] == found[1]
    assert 300 < len(found[0]) < 1500


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a line without distance_m": ({"geometry": LINE}, "a LineString needs distance_m"),
    "no distance": ({"geometry": LINE, "distance_m": 0.0}, "distance_m 0 is not above 0"),
    "distance_m that is no number": ({"geometry": LINE, "distance_m": float("nan")}, "distance_m nan"),
    "distance_m of an area": ({"distance_m": 5.0}, "distance_m is for a LineString"),
    "radius_m of a line": ({"geometry": LINE, "distance_m": 5.0, "radius_m": 5.0}, "radius_m is for a Point"),
    "a line of one position": (
        {"geometry": '{"type":"LineString","coordinates":[[2,48]]}', "distance_m": 5.0}, "at least two positions",
    ),
    "no lines": ({"geometry": '{"type":"MultiLineString","coordinates":[]}', "distance_m": 5.0}, "without lines"),
    "a line near the pole": (
        {"geometry": '{"type":"LineString","coordinates":[[2,48],[2,89.5]]}', "distance_m": 5.0}, "beyond 89°",
    ),
    "a line round the Earth": (
        {"geometry": '{"type":"LineString","coordinates":[[-170,0],[170,0]]}', "distance_m": 5.0}, "goes 340° around",
    ),
    "a line over half the Earth": (
        {"geometry": '{"type":"LineString","coordinates":[[-80,0],[80,0]]}', "distance_m": 5.0}, "a line of 17791 km",
    ),
    "a stay of no time": ({"dwell_s": 0.0}, "dwell_s 0 is not above 0"),
    "an endless stay": ({"dwell_s": float("inf")}, "dwell_s inf"),
    "a speed below nothing": ({"speed_limit_mps": -1.0}, "speed_limit_mps -1"),
    "a schedule that cannot be read": ({"schedule": "always"}, "fence 'f', schedule: cannot read 'always'"),
    "a zone that is not known": ({"time_zone": "Mars/Olympus"}, "fence 'f', time_zone: 'Mars/Olympus'"),
    "a mode that is none": ({"schedule_mode": "both"}, "schedule_mode is 'both'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_with_the_field(case: str) -> None:
    fields, expected = REFUSED[case]
    control = Control()
    with pytest.raises(BadInput, match=expected):
        control.put_fence(Fence(**{"id": "f", "name": "", "geometry": SQUARE, **fields}))
    assert not control.fences


def test_terms_are_numbers_for_kernels() -> None:
    terms = parse_terms(
        Fence(id="f", name="", geometry=SQUARE, dwell_s=90.0, speed_limit_mps=8.3, schedule="Mo 08:00-09:00",
              time_zone="Europe/Paris", schedule_mode="active")
    )  # fmt: skip
    assert (terms.dwell_us, terms.speed_mps, terms.windows, terms.active) == (90_000_000, 8.3, ((480, 540),), True)
    assert not parse_terms(Fence(id="f", name="", geometry=SQUARE, schedule_mode="active")).active
