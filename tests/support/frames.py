"""What lies on `telemetry.frames`, read as the cloud reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tidegate_protocols import topics
from tidegate_protocols.batch import Batch, Lane
from tidegate_protocols.frame import decode_frame
from tidegate_protocols.schema import Schema

from tests.support.kafka import consume_all

Name = tuple[str, bytes, int, int]  # device, fingerprint, epoch, number


def batches(bootstrap: str) -> list[Batch]:
    """Every frame, decoded; each device's in order. Fails where a key is not the frame's device."""
    schemas = {}
    for message in consume_all(bootstrap, topics.SCHEMAS.name):
        schema = Schema.from_json(message.value())
        assert message.key() == schema.fingerprint.hex().encode()
        schemas[schema.fingerprint] = schema
    found = []
    for message in consume_all(bootstrap, topics.FRAMES.name):
        batch = decode_frame(message.value(), schemas)
        assert message.key() == batch.device.encode()
        found.append(batch)
    return found


def scans(found: list[Batch]) -> Iterator[tuple[Name, int, tuple[Any, ...]]]:
    """Every scan of the batches: its name, its time and its values."""
    for batch in found:
        columns = [
            [value if ok else None for value, ok in zip(column.tolist(), mask.tolist(), strict=True)]
            if mask is not None
            else column.tolist()
            for column, mask in zip(batch.columns, batch.valid, strict=True)
        ]
        for i, (ts_us, *values) in enumerate(zip(batch.ts_us.tolist(), *columns, strict=True)):
            yield (batch.device, batch.schema.fingerprint, batch.epoch, batch.seq + i), ts_us, tuple(values)


def once(found: list[Batch]) -> dict[Name, tuple[int, tuple[Any, ...]]]:
    """What a cursor per stream lets through: every scan once, by name. Fails where the stream is out of order.

    A scan that lies there twice must be the same, and no number may be skipped. Copies of a preview are left out.
    """
    cursors: dict[tuple[str, bytes, int], int] = {}
    seen: dict[Name, tuple[int, tuple[Any, ...]]] = {}
    for name, ts_us, values in scans([batch for batch in found if batch.lane != Lane.PREVIEW]):
        stream, number = name[:3], name[3]
        cursor = cursors.get(stream, 0)
        if number < cursor:
            assert seen[name] == (ts_us, values), f"{name} means two different scans"
            continue
        assert number == cursor, f"{name} follows {cursor - 1}"
        cursors[stream] = number + 1
        seen[name] = ts_us, values
    return seen
