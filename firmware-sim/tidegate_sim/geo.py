"""Metres on a plane round a place, and back to degrees: enough for a town."""

from __future__ import annotations

import math
from dataclasses import dataclass

_METRES_PER_DEGREE = 6_371_008.8 * math.pi / 180


@dataclass(frozen=True, slots=True)
class Place:
    """The origin of a plane: x metres east, y metres north. Within 20 km the error is under 1 in 1,000."""

    lat: float
    lon: float

    def to_degrees(self, x_m: float, y_m: float) -> tuple[float, float]:
        """(lat, lon) of a point of the plane, in millionths of a degree as receivers tell them."""
        lat = self.lat + y_m / _METRES_PER_DEGREE
        lon = self.lon + x_m / (_METRES_PER_DEGREE * math.cos(math.radians(self.lat)))
        return round(lat, 6), round(lon, 6)

    def to_metres(self, lat: float, lon: float) -> tuple[float, float]:
        """(x, y) of a position."""
        scale = _METRES_PER_DEGREE * math.cos(math.radians(self.lat))
        return (lon - self.lon) * scale, (lat - self.lat) * _METRES_PER_DEGREE
