"""Fences by number, and the tree that finds those that hold a point (kernels/cells.py); they come and go one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .fences import Circle, Shape, box_of
from .kernels import cells as kernels
from .kernels import divide, lookup, tree
from .kernels.cells import Index

_POINT = np.dtype([("lon", "<f8"), ("lat", "<f8")])
_A = 6378137.0
_E2 = 6.69437999014e-3


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """Where a fence is: verts[first:first + sum(sizes)], edges[edge_start:edge_start + edges]."""

    first: int
    sizes: tuple[int, ...]
    edge_start: int
    edges: int
    box: npt.NDArray[np.float64]


class FenceIndex:
    """Shapes under numbers (small ints of the caller's choice, e.g. `names.number_of`).

    The arrays are described in kernels/cells.py; `arrays` is what kernels take.
    """

    def __init__(self) -> None:
        self._nodes = np.zeros((1024, 4), np.int32)
        self._nodes[0, 0] = -1
        self._entries = np.zeros((1024, 3), np.int32)
        self._edges = np.zeros(1024, np.int32)
        self._verts = np.zeros((1024, 2))
        self._circles = np.zeros((64, 4))
        self._discs = np.zeros((64, 7))
        self._where = np.zeros((64, 2), np.int64)
        self._last = np.zeros(1024, np.bool_)
        self._links = np.zeros(1024, np.int32)
        self._free = np.full((4, 32), -1, np.int32)
        self._free[3, :4] = (1, 0, 0, 0)
        self._fences: dict[int, _Kept] = {}
        self._cells = np.empty((1024, 5), np.int32)
        self._stack = np.empty((1024, 7), np.int32)
        self._pile = np.empty(4096, np.int32)
        self._found = np.empty(4096, np.int32)

    def __len__(self) -> int:
        return len(self._fences)

    def __contains__(self, number: int) -> bool:
        return number in self._fences

    @property
    def arrays(self) -> Index:
        """What kernels take. Stale after the next edit."""
        return Index(
            self._nodes, self._entries, self._edges, self._verts, self._circles, self._discs, self._where, self._last
        )

    @property
    def nbytes(self) -> int:
        """Memory that the index fills: of nodes, entries, edges, vertices and circles, what is in use."""
        nodes, entries, edges, verts = (int(n) for n in self._free[3, :4])
        return nodes * 16 + entries * 12 + edges * 4 + verts * 21 + len(self._circles) * 104

    def put(self, number: int, shape: Shape) -> None:
        """Add a fence, or give it another shape."""
        if number in self._fences:
            self.remove(number)
        if number >= len(self._circles):
            self._circles, self._discs, self._where = (
                grown(a, number + 1) for a in (self._circles, self._discs, self._where)
            )
        first = self._store(shape)
        sizes = tuple(len(ring) for ring in shape.rings)
        self._circles[number] = _circle_row(shape)
        if shape.circle is not None:
            self._discs[number] = _disc_row(shape.circle, math.sqrt(self._circles[number, 3]))
        self._where[number] = (first, sum(sizes))
        box = np.array(box_of(shape))
        cells, kept = self._divide(number, first, sizes, box)
        edge_start = 0
        if kept:
            while (edge_start := tree.take_edges(self._free, self._edges, kept)) < 0:
                self._edges = grown(self._edges, len(self._edges) + kept)
            self._edges[edge_start : edge_start + kept] = self._found[:kept]
        at = 0
        while True:
            at = tree.insert(number, self._cells, cells, at, edge_start, self._nodes, self._entries, self._free)
            if at == cells:
                break
            # One cell takes at most LEVELS blocks of nodes and one stretch of entries.
            if int(self._free[3, 0]) + 16 * kernels.LEVELS > len(self._nodes):
                self._nodes = grown(self._nodes, len(self._nodes) + 16 * kernels.LEVELS)
            else:
                self._entries = grown(self._entries, len(self._entries) + 1)
        self._fences[number] = _Kept(first, sizes, edge_start, kept, box)

    def remove(self, number: int) -> None:
        """Remove a fence. Raises KeyError when it is not there."""
        kept = self._fences.pop(number)
        cells, _ = self._divide(number, kept.first, kept.sizes, kept.box)
        tree.remove(number, self._cells, cells, self._nodes, self._entries, self._free)
        if kept.edges:
            tree.give_edges(self._free, self._edges, kept.edge_start, kept.edges)
        self._circles[number] = 0
        if kept.sizes:
            tree.give_verts(self._free, self._links, kept.first, sum(kept.sizes))

    def holding(
        self, lon: npt.NDArray[np.float64], lat: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Every pair (index of a point, number of a fence that holds it). Degrees; longitude -180 to 180."""
        room = max(1024, 4 * len(lon))
        points = np.empty(len(lon), _POINT)
        points["lon"], points["lat"] = lon, lat
        while True:
            point, fence = np.empty(room, np.int32), np.empty(room, np.int32)
            n = lookup.lookup_many(points, self.arrays, point, fence)
            if n <= room:
                return point[:n], fence[:n]
            room = n

    def _store(self, shape: Shape) -> int:
        """Put the vertices into `verts`; returns where they start."""
        n = sum(len(ring) for ring in shape.rings)
        if not n:
            return 0
        first: int
        while (first := tree.take_verts(self._free, self._links, n)) < 0:
            self._verts = grown(self._verts, len(self._verts) + n)
            self._links = grown(self._links, len(self._verts))
            self._last = grown(self._last, len(self._verts))
        self._verts[first : first + n] = np.concatenate(shape.rings)
        self._last[first : first + n] = False
        self._last[first - 1 + np.cumsum([len(ring) for ring in shape.rings])] = True
        return first

    def _divide(self, number: int, first: int, sizes: tuple[int, ...], box: npt.NDArray[np.float64]) -> tuple[int, int]:
        edges = _edge_numbers(first, sizes)
        while True:
            if len(self._pile) < 2 * len(edges) + 64:
                self._pile = np.empty(4 * len(edges) + 64, np.int32)
            self._pile[: len(edges)] = edges
            cells, kept = divide.divide(
                len(edges), self._verts, self._circles[number], box,
                self._cells, self._stack, self._pile, self._found,
            )  # fmt: skip
            if cells >= 0:
                return cells, kept
            self._cells = np.empty((2 * len(self._cells), 5), np.int32)
            self._stack = np.empty((2 * len(self._stack), 7), np.int32)
            self._pile = np.empty(2 * len(self._pile), np.int32)
            self._found = np.empty(2 * len(self._found), np.int32)


def _edge_numbers(first: int, sizes: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """Numbers of the edges of rings with these sizes: every vertex but the last of each ring begins one."""
    ends = np.cumsum(np.array(sizes, np.int64)) - 1
    keep = np.ones(sum(sizes), np.bool_)
    keep[ends] = False
    return (first + np.flatnonzero(keep)).astype(np.int32)


def _circle_row(shape: Shape) -> tuple[float, float, float, float]:
    """Earth-centred centre and squared chord; all 0 for a shape of rings.

    The chord is that of an arc of the radius on a sphere with the mean radius of curvature at the centre: it differs
    from the geodesic distance on the ellipsoid by less than a millimetre at 10 km and one part in 10^5 at 1,000 km.
    """
    circle = shape.circle
    if circle is None:
        return 0.0, 0.0, 0.0, 0.0
    s = math.sin(math.radians(circle.lat))
    mean = _A * math.sqrt(1 - _E2) / (1 - _E2 * s * s)
    chord = 2 * mean * math.sin(circle.radius_m / (2 * mean))
    x, y, z = kernels.ecef(circle.lon, circle.lat)
    return x, y, z, chord * chord


def _disc_row(circle: Circle, chord: float) -> tuple[float, ...]:
    """A circle on a plane: see `discs` in kernels/cells.py.

    Along the meridian the plane is true at the centre, across it everywhere on the centre's parallel; the error of a
    distance d is below d (1 + tan latitude) d / R, and four times that is allowed for.
    """
    y = math.radians(circle.lat)
    w = 1 - _E2 * math.sin(y) ** 2
    kx = math.radians(1) * _A / math.sqrt(w) * math.cos(y)
    ky = math.radians(1) * _A * (1 - _E2) / w**1.5
    slack = 1e-6 + 4 * chord / _A * (1 + abs(math.tan(y)))
    if slack > 0.05:
        return circle.lon, circle.lat, chord, kx, ky, -1.0, math.inf
    return circle.lon, circle.lat, chord, kx, ky, (chord * (1 - slack)) ** 2, (chord * (1 + slack)) ** 2


def grown(array: npt.NDArray[Any], least: int) -> npt.NDArray[Any]:
    """A copy with room for at least `least`, and at least twice as long; what is new is zero."""
    out = np.zeros((max(least, 2 * len(array)), *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out
