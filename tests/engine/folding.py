"""An operator for tests that notices everything: each scan is folded into a hash, so one that is lost, repeated or out
of order changes all that follows. It also raises where it is told to."""

from __future__ import annotations

import numpy as np
from tidegate_cloud.operators.block import INSTANT, Block, EventColumns
from tidegate_cloud.operators.control import Control
from tidegate_cloud.operators.names import number_of
from tidegate_cloud.operators.operator import Level
from tidegate_cloud.operators.state import StateRows

POISON = 666.0
_LAYOUT = np.dtype([("hash", "<u8"), ("count", "<i8")])
_MASK = (1 << 64) - 1


class Fold:
    """Folds the first channel of a block, gaps included, into a row per device and channel.

    One scan in three gives an event, whose value is the count so far and whose limit hangs on the hash.

    Raises on `POISON`, after it has already changed rows.
    """

    version = 1

    def __init__(self, name: str = "fold") -> None:
        self.name = name

    def new_state(self) -> StateRows:
        return StateRows(1, {"fold": _LAYOUT})

    def process(self, block: Block, state: StateRows, control: Control) -> EventColumns:
        table = state.tables["fold"]
        devices, local = np.unique(block.device, return_inverse=True)
        numbers = state.numbers([block.devices[device] for device in devices])
        rows = table.find(numbers, number_of(block.schema.channels[0].name))
        values = block.columns[0].astype(np.float64)
        found: list[tuple[int, float, float]] = []
        for i in range(len(block)):
            row = table.data[rows[local[i]]]
            word = hash((float(values[i]), int(block.seq[i]), bool(block.gap[i]), int(row["hash"])))
            row["hash"], row["count"] = word & _MASK, row["count"] + 1
            if values[i] == POISON:
                raise ValueError(f"{self.name} met {POISON}")
            if word % 3 == 0:
                found.append((i, float(row["count"]), float(word % 1000)))
        k = len(found)
        nan = np.full(k, np.nan)
        subjects = (block.schema.channels[0].name,)
        return EventColumns(
            ("folded",), subjects, np.array([f[0] for f in found], np.int32), np.zeros(k, np.uint8),
            np.full(k, INSTANT, np.uint8), np.zeros(k, np.int32), block.ts_us[[f[0] for f in found]],
            np.array([f[1] for f in found]), np.array([f[2] for f in found]), nan, nan, [""] * k, [{}] * k,
        )  # fmt: skip

    def levels(self, state: StateRows, device: str) -> list[Level]:
        return []


class Broken(Fold):
    """The same as another program has it, whose mistake shows on every record."""

    def process(self, block: Block, state: StateRows, control: Control) -> EventColumns:
        super().process(block, state, control)
        raise ValueError(f"{self.name} is broken")
