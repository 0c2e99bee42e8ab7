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

Scores become alarms at thresholds that each channel learns from its own past (anomaly_tails); of several that speak,
the one furthest beyond its threshold is told. Time constants are in seconds; where a statistic is about neighbouring
readings, in readings. A naive twin (tests/support/naive_anomaly.py) says the same in plain Python.
"""

from __future__ import annotations

import numpy as np

from . import anomaly_tails as tails
from .anomaly_checks import drift, innovation, stuck
from .anomaly_novelty import novelty, refractory
from .anomaly_signals import DAILY, DRIFT, GAP, PAIR, RANGE, SPIKE, STEP, STUCK
from .anomaly_usual import days_since, turn
from .bare import bare

BEGIN, SETTLED, CANDIDATE = 0, 1, 2

# An episode lasts until this long after its last alarm: so many intervals, within bounds.
EPISODE_INTERVALS = 72.0
EPISODE_S_LEAST = 3600.0
EPISODE_S_MOST = 6 * 3600.0
# A channel's zero is the last of so many first readings, which are not learnt.
ANCHOR = 8
# What is beyond is no measurement: squares, and the 24 bits that what is usual is kept to, must hold it.
MOST_VALUE = 1e30
# Candidates from this share of the threshold on count towards the joint score of a device.
CANDIDATE_RATIO = 0.5
GAP_MISSED = 3.2
# A mean needs readings: beyond this interval the time constants grow with it.
SPARSE_S = 300.0


@bare
def _alarm(st, i, ts_us, v, x, signal, ratio, low, high, hold, k, ev_scan, ev_kind, ev_signal, ev_number):
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
    # What drifts does so for hours, however often it is read.
    st.over_t = max(st.over_t, ts_us * 1e-6 + (EPISODE_S_MOST if signal == DRIFT else hold))
    return k


@bare
def watch(
    at, device, row, ts_us, values, rows, budget, zone, zone_first, zone_start, zone_offset, wide, keep,
    low, high, score, ev_scan, ev_kind, ev_signal, ev_number,
):  # fmt: skip
    """Watch one channel from scan `at` on; returns the scan at which room ran out (else n), and the number of events.

    device, ts_us, values  [n]; a value that is not finite, beyond MOST_VALUE, or not later than the last, is as if it
                           were not sent
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
        if st.open and t > st.over_t:
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
        if not abs(v) <= MOST_VALUE:
            # Other channels of the scan have a value and this one does not: it may be overdue.
            if n > ANCHOR + 20 and not st.gap_told and dt > max(GAP_MISSED * st.dt_mean, 1.5 * st.dt_longest):
                st.gap_told = 1
                k_out = _alarm(
                    st,
                    i,
                    us,
                    np.nan,
                    np.nan,
                    GAP,
                    1.0,
                    np.nan,
                    np.nan,
                    st.hold,
                    k_out,
                    ev_scan,
                    ev_kind,
                    ev_signal,
                    ev_number,
                )
            continue
        if v < low or v > high:
            k_out = _alarm(
                st,
                i,
                us,
                v,
                v - st.first,
                RANGE,
                1.0,
                low,
                high,
                max(st.hold, EPISODE_S_LEAST),
                k_out,
                ev_scan,
                ev_kind,
                ev_signal,
                ev_number,
            )
            if n > 0:
                st.t = t
            continue
        if n < ANCHOR:
            st.first = v
            if n == 0:
                st.began = t
                st.until = -np.inf
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
        signal = -1
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
                        st.over_t = max(st.over_t, t + st.hold)
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
        # Peaks of a score are told apart by readings: where something is beyond a bound every minute, an hour without
        # would never come, and nothing would be learnt. Alarms are told apart by an hour at least.
        apart = min(EPISODE_S_MOST, EPISODE_INTERVALS * dt_mean)
        hold = max(EPISODE_S_LEAST, apart)
        st.hold = hold
        if dt_mean > SPARSE_S:
            dt *= SPARSE_S / dt_mean
        age_s = st.age_s + dt
        st.age_s = age_s

        # ---- time of day
        if t >= st.until:
            z = zone[dev]
            turn(st, t, zone_first[z], zone_first[z + 1], zone_start, zone_offset)
        st.visit_sum += x
        st.visit_n += 1
        if x > st.today_hi:
            st.today_hi = x
        if x < st.today_lo:
            st.today_lo = x

        # ---- what the reading says
        s, best, expected, known, band_low, band_high = novelty(st, n, t, x, abs(d), dt, w)
        band_low += st.first
        band_high += st.first
        s = refractory(st, s, n, dt, age_s)
        if score.shape[0] > 0:
            score[i] = s
        if s > tails.BOUND[tails.NOVELTY]:
            m = tails.ratio(st, tails.NOVELTY, s, t, apart, budget) / wide[dev]
            if m > most:
                most = m
                signal = best
        m, best = innovation(
            st, n, t, x, abs(d), expected, known, dt, w, age_s, paused, wide[dev], apart, budget
        )  # fmt: skip
        if m > most:
            most = m
            signal = best
        if stuck(st, n, d == 0.0, w) and most < 1.0:
            most = 1.0
            signal = STUCK
        if st.drift_ready:
            m = drift(st, t, wide[dev], EPISODE_S_MOST, budget)
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
                    st,
                    i,
                    us,
                    v,
                    x,
                    signal,
                    most,
                    band_low,
                    band_high,
                    hold,
                    k_out,
                    ev_scan,
                    ev_kind,
                    ev_signal,
                    ev_number,
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
