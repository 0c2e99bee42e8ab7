"""Novelty of a reading: how far each signal lies beyond its own record. `anomaly` says what the signals are."""

from __future__ import annotations

import numba as nb

from .anomaly_signals import CLASS, DAILY, NOISE, SIGNED, STEP, SURPRISE, VALUE, clipped, weight
from .anomaly_usual import ROBUST
from .bare import within

# Time constants, seconds.
SLOW_S = 42_500.0
SIZE_S = 24_700.0
SURPRISE_S = 8_800.0
RECORD_S = 3e6
HOLD_S = 9_700.0
RESIDUAL_S = 59_700.0
STEP_S = 149_700.0
NOISE_S = 5_700.0
NOISE_RECORD_S = 3e7
# Half the sensitivity is reached after so many readings and so much time.
WARM_READINGS = 150.0
WARM_S = 45_000.0
CLIP = 7.0
REFRACTORY = 1.7
STEP_WEIGHT = 0.3
NOISE_WEIGHT = 0.5
# A record is heard once it has so many values.
RECORD_FROM = 50


@nb.njit(cache=True, inline="always", error_model="numpy")
def _margin(st, k, x, n, shrink):
    """How far x lies beyond record k, in units of the record's range; the record then takes x in."""
    lo = st.lo[k]
    hi = st.hi[k]
    out = 0.0
    if n == 0:
        lo = x
        hi = x
    else:
        size = hi - lo
        if (x > hi or x < lo) and size > 0.0 and n >= RECORD_FROM:
            out = max(x - hi, lo - x) / size
        d = 0.5 * size * shrink
        hi = max(x, hi - d)
        lo = min(x, lo + d)
    st.lo[k] = lo
    st.hi[k] = hi
    return out


@within
def novelty(st, n, t, x, ad, dt, w):
    """The largest margin of a reading x, and the signal it is of; what was expected, and by what; the usual band.

    n   readings before it; w: its weight in a mean of all of them
    ad  how much the value changed; dt: seconds since the last reading, as they count

    What was expected by: 0 nothing, 1 its half hour over all days, 2 its half hour on days of this kind. Expected and
    band are relative to the channel's anchor.
    """
    shrink = dt * (1.0 / RECORD_S)
    low = st.lo[VALUE]
    high = st.hi[VALUE]
    best = VALUE
    s = _margin(st, VALUE, x, n, shrink)
    r = x - st.slow
    st.slow += max(weight(dt, SLOW_S), w) * r
    size = st.size
    size += max(weight(dt, SIZE_S), w) * (abs(r) - size)
    st.size = size
    z = max(-CLIP, min(CLIP, r / (size + 1e-300)))
    a = weight(dt, SURPRISE_S)
    surprise = st.surprise + a * (abs(z) - st.surprise)
    signed = st.signed + a * (z - st.signed)
    st.surprise = surprise
    st.signed = signed
    m = _margin(st, SURPRISE, surprise, n, shrink)
    if m > s:
        s = m
        best = SURPRISE
    m = _margin(st, SIGNED, signed, n, shrink)
    if m > s:
        s = m
        best = SIGNED
    since = t - st.middle
    base = (st.slope_before if since < 0.0 else st.slope_after) * since
    known = 0
    expected = 0.0
    if st.known_daily:
        known = 1
        expected = st.usual_daily + base
        m = _margin(st, DAILY, x - expected, st.daily_n, shrink)
        st.daily_n += 1
        if m > s:
            s = m
            best = DAILY
    if st.known:
        known = 2
        expected = st.usual + base
        e = x - expected
        if st.residuals >= RECORD_FROM:
            low = expected + st.lo[CLASS]
            high = expected + st.hi[CLASS]
        m = _margin(st, CLASS, e, st.residuals, shrink)
        if m > s:
            s = m
            best = CLASS
        st.residuals += 1
        size = abs(e)
        if st.residuals >= 200:
            size = clipped(size, ROBUST * st.residual_size)
            st.residual_size += weight(dt, RESIDUAL_S) * (size - st.residual_size)
        else:
            st.residual_size += (size - st.residual_size) * max(weight(dt, RESIDUAL_S), 1.0 / st.residuals)
        # For the drift check, by half hours.
        st.drift_sum += e
        st.drift_n += 1
    step = st.step * (1.0 - shrink)
    if ad > step:
        if n >= RECORD_FROM and st.step > 0.0:
            m = STEP_WEIGHT * (ad / st.step - 1.0)
            if m > s:
                s = m
                best = STEP
        step = ad
    st.step = step
    if st.step_mean > 0.0:
        now = st.ratio + weight(dt, NOISE_S) * (min(ad / st.step_mean, 8.0) - st.ratio)
        record = st.ratio_record * (1.0 - dt * (1.0 / NOISE_RECORD_S))
        st.ratio = now
        if now > record:
            if n >= RECORD_FROM and st.ratio_record > 0.0:
                m = NOISE_WEIGHT * (now / st.ratio_record - 1.0)
                if m > s:
                    s = m
                    best = NOISE
            record = now
        st.ratio_record = record
    st.step_mean += max(weight(dt, STEP_S), w) * (ad - st.step_mean)
    return s, best, expected, known, low, high


@within
def refractory(st, s, n, dt, age_s):
    """The novelty of a margin s: less while the channel is young, none of what goes on and does not grow."""
    recent = st.recent * (1.0 - weight(dt, HOLD_S))
    out = 0.0
    if s > 0.0:
        age = min(float(n), age_s * (WARM_READINGS / WARM_S))
        s *= age / (age + WARM_READINGS)
        if s > REFRACTORY * recent:
            out = s
        recent = max(recent, s)
    st.recent = recent
    return out
