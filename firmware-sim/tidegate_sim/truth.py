"""What truly happened, as JSON lines: injected faults, and crossings of fences by the true path.

    {"type": "start",    "device", "ts_us", "inside": [fence ids]}
    {"type": "crossing", "device", "ts_us", "fence", "kind": "entered" | "exited", "lat", "lon"}
    {"type": "fault",    "device", "start_us", "end_us", "kind", "channel", "size", "unit"}

A crossing's time is that of the first 0.2 s step on the other side. The path is without the receiver's errors, so a
system that sees only fixes finds a crossing some seconds sooner or later, and near an edge perhaps not at all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TextIO

import numpy as np
import numpy.typing as npt
import shapely
from tidegate_protocols.registry import Fence

from .faults import Fault
from .geo import Place


class FenceOracle:
    """Which fences a point of the plane lies in: shapely for areas, plain distance for circles."""

    def __init__(self, place: Place, fences: Sequence[Fence]) -> None:
        self._place = place
        self.ids = [fence.id for fence in fences]
        self._circles: list[tuple[int, float, float, float]] = []
        self._areas: list[tuple[int, shapely.Geometry]] = []
        for i, fence in enumerate(fences):
            shape = shapely.from_geojson(fence.geometry)
            if fence.radius_m is None:
                plane = shapely.transform(shape, self._to_plane)
                shapely.prepare(plane)
                self._areas.append((i, plane))
            else:
                self._circles.append((i, *place.to_metres(shape.y, shape.x), fence.radius_m))

    def inside(self, x_m: float, y_m: float) -> frozenset[str]:
        """Ids of the fences that hold the point."""
        hits = [i for i, x, y, radius in self._circles if math.hypot(x_m - x, y_m - y) <= radius]
        hits += [i for i, area in self._areas if shapely.intersects_xy(area, x_m, y_m)]
        return frozenset(self.ids[i] for i in hits)

    def _to_plane(self, coordinates: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.array([self._place.to_metres(lat, lon) for lon, lat in coordinates])


class Truth:
    """Writes the truth file as things happen; with `out` None it only keeps the sides."""

    def __init__(self, place: Place, fences: Sequence[Fence], out: TextIO | None) -> None:
        self._place = place
        self._oracle = FenceOracle(place, fences)
        self._out = out
        self._sides: dict[str, frozenset[str]] = {}
        self.crossings = 0
        self.faults = 0

    def at(self, device: str, ts_us: int, x_m: float, y_m: float) -> None:
        """Where a device truly is; its crossings since the last call are written."""
        inside = self._oracle.inside(x_m, y_m)
        before = self._sides.get(device)
        self._sides[device] = inside
        if before is None:
            self._write({"type": "start", "device": device, "ts_us": ts_us, "inside": sorted(inside)})
            return
        lat, lon = self._place.to_degrees(x_m, y_m)
        for kind, fences in (("exited", before - inside), ("entered", inside - before)):
            for fence in sorted(fences):
                self.crossings += 1
                self._write({"type": "crossing", "device": device, "ts_us": ts_us, "fence": fence, "kind": kind,
                             "lat": lat, "lon": lon})  # fmt: skip

    def fault(self, device: str, start_us: int, fault: Fault, unit: str) -> None:
        """A fault has begun on a device that started at `start_us`."""
        self.faults += 1
        self._write({
            "type": "fault", "device": device, "start_us": start_us + round(fault.start_s * 1e6),
            "end_us": start_us + round(fault.end_s * 1e6), "kind": fault.kind, "channel": fault.channel,
            "size": round(fault.size, 3), "unit": unit,
        })  # fmt: skip

    def _write(self, line: dict[str, object]) -> None:
        if self._out is not None:
            self._out.write(json.dumps(line) + "\n")
            self._out.flush()
