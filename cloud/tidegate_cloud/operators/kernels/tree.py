"""The fence index: a tree of cells, 4 x 4 to a cell, over the whole world in degrees.

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
free     int32 [4, 32]  by power of two: first unused stretch of entries (0), edges (1), vertices (2), -1 = none; a
                       stretch says in `links` where the next is. Row 3: how much of nodes, entries, edges, vertices
                       is used
cells    int32 [., 5]  what `divide` found: level, x, y, kind (as in `entries`), first edge
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

LEVELS = 9
SIDE = 4**LEVELS  # cells along each axis at the finest level
INSIDE = -1
CIRCLE = -2
_REF_UNIT = 1 << 24
_RUN = 1 << 29
_REF_INSIDE = 1 << 30
_EDGES = _REF_UNIT - 1

# Edges are kept in a cell that they pass by at this distance: rounding must not lose one. Degrees.
_NEAR = 1e-10
# A border cell is divided further while it is over 1/COARSE of the fence, or while it has over FEW edges and is over
# 1/FINE of the fence.
COARSE = 16.0
FINE = 32.0
FEW = 3

_WIDTH = np.array([360.0 / 4.0**level for level in range(LEVELS + 1)])
# Candidates for the reference point of a cell, in parts of its sides.
_REF_X = 0.4871 + 0.0923 * (np.arange(16) * 5 % 16) / 16.0
_REF_Y = 0.5137 - 0.0871 * (np.arange(16) * 11 % 16) / 16.0
# Points whose cells are read ahead together.
CHUNK = 64

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
    w = _WIDTH[level]
    h = 0.5 * w
    return -180.0 + x * w + _REF_X[k] * w, -90.0 + y * h + _REF_Y[k] * h


@nb.njit(cache=True)
def _clear_of(px, py, verts, edges, a, b, far):
    """Whether a point keeps a distance of `far` from edges[a:b]."""
    for i in range(a, b):
        e = edges[i]
        x = verts[e, 0]
        y = verts[e, 1]
        dx = verts[e + 1, 0] - x
        dy = verts[e + 1, 1] - y
        length = dx * dx + dy * dy
        t = 0.0
        if length > 0.0:
            t = min(1.0, max(0.0, ((px - x) * dx + (py - y) * dy) / length))
        ex = px - x - t * dx
        ey = py - y - t * dy
        if ex * ex + ey * ey < far * far:
            return False
    return True


@nb.njit(cache=True)
def _smallest(west, south, east, north):
    """Level, x, y of the smallest cell that holds a box; the box has been clipped to the world."""
    x0 = min(SIDE - 1, max(0, int((west + 180.0) * (SIDE / 360.0))))
    x1 = min(SIDE - 1, max(0, int((east + 180.0) * (SIDE / 360.0))))
    y0 = min(SIDE - 1, max(0, int((south + 90.0) * (SIDE / 180.0))))
    y1 = min(SIDE - 1, max(0, int((north + 90.0) * (SIDE / 180.0))))
    level = LEVELS
    while x0 != x1 or y0 != y1:
        x0 >>= 2
        x1 >>= 2
        y0 >>= 2
        y1 >>= 2
        level -= 1
    return level, x0, y0


@nb.njit(cache=True)
def divide(edge_count, verts, circle, box, cells, stack, pile, found):
    """Divide one fence into cells.

    edge_count   its edges are pile[:edge_count]
    circle       its row of `circles`; a chord of 0 means that it is none
    box          float64 [4], west, south, east, north of the fence, within the world
    cells        int32 [., 5], out
    stack, pile  int32 [., 7] and int32 [.], room to work
    found        int32 [.], out: the edges of the border cells, one cell after the other

    Returns the number of cells and of edges, or -1, -1 when there was too little room; nothing has then happened.
    """
    count = 0
    kept = 0
    width = box[2] - box[0]
    height = box[3] - box[1]
    # Sizes are compared in steps of a cell; a cell is twice as wide as high in degrees.
    extent = max(width, 2.0 * height)
    is_circle = circle[3] > 0.0
    chord = math.sqrt(circle[3])
    level, x, y = _smallest(box[0], box[1], box[2], box[3])
    # Outside of everything: the point from which the first reference is reached.
    ox = -1000.0
    oy = -100.3137
    stack[0, 0] = level
    stack[0, 1] = x
    stack[0, 2] = y
    stack[0, 3] = 0  # edges of the parent: pile[3:4]
    stack[0, 4] = edge_count
    stack[0, 5] = -1  # the parent's reference
    stack[0, 6] = 0
    top = 1
    while top:
        top -= 1
        level = stack[top, 0]
        x = stack[top, 1]
        y = stack[top, 2]
        a = stack[top, 3]
        b = stack[top, 4]
        ref = stack[top, 5]
        inside = stack[top, 6]
        w = _WIDTH[level]
        h = 0.5 * w
        west = -180.0 + x * w
        south = -90.0 + y * h
        if count + 1 > cells.shape[0] or top + 17 > stack.shape[0]:
            return -1, -1
        if is_circle:
            cx, cy, cz = ecef(west + 0.5 * w, south + 0.5 * h)
            dx = cx - circle[0]
            dy = cy - circle[1]
            dz = cz - circle[2]
            d = math.sqrt(dx * dx + dy * dy + dz * dz)
            reach = 0.0
            for k in range(4):
                kx, ky, kz = ecef(west + (k & 1) * w, south + (k >> 1) * h)
                reach = max(reach, (kx - cx) ** 2 + (ky - cy) ** 2 + (kz - cz) ** 2)
            reach = 1.01 * math.sqrt(reach) + 0.01
            split = w > extent / 8.0 and level < LEVELS
            if level < 3:
                # Too large for a corner to be the farthest point.
                kind = CIRCLE
                split = True
            elif d - reach > chord:
                continue
            elif d + reach < chord:
                kind = INSIDE
                split = False
            else:
                kind = CIRCLE
            if not split:
                cells[count, 0] = level
                cells[count, 1] = x
                cells[count, 2] = y
                cells[count, 3] = kind
                cells[count, 4] = kept
                count += 1
                continue
            fresh = b
            n = 0
            px = ox
            py = oy
        else:
            # The parent's edges that come near this cell go behind them on the pile.
            fresh = b
            if fresh + (b - a) > pile.shape[0]:
                return -1, -1
            n = 0
            for i in range(a, b):
                e = pile[i]
                if touches(
                    verts[e, 0], verts[e, 1], verts[e + 1, 0], verts[e + 1, 1],
                    west - _NEAR, south - _NEAR, west + w + _NEAR, south + h + _NEAR,
                ):  # fmt: skip
                    pile[fresh + n] = e
                    n += 1
            k = 0
            px, py = reference(0, level, x, y)
            while n and k < 15 and not _clear_of(px, py, verts, pile, fresh, fresh + n, 1e-4 * h):
                k += 1
                px, py = reference(k, level, x, y)
            rx = ox
            ry = oy
            if ref >= 0:
                rx, ry = reference(ref, level - 1, x >> 2, y >> 2)
            odd = inside == 1
            for i in range(a, b):
                e = pile[i]
                if crosses(rx, ry, px, py, verts[e, 0], verts[e, 1], verts[e + 1, 0], verts[e + 1, 1]):
                    odd = not odd
            if n == 0:
                if odd:
                    cells[count, 0] = level
                    cells[count, 1] = x
                    cells[count, 2] = y
                    cells[count, 3] = INSIDE
                    cells[count, 4] = kept
                    count += 1
                continue
            split = level < LEVELS and (w * COARSE > extent or (n > FEW and w * FINE > extent))
            if not split:
                if kept + n > found.shape[0]:
                    return -1, -1
                how = n + k * _REF_UNIT + (_REF_INSIDE if odd else 0)
                cells[count, 4] = kept
                if pile[fresh + n - 1] - pile[fresh] == n - 1:
                    how += _RUN
                    cells[count, 4] = pile[fresh]
                else:
                    for i in range(n):
                        found[kept + i] = pile[fresh + i]
                    kept += n
                cells[count, 0] = level
                cells[count, 1] = x
                cells[count, 2] = y
                cells[count, 3] = how
                count += 1
                continue
            ref = k
            inside = 1 if odd else 0
        for k in range(16):
            stack[top, 0] = level + 1
            stack[top, 1] = 4 * x + (k & 3)
            stack[top, 2] = 4 * y + (k >> 2)
            stack[top, 3] = fresh
            stack[top, 4] = fresh + n
            stack[top, 5] = ref
            stack[top, 6] = inside
            top += 1
    return count, kept


@nb.njit(cache=True)
def _power(n):
    k = 0
    while (1 << k) < n:
        k += 1
    return k


@nb.njit(cache=True)
def _stretch(free, kind, capacity, power, links):
    """Take a stretch of 2^power places; -1 when there is no room. links[i] = next free stretch after the one at i."""
    start = free[kind, power]
    if start >= 0:
        free[kind, power] = links[start]
        return start
    start = free[3, kind + 1]
    if start + (1 << power) > capacity:
        return -1
    free[3, kind + 1] = start + (1 << power)
    return start


@nb.njit(cache=True)
def node_of(nodes, level, x, y):
    """The node of a cell, -1 when there is none."""
    node = 0
    for k in range(level):
        base = nodes[node, 0]
        if base < 0:
            return -1
        shift = 2 * (level - 1 - k)
        node = base + ((x >> shift) & 3) + 4 * ((y >> shift) & 3)
    return node


@nb.njit(cache=True)
def insert(fence, cells, count, at, edge_start, nodes, entries, free):
    """Enter a divided fence into the tree, from cell `at` on. Returns the cell at which room ran out, else `count`."""
    links = entries[:, 0]
    for i in range(at, count):
        level = cells[i, 0]
        x = cells[i, 1]
        y = cells[i, 2]
        node = 0
        for k in range(level):
            base = nodes[node, 0]
            if base < 0:
                base = free[3, 0]
                if base + 16 > nodes.shape[0]:
                    return i
                free[3, 0] = base + 16
                for j in range(base, base + 16):
                    nodes[j, 0] = -1
                    nodes[j, 1] = 0
                    nodes[j, 2] = 0
                    nodes[j, 3] = 0
                nodes[node, 0] = base
            shift = 2 * (level - 1 - k)
            node = base + ((x >> shift) & 3) + 4 * ((y >> shift) & 3)
        n = nodes[node, 2]
        room = nodes[node, 3]
        if n == room:
            power = _power(2 * room) if room else 1
            start = _stretch(free, 0, entries.shape[0], power, links)
            if start < 0:
                return i
            old = nodes[node, 1]
            for j in range(n):
                entries[start + j] = entries[old + j]
            if room:
                links[old] = free[0, _power(room)]
                free[0, _power(room)] = old
            nodes[node, 1] = start
            nodes[node, 3] = 1 << power
        place = nodes[node, 1] + n
        entries[place, 0] = fence
        how = cells[i, 3]
        entries[place, 1] = cells[i, 4] + (0 if how >= 0 and how & _RUN else edge_start)
        entries[place, 2] = how
        nodes[node, 2] = n + 1
    return count


@nb.njit(cache=True)
def remove(fence, cells, count, nodes, entries, free):
    """Take a fence out of the cells that `divide` gave for it."""
    links = entries[:, 0]
    for i in range(count):
        node = node_of(nodes, cells[i, 0], cells[i, 1], cells[i, 2])
        if node < 0:
            continue
        start = nodes[node, 1]
        n = nodes[node, 2]
        for j in range(start, start + n):
            if entries[j, 0] == fence:
                entries[j] = entries[start + n - 1]
                n -= 1
                break
        nodes[node, 2] = n
        if n == 0 and nodes[node, 3]:
            power = _power(nodes[node, 3])
            links[start] = free[0, power]
            free[0, power] = start
            nodes[node, 3] = 0


@nb.njit(cache=True)
def take_edges(free, edges, n):
    """Room for n edges of one fence: its start, -1 when there is none left."""
    return _stretch(free, 1, edges.shape[0], _power(n), edges)


@nb.njit(cache=True)
def give_edges(free, edges, start, n):
    """Give back what `take_edges` gave."""
    power = _power(n)
    edges[start] = free[1, power]
    free[1, power] = start


@nb.njit(cache=True)
def take_verts(free, links, n):
    """Room for n vertices of one fence: where they start, -1 when there is none left. links: int32, one per vertex."""
    return _stretch(free, 2, links.shape[0], _power(n), links)


@nb.njit(cache=True)
def give_verts(free, links, start, n):
    """Give back what `take_verts` gave."""
    power = _power(n)
    links[start] = free[2, power]
    free[2, power] = start


@nb.njit(cache=True, inline="always")
def cell_edges(first, how):
    """Of an entry on a fence's border: its first edge, how many, and whether they are a run."""
    return first, how & _EDGES, (how & _RUN) != 0


