"""The fixes of a block, one device after the other: what belongs together is then in the processor's caches."""

from __future__ import annotations

import numba as nb
import numpy as np

# device: of the block; scan: row of the block; gap: nothing may be assumed before it.
FIX = np.dtype(
    [
        ("us", "<i8"), ("lon", "<f8"), ("lat", "<f8"), ("accuracy", "<f8"), ("speed", "<f8"),
        ("scan", "<i4"), ("device", "<i4"), ("gap", "<i8"),
    ]
)  # fmt: skip


@nb.njit(cache=True)
def by_device(device, devices, us, lon, lat, accuracy, speed, gap, out):
    """Put scans into `out` (FIX), ordered by device and for each in their order. accuracy, speed: may be empty."""
    n = device.shape[0]
    place = np.zeros(devices + 1, np.int64)
    for i in range(n):
        place[device[i] + 1] += 1
    for d in range(devices):
        place[d + 1] += place[d]
    for i in range(n):
        d = device[i]
        fix = out[place[d]]
        place[d] += 1
        fix.us = us[i]
        fix.lon = lon[i]
        fix.lat = lat[i]
        fix.accuracy = accuracy[i] if accuracy.shape[0] else np.nan
        fix.speed = speed[i] if speed.shape[0] else np.nan
        fix.scan = i
        fix.device = d
        fix.gap = gap[i]
