"""Blocks keep each device's scans in the order of the records, also when it changes its schema on the way."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tidegate_cloud.engine.blocks import Admitted, blocks_of
from tidegate_protocols.batch import batch_from_rows
from tidegate_protocols.schema import Channel, Schema

SCHEMAS = [Schema(name, (Channel(name),)) for name in ("warm", "cold", "wet")]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(1, 3)), max_size=30))
def test_every_device_keeps_its_order(frames: list[tuple[str, int, int]]) -> None:
    admitted = []
    expected: dict[str, list[tuple[str, int]]] = {}
    for message, (device, schema, n) in enumerate(frames):
        rows = [(message * 10 + i, (1.0,)) for i in range(n)]
        admitted.append(Admitted(message, batch_from_rows(device, SCHEMAS[schema], rows), gap=False))
        expected.setdefault(device, []).extend((SCHEMAS[schema].name, ts) for ts, _ in rows)
    found: dict[str, list[tuple[str, int]]] = {}
    for block in blocks_of(admitted):
        for ts, device in zip(block.ts_us.tolist(), block.device.tolist(), strict=True):
            found.setdefault(block.devices[device], []).append((block.schema.name, ts))
    assert found == expected


def test_devices_that_keep_their_schema_share_a_block() -> None:
    admitted = [Admitted(i, batch_from_rows(f"d{i}", SCHEMAS[i % 2], [(i, (1.0,))]), gap=False) for i in range(20)]
    assert len(blocks_of(admitted)) == 2
