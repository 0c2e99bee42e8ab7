"""The border where scans may be folded into fewer before they are stored.

Only `raw` is there: every scan is kept as it came. The configuration refuses anything else.
"""

from __future__ import annotations

from typing import Protocol

from tidegate_protocols.scan import Scan


class Window(Protocol):
    """Takes the scans of one message, in order, and gives those to store."""

    def take(self, scans: list[Scan]) -> tuple[list[Scan], int]:
        """Return the scans to store now, and how many of those taken were folded into others."""


class Raw:
    """Every scan as it came."""

    def take(self, scans: list[Scan]) -> tuple[list[Scan], int]:
        return scans, 0
