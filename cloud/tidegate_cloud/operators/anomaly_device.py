"""One fault, one event: what the channels of a device have to say, put together.

Works on what the kernels found, which is rare, in the order of the scans; so it does not depend on how scans are cut
into blocks.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tidegate_protocols.schema import Channel

from . import names
from .anomaly_words import SIGNALS, words
from .block import BEGIN, END, INSTANT, Block, EventColumns, events_of, no_events
from .control import Control
from .kernels import anomaly as kernels
from .kernels import anomaly_signals as signals
from .kernels import anomaly_tails as tails
from .state import StateRows, Table

KINDS = ("anomalous", "settled", "spreads")
_ANOMALOUS, _SETTLED, _SPREADS = range(3)
# Episodes of a device that begin within so long of each other are one.
TOGETHER_S = 600.0
_TOGETHER_INTERVALS = 3.0
DEVICE = np.dtype(
    [
        ("began", "<f8"), ("since_us", "<i8"), ("alarm_us", "<i8"), ("told_us", "<i8"), ("open", "<i4"),
        ("some", "<i4"), ("highest", "<f8"), ("leader", "S64"),
        *((name, "<f8", (tails.TAILS,)) for name in ("peak_t", "peak", "peaks", "heights")),
    ]
)  # fmt: skip


class Told(NamedTuple):
    """What the kernel found in a channel at a scan; the numbers as in `kernels.anomaly.watch`."""

    scan: int
    channel: Channel
    kind: int
    signal: int
    ratio: float
    low: float
    high: float
    value: float
    days: float
    readings: float
    row: int


class _Found:
    """Events on their way into columns."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.rows: list[tuple[int, int, int, str, int, float, float, str, dict[str, str]]] = []

    def add(
        self, scan: int, kind: int, phase: int, subject: str, value: float, limit: float, unit: str,
        attrs: dict[str, str],
    ) -> None:  # fmt: skip
        ts_us = int(self.block.ts_us[scan])
        self.rows.append((scan, kind, phase, subject, ts_us, value, limit, unit, attrs))

    def columns(self) -> EventColumns:
        if not self.rows:
            return no_events()
        scan, kind, phase, subject, ts_us, value, limit, unit, attrs = zip(*self.rows, strict=True)
        at = np.array(scan, np.int32)
        lon, lat = self.block.position()
        return events_of(
            KINDS, subject, scan=at, kind=np.array(kind, np.uint8), phase=np.array(phase, np.uint8),
            ts_us=np.array(ts_us, np.int64), value=np.array(value), limit=np.array(limit), lat=lat[at], lon=lon[at],
            unit=unit, attrs=attrs,
        )  # fmt: skip


def tell(
    heard: list[Told], block: Block, number: npt.NDArray[np.int32], state: StateRows, control: Control, budget: float
) -> EventColumns:
    """The events of a block: `heard` of all channels, in any order. `number`: of each of the block's devices."""
    channels, devices = state.tables["channels"], state.tables["devices"]
    # A row only for devices that have something to say: the others' bytes must not depend on who shares their block.
    row = np.full(len(number), -1, np.int32)
    known = np.array([len(devices.rows_of(number[i : i + 1])[0]) > 0 for i in range(len(number))], np.bool_)
    known[[block.device[told.scan] for told in heard]] = True
    row[known] = devices.find(number[known], names.number_of(""))
    found = _Found(block)
    # Of a device with a joint episode: the last scan that spoke of it.
    spoke: dict[int, int] = {}
    heard.sort(key=lambda told: (told.scan, -told.ratio, told.channel.name))
    for scan, at_once in itertools.groupby(heard, key=lambda told: told.scan):
        device = int(block.device[scan])
        zone = control.time_zone_of(block.devices[device])
        group = list(at_once)
        _settle(device, spoke.get(device, -1), scan, block, devices.data[row[device]], found)
        for told in group:
            if told.kind == kernels.SETTLED and channels.data["told"][told.row]:
                channels.data["told"][told.row] = 0
                found.add(scan, _SETTLED, END, told.channel.name, told.value, np.nan, told.channel.unit, _over(told))
        one = devices.data[row[device]]
        begun = [told for told in group if told.kind == kernels.BEGIN]
        mine = [told for told in begun if not _limited(told, block.devices[device], control)]
        if mine:
            _begin(mine, scan, block, zone, one, channels, found)
        candidates = [told for told in group if told.kind == kernels.CANDIDATE]
        if len(candidates) > 1 and not begun and _joint(candidates, scan, block, zone, one, budget, found):
            spoke[device] = scan
    for device in np.flatnonzero(known).tolist():
        _settle(device, spoke.get(device, -1), len(block), block, devices.data[row[device]], found)
    return found.columns()


