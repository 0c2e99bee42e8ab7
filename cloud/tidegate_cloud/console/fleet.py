"""What is known of every device: its name, where it is and what it last said. Pure; one thread owns it.

Kept in columns, so that a block of scans is taken in by a few array operations however many devices it speaks of. A
device has a slot; each schema has a table with a row for each device that uses it, and in it the newest value of every
channel with the time that it is of. A time past the one at which Kafka had the frame counts as that one: a clock that
was ahead does not hide what comes after it is set right, and a backlog never takes the place of the present.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from tidegate_protocols.codec.bulk import Block
from tidegate_protocols.registry import Device
from tidegate_protocols.schema import ACCURACY, HEADING, LAT, LON, SPEED, Schema

from .positions import Places
from .views import DeviceView, Reading

_NOT_READINGS = frozenset({LAT, LON})
_OF_PLACE = frozenset({SPEED, HEADING, ACCURACY})
_NEVER = np.iinfo(np.int64).min
_SMALLEST = 64
Ints = npt.NDArray[np.int64]


class _Table:
    """The newest values of one schema's channels: row r is about the device in `slots[r]`.

    row     int64 [slots], -1 where the device does not use the schema
    at      int64 [channels, rows], of which time a value is; `_NEVER` where there is none
    values  one array [rows] per channel, of the channel's dtype
    reads   the channels that are readings
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.count = 0
        self.row = np.full(_SMALLEST, -1, np.int64)
        self.at = np.full((len(schema.channels), _SMALLEST), _NEVER, np.int64)
        self.values = [np.zeros(_SMALLEST, channel.dtype) for channel in schema.channels]
        self.reads = [
            i for i, channel in enumerate(schema.channels)
            if not (schema.is_position and channel.name in _NOT_READINGS)
        ]  # fmt: skip

    def rows(self, slots: Ints) -> Ints:
        """The rows of these devices; -1 where one has none."""
        while len(slots) and slots.max() >= len(self.row):
            self.row = np.concatenate([self.row, np.full_like(self.row, -1)])
        return self.row[slots]

    def add(self, slots: Ints) -> None:
        """Give these devices rows."""
        self.row[slots] = np.arange(self.count, self.count + len(slots))
        self.count += len(slots)
        while self.count > self.at.shape[1]:
            self.at = np.concatenate([self.at, np.full_like(self.at, _NEVER)], axis=1)
            self.values = [np.concatenate([column, np.zeros_like(column)]) for column in self.values]


