"""Walking the rows of devices in a `state.Table`: singly linked lists, -1 ends a list."""

from __future__ import annotations

import numba as nb


@nb.njit(cache=True)
def count(head, after, devices, out):
    """out[i] = how many rows device number devices[i] has; -1 as a device number has none."""
    total = 0
    for i in range(devices.shape[0]):
        n = 0
        row = head[devices[i]] if devices[i] >= 0 else -1
        while row >= 0:
            n += 1
            row = after[row]
        out[i] = n
        total += n
    return total


@nb.njit(cache=True)
def collect(head, after, devices, out):
    """out = the row numbers of these devices, one device after the other."""
    k = 0
    for i in range(devices.shape[0]):
        row = head[devices[i]] if devices[i] >= 0 else -1
        while row >= 0:
            out[k] = row
            k += 1
            row = after[row]


@nb.njit(cache=True)
def find(head, after, item, devices, wanted, out):
    """out[i] = the row of device devices[i] with item `wanted`, -1 when there is none; returns how many lack one."""
    missing = 0
    for i in range(devices.shape[0]):
        row = head[devices[i]]
        while row >= 0 and item[row] != wanted:
            row = after[row]
        out[i] = row
        if row < 0:
            missing += 1
    return missing
