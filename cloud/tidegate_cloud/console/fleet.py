"""What is known of every device: its name, where it is and what it last said. Pure; one thread owns it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from tidegate_protocols.batch import Batch
from tidegate_protocols.registry import Device
from tidegate_protocols.schema import ACCURACY, HEADING, LAT, LON, SPEED

from .views import DeviceView, Reading

_NOT_READINGS = frozenset({LAT, LON})


class _Newest:
    """`at` says of which time each channel's value is, so that a backlog never takes the place of the present."""

    __slots__ = ("at", "view")

    def __init__(self, view: DeviceView) -> None:
        self.view = view
        self.at: dict[str, int] = {}


class Fleet:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._devices: dict[str, _Newest] = {}
        self._named: dict[str, Device] = {}

    def __len__(self) -> int:
        return len(self._devices)

    def name(self, device_id: str, device: Device | None) -> None:
        """The registry says what a device is called, or no longer says so. One that was never heard is listed too."""
        if device is None:
            self._named.pop(device_id, None)
            known = self._devices.get(device_id)
            if known is not None and known.view.heard_us is None:
                del self._devices[device_id]
                return
        else:
            self._named[device_id] = device
        self._of(device_id)
        self._label(device_id)

    def batch(self, batch: Batch, append_us: int) -> None:
        """Take in a batch; `append_us` is when Kafka had it."""
        newest = self._of(batch.device)
        view = newest.view
        view.heard_us = append_us if view.heard_us is None else max(view.heard_us, append_us)
        # A clock that was ahead must not hide everything that comes after it is set right.
        limit = append_us
        ts_us = int(batch.ts_us.max())
        if view.ts_us is None or ts_us >= view.ts_us or view.ts_us > limit:
            view.ts_us = ts_us
        positions = batch.schema.is_position and self._position(newest, batch, limit)
        for i, channel in enumerate(batch.schema.channels):
            if channel.name in _NOT_READINGS and batch.schema.is_position:
                continue
            found = _last(batch, i)
            if found is None:
                continue
            at, value = found
            if not _newer(newest.at.get(channel.name), at, limit):
                continue
            newest.at[channel.name] = at
            view.readings[channel.name] = Reading(value, channel.unit)
        if positions:
            for name in (SPEED, HEADING, ACCURACY):
                reading = view.readings.get(name)
                setattr(view, name, None if reading is None else reading.value)

    def views(self, devices: Iterable[str]) -> Iterator[DeviceView]:
        """What is known of these devices; those that are no more are left out."""
        for device in devices:
            newest = self._devices.get(device)
            if newest is not None:
                yield newest.view

    def _position(self, newest: _Newest, batch: Batch, limit: int) -> bool:
        lat, lon = batch.schema.index[LAT], batch.schema.index[LON]
        both = [mask for mask in (batch.valid[lat], batch.valid[lon]) if mask is not None]
        good = np.isfinite(batch.columns[lat]) & np.isfinite(batch.columns[lon])
        for mask in both:
            good &= mask
        places = np.flatnonzero(good)
        if not len(places):
            return False
        last = int(places[-1])
        at = int(batch.ts_us[last])
        if not _newer(newest.at.get(LAT), at, limit):
            return False
        newest.at[LAT] = at
        newest.view.lat = float(batch.columns[lat][last])
        newest.view.lon = float(batch.columns[lon][last])
        return True

    def _of(self, device_id: str) -> _Newest:
        newest = self._devices.get(device_id)
        if newest is None:
            newest = self._devices[device_id] = _Newest(DeviceView(id=device_id, readings={}))
            self._label(device_id)
        return newest

    def _label(self, device_id: str) -> None:
        named = self._named.get(device_id)
        view = self._devices[device_id].view
        view.name, view.group, view.type, view.report_interval_s = (
            (named.name, named.group, named.type, named.report_interval_s) if named else ("", "", "", None)
        )


def _newer(known_us: int | None, at_us: int, limit_us: int) -> bool:
    return known_us is None or at_us >= known_us or known_us > limit_us


def _last(batch: Batch, channel: int) -> tuple[int, float | int | bool | None] | None:
    """The last value of a channel with its time; None when the batch has none. Not finite becomes null."""
    mask = batch.valid[channel]
    if mask is None:
        last = len(batch) - 1
    else:
        places = np.flatnonzero(mask)
        if not len(places):
            return None
        last = int(places[-1])
    value = batch.columns[channel][last].item()
    return int(batch.ts_us[last]), None if isinstance(value, float) and not math.isfinite(value) else value
