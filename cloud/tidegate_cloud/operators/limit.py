"""Limits: a channel's value against the rules that people registered.

`above` begins at the first value over `high` and ends (`within`) at the first value at or under `high − hysteresis`;
`below` likewise for `low`. A missing value changes nothing, nor does a gap: the condition holds until a value says
otherwise. An edited rule judges from the next value on. When a rule is removed, or is no longer for the device's
group, an open condition ends at the device's next scan (`within`, attribute `reason`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from tidegate_protocols.registry import Rule

from . import names
from .block import BEGIN, END, Block, EventColumns, events_of, no_events
from .control import Control
from .kernels import limit as kernels
from .operator import Level
from .state import StateRows

KINDS = ("above", "below", "within")
_ROW = np.dtype([("since_us", "<i8"), ("side", "<i8")])


class Limit:
    """See the module. State: one row (device, rule), with the side the value is on and since when."""

    name = "limit"
    version = 1

    def new_state(self) -> StateRows:
        return StateRows(self.version, {"sides": _ROW})

    def process(self, block: Block, state: StateRows, control: Control) -> EventColumns:
        if not len(block):
            return no_events()
        number = state.numbers(block.devices)
        groups = [control.group_of(device) for device in block.devices]
        found = _Found()
        self._end_stale(block, state, control, number, groups, found)
        for rule in sorted(control.rules.values(), key=lambda rule: rule.id):
            if rule.expression:
                continue
            values = block.column(rule.channel)
            if values is None:
                continue
            meant = np.array([not rule.groups or group in rule.groups for group in groups])
            if not meant.any():
                continue
            self._check(block, values, rule, number, meant, state, found)
        return found.columns(block, control)

    def levels(self, state: StateRows, device: str) -> list[Level]:
        table = state.tables["sides"]
        rows, _ = table.rows_of(state.numbers([device], new=False))
        return sorted(
            Level("above" if table.data["side"][row] > 0 else "below", names.name_of(int(table.item[row])),
                  int(table.data["since_us"][row]))
            for row in rows
            if table.data["side"][row]
        )  # fmt: skip

    def _check(
        self, block: Block, values: npt.NDArray[np.float64], rule: Rule, number: npt.NDArray[np.int32],
        meant: npt.NDArray[np.bool_], state: StateRows, found: _Found,
    ) -> None:  # fmt: skip
        table = state.tables["sides"]
        row = np.full(len(number), -1, np.int32)
        row[meant] = table.find(number[meant], names.number_of(rule.id))
        low = -np.inf if rule.low is None else rule.low
        high = np.inf if rule.high is None else rule.high
        at, room = 0, 256
        while at < len(block):
            scan, kind = np.empty(room, np.int32), np.empty(room, np.uint8)
            at, k = kernels.check(
                at, block.device, row, block.ts_us, values, low, high, rule.hysteresis,
                table.data["side"], table.data["since_us"], scan, kind,
            )  # fmt: skip
            unit = block.schema.channels[block.schema.index[rule.channel]].unit
            for i, what in zip(scan[:k].tolist(), kind[:k].tolist(), strict=True):
                limit = rule.high if what in (kernels.ABOVE, kernels.BACK_DOWN) else rule.low
                found.add(i, what, rule.id, float(values[i]), limit, unit)
            room *= 4

    def _end_stale(
        self, block: Block, state: StateRows, control: Control, number: npt.NDArray[np.int32],
        groups: list[str], found: _Found,
    ) -> None:  # fmt: skip
        """Drop rows whose rule is gone or not meant for the device; an open condition ends at its first scan here."""
        table = state.tables["sides"]
        rows, counts = table.rows_of(number)
        owner = np.repeat(np.arange(len(number)), counts)
        present = np.zeros(len(number), np.bool_)
        present[block.device] = True
        for item in np.unique(table.item[rows]).tolist():
            rule = control.rules.get(names.name_of(item))
            if rule is not None and rule.expression:
                rule = None
            stale = (table.item[rows] == item) & present[owner]
            if rule is not None:
                meant = np.array([not rule.groups or group in rule.groups for group in groups])
                stale &= ~meant[owner]
            for i in np.flatnonzero(stale).tolist():
                row, device = int(rows[i]), int(owner[i])
                side = int(table.data["side"][row])
                if side:
                    scan = int(np.argmax(block.device == device))
                    what = kernels.BACK_DOWN if side > 0 else kernels.BACK_UP
                    found.add(scan, what, names.name_of(item), np.nan, None, "", stale=True)
                table.remove(int(number[device]), row)


class _Found:
    """Events on their way into columns."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, str, float, float | None, str, bool]] = []

    def add(
        self, scan: int, kind: int, rule: str, value: float, limit: float | None, unit: str, *, stale: bool = False
    ) -> None:
        self.rows.append((scan, kind, rule, value, limit, unit, stale))

    def columns(self, block: Block, control: Control) -> EventColumns:
        if not self.rows:
            return no_events()
        scan, kind, rule, value, limit, unit, stale = zip(*self.rows, strict=True)
        at = np.array(scan, np.int32)
        what = np.array(kind, np.uint8)
        lon, lat = block.position()
        return events_of(
            KINDS, rule, scan=at, kind=np.minimum(what, 2),
            phase=np.where(what >= kernels.BACK_DOWN, END, BEGIN).astype(np.uint8),
            ts_us=block.ts_us[at], value=np.array(value, np.float64),
            limit=np.array([np.nan if x is None else x for x in limit]),
            lat=lat[at], lon=lon[at], unit=unit,
            attrs=[_attrs(control.rules.get(name), gone) for name, gone in zip(rule, stale, strict=True)],
        )  # fmt: skip


def _attrs(rule: Rule | None, stale: bool) -> dict[str, str]:
    attrs: dict[str, str] = {}
    if rule is not None:
        attrs = {
            "name": rule.name, "channel": rule.channel, "severity": rule.severity, "rule_version": str(rule.version),
        }  # fmt: skip
    if stale:
        attrs["reason"] = "the rule is not for this group" if rule is not None else "the rule was removed"
    return attrs
