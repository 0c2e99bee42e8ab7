"""A fence's whole border: how far it is, and where a line crosses it; see `cells` for the arrays of the index."""

from __future__ import annotations

import math

from .bare import bare
from .cells import ecef
from .lookup import in_circle

DEGREE_M = 111_195.0


@bare
def beyond(lon, lat, far_m, fence, index, kx):
    """Whether a point is further than `far_m` metres from a fence's border. kx: metres to a degree of longitude."""
    if index.circles[fence, 3] > 0.0:
        if index.discs[fence, 5] < 0.0:
            # Too large for the plane, or too near a pole.
            x, y, z = ecef(lon, lat)
            x -= index.circles[fence, 0]
            y -= index.circles[fence, 1]
            z -= index.circles[fence, 2]
            return abs(math.sqrt(x * x + y * y + z * z) - index.discs[fence, 2]) > far_m
        dx = lon - index.discs[fence, 0]
        if abs(dx) > 180.0:
            dx -= 360.0 * round(dx / 360.0)
        ex = dx * index.discs[fence, 3]
        ey = (lat - index.discs[fence, 1]) * index.discs[fence, 4]
        return abs(math.sqrt(ex * ex + ey * ey) - index.discs[fence, 2]) > far_m
    verts, last = index.verts, index.last
    first = index.where[fence, 0]
    fx = far_m / kx
    fy = far_m / DEGREE_M
    ax = verts[first, 0] - lon
    ay = verts[first, 1] - lat
    for i in range(first, first + index.where[fence, 1] - 1):
        bx = verts[i + 1, 0] - lon
        by = verts[i + 1, 1] - lat
        # Edges wholly to one side are most of them.
        if not (
            last[i]
            or (ax > fx and bx > fx)
            or (ax < -fx and bx < -fx)
            or (ay > fy and by > fy)
            or (ay < -fy and by < -fy)
        ):
            px = ax * kx
            py = ay * DEGREE_M
            dx = (bx - ax) * kx
            dy = (by - ay) * DEGREE_M
            length = dx * dx + dy * dy
            t = 0.0
            if length > 0.0:
                t = min(1.0, max(0.0, -(px * dx + py * dy) / length))
            ex = px + t * dx
            ey = py + t * dy
            if ex * ex + ey * ey <= far_m * far_m:
                return False
        ax = bx
        ay = by
    return True


@bare
def crossings(ax, ay, bx, by, fence, index):
    """How often the line from A to B crosses a fence's border, and the first and last place, as parts of the line."""
    n = 0
    first = 2.0
    final = -1.0
    if index.circles[fence, 3] > 0.0:
        discs = index.discs
        wx = ax - discs[fence, 0]
        if abs(wx) > 180.0:
            wx -= 360.0 * round(wx / 360.0)
        px = wx * discs[fence, 3]
        py = (ay - discs[fence, 1]) * discs[fence, 4]
        dx = (bx - ax) * discs[fence, 3]
        dy = (by - ay) * discs[fence, 4]
        a = dx * dx + dy * dy
        b = px * dx + py * dy
        c = px * px + py * py - discs[fence, 2] ** 2
        d = b * b - a * c
        if a > 0.0 and d > 0.0:
            root = math.sqrt(d)
            for t in ((-b - root) / a, (-b + root) / a):
                if 0.0 <= t <= 1.0:
                    n += 1
                    first = min(first, t)
                    final = max(final, t)
        return n, first, final
    verts, last = index.verts, index.last
    start = index.where[fence, 0]
    ux = bx - ax
    uy = by - ay
    cx = verts[start, 0]
    cy = verts[start, 1]
    side = ux * (cy - ay) - uy * (cx - ax) > 0.0
    for i in range(start, start + index.where[fence, 1] - 1):
        dx = verts[i + 1, 0]
        dy = verts[i + 1, 1]
        other = ux * (dy - ay) - uy * (dx - ax) > 0.0
        if side != other and not last[i]:
            o3 = (dx - cx) * (ay - cy) - (dy - cy) * (ax - cx)
            o4 = (dx - cx) * (by - cy) - (dy - cy) * (bx - cx)
            if (o3 > 0.0) != (o4 > 0.0):
                t = o3 / (o3 - o4)
                n += 1
                first = min(first, t)
                final = max(final, t)
        cx = dx
        cy = dy
        side = other
    return n, first, final


@bare
def holds(lon, lat, fence, index):
    """Whether a fence holds a point, by all its edges; longitudes may go beyond 180 where the fence does."""
    if index.circles[fence, 3] > 0.0:
        return in_circle(
            lon - 360.0 * round((lon - index.discs[fence, 0]) / 360.0), lat, fence, index.circles, index.discs
        )
    verts, last = index.verts, index.last
    odd = False
    for i in range(index.where[fence, 0], index.where[fence, 0] + index.where[fence, 1] - 1):
        if not last[i] and (verts[i, 1] > lat) != (verts[i + 1, 1] > lat):
            t = (lat - verts[i, 1]) / (verts[i + 1, 1] - verts[i, 1])
            odd ^= verts[i, 0] + t * (verts[i + 1, 0] - verts[i, 0]) > lon
    return odd
