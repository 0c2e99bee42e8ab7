"""What a frame may hold at most. Every cap is checked before anything is allocated for it."""

from __future__ import annotations

from ..batch import SCANS_MAX

CELLS_MAX = 1 << 20  # scans x (channels + 1): 8 MiB of values
FRAME_MAX = 10 << 20  # bytes: what CELLS_MAX takes raw, with room for masks and heads

__all__ = ["CELLS_MAX", "FRAME_MAX", "SCANS_MAX"]
