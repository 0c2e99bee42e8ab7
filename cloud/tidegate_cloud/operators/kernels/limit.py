"""Levels with hysteresis."""

from __future__ import annotations

import numba as nb
import numpy as np

ABOVE, BELOW, BACK_DOWN, BACK_UP = 0, 1, 2, 3


@nb.njit(cache=True)
def check(at, device, row, ts_us, values, low, high, hysteresis, side, since_us, ev_scan, ev_kind):
    """Hold the values of one channel against one rule, from scan `at` on.

    Returns the scan at which room ran out (else n), and the number of events.

    device, ts_us, values  [n]; NaN = no value, which changes nothing
    row                    by device of the block: its row in side and since_us, -1 = the rule is not for it
    low, high, hysteresis  -inf, inf where there is no limit
    side                   int64, 1 = above, -1 = below, 0 = within
    ev_scan, ev_kind       out; a value that goes from one side to the other comes back first
    """
    k = 0
    for i in range(at, ts_us.shape[0]):
        v = values[i]
        r = row[device[i]]
        if r < 0 or np.isnan(v):
            continue
        if k + 2 > ev_scan.shape[0]:
            return i, k
        if (side[r] > 0 and v <= high - hysteresis) or (side[r] < 0 and v >= low + hysteresis):
            ev_scan[k] = i
            ev_kind[k] = BACK_DOWN if side[r] > 0 else BACK_UP
            side[r] = 0
            since_us[r] = ts_us[i]
            k += 1
        if side[r] == 0 and (v > high or v < low):
            side[r] = 1 if v > high else -1
            since_us[r] = ts_us[i]
            ev_scan[k] = i
            ev_kind[k] = ABOVE if v > high else BELOW
            k += 1
    return ts_us.shape[0], k
