"""Calls the kernel with the types that it is called with, so that it is compiled or loaded."""

from __future__ import annotations

import numpy as np

from .fold import fold


def call_everything() -> None:
    """Fold one scan of each type."""
    for dtype in (np.float64, np.int64):
        values = np.zeros((1, 1), dtype)
        floats, longs = np.zeros((2, 1)), np.zeros((3, 1), np.int64)
        kept = np.zeros((4, 1), dtype)
        fold(values, np.ones((1, 1), np.bool_), np.zeros(1, np.int64), longs[0], *floats, *kept, *longs[1:])
