"""Presence: a device has not been heard for much longer than it usually pauses; and it is heard again.

``silent`` (begin) comes with a tick; its time is when the device was last heard, so that it is the same event whenever
the tick comes. ``heard`` (end) comes with the next frame, whatever becomes of that; its time is when it was appended.
What a device usually pauses is learnt from the append times of its live frames (`kernels.admit`); a backlog that
arrives at once says nothing about it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from tidegate_protocols.events import Event, Phase, event_id

from tidegate_cloud.operators.block import Found

from .streams import Streams

OPERATOR = "presence"
SILENT, HEARD = "silent", "heard"
LEAST_S = 60.0  # nobody is called silent sooner than this
_PAUSES = 6  # … nor before so many usual pauses


def _event(device: str, kind: str, phase: Phase, ts_us: int, learnt_us: int, attrs: dict[str, str]) -> Event:
    # It belongs to no scan: the time of the fact stands for the sequence number.
    name = event_id(device, OPERATOR, kind, "", provisional=False, epoch=0, seq=ts_us, ordinal=0)
    return Event(
        id=name, device=device, operator=OPERATOR, kind=kind, phase=phase, subject="", ts_us=ts_us,
        learnt_us=learnt_us, epoch=0, seq=ts_us, ordinal=0, attrs=attrs,
    )  # fmt: skip


def timely(operator: str, device: str, found: Found) -> Event:
    """What an operator found since time has passed."""
    name = event_id(
        device, operator, found.kind, found.subject, provisional=False, epoch=0, seq=found.ts_us, ordinal=0
    )  # fmt: skip
    return Event(
        id=name, device=device, operator=operator, kind=found.kind, phase=found.phase, subject=found.subject,
        ts_us=found.ts_us, learnt_us=found.ts_us, epoch=0, seq=found.ts_us, ordinal=0, value=found.value,
        limit=found.limit, unit=found.unit, lat=found.lat, lon=found.lon, attrs=found.attrs,
    )  # fmt: skip


def heard(device: str, append_us: int) -> Event:
    """A silent device is heard again."""
    return _event(device, HEARD, "end", append_us, append_us, {})


def overdue(streams: Streams, numbers: npt.NDArray[np.int64], now_us: int, least_us: int) -> list[tuple[int, Event]]:
    """Of these devices, those that are silent now and were not called so: they are marked. (number, event)."""
    rows = streams.device[numbers]
    allowed = np.maximum(least_us, _PAUSES * rows["usual_us"])
    late = (rows["silent"] == 0) & (rows["heard_us"] > 0) & (now_us - rows["heard_us"] > allowed)
    found = []
    for i in np.flatnonzero(late).tolist():
        number = int(numbers[i])
        streams.device["silent"][number] = 1
        attrs = {"interval_s": f"{allowed[i] / 1e6:g}"}
        heard_us = int(rows["heard_us"][i])
        # Learnt when the interval was over, not when the tick came: the same event whenever it is found.
        found.append(
            (number, _event(streams.names[number], SILENT, "begin", heard_us, heard_us + int(allowed[i]), attrs))
        )
    return found
