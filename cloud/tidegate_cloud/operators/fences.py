"""From a registered fence to its shape: GeoJSON (RFC 7946) checked in full, refused with the reason and the place.

Edges are straight lines in longitude and latitude, as RFC 7946 has them. A shape over the antimeridian is either cut
there in two polygons (RFC 7946, section 3.1.9), or goes on beyond 180 degrees (179, 180, 181 …). A circle is every
point whose geodesic distance on the WGS 84 ellipsoid from the centre is at most the radius; a corridor becomes a
polygon (`corridor`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import shapely
import shapely.geometry
from tidegate_protocols.errors import BadInput
from tidegate_protocols.registry import Fence

from .corridor import DISTANCE_MAX_M, corridor_shape

GEOMETRY_MAX = 1_000_000  # bytes of GeoJSON text
VERTICES_MAX = 50_000
POSITIONS_MAX = 10_000  # of a corridor's lines
RADIUS_MAX_M = 1_000_000.0

_LINES = ("LineString", "MultiLineString")

Ring = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Circle:
    """Centre in degrees, radius in metres along the ellipsoid."""

    lon: float
    lat: float
    radius_m: float


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A point is inside if a ray from it crosses an odd number of edges of all rings together, or if it is in `circle`.

    rings   float64 [m, 2] each, longitude and latitude, closed (the last is the first); longitudes may go beyond
            180 degrees, and a shape that does so is there twice, 360 degrees apart
    circle  instead of rings
    """

    rings: tuple[Ring, ...] = ()
    circle: Circle | None = None


def parse_shape(fence: Fence) -> Shape:
    """The shape of a fence. Raises BadInput that says what is wrong with it and where."""
    where = f"fence {fence.id!r}"
    geometry = _geometry(fence.geometry, where)
    kind = geometry["type"]
    coordinates = geometry.get("coordinates")
    if fence.distance_m is not None and kind not in _LINES:
        raise BadInput("distance_m is for a LineString or a MultiLineString", where=where)
    if fence.radius_m is not None and kind != "Point":
        raise BadInput("radius_m is for a Point", where=where)
    if kind == "Point":
        return Shape(circle=_circle(coordinates, fence.radius_m, where))
    if kind in _LINES:
        parts = _corridor(kind, coordinates, fence.distance_m, where)
    elif kind == "Polygon":
        parts = [_polygon(coordinates, where, "coordinates")]
    elif kind == "MultiPolygon":
        if not isinstance(coordinates, list) or not coordinates:
            raise BadInput("a MultiPolygon without polygons", where=where)
        parts = [_polygon(part, where, f"coordinates[{i}]") for i, part in enumerate(coordinates)]
    else:
        raise BadInput(
            f"a {kind} has no inside", where=where,
            hint="Polygon, MultiPolygon, Point with radius_m, or LineString with distance_m",
        )  # fmt: skip
    if sum(len(ring) for part in parts for ring in part) > VERTICES_MAX:
        raise BadInput(f"more than {VERTICES_MAX} vertices", where=where)
    _check_valid(parts, where)
    rings = [ring for part in parts for ring in part]
    low = min(float(ring[:, 0].min()) for ring in rings)
    high = max(float(ring[:, 0].max()) for ring in rings)
    if high - low > 360:
        raise BadInput(f"it spans {high - low:g}° of longitude", where=where)
    if high > 180:
        rings += [_shifted(ring, -360.0) for ring in rings]
    elif low < -180:
        rings += [_shifted(ring, 360.0) for ring in rings]
    return Shape(rings=tuple(rings))


