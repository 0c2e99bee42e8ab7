"""Checks of what one reading says that the last ones did not. `anomaly` says what they are."""

from __future__ import annotations

import math

import numpy as np

from . import anomaly_tails as tails
from .anomaly_signals import SPIKE, clipped, weight
from .anomaly_tails import ratio
from .bare import within

LEVEL_S = 21_600.0
MEMORY = 1.0 / 1500.0  # of the autoregression and of sizes, per reading
QUICK = 1.0 / 24.0
QUICK_WEIGHT = 0.8
# Of a channel that mostly stands still, sizes are measured by this share of its usual change.
STILL_WEIGHT = 0.4
# One that never changed is heard when it does after so long.
STILL_S = 3 * 86400.0
SHIFT_WEIGHT = 1.0 / 8.0
SHIFT_CLIP = 4.0
SHIFT_LEAST = 0.15
ROUGH_WEIGHT = 1.0 / 20.0
ROUGH_CLIP = 5.0
# A check's threshold is more by this much at first: readings, seconds.
CHECKS_FROM = 60
YOUNG_READINGS = 200.0
YOUNG_S = 7_200.0
STUCK_FROM = 200


@within
def innovation(st, n, t, x, ad, expected, known, dt, w, age_s, paused, wide, hold, budget):
    """Spike, pair, shift and rough: the highest ratio of one to its threshold, 0 = none is near, and its signal.

    Arguments as in `novelty`, and what it returned; paused: the reading came after a pause, and the last ones say
    nothing about it; wide: thresholds are multiplied by it; hold, budget: see `anomaly_tails.ratio`.
    """
    most = 0.0
    signal = -1
    level = st.level
    if st.had_base != known:
        # What is usual comes to be known, or no longer is: the level goes on where it was.
        level += st.base - expected
    last = st.c
    c = x - expected - level
    e = c - st.phi * last
    e_abs = abs(e)
    calm = max(st.e_size, STILL_WEIGHT * st.e_moved)
    size = max(calm, QUICK_WEIGHT * st.e_quick)
    if size == 0.0 and ad > 0.0 and age_s > STILL_S:
        calm = size = 1e-3 * ad
    if size > 0.0:
        u = e / size
        au = abs(u)
        pair = min(au, max(st.u1, max(st.u2, st.u3)))
        st.u3 = st.u2
        st.u2 = st.u1
        st.u1 = au
        shift = st.shift + SHIFT_WEIGHT * (max(-SHIFT_CLIP, min(SHIFT_CLIP, u)) - st.shift)
        st.shift = shift
        shift = abs(shift)
        shift_size = max(st.shift_size, SHIFT_LEAST)
        rough = st.rough + ROUGH_WEIGHT * (min(e_abs / calm, ROUGH_CLIP) - st.rough)
        st.rough = rough
        if n >= CHECKS_FROM and not paused and (
            au > tails.BOUND[tails.SPIKE] or pair > tails.BOUND[tails.PAIR]
            or shift > tails.BOUND[tails.SHIFT] * shift_size or rough > tails.BOUND[tails.ROUGH]
        ):  # fmt: skip
            factor = wide * (1.0 + YOUNG_READINGS / (n + 1.0) + YOUNG_S / (age_s + 600.0))
            for k, q in (
                (tails.SPIKE, au), (tails.PAIR, pair), (tails.SHIFT, shift / shift_size), (tails.ROUGH, rough),
            ):  # fmt: skip
                if q > tails.BOUND[k]:
                    m = ratio(st, k, q, t, hold, budget) / factor
                    if m > most:
                        most = m
                        signal = SPIKE + k - tails.SPIKE
        st.shift_size += max(MEMORY, w) * (clipped(shift, 4.0 * st.shift_size if n > 50 else 0.0) - st.shift_size)
    # Learn, clipped.
    a = max(MEMORY, w)
    m = clipped(e_abs, 3.0 * size if n > 20 else 0.0)
    st.e_size += a * (m - st.e_size)
    st.e_quick += max(QUICK, w) * (m - st.e_quick)
    if ad > 0.0:
        m = clipped(e_abs, 3.0 * st.e_moved)
        st.e_moved = st.e_moved + max(a, 0.002) * (m - st.e_moved) if st.e_moved > 0.0 else m
    m = 4.0 * st.c_size if n > 20 and st.c_size > 0.0 else np.inf
    learnt = max(-m, min(m, c))
    if not paused:
        m = max(-m, min(m, last))
        st.c0 += a * (m * m - st.c0)
        st.c1 += a * (learnt * m - st.c1)
        if st.c0 > 0.0:
            st.phi = max(0.0, min(0.99, st.c1 / st.c0))
    st.c_size += a * (clipped(abs(c), 3.0 * st.c_size if n > 20 else 0.0) - st.c_size)
    level += max(weight(dt, LEVEL_S), w) * learnt
    st.level = level
    st.c = x - expected - level
    st.base = expected
    st.had_base = known
    return most, signal


@within
def stuck(st, n, equal, w):
    """Whether a run of equal values has become too long, told once; equal: this reading goes on with one."""
    found = False
    share = 0.0
    if equal:
        share = 1.0
        run = st.run + 1.0
        st.run = run
        if (
            n >= STUCK_FROM
            and not st.run_told
            and run >= 2.0 * max(1.5 * st.run_longest, 2.5)
            and st.repeats < 0.998
            and run * math.log(st.repeats * 0.999 + 1.0 / (n + 1.0)) < -18.0
        ):
            found = True
            st.run_told = 1
    else:
        # A run that was told is not learnt.
        if st.run > st.run_longest and not st.run_told:
            st.run_longest = st.run
        st.run = 0.0
        st.run_told = 0
    st.repeats += max(0.001, w) * (share - st.repeats)
    st.run_longest *= 1.0 - 2e-5
    return found


@within
def drift(st, t, wide, hold, budget):
    """Once a half hour is over: the ratio of the residuals' trend to its threshold, 0 = not near."""
    st.drift_ready = 0
    m = abs(st.fast - st.trend)
    still = STILL_WEIGHT * st.e_moved
    size = max(st.trend_size, still if st.e_size < still else 0.0)
    if size > 0.0 and m > tails.BOUND[tails.DRIFT] * size:
        return ratio(st, tails.DRIFT, m / size, t, hold, budget) / wide
    return 0.0
