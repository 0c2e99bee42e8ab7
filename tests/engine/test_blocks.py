"""Frames in columns: what is new in them ends up in blocks, each device's scans in the order of the records."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_cloud.engine import Record
from tidegate_cloud.engine.admission import ANNOUNCED_MAX, UNKNOWN_MAX, Admission
from tidegate_cloud.engine.blocks import cut, read
from tidegate_cloud.engine.streams import Streams
from tidegate_protocols.batch import Batch, Lane, batch_from_rows
from tidegate_protocols.codec import backend
from tidegate_protocols.frame import encode_frame
from tidegate_protocols.schema import Channel, Schema

from tests.engine.frames import Log

SCHEMAS = [Schema(name, (Channel(name),)) for name in ("warm", "cold", "wet")]
KNOWN = {schema.fingerprint: schema for schema in SCHEMAS}


def records_of(batches: list[Batch]) -> list[Record]:
    """As they lie in one partition."""
    return [Record("t", 0, i, i, batch.device.encode(), encode_frame(batch)) for i, batch in enumerate(batches)]


def blocks_of(batches: list[Batch]) -> list[tuple[int, bool, str, list[tuple[str, int, bool]]]]:
    """Round, preview, schema, and (device, time, gap) of every scan."""
    records = records_of(batches)
    frames = read(records, KNOWN)
    admitted = Admission(Streams(), 1).admit(records, frames, KNOWN, 0)
    return [
        (piece.round, piece.preview, piece.block.schema.name, [
            (piece.block.devices[device], ts, gap)
            for device, ts, gap in zip(
                piece.block.device.tolist(), piece.block.ts_us.tolist(), piece.block.gap.tolist(), strict=True
            )
        ])
        for piece in cut(frames, admitted.start, admitted.gap, admitted.round_of)
    ]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(1, 3)), max_size=30))
@settings(deadline=None)
def test_every_device_keeps_its_order(sent: list[tuple[str, int, int]]) -> None:
    batches = []
    expected: dict[str, list[tuple[str, int]]] = {}
    seq: dict[tuple[str, int], int] = {}
    for number, (device, schema, n) in enumerate(sent):
        first = seq.get((device, schema), 0)
        seq[device, schema] = first + n
        rows = [(number * 10 + i, (1.0,)) for i in range(n)]
        batches.append(batch_from_rows(device, SCHEMAS[schema], rows, seq=first))
        expected.setdefault(device, []).extend((SCHEMAS[schema].name, ts) for ts, _ in rows)
    found: dict[str, list[tuple[str, int]]] = {}
    for _, _, schema_name, scans in blocks_of(batches):
        for device, ts, _ in scans:
            found.setdefault(device, []).append((schema_name, ts))
    assert found == expected


def test_devices_that_keep_their_schema_share_a_block() -> None:
    assert len(blocks_of([batch_from_rows(f"d{i}", SCHEMAS[i % 2], [(i, (1.0,))]) for i in range(20)])) == 2


def test_overlaps_are_trimmed_and_repeats_left_out_while_neighbours_stay_whole() -> None:
    def frame(device: str, first: int, n: int) -> Batch:
        return batch_from_rows(device, SCHEMAS[0], [(first + i, (0.5,)) for i in range(n)], seq=first)

    ((_, _, _, scans),) = blocks_of(
        [frame("a", 0, 3), frame("b", 5, 2), frame("a", 1, 4), frame("a", 0, 2), frame("b", 9, 1)]
    )
    assert scans == [
        ("a", 0, True), ("a", 1, False), ("a", 2, False), ("b", 5, True), ("b", 6, False),
        ("a", 3, False), ("a", 4, False), ("b", 9, True),
    ]  # fmt: skip


def test_a_preview_and_a_join_begin_a_round() -> None:
    def frame(first: int, n: int, lane: Lane) -> Batch:
        return batch_from_rows("a", SCHEMAS[0], [(first + i, (0.5,)) for i in range(n)], seq=first, lane=lane)

    found = blocks_of(
        [
            frame(0, 2, Lane.LIVE), frame(6, 2, Lane.PREVIEW), frame(2, 2, Lane.BACKLOG), frame(4, 4, Lane.BACKLOG),
            frame(8, 1, Lane.LIVE),
        ]
    )  # fmt: skip
    assert [(number, preview, [ts for _, ts, _ in scans]) for number, preview, _, scans in found] == [
        (0, False, [0, 1]), (1, True, [6, 7]), (2, False, [2, 3, 4, 5, 6, 7]), (3, False, [8]),
    ]  # fmt: skip


@pytest.mark.parametrize("codec", ["plain", "bitpack", "range"])
def test_frames_of_every_codec_come_out_as_they_went_in(codec: str) -> None:
    backend.load()
    batches = [
        batch_from_rows(f"d{i % 3}", SCHEMAS[0], [(i * 100 + j, (i + j / 8,)) for j in range(4)], seq=4 * (i // 3))
        for i in range(9)
    ]
    records = [
        Record("t", 0, i, 0, b.device.encode(), encode_frame(b, codec=codec))  # type: ignore[arg-type]
        for i, b in enumerate(batches)
    ]
    frames = read(records, KNOWN)
    admitted = Admission(Streams(), 1).admit(records, frames, KNOWN, 0)
    (piece,) = cut(frames, admitted.start, admitted.gap, admitted.round_of)
    np.testing.assert_array_equal(piece.block.columns[0], np.concatenate([b.columns[0] for b in batches]))
    np.testing.assert_array_equal(piece.block.ts_us, np.concatenate([b.ts_us for b in batches]))
    assert [piece.block.devices[d] for d in piece.block.device[::4]] == [b.device for b in batches]


def test_junk_under_a_devices_key_neither_grows_its_row_for_ever_nor_locks_out_its_next_schema() -> None:
    streams = Streams()
    admission = Admission(streams, 24)
    log = Log()
    for i in range(UNKNOWN_MAX + 20):
        junk = Schema(f"junk_{i}", (Channel("x"),))
        log.add(batch_from_rows("bus-1", junk, [(i, (1.0,))]))
    admitted = admission.admit(log.records, read(log.records, {}), {}, 0)
    assert len(admitted.parked) == UNKNOWN_MAX
    assert [(i, reason) for i, reason, _ in admitted.refused] == [
        (UNKNOWN_MAX + i, "too-many-schemas") for i in range(20)
    ]
    real = log.add(batch_from_rows("bus-1", SCHEMAS[0], [(0, (1.0,))]))
    admitted = admission.admit([real], read([real], KNOWN), KNOWN, 0)
    assert admitted.start.tolist() == [0]
    assert ANNOUNCED_MAX > UNKNOWN_MAX
