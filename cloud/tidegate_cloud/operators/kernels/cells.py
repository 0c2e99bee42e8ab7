"""Cells of the fence index: a tree of cells, 4 x 4 to a cell, over the whole world in degrees.

A cell at level L is 360/4^L degrees of longitude by 180/4^L of latitude; cells are numbered from (-180, -90). A fence
is entered into the largest cells that lie wholly inside it, and into the smallest cells on its border together with
the few edges that pass through them. A point is inside a fence of the second kind if the way from the cell's
reference point, of which it is known whether it is inside, to the point crosses an odd number of these edges.
How a fence is divided depends on that fence alone, so fences come and go one by one.

Arrays, made by `geofence_index.FenceIndex`:

nodes    int32 [., 4]  number of the first of 16 child cells, or -1; first entry; entries; room for entries
entries  int32 [., 3]  fence; first edge; number of edges, plus reference * 2^24, plus 2^29 if the edges are a run
                       (first edge, first edge + 1, ...; otherwise its first edge is a place in `edges`), plus 2^30 if
                       the reference point is inside. -1 = the cell lies inside the fence, -2 = ask the circle
edges    int32 [.]     numbers of edges that are no run; edge i goes from verts[i] to verts[i + 1]
verts    float64 [., 2]  longitude, latitude
circles  float64 [., 4]  by fence: centre on the WGS 84 ellipsoid, earth-centred metres, and the squared chord
discs    float64 [., 7]  by fence: longitude, latitude and chord of a circle, metres to a degree of either there, and
                       the squared distances on that plane below which a point is surely inside, above which surely not
where    int64 [., 2]    by fence: first vertex and number of vertices
last     bool [.]        by vertex: whether it ends its ring
free     int32 [4, 32]  by power of two: first unused stretch of entries (0), edges (1), vertices (2), -1 = none; a
                       stretch says in `links` where the next is. Row 3: how much of nodes, entries, edges, vertices
                       is used
cells    int32 [., 5]  what `divide` found: level, x, y, kind (as in `entries`), first edge
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba as nb
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Index(NamedTuple):
    """The arrays that kernels read. Stale after the next edit."""

    nodes: Array
    entries: Array
    edges: Array
    verts: Array
    circles: Array
    discs: Array
    where: Array
    last: Array


LEVELS = 9
SIDE = 4**LEVELS  # cells along each axis at the finest level
INSIDE = -1
CIRCLE = -2
REF_UNIT = 1 << 24
RUN = 1 << 29
REF_INSIDE = 1 << 30
EDGES = REF_UNIT - 1

WIDTH = np.array([360.0 / 4.0**level for level in range(LEVELS + 1)])
# Candidates for the reference point of a cell, in parts of its sides.
REF_X = 0.4871 + 0.0923 * (np.arange(16) * 5 % 16) / 16.0
REF_Y = 0.5137 - 0.0871 * (np.arange(16) * 11 % 16) / 16.0

# WGS 84
_A = 6378137.0
_E2 = 6.69437999014e-3


@nb.njit(cache=True, inline="always")
def ecef(lon, lat):
    """Earth-centred metres of a point on the WGS 84 ellipsoid; degrees in."""
    x = math.radians(lon)
    y = math.radians(lat)
    s = math.sin(y)
    n = _A / math.sqrt(1.0 - _E2 * s * s)
    c = n * math.cos(y)
    return c * math.cos(x), c * math.sin(x), n * (1.0 - _E2) * s


@nb.njit(cache=True, inline="always")
def crosses(ax, ay, bx, by, cx, cy, dx, dy):
    """Whether segments AB and CD cross. Half-open: of two edges that meet on AB, one counts."""
    o1 = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    o2 = (bx - ax) * (dy - ay) - (by - ay) * (dx - ax)
    if (o1 > 0.0) == (o2 > 0.0):
        return False
    o3 = (dx - cx) * (ay - cy) - (dy - cy) * (ax - cx)
    o4 = (dx - cx) * (by - cy) - (dy - cy) * (bx - cx)
    return (o3 > 0.0) != (o4 > 0.0)


@nb.njit(cache=True)
def touches(x1, y1, x2, y2, west, south, east, north):
    """Whether a segment touches a box (Liang and Barsky, 1984)."""
    t0 = 0.0
    t1 = 1.0
    dx = x2 - x1
    dy = y2 - y1
    for k in range(4):
        if k == 0:
            p = -dx
            q = x1 - west
        elif k == 1:
            p = dx
            q = east - x1
        elif k == 2:
            p = -dy
            q = y1 - south
        else:
            p = dy
            q = north - y1
        if p == 0.0:
            if q < 0.0:
                return False
        else:
            r = q / p
            if p < 0.0:
                if r > t1:
                    return False
                t0 = max(t0, r)
            else:
                if r < t0:
                    return False
                t1 = min(t1, r)
    return True


@nb.njit(cache=True, inline="always")
def reference(k, level, x, y):
    """The k-th candidate for the reference point of a cell; off the round fractions where people put corners."""
    w = WIDTH[level]
    h = 0.5 * w
    return -180.0 + x * w + REF_X[k] * w, -90.0 + y * h + REF_Y[k] * h


@nb.njit(cache=True, inline="always")
def cell_edges(first, how):
    """Of an entry on a fence's border: its first edge, how many, and whether they are a run."""
    return first, how & EDGES, (how & RUN) != 0
