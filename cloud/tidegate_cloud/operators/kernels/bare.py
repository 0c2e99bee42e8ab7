"""How kernels of fences and anomalies are compiled: without numba's counting of references.

They hand each other tuples of arrays, thousands of times a millisecond, and make none; counting who holds which array
took several times as long as the work itself. A kernel that makes an array cannot be compiled this way: numba says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba as nb


def bare(kernel: Callable[..., Any]) -> Any:
    """Compile a kernel that makes no arrays."""
    return nb.njit(cache=True, _nrt=False, error_model="numpy")(kernel)  # type: ignore[call-overload]


def within(kernel: Callable[..., Any]) -> Any:
    """The same, for a part of one caller: it is taken in there, and its many arguments cost nothing."""
    return nb.njit(cache=True, _nrt=False, error_model="numpy", forceinline=True)(kernel)  # type: ignore[call-overload]
