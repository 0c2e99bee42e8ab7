"""Windowing in numba: one loop that folds scans into accumulators. `..folding` checks and calls it."""

from __future__ import annotations

from pathlib import Path

from tidegate_protocols.kernel_cache import keep_apart

keep_apart("windowing", Path(__file__).parent)
