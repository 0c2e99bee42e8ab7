"""Folding a run of scans into accumulators, in numpy, or in numba's kernel once that is ready. Both give the same bits.

The kernel is compiled in a child process and loaded in a thread, like the codec's; nobody waits for it, and without
numba nothing is missing but speed. ``TIDEGATE_KERNELS=off`` keeps to numpy.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tidegate_protocols.codec import backend
from tidegate_protocols.scan import Value

Array = npt.NDArray[Any]

_lock = threading.Lock()
_loader: threading.Thread | None = None
_kernel: Callable[..., None] | None = None


class Accumulator:
    """What a window knows of c channels of one type, float64 or int64 (bool counts as 0 and 1).

    count, first_ts, last_ts     int64 [c]
    mean, m2                     float64 [c]: the mean, and the sum of squared deviations from it
    low, high, first, last       of the channels' type [c]; undefined while the count is 0
    """

    def __init__(self, channels: int, dtype: type[np.float64 | np.int64]) -> None:
        self.dtype = dtype
        self.count, self.first_ts, self.last_ts = np.zeros((3, channels), np.int64)
        self.mean, self.m2 = np.zeros((2, channels), np.float64)
        self.low, self.high, self.first, self.last = np.zeros((4, channels), dtype)

    def arrays(self) -> tuple[Array, ...]:
        """In the order in which kernels take them."""
        return (
            self.count, self.mean, self.m2, self.low, self.high, self.first, self.last, self.first_ts, self.last_ts,
        )  # fmt: skip

    def to_bytes(self) -> bytes:
        return b"".join(array.tobytes() for array in self.arrays())

    @classmethod
    def from_bytes(cls, channels: int, dtype: type[np.float64 | np.int64], data: bytes) -> Accumulator:
        """The reverse of `to_bytes`. Raises ValueError for bytes of another length."""
        found = cls(channels, dtype)
        if len(data) != 9 * 8 * channels:
            raise ValueError(f"{len(data)} bytes for {channels} accumulators")
        for i, array in enumerate(found.arrays()):
            array[:] = np.frombuffer(data, array.dtype, channels, i * 8 * channels)
        return found


def fold(accumulator: Accumulator, ts: Sequence[int], rows: Sequence[Sequence[Value]]) -> None:
    """Take a run of scans: their times (µs) and per scan the values of the accumulator's channels."""
    values, valid = _columns(rows, accumulator.dtype)
    times = np.array(ts, np.int64)
    if _kernel is not None:
        _kernel(values, valid, times, *accumulator.arrays())
    else:
        fold_numpy(values, valid, times, *accumulator.arrays())


def _columns(rows: Sequence[Sequence[Value]], dtype: type[np.float64 | np.int64]) -> tuple[Array, Array]:
    valid = np.array([[value is not None for value in row] for row in rows], np.bool_)
    values = np.array([[0 if value is None else value for value in row] for row in rows], dtype)
    return values, valid


def fold_numpy(
    values: Array, valid: Array, ts: Array, count: Array, mean: Array, m2: Array,
    low: Array, high: Array, first: Array, last: Array, first_ts: Array, last_ts: Array,
) -> None:  # fmt: skip
    """As the kernel, channels side by side. Overflows give infinities, as there, and no warnings."""
    with np.errstate(all="ignore"):
        for value, there, at in zip(values, valid, ts, strict=True):
            count += there
            delta = value.astype(np.float64) - mean
            np.add(mean, delta / np.maximum(count, 1), out=mean, where=there)
            np.add(m2, delta * (value.astype(np.float64) - mean), out=m2, where=there)
            fresh = there & (count == 1)
            for array in (low, high, first, last):
                np.copyto(array, value, where=fresh)
            for array in (first_ts, last_ts):
                np.copyto(array, at, where=fresh)
            np.copyto(low, value, where=there & (value < low))
            np.copyto(high, value, where=there & (value > high))
            earlier, later = there & (at < first_ts), there & (at >= last_ts)
            np.copyto(first, value, where=earlier)
            np.copyto(first_ts, at, where=earlier)
            np.copyto(last, value, where=later)
            np.copyto(last_ts, at, where=later)


def ready() -> bool:
    """Whether the kernel is in use."""
    return _kernel is not None


def prepare() -> None:
    """See to it that the kernel comes into use, and return at once. Calling it again does nothing."""
    global _loader
    with _lock:
        if _loader is None and backend.available():
            _loader = threading.Thread(target=_compile_and_load, name="tidegate-windowing", daemon=True)
            _loader.start()


def load() -> None:
    """Compile and load the kernel here and now, for tests and benchmarks."""
    global _kernel
    from .kernels import warm
    from .kernels.fold import fold as kernel

    warm.call_everything()
    _kernel = kernel


def _compile_and_load() -> None:
    try:
        child = subprocess.run(
            [sys.executable, "-m", __name__], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        if child.returncode == 0:
            load()
    except OSError:
        pass  # no process to be had: numpy goes on serving


if __name__ == "__main__":
    import os

    os.nice(10)
    load()
