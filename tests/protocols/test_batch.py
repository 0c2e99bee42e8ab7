"""Batches: what one may be, its slices, and when two are the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_protocols.batch import EPOCH_MAX, SCANS_MAX, SEQ_MAX, Batch, Lane, batch_from_rows
from tidegate_protocols.errors import BadInput, Misuse
from tidegate_protocols.schema import Channel, Schema

from tests.support.batches import batches

SCHEMA = Schema("engine", (Channel("temp"), Channel("count", "int64"), Channel("on", "bool")))


def test_rows_become_columns_with_masks_only_where_there_are_nulls() -> None:
    batch = batch_from_rows("d", SCHEMA, [(10, (1.5, 2, True)), (20, (None, 3, False))], epoch=1, seq=9)
    assert batch.ts_us.tolist() == [10, 20]
    assert batch.columns[0][0] == 1.5
    assert batch.columns[1].tolist() == [2, 3]
    assert batch.columns[2].tolist() == [True, False]
    assert batch.valid[0] is not None
    assert batch.valid[0].tolist() == [True, False]
    assert batch.valid[1] is batch.valid[2] is None
    assert batch.readings == 5
    assert (batch.epoch, batch.seq, batch.lane) == (1, 9, Lane.LIVE)


@given(batches(), st.data())
def test_slices_laid_together_are_the_batch(batch: Batch, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(batch)))
    parts = [batch.slice(a, b) for a, b in ((0, cut), (cut, len(batch))) if a < b]
    assert sum(part.readings for part in parts) == batch.readings
    assert [part.seq for part in parts] == [batch.seq + a for a in (0, cut) if a < len(batch)][: len(parts)]
    joined = replace(
        parts[0],
        ts_us=np.concatenate([part.ts_us for part in parts]),
        columns=tuple(np.concatenate(columns) for columns in zip(*(part.columns for part in parts), strict=True)),
        valid=tuple(
            None if masks[0] is None else np.concatenate(masks)
            for masks in zip(*(part.valid for part in parts), strict=True)
        ),
    )
    assert joined.equals(batch)


@given(batches())
def test_a_batch_equals_itself_whatever_stands_under_its_nulls(batch: Batch) -> None:
    columns = []
    for column, mask in zip(batch.columns, batch.valid, strict=True):
        other = column.copy()
        if mask is not None:
            other[~mask] = 1
        columns.append(other)
    assert batch.equals(replace(batch, columns=tuple(columns)))


def test_batches_differ_by_one_bit_of_a_value_and_by_the_sign_of_zero() -> None:
    batch = batch_from_rows("d", SCHEMA, [(10, (0.0, 2, True))])
    assert not batch.equals(batch_from_rows("d", SCHEMA, [(10, (-0.0, 2, True))]))
    assert not batch.equals(batch_from_rows("d", SCHEMA, [(10, (None, 2, True))]))
    assert not batch.equals(batch_from_rows("d", SCHEMA, [(11, (0.0, 2, True))]))
    assert not batch.equals(batch_from_rows("d", SCHEMA, [(10, (0.0, 2, True))], seq=1))
    assert not batch.equals(batch_from_rows("d", SCHEMA, [(10, (0.0, 2, True))], lane=Lane.PREVIEW))


def test_a_mask_of_ones_is_the_same_as_no_mask() -> None:
    batch = batch_from_rows("d", SCHEMA, [(10, (0.0, 2, True))])
    assert batch.equals(replace(batch, valid=(np.ones(1, np.bool_), None, None)))


@pytest.mark.parametrize(
    "changes",
    [{"epoch": -1}, {"epoch": EPOCH_MAX + 1}, {"seq": -1}, {"seq": SEQ_MAX}, {"device": ""}, {"device": "bus 7"}],
)
def test_names_out_of_range_are_bad_input(changes: dict[str, object]) -> None:
    batch = batch_from_rows("d", SCHEMA, [(10, (0.0, 2, True))])
    with pytest.raises(BadInput):
        replace(batch, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [0, SCANS_MAX + 1])
def test_the_number_of_scans_is_capped(n: int) -> None:
    schema = Schema("s", (Channel("v"),))
    with pytest.raises(BadInput, match=f"{n} scans"):
        Batch("d", schema, 0, 0, np.zeros(n, np.int64), (np.zeros(n),), (None,))


@pytest.mark.parametrize(
    "changes",
    [
        {"ts_us": np.zeros(1, np.float64)},
        {"ts_us": np.zeros((1, 1), np.int64)},
        {"columns": (np.zeros(1), np.zeros(1, np.int64))},
        {"columns": (np.zeros(1), np.zeros(1, np.int32), np.zeros(1, np.bool_))},
        {"columns": (np.zeros(2), np.zeros(1, np.int64), np.zeros(1, np.bool_))},
        {"valid": (np.ones(2, np.bool_), None, None)},
        {"valid": (np.ones(1, np.uint8), None, None)},
        {"valid": (None,)},
    ],
)
def test_arrays_of_another_shape_are_misuse(changes: dict[str, object]) -> None:
    batch = batch_from_rows("d", SCHEMA, [(10, (0.0, 2, True))])
    with pytest.raises(Misuse):
        replace(batch, **changes)  # type: ignore[arg-type]
