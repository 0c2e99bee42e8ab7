"""The engine's compiled loops."""

from __future__ import annotations

from pathlib import Path

from tidegate_protocols.kernel_cache import keep_apart

keep_apart("engine", Path(__file__).parent)