@nb.njit(cache=True, inline="always")
def lookup(lon, lat, nodes, entries, edges, verts, circles, out):
    """Numbers of the fences that hold a point, into `out`; returns how many. Longitude -180 to 180."""
    gx = min(SIDE - 1, int((lon + 180.0) * (SIDE / 360.0)))
    gy = min(SIDE - 1, int((lat + 90.0) * (SIDE / 180.0)))
    known = False
    sx = 0.0
    sy = 0.0
    sz = 0.0
    n = 0
    node = 0
    level = 0
    shift = 2 * LEVELS
    while True:
        start = nodes[node, 1]
        count = nodes[node, 2]
        if count > 0:
            w = _WIDTH[level]
            west = -180.0 + (gx >> shift) * w
            south = -90.0 + (gy >> shift) * (0.5 * w)
            for entry in range(start, start + count):
                how = entries[entry, 2]
                f = entries[entry, 0]
                if how == INSIDE:
                    out[n] = f
                    n += 1
                    continue
                if how == CIRCLE:
                    if not known:
                        sx, sy, sz = ecef(lon, lat)
                        known = True
                    dx = sx - circles[f, 0]
                    dy = sy - circles[f, 1]
                    dz = sz - circles[f, 2]
                    if dx * dx + dy * dy + dz * dz <= circles[f, 3]:
                        out[n] = f
                        n += 1
                    continue
                # Cross the cell's few edges on the way from its reference point.
                k = (how >> 24) & 15
                px = west + _REF_X[k] * w
                py = south + _REF_Y[k] * (0.5 * w)
                ux = lon - px
                uy = lat - py
                odd = (how & _REF_INSIDE) != 0
                first = entries[entry, 1]
                last = first + (how & _EDGES)
                if how & _RUN:
                    ax = verts[first, 0]
                    ay = verts[first, 1]
                    oa = ux * (ay - py) - uy * (ax - px) > 0.0
                    for i in range(first + 1, last + 1):
                        bx = verts[i, 0]
                        by = verts[i, 1]
                        ob = ux * (by - py) - uy * (bx - px) > 0.0
                        if oa != ob:
                            ex = bx - ax
                            ey = by - ay
                            odd ^= (ex * (py - ay) - ey * (px - ax) > 0.0) != (ex * (lat - ay) - ey * (lon - ax) > 0.0)
                        ax = bx
                        ay = by
                        oa = ob
                else:
                    for i in range(first, last):
                        e = edges[i]
                        odd ^= crosses(px, py, lon, lat, verts[e, 0], verts[e, 1], verts[e + 1, 0], verts[e + 1, 1])
                if odd:
                    out[n] = f
                    n += 1
        base = nodes[node, 0]
        if base < 0:
            break
        level += 1
        shift -= 2
        node = base + ((gx >> shift) & 3) + 4 * ((gy >> shift) & 3)
    return n


