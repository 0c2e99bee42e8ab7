"""Corridors: everything that is at most a distance away from a line, as rings of straight edges.

The line is straight in longitude and latitude between its positions, as RFC 7946 has it. It is cut into stretches of at
most 40 km; each is widened in the tangent plane of the WGS 84 ellipsoid at its middle (shapely's buffer), where lengths
are wrong by less than one part in 10^5, and put back. The border is within 0.1 per cent of the distance of where it
should be.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import shapely
from tidegate_protocols.errors import BadInput

DISTANCE_MAX_M = 20_000.0
LENGTH_MAX_M = 5_000_000.0
LATITUDE_MAX = 89.0
_STRETCH_M = 40_000.0
_ARC = 24  # edges to a quarter of a circle
# Corners of the polygon lie outside of the circle by as much as the middles of its edges lie inside.
_SWELL = 2 / (1 + math.cos(math.pi / (4 * _ARC)))
_A = 6378137.0
_E2 = 6.69437999014e-3
_DEGREE_M = 111_195.0

Line = npt.NDArray[np.float64]


def corridor_shape(lines: list[Line], distance_m: float, where: str) -> shapely.Geometry:
    """The area round lines (float64 [n, 2] each, longitude and latitude) as a valid (Multi)Polygon, in degrees.

    Longitudes may go beyond 180 where the lines do. Raises BadInput for a line that is too long or too near a pole.
    """
    if any(float(np.abs(line[:, 1]).max()) > LATITUDE_MAX for line in lines):
        raise BadInput(f"a corridor beyond {LATITUDE_MAX:g}° of latitude", where=where)
    length_m = sum(float(_steps_m(line).sum()) for line in lines)
    if length_m > LENGTH_MAX_M:
        raise BadInput(f"a line of {length_m / 1000:.0f} km; at most {LENGTH_MAX_M / 1000:g} are allowed", where=where)
    stretches = [stretch for line in lines for stretch in _stretches(line, distance_m)]
    # Lines that were cut at the antimeridian meet again on one side of it.
    first = float(stretches[0][0, 0])
    parts = [_widened(s - [360 * round((s[:, 0].mean() - first) / 360), 0], distance_m) for s in stretches]
    return parts[0] if len(parts) == 1 else shapely.union_all(parts)


def _steps_m(line: Line) -> npt.NDArray[np.float64]:
    """About how long each edge of a line is."""
    cos = np.cos(np.radians((line[1:, 1] + line[:-1, 1]) / 2))
    d = np.diff(line, axis=0)
    return np.asarray(np.hypot(d[:, 0] * cos, d[:, 1]) * _DEGREE_M)


def _stretches(line: Line, distance_m: float) -> list[Line]:
    """The line in pieces that a tangent plane does for, so dense that its edges are straight there and in degrees."""
    steep = math.tan(math.radians(min(LATITUDE_MAX, float(np.abs(line[:, 1]).max()) + 0.1)))
    step_m = min(10_000.0, math.sqrt(8 * _A * 5e-4 * distance_m / steep))
    steps = _steps_m(line)
    dense = [line[:1]]
    for a, b, metres in zip(line[:-1], line[1:], steps, strict=True):
        n = max(1, math.ceil(metres / step_m))
        dense.append(a + (b - a) * (np.arange(1, n + 1) / n)[:, None])
    every = np.concatenate(dense)
    number = (np.concatenate(([0.0], np.cumsum(_steps_m(every)))) // _STRETCH_M).astype(np.int64)
    cuts = np.flatnonzero(np.diff(number)) + 1
    # Neighbours share a position.
    return [
        every[max(0, first - 1) : last] for first, last in zip([0, *cuts], [*cuts, len(every)], strict=True)
    ]  # fmt: skip


def _widened(line: Line, distance_m: float) -> shapely.Geometry:
    middle = (line.min(axis=0) + line.max(axis=0)) / 2
    plane = _to_plane(line, middle)
    moved = np.any(plane != plane[0])
    shape = shapely.LineString(plane) if moved else shapely.Point(plane[0])
    return shapely.transform(shape.buffer(distance_m * _SWELL, quad_segs=_ARC), lambda xy: _from_plane(xy, middle))


def _axes(middle: Line) -> npt.NDArray[np.float64]:
    """Unit vectors east, north and up at a place, as rows."""
    x, y = np.radians(middle)
    sx, cx, sy, cy = np.sin(x), np.cos(x), np.sin(y), np.cos(y)
    return np.array([[-sx, cx, 0], [-sy * cx, -sy * sx, cy], [cy * cx, cy * sx, sy]])


def _ecef(points: Line) -> npt.NDArray[np.float64]:
    x, y = np.radians(points).T
    n = _A / np.sqrt(1 - _E2 * np.sin(y) ** 2)
    return np.column_stack((n * np.cos(y) * np.cos(x), n * np.cos(y) * np.sin(x), n * (1 - _E2) * np.sin(y)))


def _to_plane(points: Line, middle: Line) -> Line:
    """Metres east and north of `middle` on its tangent plane."""
    return np.asarray((_ecef(points) - _ecef(middle[None])) @ _axes(middle)[:2].T)


def _from_plane(plane: Line, middle: Line) -> Line:
    """The places on the ellipsoid straight under points of the tangent plane, degrees."""
    east, north, up = _axes(middle)
    origin = _ecef(middle[None])[0]
    stretch = np.array([1.0, 1.0, 1 / (1 - _E2)])  # the ellipsoid is x² + y² + z² / (1 − e²) = a²
    start = origin + plane[:, :1] * east + plane[:, 1:] * north
    # Down along `up` until the ellipsoid: the nearer root of a quadratic equation.
    a = float((up * up * stretch).sum())
    b = (start * up * stretch).sum(axis=1)
    c = (start * start * stretch).sum(axis=1) - _A * _A
    down = (-b + np.sqrt(b * b - a * c)) / a
    p = start + down[:, None] * up
    lon = np.degrees(np.arctan2(p[:, 1], p[:, 0]))
    lon += 360 * np.round((middle[0] - lon) / 360)
    lat = np.degrees(np.arctan2(p[:, 2], (1 - _E2) * np.hypot(p[:, 0], p[:, 1])))
    return np.column_stack((lon, lat))
