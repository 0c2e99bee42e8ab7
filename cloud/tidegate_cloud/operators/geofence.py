"""Geofence: a device enters and leaves fences, stays in them, speeds in them, is there at the wrong hours.

Believed (`BELIEVED`, what the processor runs): the straight line between two fixes is tested as well, up to
`line_max_s` and `line_max_m` and never over a gap; events carry the interpolated time and place of the crossing, and a
fence that was crossed between two fixes gives `entered`, `exited` and `crossed`. A change is held back until it can be
believed:

- a device that moves (in 15 s or more further than its accuracies explain, or at 2 m/s or more) changes sides at a
  fix that is further from the border than its accuracy, and keeps the side with the next fix; or it was seen on the
  other side once, or its line went through the fence, and the next fix shows that this was no spike;
- a device that does not move changes sides when every fix of `still_hold_s` is further from the border than
  `still_margin_m` and twice its accuracy;
- a fix between two others that agree (a spike), a move that asks for more speed or acceleration than the device's type
  has and that the fixes after do not bear out, and position 0, 0 are left out;
- after a silence of more than `line_max_s`, or a gap, a receiver is taken to start cold: for half a minute its
  positions are no evidence of movement, though its reported speed is;
- the same position again, to the last bit, is evidence of nothing but that time has passed.

Events are found at the fix that made them believable, and say so in the attribute `because`; their time is that of
the crossing.

Point by point (`POINTWISE`): every fix is tested by itself. `entered` at the first fix inside, `exited` at the first
fix outside. The first fix of a device that lies inside is an `entered` too: nothing is known about before. Positions
are compared in degrees as GeoJSON has them; a point on an edge may count as either side.

While inside, at fixes: `dwelt` once the stay is `dwell_s` long, until `moved-on`; `speeding` from the first of two
fixes (one, point by point) over the limit, until `sped`, which has the highest speed and its place; `out-of-schedule`
from when the windows closed, or the device came, until `in-schedule`. A speed is the reported one, or what a line
surely shows. A corridor is left with `left-corridor`.

A scan without a position, or with one that is not on Earth, changes nothing. When a fence is removed, or is no longer
valid for the device's group, or its hours are over (mode `active`), the device's next fix ends its stay (attribute
`reason`). A new shape of the same fence counts from the next fix on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from tidegate_protocols.schema import ACCURACY, SPEED

from . import names
from .block import BEGIN, END, INSTANT, Block, EventColumns, events_of, no_events
from .control import Control
from .kernels import geofence as kernels
from .kernels import terms
from .kernels.believe import PASSES
from .kernels.held import HELD, Held, Rows
from .kernels.motion import FIXES, Manner
from .kernels.runs import FIX, by_device
from .motion import MOTION, Motion, limits_of
from .operator import Level
from .state import StateRows, Table

KINDS = (
    "entered", "exited", "left-corridor", "crossed", "dwelt", "moved-on", "speeding", "sped", "out-of-schedule",
    "in-schedule",
)  # fmt: skip
_PHASES = np.array([BEGIN, END, END, INSTANT, BEGIN, END, BEGIN, END, BEGIN, END], np.uint8)
_UNITS = {"crossed": "s", "dwelt": "s", "moved-on": "s", "speeding": "m/s", "sped": "m/s"}
_REASONS = {
    terms.REMOVED: "the fence was removed",
    terms.NOT_MEANT: "the fence is not for this group",
    terms.OFF_HOURS: "the fence's hours are over",
    terms.CHANGED: "the fence no longer asks for it",
}
_BECAUSE = {
    terms.HELD: "it stayed on this side",
    terms.MOVING: "it moved, and the next fix agrees",
    terms.THROUGH: "the line between two fixes crosses the fence",
    terms.CAME_BACK: "it moved there and back",
    terms.TWICE: "two fixes one after the other say so",
    terms.SO_LONG: "it is still inside",
    terms.BY_CLOCK: "it is inside at this hour",
}
_TOLD = (
    ("entered", terms.TOLD_ENTERED, "since_us"), ("dwelt", terms.TOLD_DWELT, "dwelt_us"),
    ("out-of-schedule", terms.TOLD_LATE, "late_us"), ("speeding", terms.TOLD_SPEEDING, "over_us"),
)  # fmt: skip
_NOTHING = np.empty(0)


@dataclass(frozen=True, slots=True)
class GeofenceSettings:
    """How changes are found and believed; see the module.

    line_max_s, line_max_m  longest line between two fixes, seconds and metres; 0 s: no lines
    confirm                 hold changes back until they can be believed
    default_accuracy_m      of a fix that does not state its accuracy
    still_margin_m, still_hold_s  see the module
    motion                  by device type, how fast it can go; "" for the types that are not there
    """

    line_max_s: float = 0.0
    line_max_m: float = 5000.0
    confirm: bool = False
    default_accuracy_m: float = 10.0
    still_margin_m: float = 15.0
    still_hold_s: float = 60.0
    motion: Mapping[str, Motion] = field(default_factory=lambda: MOTION)


POINTWISE = GeofenceSettings()
BELIEVED = GeofenceSettings(line_max_s=180.0, confirm=True)


class Geofence:
    """See the module. State: one row (device, fence) per fence that holds the device, and its last fixes."""

    name = "geofence"
    version = 3

    def __init__(self, settings: GeofenceSettings = BELIEVED) -> None:
        self.settings = settings
        self._room = kernels.make_room(0)
        self._held = _make_held(0)

    def new_state(self) -> StateRows:
        return StateRows(self.version, {"stays": terms.STAY, "fixes": FIXES})

    def find(self, block: Block, state: StateRows, control: Control) -> npt.NDArray[Any]:
        """What `process` finds, as bare rows (kernels/terms.EVENT), device by device."""
        s = self.settings
        by_lines = s.confirm or s.line_max_s > 0
        number = state.numbers(block.devices)
        group = np.array([names.number_of(control.group_of(device)) for device in block.devices], np.int32)
        fences, index = control.book.fences(names.count()), control.book.index.arrays
        self._make_room(len(fences.term))
        row_of = state.tables["fixes"].find(number, names.number_of("")) if by_lines else number
        manner = Manner(
            int(s.line_max_s * 1e6), s.line_max_m, s.confirm, s.default_accuracy_m, s.still_margin_m,
            int(s.still_hold_s * 1e6),
        )  # fmt: skip
        fix, limits = _by_device(block), limits_of(control, block.devices, s.motion)
        table, fixes = state.tables["stays"], state.tables["fixes"].data
        parts: list[npt.NDArray[Any]] = []
        # What is not written to is never really there.
        size = 4096 + terms.EVENTS_PER_ROW * PASSES + 4 * len(fix)
        at, spare = 0, 2 * PASSES + len(fix) // 16 if by_lines else 64 + len(fix) // 16
        while at < len(fix):
            table.reserve(spare)
            out = np.empty(size, terms.EVENT)
            at, k = kernels.follow(
                at, fix, number, group, limits, row_of, fixes, _rows(table), self._held, index, fences, manner,
                self._room, out,
            )  # fmt: skip
            parts.append(out[:k])
            size, spare = 2 * size, 2 * spare
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def process(self, block: Block, state: StateRows, control: Control) -> EventColumns:
        if not block.schema.is_position or not len(block):
            return no_events()
        found = self.find(block, state, control)
        if not len(found):
            return no_events()
        found = found[np.argsort(found["scan"], kind="stable")]
        accuracy = block.column(ACCURACY)
        subjects = [names.name_of(number) for number in found["fence"].tolist()]
        scan = found["scan"]
        stated = np.full(len(found), np.nan) if accuracy is None else accuracy[scan]
        attrs = [
            _attrs(control, name, why, how, accuracy_m)
            for name, why, how, accuracy_m in zip(
                subjects, found["why"].tolist(), found["how"].tolist(), stated.tolist(), strict=True
            )
        ]
        kind = found["kind"]
        return events_of(
            KINDS, subjects, scan=scan, kind=kind, phase=_PHASES[kind], ts_us=found["us"], value=found["value"],
            limit=found["limit"], lat=found["lat"], lon=found["lon"],
            unit=[_UNITS.get(KINDS[number], "") for number in kind.tolist()], attrs=attrs,
        )  # fmt: skip

    def levels(self, state: StateRows, device: str) -> list[Level]:
        table = state.tables["stays"]
        rows, _ = table.rows_of(state.numbers([device], new=False))
        return sorted(
            Level(kind, names.name_of(int(table.item[row])), int(table.data[since][row]))
            for row in rows
            for kind, bit, since in _TOLD
            if table.data["told"][row] & bit
        )

    def _make_room(self, fences: int) -> None:
        if len(self._held.slot) < fences:
            self._room = kernels.make_room(2 * fences)
            self._held = _make_held(2 * fences)


def _by_device(block: Block) -> npt.NDArray[Any]:
    lon, lat = block.position()
    accuracy, speed = block.column(ACCURACY), block.column(SPEED)
    fix = np.empty(len(block), FIX)
    by_device(
        block.device, len(block.devices), block.ts_us, lon, lat, _NOTHING if accuracy is None else accuracy,
        _NOTHING if speed is None else speed, block.gap, fix,
    )  # fmt: skip
    return fix


def _make_held(fences: int) -> Held:
    return Held(np.zeros(fences, HELD), np.zeros(fences, np.int32), np.zeros(6, np.int64))


def _rows(table: Table) -> Rows:
    return Rows(table.data, table.item, table.after, table.head, table.free, table.top)


def _attrs(control: Control, fence_id: str, why: int, how: int, accuracy_m: float) -> dict[str, str]:
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
    if accuracy_m == accuracy_m:
        attrs["accuracy_m"] = f"{accuracy_m:g}"
    return attrs
