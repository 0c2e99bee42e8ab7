"""Imported before any kernel is compiled: sends what is compiled to the folder of this state of the sources.

Every kernel stands on `bits`, which imports this. The package itself does not, because its tables (`hazards`, `heads`)
are read where numba must not be loaded.
"""

from __future__ import annotations

from pathlib import Path

from ...kernel_cache import keep_apart

FOLDER = keep_apart("codec", Path(__file__).parent)
