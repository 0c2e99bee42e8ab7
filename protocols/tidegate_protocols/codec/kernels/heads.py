"""The slots of the decisions that make up a column's head, and where their chances start. Part of the format."""

from __future__ import annotations

import numpy as np

FOLLOWS, NULLS, MASK, RAW, PLAIN_MASK, STRANGE, ZERO, CONTEXTS, APART, OTHER_THAN_ZERO = 0, 1, 2, 4, 5, 6, 7, 8, 9, 10
BLOCKS = 12
KIND, TRANSFORM, MODE, EXPONENT, SIZE, BASE, STEP, OTHER, DECADE = 16, 24, 28, 36, 68, 324, 452, 580, 708
SLOTS = 716

# Chances that do not start at one half: (slot, 65,536ths). They count for two decisions seen. Fitted once to recorded
# series and vehicles and to simulated sensors, and rounded.
STARTS = np.array(
    [
        (FOLLOWS, 62000), (NULLS, 2000), (MASK, 20000), (MASK + 1, 60000), (RAW, 1200), (PLAIN_MASK, 2000),
        (STRANGE, 2000), (ZERO, 12000), (CONTEXTS, 9000), (APART, 7000), (OTHER_THAN_ZERO, 14000),
        (OTHER_THAN_ZERO + 1, 40000), (BLOCKS, 1200),
        (KIND + 1, 8000), (KIND + 2, 2500), (KIND + 3, 6000), (KIND + 4, 63500), (KIND + 6, 60000),
        (TRANSFORM + 1, 2500), (TRANSFORM + 2, 16000), (TRANSFORM + 3, 12000),
        (MODE + 1, 18000), (MODE + 2, 56000), (MODE + 3, 38000), (MODE + 4, 48000), (MODE + 5, 42000),
        (MODE + 6, 56000), (MODE + 7, 14000),
        (EXPONENT + 1, 1200), (EXPONENT + 2, 9500), (EXPONENT + 4, 16000), (EXPONENT + 5, 22000),
        (SIZE + 1, 5000), (SIZE + 2, 7000), (SIZE + 4, 27000), (SIZE + 5, 23000), (SIZE + 8, 42000), (SIZE + 9, 19000),
        (SIZE + 10, 13000),
        (BASE + 1, 1000), (BASE + 2, 4500), (BASE + 4, 9000), (BASE + 8, 20000), (BASE + 9, 46000), (BASE + 16, 7000),
        (BASE + 17, 25000), (BASE + 32, 3000), (BASE + 34, 46000), (BASE + 35, 15000), (BASE + 64, 2500),
        (STEP + 1, 1000), (STEP + 2, 2500), (STEP + 4, 3000), (STEP + 8, 8000), (STEP + 16, 7000), (STEP + 17, 18000),
        (STEP + 64, 7000), (STEP + 65, 5000),
        (OTHER + 1, 1000), (OTHER + 2, 1500), (OTHER + 4, 5500), (OTHER + 8, 5000), (OTHER + 16, 22000),
        (OTHER + 32, 11000), (OTHER + 33, 10000), (OTHER + 64, 23000), (OTHER + 66, 54000),
        (DECADE + 1, 50000), (DECADE + 2, 9000), (DECADE + 3, 60000), (DECADE + 4, 14000), (DECADE + 7, 50000),
    ],
    np.int64,
)  # fmt: skip
START_SEEN = 2
