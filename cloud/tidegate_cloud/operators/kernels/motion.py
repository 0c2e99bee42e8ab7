"""What a fix is worth in view of the ones before it: spikes, jumps, cold starts, repeated positions, movement."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np

from .bare import within
from .border import DEGREE_M

_FIX = [("us", "<i8"), ("lon", "<f8"), ("lat", "<f8"), ("accuracy", "<f8"), ("speed", "<f8")]
# The two last fixes of a device: `a` is the older one; and `c`, the one that movement is measured from.
# have: how many there are; jumps: fixes left out since; cold_us: until when the receiver is finding itself;
# since_us: when position b was first reported; fast_mps: the highest speed that explains the way from a to b, NaN = any
FIXES = np.dtype(
    [("have", "<i8"), ("jumps", "<i8"), ("cold_us", "<i8"), ("since_us", "<i8"), ("fast_mps", "<f8")]
    + [(f"{fix}_{name}", kind) for fix in "abc" for name, kind in _FIX]
)
# Movement is measured against a fix this old: at 1 Hz the last one is too near to tell.
ANCHOR_US = 15_000_000
# A receiver that was silent needs about so long until its positions can be trusted.
COLD_US = 30_000_000
MOVING_MPS = 2.0
_SLOW_MPS = 1.5


class Manner(NamedTuple):
    """How changes are found and believed; `geofence.GeofenceSettings` in microseconds.

    twice  confirm, for conditions that hold while inside
    """

    line_us: int
    line_m: float
    believe: bool
    default_m: float
    still_m: float
    still_us: int


class Weight(NamedTuple):
    """What `weigh` found.

    use       False: the fix is left out
    drawn     a line to this fix is assumed; it begins at (bx, b_lat), bx beyond 180 degrees over the antimeridian
    moving    the device moves
    repeated  the same position again
    spike     the last fix was one; it came at spike_us
    speed     m/s, as reported or by the line, NaN = not known
    """

    use: bool
    drawn: bool
    moving: bool
    repeated: bool
    spike: bool
    spike_us: int
    accuracy_m: float
    bx: float
    kx: float
    speed: float


@nb.njit(cache=True, inline="always")
def _metres(lon1, lat1, lon2, lat2, kx):
    """Distance of near points, metres. kx: metres to a degree of longitude there."""
    dx = lon2 - lon1
    if dx > 180.0:
        dx -= 360.0
    elif dx < -180.0:
        dx += 360.0
    dx *= kx
    dy = (lat2 - lat1) * DEGREE_M
    return math.sqrt(dx * dx + dy * dy)


@within
def weigh(fix, old, manner, top_mps, top_mps2):
    """Weigh a fix (runs.FIX) against the last ones (FIXES). A spike among these is forgotten, a jump is counted."""
    t = fix.us
    x = fix.lon
    y = fix.lat
    accuracy_m = fix.accuracy if fix.accuracy >= 0.0 else manner.default_m
    kx = DEGREE_M * math.cos(math.radians(y))
    believe = manner.believe
    spike_us = old.b_us
    spike = False
    if believe and old.have == 2 and t - old.a_us <= manner.line_us:
        spike = _is_spike(x, y, old, manner.still_m, kx)
        if spike:
            _forget_last(old)
    drawn = False
    moving = False
    repeated = False
    bx = old.b_lon
    speed = fix.speed
    if old.have:
        far_m = _metres(old.b_lon, old.b_lat, x, y, kx)
        slack_m = accuracy_m + old.b_accuracy
        near = 0 < t - old.b_us <= manner.line_us and not fix.gap
        repeated = believe and x == old.b_lon and y == old.b_lat
        leap = False
        if believe and near and not repeated:
            # Nothing moves like this. After two such fixes the jump is taken: it was the old place that was wrong.
            leap = _is_leap(far_m - 2.0 * slack_m, t - old.since_us, fix.speed, old, top_mps, top_mps2)
            if leap and old.jumps < 2:
                old.jumps += 1
                return Weight(False, False, False, False, spike, spike_us, accuracy_m, bx, kx, speed)
        if believe and (fix.gap or t - old.b_us > manner.line_us):
            # After a silence: nothing is known about how it came here.
            old.cold_us = t + COLD_US
            old.c_us = t
            old.c_lon = x
            old.c_lat = y
            old.c_accuracy = accuracy_m
        if believe and not repeated:
            moved_m = _metres(old.c_lon, old.c_lat, x, y, kx)
            # A receiver that finds itself wanders, but knows its speed.
            moving = fix.speed >= MOVING_MPS or (
                t >= old.cold_us and moved_m > 10.0 + 2.0 * (accuracy_m + old.c_accuracy)
            )
        drawn = near and not leap and not repeated and far_m <= manner.line_m
        if drawn and not speed >= 0.0:
            # What is surely so.
            speed = max(0.0, far_m - (slack_m if believe else 0.0)) / ((t - old.b_us) * 1e-6)
        # Over the antimeridian the line goes on beyond 180 degrees.
        if bx - x > 180.0:
            bx -= 360.0
        elif bx - x < -180.0:
            bx += 360.0
    old.jumps = 0
    return Weight(True, drawn, moving, repeated, spike, spike_us, accuracy_m, bx, kx, speed)


@within
def _is_spike(x, y, old, still_m, kx):
    """Whether b was one: this fix is back where the one before b was, and nothing says that the device moved."""
    out_m = _metres(old.a_lon, old.a_lat, old.b_lon, old.b_lat, kx)
    if out_m <= 2.0 * still_m or old.b_speed >= _SLOW_MPS:
        return False
    return _metres(old.a_lon, old.a_lat, x, y, kx) < 0.5 * out_m


@within
def _is_leap(least_m, us, speed, old, top_mps, top_mps2):
    """Whether to go `least_m` in that time asks for more speed or more acceleration than the device has."""
    s = us * 1e-6
    if least_m > top_mps * s:
        return True
    fast = max(old.fast_mps, speed) if speed >= 0.0 else old.fast_mps
    # NaN: nothing is known about its speed.
    return least_m > (fast + top_mps2 * s) * s


@within
def _forget_last(old):
    if old.c_us == old.b_us:
        old.c_us = old.a_us
        old.c_lon = old.a_lon
        old.c_lat = old.a_lat
        old.c_accuracy = old.a_accuracy
    old.b_us = old.a_us
    old.b_lon = old.a_lon
    old.b_lat = old.a_lat
    old.b_accuracy = old.a_accuracy
    old.b_speed = old.a_speed
    old.since_us = old.a_us
    old.fast_mps = np.nan
    old.have = 1


@within
def remember(fix, old, w):
    """Make a fix that was used the last one."""
    t = fix.us
    if old.have == 0 or t - old.c_us >= ANCHOR_US or t < old.c_us:
        # The last fix is the new anchor, not this one: that may yet turn out to be a spike.
        recent = old.have > 0 and t - old.b_us < ANCHOR_US
        old.c_us = old.b_us if recent else t
        old.c_lon = old.b_lon if recent else fix.lon
        old.c_lat = old.b_lat if recent else fix.lat
        old.c_accuracy = old.b_accuracy if recent else w.accuracy_m
    if w.repeated:
        old.b_us = t
        return
    old.fast_mps = np.nan
    if old.have and t > old.b_us:
        far_m = _metres(old.b_lon, old.b_lat, fix.lon, fix.lat, w.kx)
        old.fast_mps = (far_m + w.accuracy_m + old.b_accuracy) / ((t - old.b_us) * 1e-6)
        if fix.speed > old.fast_mps:
            old.fast_mps = fix.speed
    old.a_us = old.b_us
    old.a_lon = old.b_lon
    old.a_lat = old.b_lat
    old.a_accuracy = old.b_accuracy
    old.a_speed = old.b_speed
    old.b_us = t
    old.b_lon = fix.lon
    old.b_lat = fix.lat
    old.b_accuracy = w.accuracy_m
    old.b_speed = fix.speed
    old.since_us = t
    old.have = min(2, old.have + 1)
