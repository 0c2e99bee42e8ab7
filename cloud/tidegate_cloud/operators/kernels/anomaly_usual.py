"""What is usual at a time of day, and over days: updated when a half hour of local time is over, not per reading."""

from __future__ import annotations

import math

import numpy as np

from .bare import bare

BINS = 48
BIN_S = 86400.0 / BINS
DAYS = 12  # that the highest and lowest values are kept of
# What is usual at a time of day is the mean of so many visits.
VISITS = 14.0
# A mean is learnt from up to so many times the usual size of a residual.
ROBUST = 3.0
# Drift: time constants of the fast mean, the trend, and the usual size of their difference.
FAST_S = 10_800.0
TREND_S = 259_200.0
TREND_SIZE_S = 1_209_600.0
HALVES_MIN = 240


@bare
def turn(st, t, first, end, zone_start, zone_offset):
    """A half hour of local time is over: learn from it, and find what is usual in the next.

    t                        the time of the first reading after it, seconds since 1970
    zone_start, zone_offset  transitions of all zones; those of the device's stand from `first` to `end`
    """
    _trend(st, t)
    if st.visit_n > 0:
        mean = st.visit_sum / st.visit_n
        limit = ROBUST * st.residual_size if st.residuals >= 200 else np.inf
        here = np.int64(st.bin)
        for b in (here, here % BINS + 2 * BINS):
            k = st.seen[b]
            e = mean - st.profile[b]
            if k >= 2:
                e = max(-limit, min(limit, e))
            st.profile[b] += np.float32(e / (min(k, VISITS - 1.0) + 1.0))
            st.seen[b] = min(k + 1, 250)
    st.visit_sum = 0.0
    st.visit_n = 0
    # A change of the zone's offset ends a half hour, too.
    low = first
    high = end
    while high - low > 1:
        middle = (low + high) // 2
        if zone_start[middle] <= t:
            low = middle
        else:
            high = middle
    local = t + zone_offset[low]
    day = math.floor(local / 86400.0)
    q = max(0, min(int((local - 86400.0 * day) / BIN_S), BINS - 1))
    start = t - (local - 86400.0 * day - q * BIN_S)
    st.until = start + BIN_S
    if high < end:
        st.until = min(st.until, float(zone_start[high]))
    st.middle = start + 0.5 * BIN_S
    # 1970-01-01 was a Thursday.
    dow = (int(day) + 4) % 7
    of_day = BINS if dow == 0 or dow == 6 else 0
    st.bin = of_day + q
    st.known = st.seen[st.bin] > 0
    st.known_daily = st.seen[2 * BINS + q] > 0
    st.usual = st.profile[st.bin]
    st.usual_daily = st.profile[2 * BINS + q]
    # On the first weekend all days are the best that is known.
    of_day = of_day if st.known else 2 * BINS
    before = of_day + (q + BINS - 1) % BINS
    after = of_day + (q + 1) % BINS
    here_seen = st.seen[of_day + q] > 0
    mean = st.profile[of_day + q]
    st.slope_before = (mean - st.profile[before]) / BIN_S if here_seen and st.seen[before] > 0 else 0.0
    st.slope_after = (st.profile[after] - mean) / BIN_S if here_seen and st.seen[after] > 0 else 0.0
    if day != st.day:
        if st.days > 0:
            st.day_hi[st.days % DAYS] = st.today_hi
            st.day_lo[st.days % DAYS] = st.today_lo
        st.days += 1
        st.day = int(day)
        st.today_hi = -np.inf
        st.today_lo = np.inf


@bare
def _trend(st, t):
    """The half hour's mean residual goes into the fast mean and the trend."""
    if st.drift_n > 0:
        mean = st.drift_sum / st.drift_n
        limit = 4.0 * st.residual_size
        mean = max(-limit, min(limit, mean))
        span = min(max(t - st.drift_t, BIN_S), 3.0 * BIN_S)
        k = st.halves
        st.fast += max(span / (span + FAST_S), 1.0 / (k + 1.0)) * (mean - st.fast)
        st.trend += max(span / (span + TREND_S), 1.0 / (k + 1.0)) * (mean - st.trend)
        if k >= BINS:
            m = abs(st.fast - st.trend)
            if k > 100 and st.trend_size > 0.0:
                m = min(m, 3.0 * st.trend_size)
            st.trend_size += max(span / (span + TREND_SIZE_S), 1.0 / (k - BINS + 1.0)) * (m - st.trend_size)
        st.halves = k + 1
        st.drift_ready = k >= HALVES_MIN
        st.drift_t = t
    st.drift_sum = 0.0
    st.drift_n = 0


@bare
def days_since(st, x):
    """For how many days no value was as high as x (as low: negative); 0 for less than one, DAYS for all that is kept.

    x is relative to the channel's anchor.
    """
    kept = min(st.days - 1, DAYS)
    if x < st.today_hi and x > st.today_lo:
        return 0
    high = 0
    while high < kept and x > st.day_hi[(st.days - 1 - high) % DAYS]:
        high += 1
    low = 0
    while low < kept and x < st.day_lo[(st.days - 1 - low) % DAYS]:
        low += 1
    if x >= st.today_hi and high >= low:
        return high
    return -low if x <= st.today_lo else 0