@nb.njit(cache=True)
def warm(a, b, lon, lat, nodes, entries, verts, path):
    """Read what `lookup` will need for points a to b, level by level: the waits for memory then overlap.

    path  int64 [>= b - a], room. The result is of no use but to keep the reads.
    """
    sink = 0
    for j in range(b - a):
        path[j] = 0
    for level in range(1, LEVELS + 1):
        shift = 2 * (LEVELS - level)
        for j in range(b - a):
            node = path[j]
            if node < 0:
                continue
            base = nodes[node, 0]
            if base < 0 or not (abs(lon[a + j]) <= 180.0 and abs(lat[a + j]) <= 90.0):
                path[j] = -1
                continue
            gx = min(SIDE - 1, int((lon[a + j] + 180.0) * (SIDE / 360.0))) >> shift
            gy = min(SIDE - 1, int((lat[a + j] + 90.0) * (SIDE / 180.0))) >> shift
            node = base + (gx & 3) + 4 * (gy & 3)
            path[j] = node
            if nodes[node, 2] > 0:
                sink += entries[nodes[node, 1], 2]
    for j in range(b - a):
        node = path[j]
        if node >= 0:
            start = nodes[node, 1]
            for entry in range(start, start + nodes[node, 2]):
                if entries[entry, 2] > 0 and entries[entry, 2] & _RUN:
                    sink += int(verts[entries[entry, 1], 0])
    return sink


@nb.njit(cache=True)
def lookup_many(lon, lat, nodes, entries, edges, verts, circles, out_point, out_fence):
    """Every pair of point and fence that holds it; returns how many there are, which may be more than were written."""
    hits = np.empty(circles.shape[0] + 1, np.int32)
    path = np.empty(CHUNK, np.int64)
    k = 0
    for i in range(lon.shape[0]):
        if i % CHUNK == 0:
            warm(i, min(i + CHUNK, lon.shape[0]), lon, lat, nodes, entries, verts, path)
        n = lookup(lon[i], lat[i], nodes, entries, edges, verts, circles, hits)
        for j in range(n):
            if k < out_point.shape[0]:
                out_point[k] = i
                out_fence[k] = hits[j]
            k += 1
    return k
