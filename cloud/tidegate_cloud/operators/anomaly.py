"""Anomaly: episodes in which a channel does what it has not done before, within an alarm budget.

Per channel seven novelty signals and the checks gap, stuck, noise and drift (kernels/anomaly.py says what each is).
The knob is the budget: false episodes per channel and week, 0.1 when nothing else is said; every channel learns its
threshold from the peaks of its own past. `anomalous` begins an episode and says which signal spoke; whatever speaks
within 6 h of the last alarm belongs to it; `settled` ends it at the first reading after that. The refractory keeps a
lasting condition from speaking again unless it grows.

Cold start: nothing is said in the first 50 readings; half the sensitivity is there after 150 readings and 12.5 h; the
time of day counts from the second day on, weekdays and weekends apart from the second of each; more noise after 500
readings; drift from the second week. Time of day is UTC. Sampling may be anything from 10 ms to 1 h: time constants
are in seconds.

Channels of float64 and int64 are watched, positions are not. State: `ROW.itemsize` bytes a channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from tidegate_protocols.schema import ACCURACY, HEADING, LAT, LON, Channel

from . import names
from .block import BEGIN, END, Block, EventColumns, events_of, no_events
from .control import Control
from .kernels import anomaly as kernels
from .operator import Level
from .state import StateRows

KINDS = ("anomalous", "settled")
SIGNALS = (
    "value", "time of day", "time of day, all days", "surprise", "one-sided", "step", "noise", "gap", "stuck", "drift",
)  # fmt: skip
_NOT_WATCHED = frozenset((LAT, LON, HEADING, ACCURACY))
_FLOATS = (
    "t", "began", "age_s", "first", "x", "slow", "size", "surprise", "signed", "recent", "residual_size",
    "dt_mean", "dt_longest", "repeats", "run", "run_longest", "run_told",
    "step", "step_mean", "ratio", "ratio_record", "calm", "rough", "rough_record",
    "block_sum", "block_began", "block_size", "cusum_up", "cusum_down", "cusum_record",
    "peaks", "heights", "peak", "peak_t", "alarm_t", "highest",
)  # fmt: skip
ROW = np.dtype(
    [
        *((name, "<i8") for name in ("n", "residuals", "block_n", "blocks", "open", "since_us", "signal")),
        *((name, "<f8") for name in _FLOATS),
        ("lo", "<f8", (5,)),
        ("hi", "<f8", (5,)),
        ("profile", "<f4", (3 * kernels.BINS,)),
        ("seen", "u1", (2 * kernels.BINS,)),
    ]
)


class Anomaly:
    """See the module. State: one row (device, channel). `budget`: false episodes per channel and week."""

    name = "anomaly"
    version = 1

    def __init__(self, budget: float = 0.1) -> None:
        self.budget = budget

    def new_state(self) -> StateRows:
        return StateRows(self.version, {"channels": ROW})

    def process(self, block: Block, state: StateRows, control: Control) -> EventColumns:
        if not len(block):
            return no_events()
        number = state.numbers(block.devices)
        parts: list[list[npt.NDArray[Any]]] = []
        heard: list[Channel] = []
        for channel in block.schema.channels:
            if channel.type == "bool" or (block.schema.is_position and channel.name in _NOT_WATCHED):
                continue
            values = block.column(channel.name)
            part = self.watch(block, channel.name, number, state)
            if values is not None and len(part[0]):
                parts.append([*part, values[part[0]]])
                heard += [channel] * len(part[0])
        if not heard:
            return no_events()
        scan, kind, signal, score, low, high, value = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        lon, lat = block.position()
        limit = np.where(value > high, high, np.where(value < low, low, np.nan))
        return events_of(
            KINDS, [channel.name for channel in heard], scan=scan, kind=kind,
            phase=np.where(kind == kernels.BEGIN, BEGIN, END).astype(np.uint8), ts_us=block.ts_us[scan],
            value=value, limit=limit, lat=lat[scan], lon=lon[scan], unit=[channel.unit for channel in heard],
            attrs=[
                _attrs(int(which), float(v), float(a), float(b), channel.unit, float(s), int(block.ts_us[i]))
                for which, v, a, b, channel, s, i in zip(signal, value, low, high, heard, score, scan, strict=True)
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

    def watch(
        self, block: Block, channel: str, number: npt.NDArray[np.int32], state: StateRows,
        score: npt.NDArray[np.float64] | None = None,
    ) -> list[npt.NDArray[Any]]:  # fmt: skip
        """Events of one channel as columns: scan, kind, signal, score, low, high. `score` [n] gets every score."""
        values = block.column(channel)
        table = state.tables["channels"]
        row = table.find(number, names.number_of(channel))
        dtypes = (np.int32, np.uint8, np.uint8, np.float64, np.float64, np.float64)
        parts: list[list[npt.NDArray[Any]]] = []
        at, room = 0, 64
        while at < len(block):
            out = [np.empty(room, dtype) for dtype in dtypes]
            at, k = _watch(
                at, block.device, row, block.ts_us, values, table.data, self.budget,
                np.empty(0) if score is None else score, *out,
            )  # fmt: skip
            parts.append([column[:k] for column in out])
            room *= 4
        return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


# mypy does not see through a starred list in numba's signature.
_watch: Any = kernels.watch


def _attrs(signal: int, value: float, low: float, high: float, unit: str, score: float, ts_us: int) -> dict[str, str]:
    attrs = {"signal": SIGNALS[signal], "score": f"{score:.3g}"}
    if low == low and high == high:
        attrs |= {"usual_low": f"{low:.6g}", "usual_high": f"{high:.6g}"}
        half_hour = ts_us // 1_800_000_000 % 48
        start, end = (f"{k // 2 % 24:02}:{k % 2 * 30:02}" for k in (half_hour, half_hour + 1))
        when = f"{start}–{end} UTC"
        if value > high:
            attrs["words"] = f"{value - high:.3g} {unit} above the usual band for {when}".replace("  ", " ")
        elif value < low:
            attrs["words"] = f"{low - value:.3g} {unit} below the usual band for {when}".replace("  ", " ")
    return attrs
