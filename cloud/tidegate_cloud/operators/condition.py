"""Rules whose condition is an expression over the channels of a scan.

`holds` begins at the first scan by which the condition has been true for as long as the rule says, in every scan of
a schema that has all its channels; `ceased` ends it at the first in which it is not. A missing value makes a
comparison untrue. At a gap what is pending begins anew; what holds goes on. A schema without the channels says nothing.
When a rule is removed, or is no longer for the device's group, what holds ends at the device's next scan.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from tidegate_protocols.registry import Rule

from . import names
from .block import BEGIN, END, Block, EventColumns, events_of, no_events
from .control import Control
from .expressions import parse_expression
from .kernels import holding as kernels
from .operator import Level
from .state import StateRows

KINDS = ("holds", "ceased")
_ROW = np.dtype([("since_us", "<i8"), ("stage", "<i8"), ("version", "<i8")])
_Event = tuple[int, int, str, dict[str, str]]  # scan, kind, rule, attributes


class Condition:
    """See the module. State: one row (device, rule), with how far the condition is, since when, and of which rule."""

    name = "rules"
    version = 1

    def new_state(self) -> StateRows:
        return StateRows(self.version, {"conditions": _ROW})

    def process(self, block: Block, state: StateRows, control: Control) -> EventColumns:
        if not len(block):
            return no_events()
        rules = {rule.id: rule for rule in control.rules.values() if rule.expression}
        if not rules and not len(state):
            return no_events()
        number = state.numbers(block.devices)
        groups = [control.group_of(device) for device in block.devices]
        found: list[_Event] = []
        self._end_stale(block, state, rules, number, groups, found)
        for rule in sorted(rules.values(), key=lambda rule: rule.id):
            meant = np.array([_meant(rule, group) for group in groups])
            if meant.any():
                self._follow(block, rule, number, meant, state, found)
        return _events(block, found)

    def levels(self, state: StateRows, device: str) -> list[Level]:
        table = state.tables["conditions"]
        rows, _ = table.rows_of(state.numbers([device], new=False))
        return sorted(
            Level("holds", names.name_of(int(table.item[row])), int(table.data["since_us"][row]))
            for row in rows
            if table.data["stage"][row] == kernels.HOLDS
        )

    def _follow(
        self, block: Block, rule: Rule, number: npt.NDArray[np.int32], meant: npt.NDArray[np.bool_],
        state: StateRows, found: list[_Event],
    ) -> None:  # fmt: skip
        expression = parse_expression(rule.expression)
        columns = {name: block.column(name) for name in expression.channels}
        have = {name: column for name, column in columns.items() if column is not None}
        table, item = state.tables["conditions"], names.number_of(rule.id)
        if len(have) < len(columns):
            if block.gap.any():
                self._drop_pending(block, number, item, state)
            return
        row = np.full(len(number), -1, np.int32)
        row[meant] = table.find(number[meant], item)
        n = len(block)
        scan, kind, since = np.empty(n, np.int32), np.empty(n, np.uint8), np.empty(n, np.int64)
        k = kernels.hold(
            block.device, row, block.ts_us, block.gap, expression.true(have), expression.for_us, rule.version,
            table.data["stage"], table.data["since_us"], table.data["version"], scan, kind, since,
        )  # fmt: skip
        for i in range(k):
            attrs = {**_attrs(rule), "since_us": str(int(since[i]))}
            found.append((int(scan[i]), int(kind[i]), rule.id, attrs))

    def _drop_pending(self, block: Block, number: npt.NDArray[np.int32], item: int, state: StateRows) -> None:
        """Scans are missing before one of a schema without the channels: what is pending begins anew all the same."""
        table = state.tables["conditions"]
        rows, _ = table.rows_of(number[np.unique(block.device[block.gap])])
        pending = rows[(table.item[rows] == item) & (table.data["stage"][rows] == kernels.PENDING)]
        table.data["stage"][pending] = kernels.NO
        table.data["since_us"][pending] = 0

    def _end_stale(
        self, block: Block, state: StateRows, rules: dict[str, Rule], number: npt.NDArray[np.int32],
        groups: list[str], found: list[_Event],
    ) -> None:  # fmt: skip
        """Drop rows whose rule is gone or not meant for the device; what held ends at its first scan here."""
        table = state.tables["conditions"]
        rows, counts = table.rows_of(number)
        owner = np.repeat(np.arange(len(number)), counts)
        present = np.zeros(len(number), np.bool_)
        present[block.device] = True
        for row, device in zip(rows.tolist(), owner.tolist(), strict=True):
            name = names.name_of(int(table.item[row]))
            rule = rules.get(name)
            if not present[device] or (rule is not None and _meant(rule, groups[device])):
                continue
            if table.data["stage"][row] == kernels.HOLDS:
                reason = "the rule is not for this group" if rule is not None else "the rule was removed"
                attrs = {} if rule is None else _attrs(rule)
                since = {"since_us": str(int(table.data["since_us"][row])), "reason": reason}
                found.append((int(np.argmax(block.device == device)), kernels.CEASED, name, {**attrs, **since}))
            table.remove(int(number[device]), row)


def _meant(rule: Rule, group: str) -> bool:
    return not rule.groups or group in rule.groups


def _attrs(rule: Rule) -> dict[str, str]:
    return {
        "name": rule.name or rule.id, "severity": rule.severity, "expression": rule.expression,
        "rule_version": str(rule.version),
    }  # fmt: skip


def _events(block: Block, found: list[_Event]) -> EventColumns:
    if not found:
        return no_events()
    at = np.array([event[0] for event in found], np.int32)
    kind = np.array([event[1] for event in found], np.uint8)
    lon, lat = block.position()
    return events_of(
        KINDS, [event[2] for event in found], scan=at, kind=kind,
        phase=np.where(kind == kernels.CEASED, END, BEGIN).astype(np.uint8),
        ts_us=block.ts_us[at], lat=lat[at], lon=lon[at], attrs=[event[3] for event in found],
    )  # fmt: skip
