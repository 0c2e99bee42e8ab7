"""Novelty of a channel's values, and checks for what a broken sensor does. One pass, bounded state, no look ahead.

**Novelty.** Each signal is held against its own record: the range it has kept to, which shrinks slowly. How far a value
lies beyond it, in units of the range, is its margin; records adapt to any tail. The score is the largest margin, less
while the channel is young:

    value           the reading
    class residual  reading less what is usual at its time of day, weekdays and weekend apart
    daily residual  the same over all days: of use a week earlier
    surprise        mean over 2.5 h of |r| / mean |r|, r = reading less its mean over 12 h
    signed surprise mean over 2.5 h of r / mean |r|: lasting one-sided excursions
    step            |change| against its record, weight 0.3
    noise           mean |change| over 1.5 h over that of 40 h, against its record, weight 0.5

What is usual is learnt by half hours of local time, from the mean of each visit, and read between their middles
(anomaly_usual). The shape of the signals follows the exponentially weighted likelihood idea (Ahmad et al., 2017) with
records in place of distributions.

**Checks** look at what one reading says that the last ones did not: the innovation, its residual less what a
first-order autoregression (learnt) expects, in units of its mean size.

    spike    |innovation|
    pair     the smaller of it and the largest of the last three: two in a row are rarer than one
    shift    mean innovation of the last 8 readings or so, each clipped (EWMA chart: Roberts, 1959)
    rough    mean |innovation| over the last 20 readings or so: more noise
    drift    residuals' mean over 3 h less that over 72 h, in units of its mean size, by half hours
    stuck    a run of equal values twice as long as usual, and by its chance to repeat less likely than e^-18
    gap      more than 3 missed readings, and half as long again as the longest usual interval
    range    a value outside the channel's declared range; it is not learnt

Scores become alarms at thresholds that each channel learns from its own past (anomaly_tails). Time constants are in
seconds; where a statistic is about neighbouring readings, in readings.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from . import anomaly_tails as tails
from .anomaly_tails import ratio as _ratio
from .anomaly_usual import ROBUST, days_since, turn

BEGIN, SETTLED, CANDIDATE = 0, 1, 2
(
    VALUE, CLASS, DAILY, SURPRISE, SIGNED, STEP, NOISE, GAP, STUCK, DRIFT, SPIKE, PAIR, SHIFT, ROUGH, RANGE, JOINT,
) = range(16)  # fmt: skip

# A reading is new within an episode until this long after the last alarm: so many intervals, within bounds.
EPISODE_INTERVALS = 72.0
EPISODE_S_LEAST = 3600.0
EPISODE_S_MOST = 6 * 3600.0
# A channel's zero is the last of so many first readings, which are not learnt.
ANCHOR = 8
# Candidates from this share of the threshold on count towards the joint score of a device.
CANDIDATE_RATIO = 0.5
GAP_MISSED = 3.2
# ---- novelty: time constants, seconds
SLOW_S = 42_500.0
SIZE_S = 24_700.0
SURPRISE_S = 8_800.0
RECORD_S = 3e6
HOLD_S = 9_700.0
RESIDUAL_S = 59_700.0
STEP_S = 149_700.0
NOISE_S = 5_700.0
NOISE_RECORD_S = 3e7
# A mean needs readings: beyond this interval the constants grow with it.
SPARSE_S = 300.0
# Half the sensitivity is reached after so many readings and so much time.
WARM_READINGS = 150.0
WARM_S = 45_000.0
CLIP = 7.0
REFRACTORY = 1.7
STEP_WEIGHT = 0.3
NOISE_WEIGHT = 0.5
# ---- checks
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


@nb.njit(cache=True, inline="always", error_model="numpy")
def _weight(dt, constant):
    """dt / (dt + constant) for dt much less than the constant, without a division."""
    d = dt * (1.0 / constant)
    return d - d * d


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
        if (x > hi or x < lo) and size > 0.0 and n >= 50:
            out = max(x - hi, lo - x) / size
        d = 0.5 * size * shrink
        hi = max(x, hi - d)
        lo = min(x, lo + d)
    st.lo[k] = lo
    st.hi[k] = hi
    return out


@nb.njit(cache=True, inline="always", error_model="numpy")
def _clipped(m, limit):
    """m, at most limit; a limit of 0 is none: what never moved must be able to begin."""
    return min(m, limit) if limit > 0.0 else m


@nb.njit(cache=True, error_model="numpy")
def _alarm(st, i, ts_us, v, x, signal, ratio, low, high, k, ev_scan, ev_kind, ev_signal, ev_number):
    """An alarm at scan i: the episode's begin when none is open, and its peak. Returns the number of events."""
    if not st.open:
        st.open = 1
        st.since_us = ts_us
        st.signal = signal
        st.highest = 0.0
        ev_scan[k] = i
        ev_kind[k] = BEGIN
        ev_signal[k] = signal
        ev_number[k, 0] = ratio
        ev_number[k, 1] = low
        ev_number[k, 2] = high
        ev_number[k, 3] = v
        ev_number[k, 4] = days_since(st, x)
        ev_number[k, 5] = st.n
        k += 1
    if ratio > st.highest or st.highest == 0.0:
        st.highest = ratio
        st.peak_value = v
        st.peak_us = ts_us
    st.alarm_t = ts_us * 1e-6
    return k


