"""Operators in order over blocks, with a record on which one raises isolated from the rest.

When an operator raises on a block, every operator's rows of its devices are put back and the block is halved until the
record stands alone. Since results do not depend on how scans are cut into blocks, the rest comes out as if the record
had not been there, except that its stream's next scan is told a gap (rules 14 and B10).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
from tidegate_protocols.events import Event, event_id

from tidegate_cloud.operators.block import Block, EventColumns
from tidegate_cloud.operators.control import Control
from tidegate_cloud.operators.operator import Operator


@dataclass(frozen=True, slots=True)
class Failure:
    """A record on which an operator raised."""

    message: int
    operator: str
    error: Exception


@dataclass(frozen=True, slots=True)
class Finding:
    """An event, and where it stands among all that a micro-batch led to: by record, then scan, then operator."""

    place: tuple[int, int, int]
    event: Event


class Chain:
    """The operators of one processor with their rows, for the devices of every partition at hand."""

    def __init__(self, operators: Sequence[Operator], control: Control) -> None:
        self.operators = tuple(operators)
        self.states = tuple(operator.new_state() for operator in operators)
        self.control = control

    def run(
        self, block: Block, learnt_us: Sequence[int], failed: Set[str] = frozenset()
    ) -> tuple[list[Finding], list[Failure], set[str]]:
        """What the operators find in a block; the records that failed; devices whose next frame must be told a gap.

        `learnt_us[i]` is the append time of record i. `failed`: devices whose last record under this schema failed in
        an earlier block of the micro-batch.
        """
        findings: list[Finding] = []
        failures: list[Failure] = []
        # Devices whose last record failed. What the next half holds of them begins with a gap.
        broken = {number for number, name in enumerate(block.devices) if name in failed}
        todo = [block]
        while todo:
            part = todo.pop()
            for device in list(broken):
                rows = np.flatnonzero(part.device == device)
                if len(rows):
                    part.gap[rows[0]] = True
                    broken.discard(device)
            outcome = self._attempt(part)
            if isinstance(outcome, list):
                for number, columns in enumerate(outcome):
                    findings += self._findings(number, part, columns, learnt_us)
                continue
            messages = np.unique(part.message)
            if len(messages) == 1:
                failures.append(Failure(int(messages[0]), *outcome))
                broken.add(int(part.device[0]))
            else:
                first = part.message < messages[len(messages) // 2]
                todo += (part.take(~first), part.take(first))  # the first half is popped first
        return findings, failures, set(failed - set(block.devices)) | {block.devices[device] for device in broken}

    def _attempt(self, block: Block) -> list[EventColumns] | tuple[str, Exception]:
        """What each operator finds; or, with all rows as before, the operator that raised and what."""
        devices = [block.devices[device] for device in np.unique(block.device)]
        before = [state.snapshot(devices) for state in self.states]
        found: list[EventColumns] = []
        for operator, state in zip(self.operators, self.states, strict=True):
            try:
                found.append(operator.process(block, state, self.control))
            except Exception as error:  # whatever a pure function raises, it raises on this block for good
                for rows, snapshot in zip(self.states, before, strict=True):
                    rows.restore(snapshot)
                return operator.name, error
        return found

    def _findings(self, number: int, block: Block, columns: EventColumns, learnt_us: Sequence[int]) -> list[Finding]:
        findings = []
        operator = self.operators[number].name
        scan, ordinal = -1, 0
        for found in columns:
            ordinal = ordinal + 1 if found.scan == scan else 0
            scan = found.scan
            device, message = block.devices[block.device[scan]], int(block.message[scan])
            epoch, seq = int(block.epoch[scan]), int(block.seq[scan])
            event = Event(
                id=event_id(
                    device, operator, found.kind, found.subject, provisional=False, epoch=epoch, seq=seq,
                    ordinal=ordinal,
                ),
                device=device, operator=operator, kind=found.kind, phase=found.phase, subject=found.subject,
                ts_us=found.ts_us, learnt_us=learnt_us[message], epoch=epoch, seq=seq, ordinal=ordinal,
                value=found.value, limit=found.limit, unit=found.unit, lat=found.lat, lon=found.lon,
                attrs=found.attrs,
            )  # fmt: skip
            findings.append(Finding((message, seq, number), event))
        return findings

    def load(self, device: str, rows: dict[str, bytes]) -> None:
        """Put back what each operator remembered of a device. Raises BadInput. Rows of other operators are left out."""
        for operator, state in zip(self.operators, self.states, strict=True):
            state.from_bytes(device, rows.get(operator.name, b""))

    def bytes_of(self, device: str) -> dict[str, bytes]:
        """What each operator remembers of a device."""
        return {
            operator.name: state.to_bytes(device)
            for operator, state in zip(self.operators, self.states, strict=True)
        }  # fmt: skip

    def forget(self, device: str) -> None:
        """Forget a device."""
        for state in self.states:
            state.forget(device)