class Fleet:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}
        self._named: dict[str, Device] = {}
        self._tables: dict[bytes, _Table] = {}
        self._heard_us = np.full(_SMALLEST, _NEVER, np.int64)
        self._ts_us = np.full(_SMALLEST, _NEVER, np.int64)
        self._ts_at = np.full(_SMALLEST, _NEVER, np.int64)
        self._place_at = np.full(_SMALLEST, _NEVER, np.int64)
        self._lat, self._lon = np.zeros(_SMALLEST), np.zeros(_SMALLEST)

    def __len__(self) -> int:
        return len(self._slots)

    def name(self, device_id: str, device: Device | None) -> None:
        """The registry says what a device is called, or no longer says so. One that was never heard is listed too."""
        if device is None:
            self._named.pop(device_id, None)
        else:
            self._named[device_id] = device

    def block(self, block: Block, devices: Sequence[str], append_us: Ints) -> None:
        """Take in a block whose scans' devices index `devices`; `append_us` [n] is when Kafka had each scan's frame."""
        used, local = np.unique(block.device, return_inverse=True)
        slots = np.array([self._slot(devices[number]) for number in used.tolist()], np.int64)
        at = np.minimum(block.ts_us, append_us)
        # By device, then time, then arrival: the last one of a device is its newest.
        order = np.lexsort((at, local))
        last = _last_of_each(local[order])
        newest = order[last]
        np.maximum.at(self._heard_us, slots[local], append_us)
        later = at[newest] >= self._ts_at[slots]
        self._ts_at[slots[later]], self._ts_us[slots[later]] = at[newest][later], block.ts_us[newest][later]
        if block.schema.is_position:
            self._place(block, slots, local, at, order)
        self._values(block, slots, local, at, order)

    def views(self, devices: Iterable[str]) -> list[DeviceView]:
        """What is known of these devices; those that are neither named nor heard are left out."""
        views = [self._labelled(device) for device in devices if device in self._slots or device in self._named]
        heard = {slot: view for view in views if (slot := self._slots.get(view.id)) is not None}
        slots = np.array(list(heard), np.int64)
        columns = (self._heard_us, self._ts_us, self._lat, self._lon, self._place_at)
        for view, heard_us, ts_us, lat, lon, place_at in zip(
            heard.values(), *(column[slots].tolist() for column in columns), strict=True
        ):
            view.heard_us, view.ts_us = heard_us, ts_us
            if place_at > _NEVER:
                view.lat, view.lon = lat, lon
        newest: dict[tuple[int, str], int] = {}
        for table in self._tables.values():
            rows = table.rows(slots)
            self._read(table, slots[rows >= 0], rows[rows >= 0], heard, newest if len(self._tables) > 1 else None)
        for view in heard.values():
            if view.lat is not None:
                for name in _OF_PLACE & view.readings.keys():
                    setattr(view, name, view.readings[name].value)
        return views

    def places(self, devices: Iterable[str]) -> Places:
        """Where those of these devices are that were heard."""
        ids = [device for device in devices if device in self._slots]
        slots = np.array([self._slots[device] for device in ids], np.int64)
        lat, lon = (np.where(self._place_at[slots] > _NEVER, a[slots], np.nan) for a in (self._lat, self._lon))
        speed, heading = (self._reading_of(slots, name) for name in (SPEED, HEADING))
        return Places(ids, lat, lon, speed, heading, self._ts_us[slots], self._heard_us[slots])

    def _slot(self, device_id: str) -> int:
        slot = self._slots.get(device_id)
        if slot is None:
            slot = self._slots[device_id] = len(self._slots)
            if slot >= len(self._heard_us):
                for name in ("_heard_us", "_ts_us", "_ts_at", "_place_at"):
                    column = getattr(self, name)
                    setattr(self, name, np.concatenate([column, np.full_like(column, _NEVER)]))
                self._lat, self._lon = (np.concatenate([a, np.zeros_like(a)]) for a in (self._lat, self._lon))
        return slot

    def _place(self, block: Block, slots: Ints, local: Ints, at: Ints, order: Ints) -> None:
        lat, lon = block.schema.index[LAT], block.schema.index[LON]
        good = np.isfinite(block.columns[lat]) & np.isfinite(block.columns[lon])
        for mask in (block.valid[lat], block.valid[lon]):
            if mask is not None:
                good &= mask
        chosen = order[good[order]]
        newest = chosen[_last_of_each(local[chosen])]
        where = slots[local[newest]]
        later = at[newest] >= self._place_at[where]
        newest, where = newest[later], where[later]
        self._place_at[where] = at[newest]
        self._lat[where], self._lon[where] = block.columns[lat][newest], block.columns[lon][newest]

    def _values(self, block: Block, slots: Ints, local: Ints, at: Ints, order: Ints) -> None:
        table = self._tables.get(block.schema.fingerprint)
        if table is None:
            table = self._tables[block.schema.fingerprint] = _Table(block.schema)
        rows = table.rows(slots)
        if (rows < 0).any():
            table.add(slots[rows < 0])
            rows = table.rows(slots)
        all_newest = order[_last_of_each(local[order])]
        for i in table.reads:
            mask, newest = block.valid[i], all_newest
            if mask is not None:
                chosen = order[mask[order]]
                newest = chosen[_last_of_each(local[chosen])]
            where = rows[local[newest]]
            later = at[newest] >= table.at[i, where]
            newest, where = newest[later], where[later]
            table.at[i, where] = at[newest]
            table.values[i][where] = block.columns[i][newest]

    def _reading_of(self, slots: Ints, channel: str) -> npt.NDArray[np.float64]:
        """The newest value of a channel by device, NaN where there is none."""
        found, found_at = np.full(len(slots), np.nan), np.full(len(slots), _NEVER)
        for table in self._tables.values():
            i = table.schema.index.get(channel)
            if i is None or i not in table.reads:
                continue
            rows = table.rows(slots)
            at = np.where(rows >= 0, table.at[i, rows], _NEVER)
            newer = at > found_at
            found[newer], found_at[newer] = table.values[i][rows[newer]], at[newer]
        return found

    def _read(
        self, table: _Table, slots: Ints, rows: Ints, views: Mapping[int, DeviceView],
        newest: dict[tuple[int, str], int] | None,
    ) -> None:  # fmt: skip
        """Put a table's values into the views. `newest`: of which time the readings are that came from others."""
        for i in table.reads:
            channel = table.schema.channels[i]
            name, unit, column = channel.name, channel.unit, table.values[i][rows]
            values: list[float | int | bool | None] = column.tolist()
            if channel.type == "float64":  # what is not finite JSON does not have
                for place in np.flatnonzero(~np.isfinite(column)).tolist():
                    values[place] = None
            for slot, at, value in zip(slots.tolist(), table.at[i, rows].tolist(), values, strict=True):
                if at == _NEVER:
                    continue
                if newest is not None:
                    if at <= newest.get((slot, name), _NEVER):
                        continue
                    newest[slot, name] = at
                views[slot].readings[name] = Reading(value, unit)

    def _labelled(self, device_id: str) -> DeviceView:
        named = self._named.get(device_id)
        if named is None:
            return DeviceView(id=device_id, readings={})
        return DeviceView(
            id=device_id, name=named.name, group=named.group, type=named.type,
            report_interval_s=named.report_interval_s, readings={},
        )  # fmt: skip


def _last_of_each(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Places of the last of each run of equal numbers."""
    return np.flatnonzero(np.append(groups[1:] != groups[:-1], len(groups) > 0))
