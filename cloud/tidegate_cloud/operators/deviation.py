"""Deviation: a channel does what it usually does not.

Per channel a level (exponential mean, 30 min) and the usual size of a deviation from it (exponential mean of the
absolute deviation, 6 h) are followed. `anomalous` begins at a value more than 10 usual sizes away from the level and
ends (`settled`) after a minute within 4. Both are learnt from deviations clipped at 3 usual sizes, so that an anomaly
does not become usual at once; what lasts becomes the new level in time. Warm-up: 60 readings and 10 minutes, during
which nothing is said. Time constants are in seconds: the sampling interval may be anything, and may change.

Channels of float64 and int64 are watched, positions are not. A value that is missing or not finite changes nothing.
A gap before a reading does not end a condition.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from tidegate_protocols.schema import ACCURACY, HEADING, LAT, LON, Channel

from . import names
from .block import BEGIN, END, Block, EventColumns, events_of, no_events
from .control import Control
from .kernels import deviation as kernels
from .operator import Level
from .state import StateRows

KINDS = ("anomalous", "settled")
_NOT_WATCHED = frozenset((LAT, LON, HEADING, ACCURACY))
ROW = np.dtype(
    [
        ("n", "<i8"),
        ("first_us", "<i8"),
        ("ts_us", "<i8"),
        ("since_us", "<i8"),
        ("open", "<i8"),
        ("level", "<f8"),
        ("size", "<f8"),
        ("calm_s", "<f8"),
    ]
)


class Deviation:
    """See the module. State: one row (device, channel)."""

    name = "deviation"
    version = 1

    def new_state(self) -> StateRows:
        return StateRows(self.version, {"channels": ROW})

    def process(self, block: Block, state: StateRows, control: Control) -> EventColumns:
        if not len(block):
            return no_events()
        number = state.numbers(block.devices)
        parts: list[tuple[npt.NDArray[Any], ...]] = []
        heard: list[Channel] = []
        for channel in block.schema.channels:
            if channel.type == "bool" or (block.schema.is_position and channel.name in _NOT_WATCHED):
                continue
            part = self._watch(block, channel, number, state)
            if len(part[0]):
                parts.append(part)
                heard += [channel] * len(part[0])
        if not parts:
            return no_events()
        scan, kind, value, level, size = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        lon, lat = block.position()
        side = np.sign(value - level)
        return events_of(
            KINDS, [channel.name for channel in heard], scan=scan, kind=kind,
            phase=np.where(kind == kernels.ANOMALOUS, BEGIN, END).astype(np.uint8), ts_us=block.ts_us[scan],
            value=value, limit=level + side * size * np.where(kind == kernels.ANOMALOUS, kernels.BEGIN, kernels.END),
            lat=lat[scan], lon=lon[scan], unit=[channel.unit for channel in heard],
            attrs=[
                {"usual": f"{mid:.6g}", "usual_deviation": f"{wide:.3g}"}
                for mid, wide in zip(level.tolist(), size.tolist(), strict=True)
            ],
        )  # fmt: skip

    def levels(self, state: StateRows, device: str) -> list[Level]:
        table = state.tables["channels"]
        rows, _ = table.rows_of(state.numbers([device], new=False))
        return sorted(
            Level("anomalous", names.name_of(int(table.item[row])), int(table.data["since_us"][row]))
            for row in rows
            if table.data["open"][row]
        )

    def _watch(
        self, block: Block, channel: Channel, number: npt.NDArray[np.int32], state: StateRows
    ) -> tuple[npt.NDArray[Any], ...]:
        values = block.column(channel.name)
        assert values is not None
        table = state.tables["channels"]
        row = table.find(number, names.number_of(channel.name))
        parts = []
        at, room = 0, 64
        while at < len(block):
            scan, kind = np.empty(room, np.int32), np.empty(room, np.uint8)
            level, size = np.empty(room), np.empty(room)
            at, k = kernels.watch(
                at, block.device, row, block.ts_us, block.gap, values, channel.resolution or 0.0, table.data,
                scan, kind, level, size,
            )  # fmt: skip
            parts.append((scan[:k], kind[:k], values[scan[:k]], level[:k], size[:k]))
            room *= 4
        return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
