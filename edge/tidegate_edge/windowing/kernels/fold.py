"""The kernel: values of a run of scans into the accumulators of one window, one pass, in the order of arrival."""

from __future__ import annotations

from numba import njit


@njit(cache=True)
def fold(values, valid, ts, count, mean, m2, low, high, first, last, first_ts, last_ts):
    """Mean and squared deviations by Welford (1962). Shapes and types: `..folding.Accumulator`."""
    for j in range(values.shape[1]):
        for i in range(values.shape[0]):
            if not valid[i, j]:
                continue
            value = values[i, j]
            count[j] += 1
            delta = float(value) - mean[j]
            mean[j] += delta / count[j]
            m2[j] += delta * (float(value) - mean[j])
            if count[j] == 1:
                low[j] = high[j] = first[j] = last[j] = value
                first_ts[j] = last_ts[j] = ts[i]
                continue
            if value < low[j]:
                low[j] = value
            if value > high[j]:
                high[j] = value
            if ts[i] < first_ts[j]:
                first[j], first_ts[j] = value, ts[i]
            if ts[i] >= last_ts[j]:
                last[j], last_ts[j] = value, ts[i]
