"""Where every device is and when it was heard, in columns: what pages are sent as binary deltas (docs/api.md).

A device has a slot, a small number that stays its own for as long as the console runs. A message holds, little-endian::

    u8   2: the layout's version
    u8   1: positions
    u16  0
    u32  n
    f64  base: milliseconds since 1970 UTC
    u32  [n] slot
    i32  [n] latitude, 1e-7 degrees; -2**31, as the longitude, where no place is known
    i32  [n] longitude, 1e-7 degrees
    i32  [n] age of the newest reading at `base`, milliseconds
    i32  [n] how long before `base` Kafka had the newest frame, milliseconds
    u16  [n] speed, cm/s; 65535: not known, 65534: that or more
    u16  [n] heading, 1/100 degree; 65535: not known

24 bytes a device, in columns that a browser reads as typed arrays without touching a single one.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_HEAD = struct.Struct("<BBHId")
_SMALLEST = 1024
_UNKNOWN = 65_535
_NOWHERE = -(2**31)
_AGE_MAX = 2**31 - 1
Floats = npt.NDArray[np.float64]


class Places(NamedTuple):
    """Where n devices were last heard to be.

    lat, lon        float64 [n], WGS 84 degrees; NaN where no place is known
    speed, heading  float64 [n], m/s and degrees; NaN where it is not known
    ts_us           int64 [n], of the newest reading, microseconds since 1970 UTC
    heard_us        int64 [n], when Kafka had the newest frame
    """

    ids: list[str]
    lat: Floats
    lon: Floats
    speed: Floats
    heading: Floats
    ts_us: npt.NDArray[np.int64]
    heard_us: npt.NDArray[np.int64]


class View(NamedTuple):
    """A part of the world, degrees. West of east, or across the antimeridian where it is not."""

    west: float = -180.0
    south: float = -90.0
    east: float = 180.0
    north: float = 90.0


class Positions:
    """See the module's docstring. The event loop owns it. `seq` counts changes, from 1."""

    def __init__(self) -> None:
        self.seq = 1
        self.ids: list[str] = []
        self._slots: dict[str, int] = {}
        self._lat = np.zeros(_SMALLEST, np.int32)
        self._lon = np.zeros(_SMALLEST, np.int32)
        self._ms = np.zeros(_SMALLEST, np.float64)
        self._heard_ms = np.zeros(_SMALLEST, np.float64)
        self._speed = np.full(_SMALLEST, _UNKNOWN, np.uint16)
        self._heading = np.full(_SMALLEST, _UNKNOWN, np.uint16)
        self._at = np.zeros(_SMALLEST, np.int64)  # the seq of a slot's last change; -1 once its device has gone

    def put(self, places: Places) -> None:
        """Take in where devices are now."""
        self.seq += 1
        slots = np.array([self._slot(each) for each in places.ids], np.int64)
        while len(self.ids) > len(self._at):
            self._grow()
        nowhere = np.isnan(places.lat) | np.isnan(places.lon)
        self._lat[slots] = np.where(nowhere, _NOWHERE, np.rint(np.clip(places.lat, -90.0, 90.0) * 1e7))
        self._lon[slots] = np.where(nowhere, _NOWHERE, np.rint(np.clip(places.lon, -180.0, 180.0) * 1e7))
        self._ms[slots], self._heard_ms[slots] = places.ts_us / 1000, places.heard_us / 1000
        speed, heading = np.clip(np.rint(places.speed * 100), 0, 65_534), np.rint(places.heading % 360 * 100) % 36_000
        self._speed[slots] = np.where(np.isnan(speed), _UNKNOWN, speed)
        self._heading[slots] = np.where(np.isfinite(heading), heading, _UNKNOWN)
        self._at[slots] = self.seq

    def _slot(self, device: str) -> int:
        slot = self._slots.get(device)
        if slot is None:
            slot = self._slots[device] = len(self.ids)
            self.ids.append(device)
        return slot

    def remove(self, device: str) -> int | None:
        """A device is no longer known; returns its slot."""
        slot = self._slots.pop(device, None)
        if slot is not None:
            self._at[slot] = -1
        return slot

    def __len__(self) -> int:
        return len(self.ids)

    def inside(self, view: View) -> npt.NDArray[np.bool_]:
        """bool [slots]: which devices are in a view. Those without a place are in every one."""
        n = len(self.ids)
        west, east = view.west * 1e7, view.east * 1e7
        lon, lat = self._lon[:n], self._lat[:n]
        across = (lon >= west) & (lon <= east) if west <= east else (lon >= west) | (lon <= east)
        there = across & (lat >= view.south * 1e7) & (lat <= view.north * 1e7)
        found: npt.NDArray[np.bool_] = (there | (lat == _NOWHERE)) & (self._at[:n] >= 0)
        return found

    def changed(self, since: int) -> npt.NDArray[np.bool_]:
        """bool [slots]: which devices moved after `since`."""
        found: npt.NDArray[np.bool_] = self._at[: len(self.ids)] > since
        return found

    def message(self, chosen: npt.NDArray[np.bool_], now_us: int) -> bytes:
        """The positions of these slots as a message."""
        slots = np.flatnonzero(chosen).astype("<u4")
        base_ms = now_us / 1000
        age, heard = (
            np.clip(base_ms - times[slots], -_AGE_MAX, _AGE_MAX).astype("<i4") for times in (self._ms, self._heard_ms)
        )
        columns = (
            slots, self._lat[slots].astype("<i4", copy=False), self._lon[slots].astype("<i4", copy=False), age,
            heard, self._speed[slots].astype("<u2", copy=False), self._heading[slots].astype("<u2", copy=False),
        )  # fmt: skip
        return _HEAD.pack(2, 1, 0, len(slots), base_ms) + b"".join(column.tobytes() for column in columns)

    def _grow(self) -> None:
        n = len(self._at)
        self._lat, self._lon = np.resize(self._lat, 2 * n), np.resize(self._lon, 2 * n)
        self._ms, self._heard_ms = np.resize(self._ms, 2 * n), np.resize(self._heard_ms, 2 * n)
        self._speed, self._heading = np.resize(self._speed, 2 * n), np.resize(self._heading, 2 * n)
        self._at = np.concatenate([self._at, np.zeros(n, np.int64)])
