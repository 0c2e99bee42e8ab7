"""Runs operators once on made-up scans, so that their kernels are compiled before the first real one waits for them.

With numba's cache in place this takes a second or two; the first time after an installation it may take half a minute,
and minutes on a machine that has much else to do.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
from tidegate_protocols.batch import batch_from_rows
from tidegate_protocols.frame import encode_frame
from tidegate_protocols.ids import partition_of
from tidegate_protocols.registry import FENCE, RULE, Fence, Rule
from tidegate_protocols.schema import Channel, Schema
from tidegate_protocols.topics import DEVICE_PARTITIONS, FENCES, FRAMES, RULES, SCHEMAS

from tidegate_cloud.operators.operator import Operator

from .inprocess import run
from .logic import Record
from .telemetry import TelemetryLogic

_SCANS = 64
_TELL_AFTER_S = 1.0
PREPARING = "preparing operators; the first start after an installation compiles them, which may take minutes"
_Row = tuple[int, tuple[float | int | None, ...]]


@contextmanager
def told_when_long(after_s: float = _TELL_AFTER_S) -> Iterator[None]:
    """Say once on stderr what is waited for when the block takes longer than `after_s` seconds."""
    timer = threading.Timer(after_s, lambda: click.echo(PREPARING, err=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def warm(operators: Sequence[Operator]) -> None:
    """Take one device over a fence and a limit, in a Logic that is thrown away."""
    schema = Schema("warm", (Channel("lat"), Channel("lon"), Channel("level"), Channel("count", "int64")))
    square = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
    edits = (
        (SCHEMAS.name, schema.fingerprint.hex(), schema.canonical_json),
        (FENCES.name, "area", FENCE.encode(Fence(id="area", name="area", geometry=json.dumps(square)))),
        (FENCES.name, "spot", FENCE.encode(
            Fence(id="spot", name="spot", geometry='{"type": "Point", "coordinates": [0.5, 0.5]}', radius_m=100.0)
        )),
        (RULES.name, "level", RULE.encode(Rule(id="level", name="level", channel="level", high=10.0))),
    )  # fmt: skip
    rows: list[_Row] = [(i * 1_000_000, (i / 32 - 0.5, 0.5, float(i), i)) for i in range(_SCANS)]
    # Half of the scans have nulls, so that both ways through the columns are taken.
    nulls: list[_Row] = [(ts_us, (*values[:2], None, None)) for ts_us, values in rows]
    home = partition_of(b"warm", DEVICE_PARTITIONS)
    frames = [
        Record(FRAMES.name, home, i, 0, b"warm", encode_frame(batch_from_rows("warm", schema, part, seq=i * _SCANS)))
        for i, part in enumerate((rows, [*rows[:32], *nulls[32:]]))
    ]
    logic = TelemetryLogic(operators)
    logic.broadcast([Record(topic, 0, i, 0, key.encode(), value) for i, (topic, key, value) in enumerate(edits)])
    ran = run(logic, [[frame] for frame in frames], partitions=[home])
    if ran.counts.get("dead_letters"):
        errors = dict(ran.records[-1].headers)
        raise RuntimeError(f"an operator fails on plain input: {errors.get('error')!r}")
