"""The engine's parts that need no Kafka: envelopes, positions, pacing, metrics."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from tidegate_cloud.engine import Outputs, Record
from tidegate_cloud.engine.checkpoints import Position, StoredRow, seal, unseal
from tidegate_cloud.engine.cursors import Cursor, DeviceRow, pack, unpack
from tidegate_cloud.engine.metrics import BulkHistogram, RunnerMetrics
from tidegate_cloud.engine.pacing import LARGEST, SMALLEST, Pacing
from tidegate_cloud.engine.patience import Caller, Stuck
from tidegate_cloud.kafka import Part
from tidegate_protocols.errors import BadInput

I64 = st.integers(-(2**63), 2**63 - 1)


@given(st.integers(0, 2**16 - 1), I64, st.binary())
def test_rows_come_back_as_they_were_sealed(version: int, tag: int, value: bytes) -> None:
    assert unseal(seal(version, tag, value)) == StoredRow(version, tag, value)


@pytest.mark.parametrize("data", [b"", b"\x01\x00\x00", b"\x02" + bytes(11)])
def test_a_row_of_another_layout_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match="checkpoint"):
        unseal(data)


def test_positions_are_read_as_written_and_foreign_ones_refused() -> None:
    position = Position(state=3, replay_from=77)
    assert Position.read(position.text()) == position
    for text in ("", "77", '{"state": 1}', '{"state": 1, "replay_from": 2, "v": 9}'):
        with pytest.raises(BadInput, match="committed metadata"):
            Position.read(text)


ROWS = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=20), st.binary(max_size=50), max_size=5)
PLAIN = st.builds(Cursor, I64, I64, broken=st.booleans(), estimated=st.booleans())
SHOWN = st.builds(
    Cursor, I64, I64, I64, I64, st.booleans(), st.booleans(), shown=PLAIN, told=st.binary(max_size=20), rows=ROWS
)
CURSORS = st.one_of(st.builds(Cursor, I64, I64, I64, I64, st.booleans(), st.booleans()), SHOWN)


@given(
    st.builds(
        DeviceRow, st.just(5), I64, I64, st.booleans(), st.dictionaries(st.binary(min_size=8, max_size=8), CURSORS)
    ),
    ROWS,
)
def test_device_rows_come_back_and_equal_ones_have_equal_bytes(row: DeviceRow, operators: dict[str, bytes]) -> None:
    data = pack(row, operators)
    assert unpack(5, data) == (row, operators)
    assert pack(replace(row, cursors=dict(reversed(row.cursors.items()))), operators) == data


def test_pacing_grows_while_there_is_room_and_shrinks_when_a_batch_takes_too_long() -> None:
    pacing = Pacing(0.2, size=100)
    pacing.took(100, 0.02, 0.01, 0.0)
    assert pacing.size == 200
    pacing.took(30, 0.02, 0.01, 0.0)
    assert pacing.size == 200  # there was no more to take: nothing is learnt
    pacing.took(200, 0.4, 0.0, 0.0)
    assert pacing.size == 100
    pacing.took(100, 0.2, 0.0, 30.0)
    assert pacing.size == 200  # far behind: larger batches catch up sooner
    pacing.took(200, 0.55, 0.5, 0.0)
    assert pacing.size == 400  # nearly all was the commit: committing more often would not help
    for _ in range(40):
        pacing.took(pacing.size, 1e-9, 0.0, 0.0)
    assert pacing.size == LARGEST
    for _ in range(40):
        pacing.took(pacing.size, 100.0, 0.0, 0.0)
    assert pacing.size == SMALLEST


def test_a_bulk_histogram_counts_like_one_that_takes_values_singly() -> None:
    registry = CollectorRegistry()
    histogram = BulkHistogram("h", "help", (1.0, 2.0), registry)
    histogram.observe(np.array([0.5, 1.0, 1.5, 9.0]))
    histogram.observe(np.array([2.0]))
    value = registry.get_sample_value
    assert [value("h_bucket", {"le": le}) for le in ("1.0", "2.0", "+Inf")] == [2, 4, 5]
    assert (value("h_count"), value("h_sum")) == (5, 14.0)


def test_runner_metrics_tell_counts_delay_and_lag() -> None:
    metrics = RunnerMetrics("processor", {"frames": "Frames"})
    record = Record("t", 0, 0, 1_000_000, None, None)
    metrics.committed([record], Outputs(counts={"frames": 3, "unknown": 1}, seconds={"decode": 0.5}), 1_250_000, 0.1)
    metrics.standing({Part("t", 0): 7, Part("t", 1): 0})
    metrics.standing({Part("t", 1): 2})
    value = metrics.registry.get_sample_value
    assert value("tidegate_processor_frames_total") == 3
    assert value("tidegate_processor_stage_seconds_total", {"stage": "decode"}) == 0.5
    assert value("tidegate_processor_event_to_commit_seconds_sum") == pytest.approx(0.25)
    assert value("tidegate_processor_lag_records", {"topic": "t", "partition": "1"}) == 2
    assert value("tidegate_processor_lag_records", {"topic": "t", "partition": "0"}) is None


def test_a_call_that_never_returns_is_left_behind_and_the_next_one_is_answered() -> None:
    caller, let_go = Caller(), threading.Event()
    assert caller.call(divmod, 7, 2, within_s=30) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        caller.call(divmod, 1, 0, within_s=30)
    with pytest.raises(Stuck, match="wait did not return within"):
        caller.call(let_go.wait, within_s=0.01)
    assert caller.call(divmod, 9, 4, within_s=30) == (2, 1)  # and not what the one left behind returns
    let_go.set()
    assert caller.call(divmod, 5, 3, within_s=30) == (1, 2)
    caller.close()
