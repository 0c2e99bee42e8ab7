"""Deadband: a value is kept when it differs from the last kept one by more than the band, or after a long silence."""

from __future__ import annotations

from tidegate_protocols.scan import Value

from .rules import Band


class Deadband:
    """The last kept values of one band of one device."""

    def __init__(self, band: Band) -> None:
        self._band = band
        self._kept: tuple[Value, ...] | None = None
        self._kept_us = 0

    def moved(self, ts_us: int, values: tuple[Value, ...]) -> bool:
        """Whether the band's channels are kept from this scan. A null is never kept, nor remembered."""
        now = tuple(values[i] for i in self._band.places)
        if all(value is None for value in now):
            return False
        kept = self._kept
        quiet = ts_us - self._kept_us >= self._band.silence_us or ts_us < self._kept_us
        if kept is not None and not quiet and not any(map(self._differs, kept, now)):
            return False
        self._kept, self._kept_us = now, ts_us
        return True

    def _differs(self, kept: Value, now: Value) -> bool:
        if kept is None or now is None:
            return now is not kept
        return abs(now - kept) > self._band.band
