"""The slots of the decisions that make up a column's head, and where their chances start. Part of the format."""

from __future__ import annotations

import numpy as np

FOLLOWS, NULLS, MASK, RAW, SPLIT_RAW, STRANGE, ZERO, CONTEXTS, APART, OTHER_THAN_ZERO = 0, 1, 2, 4, 5, 6, 7, 8, 9, 10
KIND, TRANSFORM, MODE, EXPONENT, SIZE, BASE, STEP, OTHER = 16, 24, 28, 36, 68, 324, 452, 580
SLOTS = 708

# Chances that do not start at one half: (slot, 65,536ths). They count for two decisions seen.
STARTS = np.array(
    [
        (FOLLOWS, 62000), (NULLS, 3000), (MASK, 20000), (MASK + 1, 60000), (RAW, 1500), (SPLIT_RAW, 8000),
        (STRANGE, 2500), (ZERO, 6000), (CONTEXTS, 12000), (APART, 5000),
        (KIND + 1, 6000), (KIND + 2, 6000), (KIND + 4, 63000),  # DECIMALS
        (TRANSFORM + 1, 2000), (TRANSFORM + 2, 5000),
        (EXPONENT + 1, 2500), (EXPONENT + 2, 8000), (EXPONENT + 4, 14000),
        (SIZE + 1, 1500), (SIZE + 2, 9000),
        (BASE + 1, 700), (BASE + 2, 3500), (STEP + 1, 700), (STEP + 2, 4000), (STEP + 4, 12000), (OTHER + 1, 700),
    ],
    np.int64,
)  # fmt: skip
START_SEEN = 2
