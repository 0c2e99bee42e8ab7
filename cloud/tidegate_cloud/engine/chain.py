"""Operators in order over blocks, with a record on which one raises isolated from the rest.

When an operator raises on a block, every operator's rows of its devices are put back and the block is halved until the
record stands alone. Since results do not depend on how scans are cut into blocks, the rest comes out as if the record
had not been there, except that its stream's next scan is told a gap (rules 14 and B10).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from tidegate_protocols.events import Event, EventLane, event_id

from tidegate_cloud.operators.block import Block, EventColumns, Found
from tidegate_cloud.operators.control import Control
from tidegate_cloud.operators.operator import Operator, Ticking
from tidegate_cloud.operators.state import StateRows

RowSet = tuple[StateRows, ...]  # the rows of each operator, in the chain's order


@dataclass(frozen=True, slots=True)
class Failure:
    """A record on which an operator raised."""

    message: int
    operator: str
    error: Exception


class Finding(NamedTuple):
    """What an operator found, and in which scan. `number` is the operator's place in the chain."""

    number: int
    operator: str
    device: str
    message: int
    epoch: int
    seq: int
    ordinal: int
    found: Found

    @property
    def place(self) -> tuple[int, int, int]:
        """Where it stands among all that a micro-batch leads to: by record, then scan, then operator."""
        return self.message, self.seq, self.number

    def event(self, learnt_us: int, lane: EventLane) -> Event:
        """As it is told."""
        found = self.found
        name = event_id(
            self.device, self.operator, found.kind, found.subject, provisional=lane == "provisional",
            epoch=self.epoch, seq=self.seq, ordinal=self.ordinal,
        )  # fmt: skip
        return Event(
            id=name, device=self.device, operator=self.operator, kind=found.kind, phase=found.phase,
            subject=found.subject, ts_us=found.ts_us, learnt_us=learnt_us, lane=lane, epoch=self.epoch, seq=self.seq,
            ordinal=self.ordinal, value=found.value, limit=found.limit, unit=found.unit, lat=found.lat, lon=found.lon,
            attrs=found.attrs,
        )  # fmt: skip


class Chain:
    """The operators of one processor with their rows, for the devices of every partition at hand."""

    def __init__(self, operators: Sequence[Operator], control: Control) -> None:
        self.operators = tuple(operators)
        self.states = self.new_rows()
        self.control = control
        self.ticking = [
            (number, operator) for number, operator in enumerate(self.operators) if isinstance(operator, Ticking)
        ]

    def new_rows(self) -> RowSet:
        """Empty rows for each operator: a preview has a set of its own."""
        return tuple(operator.new_state() for operator in self.operators)

    def run(self, block: Block, rows: RowSet, broken: set[str]) -> tuple[list[Finding], list[Failure]]:
        """What the operators find in a block, and the records that failed.

        `broken`: devices whose last record failed, so that what comes next of them must be told a gap; changed.
        """
        findings: list[Finding] = []
        failures: list[Failure] = []
        todo = [block]
        while todo:
            part = todo.pop()
            if broken:
                _tell_gaps(part, broken)
            outcome = self._attempt(part, rows)
            if isinstance(outcome, list):
                for number, columns in enumerate(outcome):
                    findings += _findings(number, self.operators[number].name, part, columns)
                continue
            messages = np.unique(part.message)
            if len(messages) == 1:
                failures.append(Failure(int(messages[0]), *outcome))
                broken.add(part.devices[part.device[0]])
            else:
                first = part.message < messages[len(messages) // 2]
                todo += (part.take(~first), part.take(first))  # the first half is popped first
        return findings, failures

    def _attempt(self, block: Block, rows: RowSet) -> list[EventColumns] | tuple[str, Exception]:
        """What each operator finds; or, with all rows as before, the operator that raised and what."""
        before = [state.snapshot(block.devices) for state in rows]
        found: list[EventColumns] = []
        for operator, state in zip(self.operators, rows, strict=True):
            try:
                found.append(operator.process(block, state, self.control))
            except Exception as error:  # whatever a pure function raises, it raises on this block for good
                for state_again, snapshot in zip(rows, before, strict=True):
                    state_again.restore(snapshot)
                return operator.name, error
        return found

    def tick(self, devices: Sequence[str], now_us: int) -> Iterator[tuple[str, str, Found]]:
        """(operator, device, what was found) by operators that time alone leads to something."""
        for number, operator in self.ticking:
            for found in operator.tick(devices, now_us, self.states[number], self.control):
                yield self.operators[number].name, devices[found.scan], found

    def load(self, device: str, stored: dict[str, bytes], rows: RowSet | None = None) -> None:
        """Put back what each operator remembered of a device. Raises BadInput. Rows of other operators are left out."""
        for operator, state in zip(self.operators, rows or self.states, strict=True):
            state.from_bytes(device, stored.get(operator.name, b""))

    def bytes_of(self, device: str, rows: RowSet | None = None) -> dict[str, bytes]:
        """What each operator remembers of a device."""
        return {
            operator.name: state.to_bytes(device)
            for operator, state in zip(self.operators, rows or self.states, strict=True)
        }  # fmt: skip

    def forget(self, device: str) -> None:
        """Forget a device."""
        for state in self.states:
            state.forget(device)


def _tell_gaps(block: Block, broken: set[str]) -> None:
    for number, name in enumerate(block.devices):
        if name in broken:
            rows = np.flatnonzero(block.device == number)
            if len(rows):
                block.gap[rows[0]] = True
                broken.discard(name)


def _findings(number: int, operator: str, block: Block, columns: EventColumns) -> Iterator[Finding]:
    scan, ordinal = -1, 0
    for found in columns:
        ordinal = ordinal + 1 if found.scan == scan else 0
        scan = found.scan
        yield Finding(
            number, operator, block.devices[block.device[scan]], int(block.message[scan]), int(block.epoch[scan]),
            int(block.seq[scan]), ordinal, found,
        )  # fmt: skip
