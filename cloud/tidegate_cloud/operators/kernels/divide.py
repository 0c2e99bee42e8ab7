"""How one fence is divided into cells; see `cells` for what the arrays hold."""

from __future__ import annotations

import math

import numba as nb

from .cells import (
    CIRCLE,
    INSIDE,
    LEVELS,
    REF_INSIDE,
    REF_UNIT,
    RUN,
    SIDE,
    WIDTH,
    crosses,
    ecef,
    reference,
    touches,
)

# Edges are kept in a cell that they pass by at this distance: rounding must not lose one. Degrees.
NEAR = 1e-10
# A border cell is divided further while it is over 1/COARSE of the fence, or while it has over FEW edges and is over
# 1/FINE of the fence.
COARSE = 16.0
FINE = 32.0
FEW = 3


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
        w = WIDTH[level]
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
                    west - NEAR, south - NEAR, west + w + NEAR, south + h + NEAR,
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
                how = n + k * REF_UNIT + (REF_INSIDE if odd else 0)
                cells[count, 4] = kept
                if pile[fresh + n - 1] - pile[fresh] == n - 1:
                    how += RUN
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
