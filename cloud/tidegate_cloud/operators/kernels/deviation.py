"""How far a value lies from what its channel usually does, and when that is worth saying."""

from __future__ import annotations

import math

import numba as nb

ANOMALOUS, SETTLED = 0, 1

# Time constants, seconds: of the level, of the usual size of a deviation, and of a step.
LEVEL_S = 1800.0
SIZE_S = 6 * 3600.0
# A reading counts for at most this much time, so that a pause does not make one reading decide everything.
DT_MAX_S = 600.0
# Warm-up: nothing is said before both.
WARM_READINGS = 60
WARM_S = 600.0
# In units of the usual size: a condition begins beyond BEGIN and ends after CALM_S within END.
BEGIN = 10.0
END = 4.0
CALM_S = 60.0
# A deviation is learnt up to this much of the usual size: an anomaly must not become usual by itself at once.
CLIP = 3.0


@nb.njit(cache=True, error_model="numpy")
def watch(at, device, row, ts_us, gap, values, least, rows, ev_scan, ev_kind, ev_level, ev_size):
    """Judge the values of one channel, from scan `at` on.

    Returns the scan at which room ran out (else n), and the number of events.

    device, ts_us, gap, values  [n]; a value that is not finite is no value
    row                         by device of the block: its row in `rows`
    least                       smallest size that a deviation is measured by: the channel's resolution, or 0
    rows                        records of deviation.ROW
    ev_*                        out: scan, what, the level and the size it was judged by
    """
    k = 0
    for i in range(at, ts_us.shape[0]):
        v = values[i]
        if not math.isfinite(v):
            continue
        if k + 1 > ev_scan.shape[0]:
            return i, k
        st = rows[row[device[i]]]
        if st.n == 0:
            st.n = 1
            st.first_us = ts_us[i]
            st.ts_us = ts_us[i]
            st.level = v
            continue
        dt = min(max((ts_us[i] - st.ts_us) * 1e-6, 0.0), DT_MAX_S)
        st.ts_us = max(ts_us[i], st.ts_us)
        st.n += 1
        r = v - st.level
        # Rounding of large values must not look like a deviation.
        size = max(max(st.size, least), 1e-12 * abs(st.level) + 1e-300)
        warm = st.n > WARM_READINGS and (st.ts_us - st.first_us) * 1e-6 >= WARM_S
        if st.open:
            if abs(r) > END * size or gap[i]:
                st.calm_s = 0.0
            else:
                st.calm_s += dt
            if st.calm_s >= CALM_S:
                st.open = 0
                st.since_us = ts_us[i]
                ev_scan[k] = i
                ev_kind[k] = SETTLED
                ev_level[k] = st.level
                ev_size[k] = size
                k += 1
        elif warm and abs(r) > BEGIN * size:
            st.open = 1
            st.calm_s = 0.0
            st.since_us = ts_us[i]
            ev_scan[k] = i
            ev_kind[k] = ANOMALOUS
            ev_level[k] = st.level
            ev_size[k] = size
            k += 1
        # While young, every reading counts alike.
        young = 1.0 / st.n
        bounded = r if st.n < WARM_READINGS else min(max(r, -CLIP * size), CLIP * size)
        st.level += max(young, 1.0 - math.exp(-dt / LEVEL_S)) * bounded
        st.size += max(young, 1.0 - math.exp(-dt / SIZE_S)) * (abs(bounded) - st.size)
    return ts_us.shape[0], k