def repaired(fence: Fence) -> Fence:
    """The fence with a valid shape made from the same lines (shapely's `make_valid`); lines and points are left out.

    Raises BadInput when what is wrong is not the shape, or when nothing with an inside is left.
    """
    where = f"fence {fence.id!r}"
    geometry = _geometry(fence.geometry, where)
    if geometry["type"] not in ("Polygon", "MultiPolygon"):
        raise BadInput(f"a {geometry['type']} cannot be repaired", where=where)
    try:
        made = shapely.make_valid(shapely.geometry.shape(geometry))
    except (shapely.errors.ShapelyError, ValueError, TypeError, IndexError) as error:
        raise BadInput(f"cannot be repaired: {error}", where=where) from None
    parts = [part for part in shapely.get_parts(made) if part.geom_type in ("Polygon", "MultiPolygon")]
    polygons = [polygon for part in parts for polygon in shapely.get_parts(part)]
    if not polygons:
        raise BadInput("cannot be repaired: nothing with an inside is left", where=where)
    shape = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
    return msgspec.structs.replace(fence, geometry=shapely.to_geojson(shape))


def box_of(shape: Shape) -> tuple[float, float, float, float]:
    """West, south, east, north of a shape, as far as it lies in the world (−180 to 180, −90 to 90)."""
    circle = shape.circle
    if circle is None:
        every = np.concatenate(shape.rings)
        west, south = every.min(axis=0)
        east, north = every.max(axis=0)
        return max(-180.0, float(west)), max(-90.0, float(south)), min(180.0, float(east)), min(90.0, float(north))
    # One per cent more than on the sphere of the smallest radius of curvature.
    angle = 1.01 * circle.radius_m / 6_335_000.0
    south, north = circle.lat - math.degrees(angle), circle.lat + math.degrees(angle)
    if south <= -90 or north >= 90:
        return -180.0, max(-90.0, south), 180.0, min(90.0, north)
    half = math.degrees(math.asin(min(1.0, math.sin(angle) / math.cos(math.radians(circle.lat)))))
    west, east = circle.lon - half, circle.lon + half
    if west < -180 or east > 180:
        west, east = -180.0, 180.0
    return west, south, east, north


def _geometry(text: str, where: str) -> dict[str, Any]:
    if len(text) > GEOMETRY_MAX:
        raise BadInput(f"{len(text)} characters of geometry; at most {GEOMETRY_MAX} are allowed", where=where)
    try:
        geometry = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadInput(f"the geometry is not JSON: {error}", where=where) from None
    if not isinstance(geometry, dict) or not isinstance(geometry.get("type"), str):
        raise BadInput("the geometry is not a GeoJSON object with a type", where=where)
    if geometry["type"] in ("Feature", "FeatureCollection"):
        raise BadInput(f"a {geometry['type']}, not a geometry", where=where, hint="give what is under 'geometry'")
    return geometry


def _position(value: Any, where: str, place: str) -> tuple[float, float]:
    if (
        not isinstance(value, list)
        or len(value) < 2
        or any(isinstance(number, bool) or not isinstance(number, int | float) for number in value)
        or not all(abs(number) < 1e9 for number in value[:2])  # neither NaN nor an integer too large for a double
    ):
        raise BadInput(f"{place} is not a position [longitude, latitude]", where=where)
    lon, lat = float(value[0]), float(value[1])
    if not (-360 <= lon <= 360 and -90 <= lat <= 90):
        raise BadInput(
            f"{place}: longitude {lon:g}, latitude {lat:g} is not on Earth", where=where, hint="longitude comes first"
        )
    return lon, lat


def _circle(value: Any, radius_m: float | None, where: str) -> Circle:
    lon, lat = _position(value, where, "coordinates")
    if radius_m is None:
        raise BadInput("a Point needs radius_m", where=where)
    if not 0 < radius_m <= RADIUS_MAX_M:
        raise BadInput(f"radius_m {radius_m:g} is not above 0 and up to {RADIUS_MAX_M:g}", where=where)
    return Circle((lon + 180) % 360 - 180, lat, radius_m)


