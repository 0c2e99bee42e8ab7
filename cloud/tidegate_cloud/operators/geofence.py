"""Geofence: a device enters and leaves fences.

Every fix is tested by itself: `entered` (begin) at the first fix inside, `exited` (end) at the first fix outside. The
first fix of a device that lies inside is an `entered` too: nothing is known about before. Positions are compared in
degrees as GeoJSON has them; a point on an edge may count as either side.

A scan without a position, or with one that is not on Earth, changes nothing. When a fence is removed, or is no longer
valid for the device's group, the device's next fix ends its stay (`exited`, attribute `reason`). A new shape of the
same fence counts from the next fix on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tidegate_protocols.schema import ACCURACY

from . import names
from .block import BEGIN, END, Block, EventColumns, events_of, no_events
from .control import Control
from .kernels import geofence as kernels
from .operator import Level
from .state import StateRows

KINDS = ("entered", "exited")
_REASONS = {kernels.REMOVED: "the fence was removed", kernels.NOT_MEANT: "the fence is not for this group"}
# mypy does not see through starred tuples in numba's signature.
_follow: Any = kernels.follow
_MEMBER = np.dtype([("since_us", "<i8")])


class Geofence:
    """See the module. State: one row (device, fence) per fence that holds the device."""

    name = "geofence"
    version = 1

    def new_state(self) -> StateRows:
        return StateRows(self.version, {"members": _MEMBER})

    def process(self, block: Block, state: StateRows, control: Control) -> EventColumns:
        if not block.schema.is_position or not len(block):
            return no_events()
        lon, lat = block.position()
        number = state.numbers(block.devices)
        group = np.array([names.number_of(control.group_of(device)) for device in block.devices], np.int32)
        table = state.tables["members"]
        fences = control.book.arrays(names.count())
        index = control.book.index.arrays
        parts: list[tuple[Any, ...]] = []
        at, room, spare = 0, 256, 64
        while at < len(block):
            table.reserve(spare)
            out = [np.empty(room, dtype) for dtype in (np.int32, np.int32, np.uint8, np.uint8)]
            at, k = _follow(
                at, block.device, number, group, block.ts_us, lon, lat, *index, *fences,
                table.data["since_us"], table.item, table.after, table.head, table.free, table.top, *out,
            )  # fmt: skip
            parts.append(tuple(column[:k] for column in out))
            room, spare = 4 * room, 2 * spare
        scan, fence, kind, why = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        if not len(scan):
            return no_events()
        accuracy = block.column(ACCURACY)
        subjects = [names.name_of(number) for number in fence.tolist()]
        attrs = [
            _attrs(control, name, int(reason), None if accuracy is None else float(accuracy[i]))
            for name, reason, i in zip(subjects, why, scan, strict=True)
        ]
        return events_of(
            KINDS, subjects, scan=scan, kind=kind, phase=np.where(kind == kernels.ENTERED, BEGIN, END).astype(np.uint8),
            ts_us=block.ts_us[scan], lat=lat[scan], lon=lon[scan], attrs=attrs,
        )  # fmt: skip

    def levels(self, state: StateRows, device: str) -> list[Level]:
        table = state.tables["members"]
        rows, _ = table.rows_of(state.numbers([device], new=False))
        return sorted(
            Level("entered", names.name_of(int(table.item[row])), int(table.data["since_us"][row])) for row in rows
        )


def _attrs(control: Control, fence_id: str, why: int, accuracy_m: float | None) -> dict[str, str]:
    attrs: dict[str, str] = {}
    fence = control.fences.get(fence_id)
    if fence is not None:
        attrs = {
            "name": fence.name, "fence_version": str(fence.version), "severity": fence.severity,
            "alert_on": fence.alert_on,
        }  # fmt: skip
    if why in _REASONS:
        attrs["reason"] = _REASONS[why]
    if accuracy_m is not None and accuracy_m == accuracy_m:
        attrs["accuracy_m"] = f"{accuracy_m:g}"
    return attrs
