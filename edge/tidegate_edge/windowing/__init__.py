"""Fewer scans where every one is not needed: per channel raw, deadband or tumbling aggregates (docs/agent.md).

rules      which channel of which device is treated how: the configuration, compiled per device and schema
deadband   values that moved
tumbling   windows of event time and their accumulators
folding    a run of scans into accumulators: numpy, or numba's kernel where it is ready
windows    all of it behind `take`, and what is stored so that an acknowledgement never waits for a window
"""

from __future__ import annotations

from .windows import Made, Windows

__all__ = ["Made", "Windows"]