def _begin(begun: list[Told], scan: int, block: Block, zone: str, one: Any, channels: Table, found: _Found) -> None:
    """Episodes begin at one scan: of a fault that was told just now, or as one event of its own."""
    ts_us = int(block.ts_us[scan])
    first = begun[0]
    together_s = max(TOGETHER_S, _TOGETHER_INTERVALS * float(channels.data["dt_mean"][first.row]))
    names_of = ", ".join(told.channel.name for told in begun)
    if one["some"] and 0 <= ts_us - one["told_us"] <= together_s * 1e6:
        leader = one["leader"].decode()
        attrs = {"name": leader, "channels": names_of, "signal": SIGNALS[first.signal]}
        found.add(scan, _SPREADS, INSTANT, leader, first.value, np.nan, first.channel.unit, attrs)
        return
    one["some"] = 1
    one["told_us"] = ts_us
    one["leader"] = first.channel.name.encode()
    channels.data["told"][first.row] = 1
    limit = first.high if first.value > first.high else first.low if first.value < first.low else np.nan
    attrs = _attrs(first, zone, ts_us) | ({"channels": names_of} if len(begun) > 1 else {})
    found.add(scan, _ANOMALOUS, BEGIN, first.channel.name, first.value, limit, first.channel.unit, attrs)


def _joint(candidates: list[Told], scan: int, block: Block, zone: str, one: Any, budget: float, found: _Found) -> bool:
    """No channel passes its threshold; their sum may pass the device's. Returns whether it spoke of an open episode."""
    ts_us = int(block.ts_us[scan])
    if not one["some"]:
        one["some"] = 1
        one["told_us"] = -(1 << 62)
    if one["began"] == 0.0:
        one["began"] = ts_us * 1e-6
    total = sum(told.ratio for told in candidates)
    if total <= tails.BOUND[tails.JOINT]:
        return False
    ratio = tails.ratio(one, tails.JOINT, total, ts_us * 1e-6, kernels.EPISODE_S_MOST, budget)
    if ratio < 1.0:
        return False
    # What follows within the hold of an episode that was told is part of it.
    if not one["open"] and ts_us - one["told_us"] > kernels.EPISODE_S_MOST * 1e6:
        one["open"] = 1
        one["since_us"] = one["told_us"] = ts_us
        one["leader"] = b""
        one["highest"] = 0.0
        attrs = {
            "name": ", ".join(told.channel.name for told in candidates), "signal": "joint", "score": f"{ratio:.3g}",
            "channels": ", ".join(f"{told.channel.name} {told.ratio / total:.0%}" for told in candidates),
            "words": words("joint", np.nan, np.nan, np.nan, 0, "", zone, ts_us), "severity": "warning",
        }  # fmt: skip
        found.add(scan, _ANOMALOUS, BEGIN, "", np.nan, np.nan, "", attrs)
    if not one["open"]:
        return False
    one["highest"] = max(one["highest"], ratio)
    one["alarm_us"] = ts_us
    return True


def _settle(device: int, after: int, before: int, block: Block, one: Any, found: _Found) -> None:
    """A joint episode ends at the device's first scan after its hold, if that lies between these scans."""
    if not one["open"]:
        return
    over = block.ts_us[after + 1 : before] > one["alarm_us"] + int(kernels.EPISODE_S_MOST * 1e6)
    over &= block.device[after + 1 : before] == device
    if over.any():
        one["open"] = 0
        found.add(
            after + 1 + int(np.argmax(over)), _SETTLED, END, "", np.nan, np.nan, "",
            {"signal": "joint", "score": f"{one['highest']:.3g}", "since_us": str(int(one["since_us"]))},
        )  # fmt: skip


def _limited(told: Told, device: str, control: Control) -> bool:
    """Whether the value is beyond a limit that people registered: then the limit is what they want to hear of."""
    group = control.group_of(device)
    return any(
        rule.channel == told.channel.name
        and (not rule.groups or group in rule.groups)
        and ((rule.high is not None and told.value > rule.high) or (rule.low is not None and told.value < rule.low))
        for rule in control.rules.values()
    )


def _attrs(told: Told, zone: str, ts_us: int) -> dict[str, str]:
    signal = SIGNALS[told.signal]
    attrs = {
        "name": told.channel.name, "severity": "warning", "signal": signal, "score": f"{told.ratio:.3g}",
        "readings": f"{told.readings:.0f}",
        "words": words(signal, told.value, told.low, told.high, int(told.days), told.channel.unit, zone, ts_us),
    }  # fmt: skip
    if told.low == told.low and told.high == told.high and told.signal != signals.RANGE:
        attrs |= {"usual_low": f"{told.low:.6g}", "usual_high": f"{told.high:.6g}"}
        attrs["usual"] = f"{0.5 * (told.low + told.high):.6g}"
    return attrs


def _over(told: Told) -> dict[str, str]:
    """What is said of an episode that is over: of SETTLED the numbers are highest ratio, peak and its time, since."""
    return {
        "name": told.channel.name, "signal": SIGNALS[told.signal], "score": f"{told.ratio:.3g}",
        "peak": f"{told.value:.6g}", "peak_us": f"{told.days:.0f}", "since_us": f"{told.readings:.0f}",
    }  # fmt: skip
