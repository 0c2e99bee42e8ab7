"""Putting divided fences into the tree of cells, and taking them out; see `cells` for what the arrays hold."""

from __future__ import annotations

import numba as nb

from .cells import RUN


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
        entries[place, 1] = cells[i, 4] + (0 if how >= 0 and how & RUN else edge_start)
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
