"""Novelty of a channel's values, and checks for what a broken sensor does. One pass, bounded state, no look ahead.

Each signal is held against its own record: the range it has kept to, which shrinks slowly. How far a value lies beyond
it, in units of the range, is its margin; records adapt to any tail. The score is the largest margin, less while the
channel is young:

    value           the reading
    class residual  reading less the mean of its half hour of the day, weekdays and weekend apart
    daily residual  the same over all days: of use a week earlier
    surprise        mean over 2.5 h of |r| / mean |r|, r = reading less its mean over 12 h
    signed surprise mean over 2.5 h of r / mean |r|: lasting one-sided excursions
    step            |change| against its record, weight 0.3
    noise           mean |change| over 1.5 h over that of 40 h, against its record, weight 0.5

Means forget exponentially with time constants in seconds; a reading after dt seconds weighs dt / (dt + constant).
The constants hold for intervals of up to 5 minutes; they grow with longer ones.
Residuals are clipped at 3 mean sizes before they are learnt: an anomaly does not become usual.

The score passes when it is well above the recent ones (the refractory), and is an alarm above a threshold that is
learnt from the channel's own past peaks for the alarm budget: a Pareto tail over U of the peaks of episodes, started
from a prior. Checks: gap, stuck, noise, drift; see `watch`.

The shape of the signals follows the exponentially weighted likelihood idea (Ahmad et al., 2017) with records in place
of distributions.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

BEGIN, SETTLED = 0, 1
VALUE, CLASS, DAILY, SURPRISE, SIGNED, STEP, NOISE, GAP, STUCK, DRIFT = range(10)

BINS = 48
WEEK_S = 604_800.0
# A reading is new within an episode until this long after the last alarm.
EPISODE_S = 6 * 3600.0
# Time constants, seconds.
SLOW_S = 42_500.0
SIZE_S = 24_700.0
SURPRISE_S = 8_800.0
RECORD_S = 3e6
HOLD_S = 9_700.0
PROFILE_S = 2_700.0
RESIDUAL_S = 59_700.0
STEP_S = 149_700.0
NOISE_S = 5_700.0
NOISE_RECORD_S = 3e7
SPARSE_S = 300.0
# Half the sensitivity is reached after so many readings and so much time.
WARM_READINGS = 150.0
WARM_S = 45_000.0
CLIP = 7.0
ROBUST = 3.0
REFRACTORY = 1.7
STEP_WEIGHT = 0.3
NOISE_WEIGHT = 0.5
# The learnt threshold: peaks over U; counts and mean log height of the prior.
U = 0.05
PRIOR_COUNT = 10.0
PRIOR_WEEKS = 20.0
PRIOR_HEIGHT = 0.8
PRIOR_HEIGHTS = 30.0
# Noise: mean |change| over 1.5 h, each clipped, over the usual; against its record and at least so much.
ROUGH_CLIP = 5.0
ROUGH_FACTOR = 1.2
ROUGH_LEAST = 1.4
ROUGH_READINGS = 500.0
# The share of the budget that novelty may spend; the checks take the rest.
NOVELTY_SHARE = 0.7
# Drift: CUSUM of 90-minute means over their mean size.
BLOCK_S = 5_400.0
BLOCKS_MIN = 112
BLOCK_WEIGHT = 0.02
BLOCK_CLIP = 4.0
BLOCK_SLACK = 2.5


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
        if size > 0.0 and n >= 50:
            if x > hi:
                out = (x - hi) / size
            elif x < lo:
                out = (lo - x) / size
        d = 0.5 * size * shrink
        hi = max(x, hi - d)
        lo = min(x, lo + d)
    st.lo[k] = lo
    st.hi[k] = hi
    return out


@nb.njit(cache=True, error_model="numpy")
def watch(
    at, device, row, ts_us, values, rows, budget,
    score, ev_scan, ev_kind, ev_signal, ev_score, ev_low, ev_high,
):  # fmt: skip
    """Watch one channel from scan `at` on; returns the scan at which room ran out (else n), and the number of events.

    device, ts_us, values  [n]; a value that is not finite, or not later than the last, is as if it were not sent
    row                    by device of the block: its row in `rows` (anomaly.ROW)
    budget                 wanted false episodes per week
    score                  float64 [n] or [0], out: the score of every reading, 0 = nothing new
    ev_*                   out: scan, BEGIN or SETTLED, signal, score, the band that was usual (NaN = not known)

    Gap: the reading comes after more than 3 times the longest usual interval. Stuck: a run of equal values twice as
    long as usual, and by its chance to repeat less likely than e^-18. Noise: the mean change of 1.5 h over the usual
    one. Drift: two-sided CUSUM of 90-minute means of the class residual, clipped, against its own record.
    """
    k_out = 0
    for i in range(at, ts_us.shape[0]):
        v = values[i]
        st = rows[row[device[i]]]
        t = ts_us[i] * 1e-6
        n = st.n
        dt = t - st.t
        if score.shape[0] > 0:
            score[i] = 0.0
        if not math.isfinite(v) or (n > 0 and dt <= 0.0):
            continue
        if k_out + 2 > ev_scan.shape[0]:
            return i, k_out
        if n == 0:
            st.first = v
            st.began = t
            st.block_began = t
            st.t = t
            dt = 0.0
        w = 1.0 / (n + 1.0)
        age = min(float(n), st.age_s * (WARM_READINGS / WARM_S))
        young = age / (age + WARM_READINGS)
        # Relative to the first reading: profiles are float32.
        x = v - st.first
        d = x - st.x
        ad = abs(d)
        signal = -1

        # ---- gap: intervals are learnt by reading, whatever they are
        if n > 0:
            longest = max(st.dt_longest, 2.0 * st.dt_mean)
            if n < 20:
                st.dt_mean += (dt - st.dt_mean) / n
                st.dt_longest = max(st.dt_longest, dt)
            else:
                if dt > 3.0 * longest:
                    signal = GAP
                st.dt_mean += 0.02 * (min(dt, 3.0 * st.dt_mean) - st.dt_mean)
                st.dt_longest *= 1.0 - 1e-4
                if dt > st.dt_longest:
                    st.dt_longest = min(dt, max(1.5 * st.dt_longest, 3.0 * st.dt_mean))
        st.t = t
        # After a pause a reading counts as one after a usual interval.
        if n > 20:
            dt = min(dt, 3.0 * st.dt_mean)
        # A mean needs readings, whatever their interval: beyond 5 minutes all time constants grow with it.
        dt /= max(1.0, st.dt_mean / SPARSE_S)
        st.age_s += dt
        shrink = min(1.0, dt / RECORD_S)

        # ---- novelty
        best = VALUE
        s = _margin(st, VALUE, x, n, shrink)
        r = x - st.slow
        st.slow += max(dt / (dt + SLOW_S), w) * r
        z = r / (st.size + 1e-12) if st.size > 0.0 else 0.0
        st.size += max(dt / (dt + SIZE_S), w) * (abs(r) - st.size)
        a = dt / (dt + SURPRISE_S)
        st.surprise += a * (min(abs(z), CLIP) - st.surprise)
        z = max(-CLIP, min(CLIP, r / (st.size + 1e-12)))
        st.signed += a * (z - st.signed)
        m = _margin(st, SURPRISE, st.surprise, n, shrink)
        if m > s:
            s = m
            best = SURPRISE
        m = _margin(st, SIGNED, st.signed, n, shrink)
        if m > s:
            s = m
            best = SIGNED

        # ---- time of day, UTC; 1970-01-01 was a Thursday
        day = math.floor(t / 86400.0)
        q = min(int((t - 86400.0 * day) * (BINS / 86400.0)), BINS - 1)
        dow = (int(day) + 4) % 7
        b = q + BINS if dow == 0 or dow == 6 else q
        limit = ROBUST * st.residual_size
        seen = st.residuals
        low = np.nan
        high = np.nan
        k = min(20, st.seen[q] + st.seen[q + BINS])
        e = x - st.profile[2 * BINS + q]
        a = dt / (dt + PROFILE_S)
        if k > 0:
            m = _margin(st, DAILY, e, n if st.lo[DAILY] != st.hi[DAILY] else 0, shrink)
            if m > s:
                s = m
                best = DAILY
            if seen >= 200 and k >= 6:
                e = max(-limit, min(limit, e))
        st.profile[2 * BINS + q] += np.float32(max(a, 1.0 / (k + 1.0)) * e)
        k = st.seen[b]
        e = x - st.profile[b]
        if k > 0:
            low = st.first + st.profile[b] + st.lo[CLASS]
            high = st.first + st.profile[b] + st.hi[CLASS]
            m = _margin(st, CLASS, e, seen, shrink)
            if m > s:
                s = m
                best = CLASS
            st.residuals = seen + 1
            st.block_sum += e
            st.block_n += 1
            size = abs(e)
            if seen >= 200:
                size = min(size, limit)
                st.residual_size += dt / (dt + RESIDUAL_S) * (size - st.residual_size)
                if k >= 6:
                    e = max(-limit, min(limit, e))
            else:
                st.residual_size += (size - st.residual_size) * max(dt / (dt + RESIDUAL_S), 1.0 / (seen + 1.0))
        st.profile[b] += np.float32(max(a, 1.0 / (k + 1.0)) * e)
        if k < 20:
            st.seen[b] = k + 1

        # ---- step and noise
        if n >= 50 and st.step > 0.0:
            m = STEP_WEIGHT * (ad / st.step - 1.0)
            if m > s:
                s = m
                best = STEP
        st.step = max(ad, st.step * (1.0 - shrink))
        if st.step_mean > 0.0:
            st.ratio += dt / (dt + NOISE_S) * (min(ad / st.step_mean, 8.0) - st.ratio)
            if n >= 50 and st.ratio_record > 0.0:
                m = NOISE_WEIGHT * (st.ratio / st.ratio_record - 1.0)
                if m > s:
                    s = m
                    best = NOISE
            st.ratio_record = max(st.ratio, st.ratio_record * (1.0 - min(1.0, dt / NOISE_RECORD_S)))
        st.step_mean += max(dt / (dt + STEP_S), w) * (ad - st.step_mean)

        # ---- more noise, as a check of its own: robust against single steps
        if st.calm > 0.0:
            st.rough += max(dt / (dt + NOISE_S), w) * (min(ad / st.calm, ROUGH_CLIP) - st.rough)
            learnt = st.rough
            if age > ROUGH_READINGS:
                if st.rough > ROUGH_LEAST and st.rough > ROUGH_FACTOR * st.rough_record:
                    signal = NOISE
                # What is reported is learnt slowly.
                learnt = min(learnt, 1.02 * st.rough_record)
            st.rough_record = max(learnt, st.rough_record * (1.0 - shrink))
            st.calm += max(dt / (dt + STEP_S), w) * ((min(ad, 3.0 * st.calm) if age > ROUGH_READINGS else ad) - st.calm)
        else:
            st.calm = ad

        # ---- refractory and learnt threshold
        s *= young
        recent = st.recent * HOLD_S / (HOLD_S + dt)
        if s > REFRACTORY * recent:
            if score.shape[0] > 0:
                score[i] = s
            if s > U:
                if st.peak > 0.0 and t - st.peak_t > EPISODE_S:
                    st.peaks += 1.0
                    st.heights += math.log(st.peak / U)
                    st.peak = 0.0
                rate = (st.peaks + PRIOR_COUNT) / ((t - st.began) / WEEK_S + PRIOR_WEEKS)
                beta = (st.heights + PRIOR_HEIGHTS * PRIOR_HEIGHT) / (st.peaks + PRIOR_HEIGHTS)
                if s > U * max(1.0, rate / (NOVELTY_SHARE * budget)) ** beta:
                    signal = best
                st.peak = max(st.peak, s)
                st.peak_t = t
        st.recent = max(recent, s)

        # ---- stuck
        if n > 0:
            if d == 0.0:
                st.run += 1.0
                need = 2.0 * max(1.5 * st.run_longest, 6.0)
                if (
                    n >= 200
                    and st.run_told == 0.0
                    and st.run > need
                    and st.repeats < 0.998
                    and st.run * math.log(st.repeats * 0.999 + w) < -18.0
                ):
                    signal = STUCK
                    st.run_told = 1.0
            else:
                # A run that was reported is not learnt.
                if st.run > st.run_longest and st.run_told == 0.0:
                    st.run_longest = st.run
                st.run = 0.0
                st.run_told = 0.0
            st.repeats += max(0.001, w) * ((1.0 if d == 0.0 else 0.0) - st.repeats)
            st.run_longest *= 1.0 - 2e-5

        # ---- drift
        if t - st.block_began > BLOCK_S:
            if st.block_n >= 3:
                mean = st.block_sum / st.block_n
                if st.blocks >= BLOCKS_MIN and st.block_size > 0.0:
                    z = max(-BLOCK_CLIP, min(BLOCK_CLIP, mean / st.block_size))
                    st.cusum_up = max(0.0, st.cusum_up + z - BLOCK_SLACK)
                    st.cusum_down = max(0.0, st.cusum_down - z - BLOCK_SLACK)
                    cusum = max(st.cusum_up, st.cusum_down)
                    if cusum > 1.1 * max(st.cusum_record, 4.0):
                        signal = DRIFT
                    st.cusum_record = max(0.98 * st.cusum_record, cusum)
                st.block_size += max(BLOCK_WEIGHT, 1.0 / (st.blocks + 1.0)) * (abs(mean) - st.block_size)
                st.blocks += 1
            st.block_sum = 0.0
            st.block_n = 0
            st.block_began = t
        st.x = x
        st.n = n + 1

        # ---- episodes: one begin, one end, however often it speaks in between
        if st.open and t - st.alarm_t > EPISODE_S:
            st.open = 0
            ev_scan[k_out] = i
            ev_kind[k_out] = SETTLED
            ev_signal[k_out] = st.signal
            ev_score[k_out] = st.highest
            ev_low[k_out] = low
            ev_high[k_out] = high
            k_out += 1
        if signal >= 0:
            if not st.open:
                st.open = 1
                st.since_us = ts_us[i]
                st.signal = signal
                st.highest = s
                ev_scan[k_out] = i
                ev_kind[k_out] = BEGIN
                ev_signal[k_out] = signal
                ev_score[k_out] = s
                ev_low[k_out] = low
                ev_high[k_out] = high
                k_out += 1
            st.highest = max(st.highest, s)
            st.alarm_t = t
    return ts_us.shape[0], k_out
