"""Whether the compiled codecs are at hand, and how they come to be without anybody waiting for a compiler.

numba compiles each kernel once per machine and keeps the result beside the source (or in the user's cache where that
cannot be written). `prepare` lets a child process do that, then loads the result in a thread; until `ready` says so,
frames are written by the plain codec and read by the plain-Python decoder. `load` does the same at once, for tests,
benchmarks and programs that would rather wait. ``TIDEGATE_KERNELS=off`` keeps to the plain codec for good.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from ..errors import Misuse

_lock = threading.Lock()
_loader: threading.Thread | None = None
_loaded = threading.Event()
_done = threading.Event()


def available() -> bool:
    """Whether the compiled codecs can be had at all: numba is installed and nobody turned them off."""
    return os.environ.get("TIDEGATE_KERNELS") != "off" and importlib.util.find_spec("numba") is not None


def ready() -> bool:
    """Whether the compiled codecs can be called without waiting."""
    return _loaded.is_set()


def prepare() -> None:
    """See to it that `ready` becomes true, and return at once. Calling it again does nothing."""
    global _loader
    with _lock:
        if _loader is not None or _loaded.is_set() or not available():
            return
        _loader = threading.Thread(target=_compile_and_load, name="tidegate-kernels", daemon=True)
        _loader.start()


def wait(timeout_s: float | None = None) -> bool:
    """Wait until what `prepare` began has ended. Returns `ready`."""
    if _loader is not None:
        _done.wait(timeout_s)
    return ready()


def load() -> None:
    """Load the compiled codecs here and now, compiling what has not been compiled. Raises Misuse without numba."""
    if _loaded.is_set():
        return
    if not available():
        raise Misuse("the compiled codecs need numba (pip install tidegate[kernels]), and TIDEGATE_KERNELS not off")
    from .kernels import warm

    warm.call_everything()
    _loaded.set()


def _compile_and_load() -> None:
    try:
        # A child of its own: compiling takes seconds of one core, and the interpreter's lock with it. The child ends
        # when its standard input does, which is when this process ends, however it ends.
        child = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        if child.wait() == 0:
            load()
    except OSError:
        pass  # no process to be had: the plain codec goes on serving
    finally:
        _done.set()


def _compile() -> None:
    """What the child does: compile what is not yet compiled, while no other child on this machine does the same."""
    if hasattr(os, "nice"):
        os.nice(10)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from .kernels.apart import FOLDER

    with _turn(FOLDER):
        from .kernels import warm

        warm.call_everything()


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


@contextlib.contextmanager
def _turn(folder: Path | None) -> Iterator[None]:
    """Hold the folder's lock: whoever waited for it finds everything compiled."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system: twice the work at worst
        yield
        return
    if folder is None:
        yield
        return
    with open(folder / "compiling", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    _compile()
