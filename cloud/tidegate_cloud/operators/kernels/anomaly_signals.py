"""Which signal speaks, by number, and what those that work them out share."""

from __future__ import annotations

import numba as nb

(
    VALUE, CLASS, DAILY, SURPRISE, SIGNED, STEP, NOISE, GAP, STUCK, DRIFT, SPIKE, PAIR, SHIFT, ROUGH, RANGE, JOINT,
) = range(16)  # fmt: skip


@nb.njit(cache=True, inline="always", error_model="numpy")
def weight(dt, constant):
    """dt / (dt + constant) for dt much less than the constant, without a division."""
    d = dt * (1.0 / constant)
    return d - d * d


@nb.njit(cache=True, inline="always", error_model="numpy")
def clipped(m, limit):
    """m, at most limit; a limit of 0 is none: what never moved must be able to begin."""
    return min(m, limit) if limit > 0.0 else m
