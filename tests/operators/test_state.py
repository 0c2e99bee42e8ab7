"""Rows of state: what is put in comes back, whatever happened between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tidegate_cloud.operators.names import number_of
from tidegate_cloud.operators.state import StateRows
from tidegate_protocols.errors import BadInput

LAYOUTS = {
    "last": np.dtype([("ts_us", "<i8"), ("x", "<f8")]),
    "members": np.dtype([("since_us", "<i8"), ("bins", "<f4", (3,))]),
}
DEVICES = st.sampled_from(["a", "b", "bus-1", "bus-2"])
ITEMS = st.sampled_from(["", "fence", "zürich", "x" * 70])


class Walk(RuleBasedStateMachine):
    """Random edits of the rows beside a dict of dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.state = StateRows(3, LAYOUTS)
        self.model: dict[str, dict[tuple[str, str], int]] = {}
        self.kept: tuple[object, dict[str, dict[tuple[str, str], int]]] | None = None

    @rule(device=DEVICES, table=st.sampled_from(list(LAYOUTS)), item=ITEMS, value=st.integers(-(2**62), 2**62))
    def write(self, device: str, table: str, item: str, value: int) -> None:
        rows = self.state.tables[table].find(self.state.numbers([device]), number_of(item))
        self.state.tables[table].data[rows[0]][0] = value
        self.model.setdefault(device, {})[table, item] = value

    @rule(device=DEVICES)
    def forget(self, device: str) -> None:
        self.state.forget(device)
        self.model.pop(device, None)

    @rule()
    def snapshot(self) -> None:
        self.kept = (self.state.snapshot(["a", "b", "bus-1"]), {d: dict(rows) for d, rows in self.model.items()})

    @rule(devices=st.sets(st.sampled_from(["a", "b", "bus-1"])))
    def restore(self, devices: set[str]) -> None:
        if self.kept is None:
            return
        snapshot, model = self.kept
        self.state.restore(snapshot, devices)  # type: ignore[arg-type]
        for device in devices:
            self.model.pop(device, None)
            if device in model:
                self.model[device] = dict(model[device])

    @rule(device=DEVICES, other=DEVICES)
    def copy(self, device: str, other: str) -> None:
        self.state.from_bytes(other, self.state.to_bytes(device))
        if device != other:
            self.model.pop(other, None)
            if device in self.model:
                self.model[other] = dict(self.model[device])

    @invariant()
    def same(self) -> None:
        other = StateRows(3, LAYOUTS)
        for device in ("a", "b", "bus-1", "bus-2"):
            data = self.state.to_bytes(device)
            other.from_bytes(device, data)
            assert other.to_bytes(device) == data
            found = {}
            for name, table in self.state.tables.items():
                for item in ("", "fence", "zürich", "x" * 70):
                    numbers = self.state.numbers([device], new=False)
                    rows, _ = table.rows_of(numbers)
                    for row in rows:
                        if table.item[row] == number_of(item):
                            assert (name, item) not in found
                            found[name, item] = int(table.data[row][0])
            assert found == self.model.get(device, {})


Walk.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestWalk = Walk.TestCase


def test_equal_state_gives_equal_bytes_whatever_the_order() -> None:
    one, two = StateRows(1, LAYOUTS), StateRows(1, LAYOUTS)
    for state, order in ((one, ["p", "q"]), (two, ["q", "p"])):
        for item in order:
            table = state.tables["last"]
            row = table.find(state.numbers(["d"]), number_of(item))[0]
            table.data[row] = (ord(item), 2.5)
    assert one.to_bytes("d") == two.to_bytes("d") != b""


def test_many_devices_find_their_rows_in_one_call() -> None:
    state = StateRows(1, LAYOUTS)
    numbers = state.numbers([f"d{i}" for i in range(1000)])
    table = state.tables["last"]
    rows = table.find(numbers, number_of("t"))
    assert len(set(rows.tolist())) == 1000
    assert (table.find(numbers, number_of("t")) == rows).all()


@pytest.mark.parametrize("cut", [1, 5, 6, 8, 20])
def test_damaged_bytes_are_refused_by_place(cut: int) -> None:
    state = StateRows(1, LAYOUTS)
    state.tables["last"].find(state.numbers(["d"]), number_of("t"))
    data = state.to_bytes("d")
    with pytest.raises(BadInput, match="state of d"):
        state.from_bytes("d", data[:-cut])
    with pytest.raises(BadInput, match="bytes too many"):
        state.from_bytes("d", data + b"x" * cut)
    assert state.to_bytes("d") == b""


def test_rows_of_another_version_are_refused() -> None:
    state = StateRows(1, LAYOUTS)
    state.tables["last"].find(state.numbers(["d"]), number_of("t"))
    with pytest.raises(BadInput, match="rows of version 1; this program reads 2"):
        StateRows(2, LAYOUTS).from_bytes("d", state.to_bytes("d"))
