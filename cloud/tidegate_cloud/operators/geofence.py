"""Geofence: a device enters and leaves fences.

Point by point (`POINTWISE`): every fix is tested by itself. `entered` (begin) at the first fix inside, `exited` (end)
at the first fix outside. The first fix of a device that lies inside is an `entered` too: nothing is known about
before. Positions are compared in degrees as GeoJSON has them; a point on an edge may count as either side.

Along lines: with `line_max_s`, the straight line between two fixes is tested as well, up to that time and up to
`line_max_m` between them and never over a gap. Events carry the interpolated time and place of the crossing, and a
fence that was crossed between two fixes gives both an `entered` and an `exited`.

Believed (`BELIEVED` has both): with `confirm`, a change is held back until it can be believed:

- a device that moves (in 15 s or more further than its accuracies explain, or at 2 m/s or more) changes sides at a
  fix that is further from the border than its accuracy, and keeps the side with the next fix; or it was seen on the
  other side once, or its line went through the fence, and the next fix shows that this was no spike;
- a device that does not move changes sides when every fix of `still_hold_s` is further from the border than
  `still_margin_m` and twice its accuracy;
- a fix between two others that agree (a spike), a move faster than `top_speed_mps` that the fixes after do not bear
  out, and position 0, 0 are left out.

Events are found at the fix that made them believable, and say so in the attribute `because`; their time is that of
the crossing.

A scan without a position, or with one that is not on Earth, changes nothing. When a fence is removed, or is no longer
valid for the device's group, the device's next fix ends its stay (`exited`, attribute `reason`). A new shape of the
same fence counts from the next fix on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tidegate_protocols.schema import ACCURACY, SPEED

from . import names
from .block import BEGIN, END, Block, EventColumns, events_of, no_events
from .control import Control
from .kernels import geofence as kernels
from .kernels import geofence_lines as lines
from .operator import Level
from .state import StateRows, Table

KINDS = ("entered", "exited")
_REASONS = {kernels.REMOVED: "the fence was removed", kernels.NOT_MEANT: "the fence is not for this group"}
_BECAUSE = {
    lines.HELD: "it stayed on this side",
    lines.MOVING: "it moved, and the next fix agrees",
    lines.THROUGH: "the line between two fixes crosses the fence",
    lines.CAME_BACK: "it moved there and back",
}
_FIX = [("us", "<i8"), ("lon", "<f8"), ("lat", "<f8"), ("accuracy", "<f8"), ("speed", "<f8")]
# The two last fixes of a device: `a` is the older one; and `c`, the one that
# movement is measured from. have: how many there are; jumps: fixes left out since.
FIXES = np.dtype(
    [("have", "<i8"), ("jumps", "<i8")] + [(f"{fix}_{name}", kind) for fix in "abc" for name, kind in _FIX]
)
# A fence that holds a device, or a change that waits to be believed.
MEMBER = np.dtype(
    [
        ("since_us", "<i8"), ("status", "<i8"), ("n", "<i8"), ("quick", "<i8"), ("first_us", "<i8"),
        ("cross_us", "<i8"), ("cross_lon", "<f8"), ("cross_lat", "<f8"),
        ("out_us", "<i8"), ("out_lon", "<f8"), ("out_lat", "<f8"),
    ]
)  # fmt: skip
# mypy does not see through starred tuples in numba's signature.
_follow: Any = kernels.follow
_follow_lines: Any = lines.follow_lines


@dataclass(frozen=True, slots=True)
class GeofenceSettings:
    """How changes are found and believed; see the module.

    line_max_s, line_max_m  longest line between two fixes, seconds and metres; 0 s: no lines
    confirm                 hold changes back until they can be believed
    default_accuracy_m      of a fix that does not state its accuracy
    still_margin_m, still_hold_s, top_speed_mps  see the module
    """

    line_max_s: float = 0.0
    line_max_m: float = 5000.0
    confirm: bool = False
    default_accuracy_m: float = 10.0
    still_margin_m: float = 15.0
    still_hold_s: float = 60.0
    top_speed_mps: float = 70.0


POINTWISE = GeofenceSettings()
BELIEVED = GeofenceSettings(line_max_s=180.0, confirm=True)


class Geofence:
    """See the module. State: one row (device, fence) per fence that holds the device, and its two last fixes."""

    name = "geofence"
    version = 2

    def __init__(self, settings: GeofenceSettings = POINTWISE) -> None:
        self.settings = settings

    def new_state(self) -> StateRows:
        return StateRows(self.version, {"members": MEMBER, "fixes": FIXES})

    def find(self, block: Block, state: StateRows, control: Control) -> list[npt.NDArray[Any]]:
        """What `process` finds, as bare columns: scan, fence number, kind, why, how, ts_us, lon, lat."""
        number = state.numbers(block.devices)
        group = np.array([names.number_of(control.group_of(device)) for device in block.devices], np.int32)
        if self.settings.confirm or self.settings.line_max_s > 0:
            return self._along_lines(block, state, control, number, group)
        return _by_points(block, state, control, number, group)

    def process(self, block: Block, state: StateRows, control: Control) -> EventColumns:
        if not block.schema.is_position or not len(block):
            return no_events()
        scan, fence, kind, why, how, ts_us, lon, lat = self.find(block, state, control)
        if not len(scan):
            return no_events()
        accuracy = block.column(ACCURACY)
        subjects = [names.name_of(number) for number in fence.tolist()]
        attrs = [
            _attrs(control, name, reason, because, None if accuracy is None else float(accuracy[i]))
            for name, reason, because, i in zip(subjects, why.tolist(), how.tolist(), scan, strict=True)
        ]
        return events_of(
            KINDS, subjects, scan=scan, kind=kind, phase=np.where(kind == kernels.ENTERED, BEGIN, END).astype(np.uint8),
            ts_us=ts_us, lat=lat, lon=lon, attrs=attrs,
        )  # fmt: skip

    def levels(self, state: StateRows, device: str) -> list[Level]:
        table = state.tables["members"]
        rows, _ = table.rows_of(state.numbers([device], new=False))
        return sorted(
            Level("entered", names.name_of(int(table.item[row])), int(table.data["since_us"][row]))
            for row in rows
            if table.data["status"][row] in (lines.IN, lines.LEAVING)
        )

    def _along_lines(
        self, block: Block, state: StateRows, control: Control, number: npt.NDArray[np.int32],
        group: npt.NDArray[np.int32],
    ) -> list[npt.NDArray[Any]]:  # fmt: skip
        s = self.settings
        lon, lat = block.position()
        accuracy, speed = (
            np.full(len(block), np.nan) if column is None else column
            for column in (block.column(ACCURACY), block.column(SPEED))
        )
        fences = control.book.arrays(names.count())
        index = control.book.index
        table, fixes = state.tables["members"], state.tables["fixes"]
        row_of = fixes.find(number, names.number_of(""))
        scratch = np.empty((256, 4), np.int64)
        limits = (
            int(s.line_max_s * 1e6), s.line_max_m, s.confirm, s.default_accuracy_m, s.still_margin_m,
            int(s.still_hold_s * 1e6), s.top_speed_mps,
        )  # fmt: skip
        dtypes = (np.int32, np.int32, np.uint8, np.uint8, np.uint8, np.int64, np.float64, np.float64)
        parts: list[list[npt.NDArray[Any]]] = []
        at, room, spare = 0, 2048, 1024
        while at < len(block):
            table.reserve(spare)
            out = [np.empty(room, dtype) for dtype in dtypes]
            at, k = _follow_lines(
                at, block.device, number, group, block.ts_us, lon, lat, accuracy, speed, block.gap, scratch,
                *index.arrays, *index.borders, *fences, row_of, fixes.data, *_rows(table), *limits, *out,
            )  # fmt: skip
            parts.append([column[:k] for column in out])
            room, spare = 4 * room, 2 * spare
        return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def _by_points(
    block: Block, state: StateRows, control: Control, number: npt.NDArray[np.int32], group: npt.NDArray[np.int32]
) -> list[npt.NDArray[Any]]:
    lon, lat = block.position()
    fences = control.book.arrays(names.count())
    table = state.tables["members"]
    parts: list[list[npt.NDArray[Any]]] = []
    at, room, spare = 0, 256, 64
    while at < len(block):
        table.reserve(spare)
        out = [np.empty(room, dtype) for dtype in (np.int32, np.int32, np.uint8, np.uint8)]
        data = table.data
        at, k = _follow(
            at, block.device, number, group, block.ts_us, lon, lat, *control.book.index.arrays, *fences,
            data["since_us"], data["status"], *_rows(table)[1:], *out,
        )  # fmt: skip
        parts.append([column[:k] for column in out])
        room, spare = 4 * room, 2 * spare
    scan, fence, kind, why = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    how = np.full(len(scan), lines.AT_ONCE, np.uint8)
    return [scan, fence, kind, why, how, block.ts_us[scan], lon[scan], lat[scan]]


def _rows(table: Table) -> tuple[npt.NDArray[Any], ...]:
    return table.data, table.item, table.after, table.head, table.free, table.top


def _attrs(control: Control, fence_id: str, why: int, how: int, accuracy_m: float | None) -> dict[str, str]:
    attrs: dict[str, str] = {}
    fence = control.fences.get(fence_id)
    if fence is not None:
        attrs = {
            "name": fence.name, "fence_version": str(fence.version), "severity": fence.severity,
            "alert_on": fence.alert_on,
        }  # fmt: skip
    if why in _REASONS:
        attrs["reason"] = _REASONS[why]
    if how in _BECAUSE:
        attrs["because"] = _BECAUSE[how]
    if accuracy_m is not None and accuracy_m == accuracy_m:
        attrs["accuracy_m"] = f"{accuracy_m:g}"
    return attrs
