"""Blocks for operator tests: made of rows, cut every way, run through an operator."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from tidegate_cloud.operators import Block, Control, Found, Operator, StateRows
from tidegate_protocols.schema import Channel, Schema

POSITION = Schema("position", (Channel("lat"), Channel("lon"), Channel("speed", unit="m/s"), Channel("accuracy")))
Row = tuple[str, int, Sequence[float | None]]  # device, ts_us, values in channel order


def block_of_rows(schema: Schema, rows: Sequence[Row], gaps: Iterable[int] = ()) -> Block:
    """A block of rows in the order given; `gaps`: rows before which scans are missing. None = no value."""
    devices = list(dict.fromkeys(row[0] for row in rows))
    place = {device: i for i, device in enumerate(devices)}
    columns: list[Any] = []
    valid: list[Any] = []
    for c, channel in enumerate(schema.channels):
        values = [row[2][c] for row in rows]
        mask = np.array([value is not None for value in values], np.bool_)
        valid.append(None if mask.all() else mask)
        columns.append(np.array([0 if value is None else value for value in values], channel.dtype))
    n = len(rows)
    seen: dict[str, int] = {}
    seq = np.empty(n, np.int64)
    for i, row in enumerate(rows):
        seq[i] = seen.get(row[0], 0)
        seen[row[0]] = int(seq[i]) + 1
    gap = np.zeros(n, np.bool_)
    gap[list(gaps)] = True
    device = np.array([place[row[0]] for row in rows], np.int32)
    ts_us = np.array([row[1] for row in rows], np.int64)
    message = np.arange(n, dtype=np.int32)
    return Block(schema, devices, device, ts_us, tuple(columns), tuple(valid), seq, np.zeros(n, np.int64), message, gap)


def pieces(block: Block, cuts: Iterable[int]) -> list[Block]:
    """The block cut before these scans. Each piece knows only the devices that are in it."""
    edges = sorted({0, len(block), *(cut for cut in cuts if 0 < cut < len(block))})
    out = []
    for a, b in itertools.pairwise(edges):
        part = block.take(np.arange(a, b))
        used, device = np.unique(part.device, return_inverse=True)
        out.append(
            Block(
                part.schema,
                [block.devices[i] for i in used],
                device.astype(np.int32),
                part.ts_us,
                part.columns,
                part.valid,
                part.seq,
                part.epoch,
                part.message,
                part.gap,
            )
        )
    return out


def by_device(block: Block, order: Sequence[int]) -> Block:
    """The same scans, one device after the other in `order` of their places."""
    return block.take(np.concatenate([np.flatnonzero(block.device == device) for device in order]))


Named = tuple[str, int, Found]  # device, sequence number, what was found


def run(
    operator: Operator,
    blocks: Iterable[Block],
    control: Control,
    state: StateRows | None = None,
    *,
    reload: bool = False,
) -> tuple[list[Named], StateRows]:
    """Every event with the name of its scan, sorted by device and sequence number, and the state that is left.

    `reload`: the state goes through its bytes after every block.
    """
    state = operator.new_state() if state is None else state
    found: list[Named] = []
    for block in blocks:
        for event in operator.process(block, state, control):
            device = block.devices[block.device[event.scan]]
            found.append((device, int(block.seq[event.scan]), event._replace(scan=0)))
        if reload:
            fresh = operator.new_state()
            for device in state.devices:
                fresh.from_bytes(device, state.to_bytes(device))
            state = fresh
    # Stable: events of one scan stay in their order.
    return sorted(found, key=lambda item: item[:2]), state


def same_state(one: StateRows, two: StateRows) -> bool:
    """Whether both remember the same, to the byte."""
    return all(one.to_bytes(device) == two.to_bytes(device) for device in {*one.devices, *two.devices})


def check_batching(
    operator: Operator, block: Block, control: Control, cuts: Iterable[int], order: Sequence[int]
) -> None:
    """Assert that events and state do not depend on how the block is cut, ordered by device, or reloaded between."""
    whole, state = run(operator, [block], control)
    for blocks, reload in (
        (pieces(block, cuts), False),
        (pieces(block, cuts), True),
        (pieces(block, range(len(block))), False),
        ([by_device(block, order)], False),
    ):
        events, other = run(operator, blocks, control, reload=reload)
        assert repr(events) == repr(whole)  # repr: NaN equals NaN
        assert same_state(state, other)
