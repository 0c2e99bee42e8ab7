"""Loops that numba compiles. Each takes arrays whose shapes and types its caller has checked, and writes into arrays
that its caller made. A naive twin in tests/support/naive.py says what is right.
"""

from __future__ import annotations

from pathlib import Path

from tidegate_protocols.kernel_cache import keep_apart

keep_apart("operators", Path(__file__).parent)