def _polygon(value: Any, where: str, place: str) -> list[Ring]:
    if not isinstance(value, list) or not value:
        raise BadInput(f"{place}: a polygon without rings", where=where)
    rings = [_ring(ring, where, f"{place}[{i}]") for i, ring in enumerate(value)]
    # A hole may be written on the other side of the antimeridian than its polygon.
    west, east = float(rings[0][:, 0].min()), float(rings[0][:, 0].max())
    for i, ring in enumerate(rings[1:], 1):
        for shift in (0.0, 360.0, -360.0):
            if west <= ring[:, 0].min() + shift and ring[:, 0].max() + shift <= east:
                rings[i] = _shifted(ring, shift)
                break
    return rings


def _corridor(kind: str, value: Any, distance_m: float | None, where: str) -> list[list[Ring]]:
    if distance_m is None:
        raise BadInput(f"a {kind} needs distance_m", where=where)
    if not 0 < distance_m <= DISTANCE_MAX_M:
        raise BadInput(f"distance_m {distance_m:g} is not above 0 and up to {DISTANCE_MAX_M:g}", where=where)
    named = [("coordinates", value)]
    if kind == "MultiLineString":
        if not isinstance(value, list) or not value:
            raise BadInput("a MultiLineString without lines", where=where)
        named = [(f"coordinates[{i}]", line) for i, line in enumerate(value)]
    lines = [_line(line, where, place) for place, line in named]
    if sum(map(len, lines)) > POSITIONS_MAX:
        raise BadInput(f"more than {POSITIONS_MAX} positions", where=where)
    shape = corridor_shape(lines, distance_m, where)
    return [
        [np.asarray(ring.coords)[:, :2] for ring in (polygon.exterior, *polygon.interiors)]
        for polygon in shapely.get_parts(shape)
    ]


def _line(value: Any, where: str, place: str) -> Ring:
    if not isinstance(value, list) or len(value) < 2:
        raise BadInput(f"{place}: a line has at least two positions", where=where)
    line = np.array([_position(position, where, f"{place}[{i}]") for i, position in enumerate(value)])
    _check_steps(line, where, place)
    return line


def _ring(value: Any, where: str, place: str) -> Ring:
    if not isinstance(value, list) or len(value) < 4:
        raise BadInput(f"{place}: a ring has at least four positions, the last one the first again", where=where)
    ring = np.array([_position(position, where, f"{place}[{i}]") for i, position in enumerate(value)])
    if (ring[0] != ring[-1]).any():
        raise BadInput(
            f"{place}: the ring is not closed", where=where, hint=f"end it with [{ring[0, 0]:g}, {ring[0, 1]:g}]"
        )
    _check_steps(ring, where, place)
    return ring


def _check_steps(line: Ring, where: str, place: str) -> None:
    step = np.abs(np.diff(line[:, 0]))
    wide = np.flatnonzero((step > 180) & (step < 360))
    if wide.size:
        i = int(wide[0])
        raise BadInput(
            f"{place}: from [{i}] to [{i + 1}] it goes {step[i]:g}° around the Earth", where=where,
            hint="cut it at 180° in two, or let longitudes go on beyond 180",
        )  # fmt: skip


def _shifted(ring: Ring, degrees: float) -> Ring:
    moved = ring.copy()
    moved[:, 0] += degrees
    return moved


def _check_valid(parts: Iterable[list[Ring]], where: str) -> None:
    polygons = [shapely.Polygon(part[0], part[1:]) for part in parts]
    shape = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
    if not shape.is_valid:
        # "Self-intersection[2.35 48.85]"
        reason, _, place = shapely.is_valid_reason(shape).partition("[")
        at = ", ".join(place.rstrip("]").split())
        raise BadInput(
            f"not a valid shape: {reason.lower()} at [{at}]" if at else f"not a valid shape: {reason.lower()}",
            where=where, hint="tidegate registry repair proposes a shape",
        )  # fmt: skip
    if shape.area == 0:
        raise BadInput("the shape has no area", where=where)
