"""Thresholds learnt from a score's own past, for an alarm budget.

A score above a fixed bound is a candidate. Candidates within an episode are one, and its peak counts. The threshold at
which peaks come as rarely as the budget allows follows from their rate and a Pareto tail of their heights (peaks over
threshold: Davison & Smith, 1990), both started from a prior. So each channel meets the budget by its own past.
"""

from __future__ import annotations

import math

import numpy as np

from .bare import bare

NOVELTY, SPIKE, PAIR, SHIFT, ROUGH, DRIFT, JOINT = range(7)
TAILS = 7
WEEK_S = 604_800.0
# By tail: the bound; the share of the budget; the prior of the rate of episodes (per week) with the weeks that it
# weighs, and of their mean log height with the episodes that it weighs.
BOUND = (0.05, 5.0, 3.5, 4.0, 1.7, 3.5, 1.5)
SHARE = (0.5, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2)
PRIOR_RATE = (0.5, 0.3, 0.3, 0.3, 0.2, 0.3, 0.1)
PRIOR_WEEKS = (20.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0)
PRIOR_HEIGHT = (0.8, 0.15, 0.25, 0.15, 0.15, 0.16, 0.25)
PRIOR_HEIGHTS = (30.0, 6.0, 6.0, 6.0, 6.0, 20.0, 6.0)
_TABLE = np.array([BOUND, SHARE, PRIOR_RATE, PRIOR_WEEKS, PRIOR_HEIGHT, PRIOR_HEIGHTS])
# A peak counts up to so many thresholds: what is far beyond is a fault more likely than what is usual.
MOST = 1.5


@bare
def ratio(st, k, s, t, hold, budget):
    """A candidate score s over the threshold of tail k at time t (seconds); the tail then takes it in.

    hold    seconds after which a candidate begins another episode
    budget  false episodes per week, of all tails together
    """
    u = _TABLE[0, k]
    if st.peak[k] > 0.0 and t - st.peak_t[k] > hold:
        st.peaks[k] += 1.0
        st.heights[k] += math.log(st.peak[k] / u)
        st.peak[k] = 0.0
    weeks = (t - st.began) / WEEK_S
    rate = (st.peaks[k] + _TABLE[2, k] * _TABLE[3, k]) / (weeks + _TABLE[3, k])
    beta = (st.heights[k] + _TABLE[4, k] * _TABLE[5, k]) / (st.peaks[k] + _TABLE[5, k])
    threshold = u * max(1.0, rate / (_TABLE[1, k] * budget)) ** beta
    st.peak[k] = max(st.peak[k], min(s, MOST * threshold))
    st.peak_t[k] = t
    return s / threshold