@nb.njit(cache=True, error_model="numpy")
def watch(
    at, device, row, ts_us, values, rows, budget, zone, zone_first, zone_start, zone_offset, wide, keep,
    low, high, score, ev_scan, ev_kind, ev_signal, ev_number,
):  # fmt: skip
    """Watch one channel from scan `at` on; returns the scan at which room ran out (else n), and the number of events.

    device, ts_us, values  [n]; a value that is not finite, or not later than the last, is as if it were not sent
    row                    by device of the block: its row in `rows` (anomaly.ROW)
    budget                 wanted false episodes per week
    zone                   by device of the block: its time zone; `zone_first` [zones + 1] says where a zone's
                           transitions begin in zone_start, zone_offset
    wide                   by device: thresholds are multiplied by it
    keep                   by device, float64 [, 2]: what is usual is widened from .. to (from > to: not)
    low, high              the channel's declared range
    score                  float64 [n] or [0], out: the novelty of every reading, 0 = nothing new
    ev_*                   out: scan; BEGIN, SETTLED or CANDIDATE; signal; numbers [, 6]: ratio of score and threshold,
                           low and high of what was usual (NaN = not known), value, days that it is the highest (lowest:
                           negative) of, readings known. SETTLED: highest ratio, NaN, NaN, value and time (µs) of the
                           peak, and since when (µs)
    """
    k_out = 0
    for i in range(at, ts_us.shape[0]):
        v = values[i]
        dev = device[i]
        st = rows[row[dev]]
        us = ts_us[i]
        t = us * 1e-6
        n = st.n
        dt = t - st.t
        if score.shape[0] > 0:
            score[i] = 0.0
        if n > 0 and dt <= 0.0:
            continue
        if k_out + 2 > ev_scan.shape[0]:
            return i, k_out
        if st.open and t - st.alarm_t > max(st.hold, EPISODE_S_LEAST):
            st.open = 0
            ev_scan[k_out] = i
            ev_kind[k_out] = SETTLED
            ev_signal[k_out] = st.signal
            ev_number[k_out, 0] = st.highest
            ev_number[k_out, 1] = np.nan
            ev_number[k_out, 2] = np.nan
            ev_number[k_out, 3] = st.peak_value
            ev_number[k_out, 4] = st.peak_us
            ev_number[k_out, 5] = st.since_us
            k_out += 1
        if not math.isfinite(v):
            # Other channels of the scan have a value and this one does not: it may be overdue.
            if n > ANCHOR + 20 and not st.gap_told and dt > max(GAP_MISSED * st.dt_mean, 1.5 * st.dt_longest):
                st.gap_told = 1
                k_out = _alarm(
                    st, i, us, np.nan, np.nan, GAP, 1.0, np.nan, np.nan, k_out, ev_scan, ev_kind, ev_signal, ev_number
                )
            continue
        if v < low or v > high:
            k_out = _alarm(
                st, i, us, v, v - st.first, RANGE, 1.0, low, high, k_out, ev_scan, ev_kind, ev_signal, ev_number
            )
            if n > 0:
                st.t = t
            continue
        if n < ANCHOR:
            st.first = v
            if n == 0:
                st.began = t
                st.day = -(1 << 30)
            else:
                st.dt_mean += (dt - st.dt_mean) / n
                st.dt_longest = max(st.dt_longest, dt)
            st.t = t
            st.n = n + 1
            continue
        n -= ANCHOR
        w = 1.0 / (n + 1.0) if n < 2000 else 0.0
        # Relative to the anchor: profiles are float32.
        x = v - st.first
        d = x - st.x
        ad = abs(d)
        signal = -1
        best = VALUE
        most = 0.0

        # ---- gap: intervals are learnt by reading, whatever they are
        paused = False
        if n < 20:
            st.dt_mean += (dt - st.dt_mean) / (n + ANCHOR)
            st.dt_longest = max(st.dt_longest, dt)
        else:
            usual = 3.0 * st.dt_mean
            if dt > usual:
                paused = True
                if dt > max(GAP_MISSED * st.dt_mean, 1.5 * st.dt_longest):
                    if st.gap_told:
                        st.alarm_t = t
                    else:
                        signal = GAP
                        most = 1.0
            st.dt_longest *= 1.0 - 1e-4
            if dt > st.dt_longest:
                st.dt_longest = min(dt, max(1.5 * st.dt_longest, usual))
            # After a pause a reading counts as one after a usual interval.
            dt = min(dt, usual)
            st.dt_mean += 0.02 * (dt - st.dt_mean)
        st.gap_told = 0
        st.t = t
        dt_mean = st.dt_mean
        hold = max(EPISODE_S_LEAST, min(EPISODE_S_MOST, EPISODE_INTERVALS * dt_mean))
        st.hold = hold
        if dt_mean > SPARSE_S:
            dt *= SPARSE_S / dt_mean
        age_s = st.age_s + dt
        st.age_s = age_s
        shrink = dt * (1.0 / RECORD_S)

        # ---- time of day
        if t >= st.until:
            z = zone[dev]
            turn(st, t, zone_start[zone_first[z] : zone_first[z + 1]], zone_offset[zone_first[z] : zone_first[z + 1]])
        st.visit_sum += x
        st.visit_n += 1
        if x > st.today_hi:
            st.today_hi = x
        if x < st.today_lo:
            st.today_lo = x

        # ---- novelty
        band_low = st.first + st.lo[VALUE]
        band_high = st.first + st.hi[VALUE]
        s = _margin(st, VALUE, x, n, shrink)
        r = x - st.slow
        st.slow += max(_weight(dt, SLOW_S), w) * r
        size = st.size
        size += max(_weight(dt, SIZE_S), w) * (abs(r) - size)
        st.size = size
        z = max(-CLIP, min(CLIP, r / (size + 1e-300)))
        a = _weight(dt, SURPRISE_S)
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
            m = _margin(st, DAILY, x - expected, n if st.lo[DAILY] != st.hi[DAILY] else 0, shrink)
            if m > s:
                s = m
                best = DAILY
        if st.known:
            known = 2
            expected = st.usual + base
            e = x - expected
            if st.residuals >= 50:
                band_low = st.first + expected + st.lo[CLASS]
                band_high = st.first + expected + st.hi[CLASS]
            m = _margin(st, CLASS, e, st.residuals, shrink)
            if m > s:
                s = m
                best = CLASS
            st.residuals += 1
            size = abs(e)
            if st.residuals >= 200:
                size = _clipped(size, ROBUST * st.residual_size)
                st.residual_size += _weight(dt, RESIDUAL_S) * (size - st.residual_size)
            else:
                st.residual_size += (size - st.residual_size) * max(_weight(dt, RESIDUAL_S), 1.0 / st.residuals)
            # For the drift check, by half hours.
            st.drift_sum += e
            st.drift_n += 1
        base = expected
        step = st.step * (1.0 - shrink)
        if ad > step:
            if n >= 50 and st.step > 0.0:
                m = STEP_WEIGHT * (ad / st.step - 1.0)
                if m > s:
                    s = m
                    best = STEP
            step = ad
        st.step = step
        if st.step_mean > 0.0:
            now = st.ratio + _weight(dt, NOISE_S) * (min(ad / st.step_mean, 8.0) - st.ratio)
            record = st.ratio_record * (1.0 - dt * (1.0 / NOISE_RECORD_S))
            st.ratio = now
            if now > record:
                if n >= 50 and st.ratio_record > 0.0:
                    m = NOISE_WEIGHT * (now / st.ratio_record - 1.0)
                    if m > s:
                        s = m
                        best = NOISE
                record = now
            st.ratio_record = record
        st.step_mean += max(_weight(dt, STEP_S), w) * (ad - st.step_mean)
        # The refractory: what goes on is not new unless it grows.
        recent = st.recent * (1.0 - _weight(dt, HOLD_S))
        if s > 0.0:
            age = min(float(n), age_s * (WARM_READINGS / WARM_S))
            s *= age / (age + WARM_READINGS)
            if s > REFRACTORY * recent:
                if score.shape[0] > 0:
                    score[i] = s
                if s > tails.BOUND[tails.NOVELTY]:
                    m = _ratio(st, tails.NOVELTY, s, t, hold, budget) / wide[dev]
                    if m > most:
                        most = m
                        signal = best
            recent = max(recent, s)
        st.recent = recent

        # ---- checks on the innovation
        level = st.level
        if st.had_base != known:
            # What is usual comes to be known, or no longer is: the level goes on where it was.
            level += st.base - base
        last = st.c
        c = x - base - level
        e = c - st.phi * last
        e_abs = abs(e)
        still = STILL_WEIGHT * st.e_moved
        calm = max(st.e_size, still)
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
                factor = wide[dev] * (1.0 + YOUNG_READINGS / (n + 1.0) + YOUNG_S / (age_s + 600.0))
                for k, q in (
                    (tails.SPIKE, au), (tails.PAIR, pair), (tails.SHIFT, shift / shift_size), (tails.ROUGH, rough),
                ):  # fmt: skip
                    if q > tails.BOUND[k]:
                        m = _ratio(st, k, q, t, hold, budget) / factor
                        if m > most:
                            most = m
                            signal = SPIKE + k - tails.SPIKE
            st.shift_size += max(MEMORY, w) * (_clipped(shift, 4.0 * st.shift_size if n > 50 else 0.0) - st.shift_size)
        # Learn, clipped.
        a = max(MEMORY, w)
        m = _clipped(e_abs, 3.0 * size if n > 20 else 0.0)
        st.e_size += a * (m - st.e_size)
        st.e_quick += max(QUICK, w) * (m - st.e_quick)
        if ad > 0.0:
            m = _clipped(e_abs, 3.0 * st.e_moved)
            st.e_moved = st.e_moved + max(a, 0.002) * (m - st.e_moved) if st.e_moved > 0.0 else m
        m = 4.0 * st.c_size if n > 20 and st.c_size > 0.0 else np.inf
        learnt = max(-m, min(m, c))
        if not paused:
            m = max(-m, min(m, last))
            st.c0 += a * (m * m - st.c0)
            st.c1 += a * (learnt * m - st.c1)
            if st.c0 > 0.0:
                st.phi = max(0.0, min(0.99, st.c1 / st.c0))
        st.c_size += a * (_clipped(abs(c), 3.0 * st.c_size if n > 20 else 0.0) - st.c_size)
        level += max(_weight(dt, LEVEL_S), w) * learnt
        st.level = level
        st.c = x - base - level
        st.base = base
        st.had_base = known

        # ---- stuck
        equal = 0.0
        if d == 0.0:
            equal = 1.0
            run = st.run + 1.0
            st.run = run
            if (
                n >= STUCK_FROM
                and not st.run_told
                and run >= 2.0 * max(1.5 * st.run_longest, 2.5)
                and st.repeats < 0.998
                and run * math.log(st.repeats * 0.999 + 1.0 / (n + 1.0)) < -18.0
            ):
                signal = STUCK
                most = max(most, 1.0)
                st.run_told = 1
        else:
            # A run that was reported is not learnt.
            if st.run > st.run_longest and not st.run_told:
                st.run_longest = st.run
            st.run = 0.0
            st.run_told = 0
        st.repeats += max(0.001, w) * (equal - st.repeats)
        st.run_longest *= 1.0 - 2e-5

        # ---- drift, judged when a half hour was over
        if st.drift_ready:
            st.drift_ready = 0
            m = abs(st.fast - st.trend)
            size = max(st.trend_size, still if st.e_size < still else 0.0)
            if size > 0.0 and m > tails.BOUND[tails.DRIFT] * size:
                m = _ratio(st, tails.DRIFT, m / size, t, hold, budget) / wide[dev]
                if m > most:
                    most = m
                    signal = DRIFT
        st.x = x
        st.n += 1

        # ---- episodes: one begin, one end, however often it speaks in between
        if most > CANDIDATE_RATIO:
            ok = True
            if keep[dev, 0] <= keep[dev, 1] and (signal <= DAILY or signal == STEP or SPIKE <= signal <= PAIR):
                ok = v < min(keep[dev, 0], band_low) or v > max(keep[dev, 1], band_high)
            if most >= 1.0 and ok:
                k_out = _alarm(
                    st, i, us, v, x, signal, most, band_low, band_high, k_out, ev_scan, ev_kind, ev_signal, ev_number
                )
            elif most < 1.0 and not st.open:
                ev_scan[k_out] = i
                ev_kind[k_out] = CANDIDATE
                ev_signal[k_out] = signal
                ev_number[k_out, 0] = most
                ev_number[k_out, 1] = band_low
                ev_number[k_out, 2] = band_high
                ev_number[k_out, 3] = v
                ev_number[k_out, 4] = 0.0
                ev_number[k_out, 5] = n
                k_out += 1
    return ts_us.shape[0], k_out
