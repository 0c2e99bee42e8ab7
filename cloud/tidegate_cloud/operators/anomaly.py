"""Anomaly: episodes in which a channel does what it has not done before, within an alarm budget.

Per channel novelty signals and the checks spike, pair, shift, rough (more noise), drift, stuck, gap and range;
kernels/anomaly.py says what each is. The knob is the budget: false episodes per channel and week, 0.1 when nothing else
is said; every channel learns its thresholds from the peaks of its own past.

`anomalous` begins an episode. Whatever speaks within its hold after the last alarm belongs to it (72 intervals, 1 h at
least, 6 h at most; of a drift 6 h), and `settled` ends it at the first scan after that, with its peak. One fault gives
one event: channels of a device whose episodes begin within `TOGETHER_S` of each other are told as one, whose subject is
the channel that spoke first and loudest; the others are named (`spreads`). Channels of which none passes its threshold
alone may do so together (signal `joint`, subject ""): the sum of their scores has a threshold of its own.

- A value beyond a limit that people registered for the channel is the limit's to tell.
- A false alarm that people report widens the channel's thresholds by half, and what is usual up to the value reported.
- A channel that has no value in three scans in which others of its device have one is a gap as soon as it is overdue;
  a device that says nothing at all is not this operator's.
- Time of day is the device's own (`time_zone` of its registry record, else UTC).

Cold start: nothing is said in the first 50 readings, but for values out of a declared range. Checks begin after 68
readings, at many times their threshold; it is near its own after two hours. Novelty has half its sensitivity after 150
readings and 12.5 h; the time of day counts from the second day on, weekdays and weekends apart from the second of each;
drift from the sixth day. `readings` in an event says how many the channel had. Sampling may be anything from 10 ms to
1 h: time constants are in seconds.

Channels of float64 and int64 are watched, positions are not. State: `ROW.itemsize` bytes a channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from tidegate_protocols.schema import ACCURACY, HEADING, LAT, LON, Channel

from . import names
from .anomaly_device import DEVICE, Told, tell
from .anomaly_words import SIGNALS
from .block import Block, EventColumns, no_events
from .control import Control
from .kernels import anomaly as kernels
from .kernels import anomaly_tails as tails
from .kernels import anomaly_usual as usual
from .operator import Level
from .state import StateRows
from .zones import transitions

__all__ = ["ROW", "SIGNALS", "Anomaly"]

_NOT_WATCHED = frozenset((LAT, LON, HEADING, ACCURACY))
_COUNTS = (
    "n", "residuals", "visit_n", "drift_n", "halves", "day", "days", "bin", "signal", "open", "told", "known",
    "known_daily", "daily_n", "had_base", "drift_ready", "gap_told", "run_told",
)  # fmt: skip
_FLOATS = (
    "t", "began", "age_s", "first", "x", "until", "middle", "usual", "usual_daily", "slope_before", "slope_after",
    "visit_sum", "drift_sum", "drift_t", "today_hi", "today_lo",
    "slow", "size", "surprise", "signed", "recent", "residual_size", "step", "step_mean", "ratio", "ratio_record",
    "dt_mean", "dt_longest", "repeats", "run", "run_longest",
    "level", "base", "c", "c0", "c1", "c_size", "phi", "e_size", "e_quick", "e_moved", "u1", "u2", "u3",
    "shift", "shift_size", "rough", "fast", "trend", "trend_size", "hold", "over_t", "highest", "peak_value",
)  # fmt: skip
_WIDER = 1.5
_WIDEST = 10.0
ROW = np.dtype(
    [
        ("since_us", "<i8"), ("peak_us", "<i8"),
        *((name, "<f8") for name in _FLOATS),
        ("lo", "<f8", (5,)), ("hi", "<f8", (5,)),
        ("peak_t", "<f8", (tails.TAILS - 1,)),
        *((name, "<f4", (tails.TAILS - 1,)) for name in ("peak", "peaks", "heights")),
        *((name, "<i4") for name in _COUNTS),
        ("profile", "<f4", (3 * usual.BINS,)),
        ("day_hi", "<f4", (usual.DAYS,)), ("day_lo", "<f4", (usual.DAYS,)),
        ("seen", "u1", (3 * usual.BINS,)),
    ]
)  # fmt: skip


class Anomaly:
    """See the module. State: a row (device, channel), and one for the device. `budget`: false episodes per week."""

    name = "anomaly"
    version = 4

    def __init__(self, budget: float = 0.1) -> None:
        self.budget = budget

    def new_state(self) -> StateRows:
        return StateRows(self.version, {"channels": ROW, "devices": DEVICE})

    def process(self, block: Block, state: StateRows, control: Control) -> EventColumns:
        if not len(block):
            return no_events()
        number = state.numbers(block.devices)
        heard: list[Told] = []
        for channel in block.schema.channels:
            if channel.type == "bool" or (block.schema.is_position and channel.name in _NOT_WATCHED):
                continue
            scan, kind, signal, numbers, row = self.watch(block, channel, number, state, control)
            heard += [
                Told._make((i, channel, k, s, *values, int(row[block.device[i]])))
                for i, k, s, values in zip(scan.tolist(), kind.tolist(), signal.tolist(), numbers.tolist(), strict=True)
            ]
        devices = state.tables["devices"]
        if not heard and not any(devices.data["open"][devices.rows_of(number)[0]]):
            return no_events()
        return tell(heard, block, number, state, control, self.budget)

    def levels(self, state: StateRows, device: str) -> list[Level]:
        found = []
        number = state.numbers([device], new=False)
        for name, told in (("channels", "told"), ("devices", "open")):
            table = state.tables[name]
            rows, _ = table.rows_of(number)
            found += [
                Level("anomalous", names.name_of(int(table.item[row])), int(table.data["since_us"][row]))
                for row in rows
                if table.data["open"][row] and table.data[told][row]
            ]
        return sorted(found)

    def watch(
        self, block: Block, channel: Channel, number: npt.NDArray[np.int32], state: StateRows, control: Control,
        score: npt.NDArray[np.float64] | None = None,
    ) -> tuple[npt.NDArray[Any], ...]:  # fmt: skip
        """What the kernel finds in one channel as columns: scan, kind, signal, numbers; and the row of each device.

        `score` [n] gets the novelty of every reading.
        """
        values = block.column(channel.name)
        table = state.tables["channels"]
        row = table.find(number, names.number_of(channel.name))
        zone, first, start, offset = _zones(block, control)
        wide, keep = self._said(block, channel, control)
        parts: list[list[npt.NDArray[Any]]] = []
        at, room = 0, 64
        while at < len(block):
            out = (
                np.empty(room, np.int32), np.empty(room, np.uint8), np.empty(room, np.uint8), np.empty((room, 6)),
            )  # fmt: skip
            at, k = _watch(
                at, block.device, row, block.ts_us, values, table.data, self.budget, zone, first, start, offset,
                wide, keep, -np.inf if channel.low is None else channel.low,
                np.inf if channel.high is None else channel.high, np.empty(0) if score is None else score, *out,
            )  # fmt: skip
            parts.append([column[:k] for column in out])
            room *= 4
        return (*(np.concatenate(columns) for columns in zip(*parts, strict=True)), row)

    def _said(
        self, block: Block, channel: Channel, control: Control
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Of each device, by how much its thresholds are wider, and the values that people called usual."""
        wide = np.ones(len(block.devices))
        keep = np.full((len(block.devices), 2), (np.inf, -np.inf))
        if control.feedback:
            for i, device in enumerate(block.devices):
                for said in control.said(self.name, device):
                    if said.subject == channel.name and said.kind == "false-alarm":
                        wide[i] = min(wide[i] * _WIDER, _WIDEST)
                        if said.value is not None and np.isfinite(said.value):
                            keep[i] = min(keep[i, 0], said.value), max(keep[i, 1], said.value)
        return wide, keep


# mypy does not see through a starred tuple in numba's signature.
_watch: Any = kernels.watch


def _zones(block: Block, control: Control) -> tuple[npt.NDArray[Any], ...]:
    """The zone of each device, and the transitions of all zones one after the other."""
    of = [control.time_zone_of(device) for device in block.devices] if control.devices else [""] * len(block.devices)
    known = sorted(set(of))
    place = {name: i for i, name in enumerate(known)}
    parts = [transitions(name) for name in known]
    first = np.cumsum([0, *(len(start) for start, _ in parts)])
    return (
        np.array([place[name] for name in of], np.int32), first,
        np.concatenate([start for start, _ in parts]), np.concatenate([offset for _, offset in parts]),
    )  # fmt: skip
