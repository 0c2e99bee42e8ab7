"""Which fences hold a point, and which borders a line meets; see `cells` for the arrays of the index.

Points that come one after the other are near each other when they are of one device: `path` keeps the nodes on the way
to the last point, and the next way starts at the lowest node that both share, but not below the first with entries.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .bare import bare, within
from .cells import (
    CIRCLE,
    EDGES,
    INSIDE,
    LEVELS,
    REF_INSIDE,
    REF_X,
    REF_Y,
    RUN,
    SIDE,
    WIDTH,
    cell_edges,
    crosses,
    ecef,
)  # fmt: skip

# path: nodes by level, then these.
GX, GY, LOW, DEPTH = 10, 11, 12, 13
PATH = 14
# Points whose cells are read ahead together.
CHUNK = 64


@nb.njit(cache=True, inline="always")
def column_of(lon):
    """Which cell of the finest level, from the west."""
    return min(SIDE - 1, max(0, int((lon + 180.0) * (SIDE / 360.0))))


@nb.njit(cache=True, inline="always")
def row_of(lat):
    """Which cell of the finest level, from the south."""
    return min(SIDE - 1, max(0, int((lat + 90.0) * (SIDE / 180.0))))


@nb.njit(cache=True, inline="always")
def on_earth(lon, lat):
    """Whether these are degrees of a place; NaN and infinity are not."""
    return -180.0 <= lon <= 180.0 and -90.0 <= lat <= 90.0


@nb.njit(cache=True, inline="always")
def common_level(path, gx, gy):
    """The level from which on the way to a cell must be walked."""
    differ = (gx ^ path[GX]) | (gy ^ path[GY])
    level = LEVELS
    while differ:
        differ >>= 2
        level -= 1
    return min(level, path[LOW], path[DEPTH])


@nb.njit(cache=True, inline="always")
def in_circle(lon, lat, f, circles, discs):
    """Whether a circle holds a point. In the plane where that is sure, else through the Earth."""
    dx = lon - discs[f, 0]
    if abs(dx) < 90.0:
        ex = dx * discs[f, 3]
        ey = (lat - discs[f, 1]) * discs[f, 4]
        q = ex * ex + ey * ey
        if q < discs[f, 5]:
            return True
        if q > discs[f, 6]:
            return False
    x, y, z = ecef(lon, lat)
    dx = x - circles[f, 0]
    dy = y - circles[f, 1]
    dz = z - circles[f, 2]
    return dx * dx + dy * dy + dz * dz <= circles[f, 3]


@within
def lookup(lon, lat, index, path, out):
    """Numbers of the fences that hold a point, into `out`; returns how many. The point is on Earth.

    path  int64 [PATH], all zero at first and after an edit
    """
    nodes, entries, edges, verts = index.nodes, index.entries, index.edges, index.verts
    gx = column_of(lon)
    gy = row_of(lat)
    level = common_level(path, gx, gy)
    path[GX] = gx
    path[GY] = gy
    node = path[level]
    shift = 2 * (LEVELS - level)
    low = LEVELS
    n = 0
    while True:
        start = nodes[node, 1]
        count = nodes[node, 2]
        if count > 0:
            low = min(low, level)
            w = WIDTH[level]
            west = -180.0 + (gx >> shift) * w
            south = -90.0 + (gy >> shift) * (0.5 * w)
            for entry in range(start, start + count):
                how = entries[entry, 2]
                out[n] = entries[entry, 0]
                if how == INSIDE:
                    n += 1
                    continue
                if how == CIRCLE:
                    n += in_circle(lon, lat, entries[entry, 0], index.circles, index.discs)
                    continue
                # Cross the cell's few edges on the way from its reference point; without a branch, since nobody can
                # foretell which of them are crossed.
                k = (how >> 24) & 15
                px = west + REF_X[k] * w
                py = south + REF_Y[k] * (0.5 * w)
                ux = lon - px
                uy = lat - py
                odd = (how & REF_INSIDE) != 0
                first = entries[entry, 1]
                end = first + (how & EDGES)
                if how & RUN:
                    ax = verts[first, 0]
                    ay = verts[first, 1]
                    oa = ux * (ay - py) - uy * (ax - px) > 0.0
                    for i in range(first + 1, end + 1):
                        bx = verts[i, 0]
                        by = verts[i, 1]
                        ob = ux * (by - py) - uy * (bx - px) > 0.0
                        ex = bx - ax
                        ey = by - ay
                        odd ^= (oa ^ ob) & (
                            (ex * (py - ay) - ey * (px - ax) > 0.0) ^ (ex * (lat - ay) - ey * (lon - ax) > 0.0)
                        )
                        ax = bx
                        ay = by
                        oa = ob
                else:
                    for i in range(first, end):
                        e = edges[i]
                        odd ^= crosses(px, py, lon, lat, verts[e, 0], verts[e, 1], verts[e + 1, 0], verts[e + 1, 1])
                n += odd
        base = nodes[node, 0]
        if base < 0:
            break
        level += 1
        shift -= 2
        node = base + ((gx >> shift) & 3) + 4 * ((gy >> shift) & 3)
        path[level] = node
    path[LOW] = low
    path[DEPTH] = level
    return n


@within
def read_ahead(points, a, b, index, path, ahead):
    """Read what `lookup` will need for points[a:b], level by level: the waits for memory then overlap.

    points  records with lon and lat
    ahead   int64 [CHUNK, 4], room. The result is of no use but to keep the reads.
    """
    nodes, entries, verts = index.nodes, index.entries, index.verts
    sink = 0
    n = b - a
    first = LEVELS
    for j in range(n):
        lon = points[a + j].lon
        lat = points[a + j].lat
        if not on_earth(lon, lat):
            lon = 0.0
            lat = 0.0
        ahead[j, 1] = column_of(lon)
        ahead[j, 2] = row_of(lat)
        ahead[j, 3] = common_level(path, ahead[j, 1], ahead[j, 2])
        ahead[j, 0] = path[ahead[j, 3]]
        first = min(first, ahead[j, 3])
    for level in range(first, LEVELS):
        shift = 2 * (LEVELS - level - 1)
        for j in range(n):
            base = nodes[ahead[j, 0], 0]
            if base >= 0 and ahead[j, 3] <= level:
                ahead[j, 0] = base + ((ahead[j, 1] >> shift) & 3) + 4 * ((ahead[j, 2] >> shift) & 3)
    for j in range(n):
        node = ahead[j, 0]
        if nodes[node, 2] > 0:
            sink += entries[nodes[node, 1], 2]
    for j in range(n):
        start = nodes[ahead[j, 0], 1]
        for entry in range(start, start + nodes[ahead[j, 0], 2]):
            if entries[entry, 2] > 0 and entries[entry, 2] & RUN:
                sink += int(verts[entries[entry, 1], 0])
    return sink


@nb.njit(cache=True)
def lookup_many(points, index, out_point, out_fence):
    """Every pair of point and fence that holds it; returns how many there are, which may be more than were written.

    points  records with lon and lat, on Earth
    """
    hits = np.empty(index.circles.shape[0] + 1, np.int32)
    path = np.zeros(PATH, np.int64)
    ahead = np.empty((CHUNK, 4), np.int64)
    k = 0
    for i in range(points.shape[0]):
        if i % CHUNK == 0:
            read_ahead(points, i, min(i + CHUNK, points.shape[0]), index, path, ahead)
        n = lookup(points[i].lon, points[i].lat, index, path, hits)
        for j in range(n):
            if k < out_point.shape[0]:
                out_point[k] = i
                out_fence[k] = hits[j]
            k += 1
    return k


@bare
def _meets(ax, ay, bx, by, node, index, seen, stamp, out, k):
    """Fences whose border the line from A to B meets among the entries of one node, into out[k:]; the new k."""
    entries, edges, verts, discs = index.entries, index.edges, index.verts, index.discs
    start = index.nodes[node, 1]
    for entry in range(start, start + index.nodes[node, 2]):
        how = entries[entry, 2]
        f = entries[entry, 0]
        if how == INSIDE or seen[f] == stamp:
            continue
        met = False
        if how == CIRCLE:
            r = discs[f, 2]
            px = (ax - discs[f, 0]) * discs[f, 3]
            py = (ay - discs[f, 1]) * discs[f, 4]
            dx = (bx - ax) * discs[f, 3]
            dy = (by - ay) * discs[f, 4]
            length = dx * dx + dy * dy
            t = 0.0
            if length > 0.0:
                t = min(1.0, max(0.0, -(px * dx + py * dy) / length))
            met = (px + t * dx) ** 2 + (py + t * dy) ** 2 <= r * r
        else:
            first, n, run = cell_edges(entries[entry, 1], how)
            for i in range(first, first + n):
                e = i if run else edges[i]
                met |= crosses(ax, ay, bx, by, verts[e, 0], verts[e, 1], verts[e + 1, 0], verts[e + 1, 1])
        if met:
            seen[f] = stamp
            if k < out.shape[0]:
                out[k] = f
                k += 1
    return k


@bare
def passed(ax, ay, bx, by, index, path, stack, seen, stamp, out):
    """Fences whose border the line from A to B meets, into `out` (some of them may not be crossed); how many.

    path   as `lookup` left it at B; A or B may lie beyond the world's edge, and path is then all zero
    stack  int64 [>= 16 * LEVELS, 4], room
    seen   int64 [.], by fence: the last stamp it was met under; stamp: one that was not used yet
    """
    nodes = index.nodes
    gx, gy, hx, hy = column_of(ax), row_of(ay), column_of(bx), row_of(by)
    x0, x1, y0, y1 = min(gx, hx), max(gx, hx), min(gy, hy), max(gy, hy)
    level = common_level(path, gx, gy)
    k = 0
    differ = (gx ^ path[GX]) | (gy ^ path[GY])
    shared = LEVELS
    while differ:
        differ >>= 2
        shared -= 1
    shared = min(shared, path[DEPTH])
    # The nodes that hold both ends.
    for at in range(level, shared + 1):
        if nodes[path[at], 2] > 0:
            k = _meets(ax, ay, bx, by, path[at], index, seen, stamp, out, k)
    top = 0
    if nodes[path[shared], 0] >= 0:
        stack[0, 0] = path[shared]
        stack[0, 1] = shared
        shift = 2 * (LEVELS - shared)
        stack[0, 2] = hx >> shift
        stack[0, 3] = hy >> shift
        top = 1
    dx = bx - ax
    dy = by - ay
    # A parent pushes at most 16 and is popped first: 16 * LEVELS places are enough.
    while top:
        top -= 1
        level = stack[top, 1] + 1
        x = stack[top, 2]
        y = stack[top, 3]
        base = nodes[stack[top, 0], 0]
        shift = 2 * (LEVELS - level)
        half = 0.5 * WIDTH[level] + 1e-9
        for j in range(max(y0 >> shift, 4 * y), min(y1 >> shift, 4 * y + 3) + 1):
            cy = -90.0 + (j + 0.5) * 0.5 * WIDTH[level] - ay
            for i in range(max(x0 >> shift, 4 * x), min(x1 >> shift, 4 * x + 3) + 1):
                child = base + (i & 3) + 4 * (j & 3)
                if nodes[child, 0] < 0 and nodes[child, 2] == 0:
                    continue
                # Whether the line passes the cell: all four corners on one side of it means no.
                cx = -180.0 + (i + 0.5) * WIDTH[level] - ax
                if abs(cx * dy - cy * dx) > half * abs(dy) + (0.5 * half + 1e-9) * abs(dx):
                    continue
                if nodes[child, 2] > 0:
                    k = _meets(ax, ay, bx, by, child, index, seen, stamp, out, k)
                if nodes[child, 0] >= 0:
                    stack[top, 0] = child
                    stack[top, 1] = level
                    stack[top, 2] = i
                    stack[top, 3] = j
                    top += 1
    return k
