"""Where an adaptive residual model starts: the chance that a residual's unary count stops at bin j, by size class.

Class c stands for residuals whose mean is 2**(c / 4). A row gives, in 65,536ths, the chance to stop at bin 0, at odd
bins, at even bins, and the slope by which both change from bin to bin; the values were fitted once to zigzag residuals
drawn half from a normal and half from a Laplace distribution, and are part of the format.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BINS = 20  # unary bins before a residual escapes
CLASS_MIN = -16
CLASS_MAX = 11
START_MIN = 2048
START_MAX = 65440

HAZARDS = np.array(
    [
        (62843, 34493, 67900, -1862), (62341, 34269, 67440, -1738), (61749, 33989, 66786, -1556),
        (61048, 33392, 65569, -1103), (60222, 33158, 64919, -982), (59249, 32562, 63561, -546),
        (58105, 32262, 62711, -402), (56763, 32005, 61868, -315), (55192, 31909, 61309, -411),
        (53362, 31810, 60680, -535), (51239, 31697, 59946, -686), (48798, 31542, 59026, -852),
        (46029, 31272, 57747, -994), (42960, 30759, 55820, -1048), (39675, 29842, 52920, -942),
        (36292, 28426, 48945, -667), (32918, 26574, 44175, -299), (29626, 24458, 39097, 49),
        (26466, 22245, 34126, 307), (23476, 20051, 29508, 458), (22749, 25092, 26110, 809),
        (19630, 21447, 22153, 744), (16870, 18265, 18743, 648), (14449, 15484, 15795, 551),
        (12340, 13053, 13246, 467), (10513, 10944, 11053, 395), (8938, 9144, 9198, 330),
        (7586, 7640, 7662, 267),
    ],
    np.int64,
)  # fmt: skip


def _chances() -> npt.NDArray[np.int64]:
    bins = np.arange(BINS)
    first, odd, even, slope = (HAZARDS[:, i : i + 1] for i in range(4))
    rows = np.where(bins & 1, odd, even) + bins * slope
    rows[:, :1] = first
    return np.clip(rows, START_MIN, START_MAX).astype(np.int64)  # type: ignore[no-any-return]


CHANCES = _chances()  # [class - CLASS_MIN, bin]
