"""Batches of few scans are written without numpy: the bytes are those that numpy writes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from tidegate_protocols.batch import Batch, batch_from_rows
from tidegate_protocols.codec import few, plain
from tidegate_protocols.schema import Channel, Schema

from tests.support.batches import batches


def rows(batch: Batch) -> list[tuple[object, ...]]:
    columns = [
        [value if mask is None or mask[i] else None for i, value in enumerate(column.tolist())]
        for column, mask in zip(batch.columns, batch.valid, strict=True)
    ]
    return list(zip(*columns, strict=True))


@settings(max_examples=200, deadline=None)
@given(batches(max_scans=few.SCANS))
def test_the_bytes_are_those_that_numpy_writes(batch: Batch) -> None:
    assert few.encode_columns(batch.schema, batch.ts_us.tolist(), rows(batch)) == plain.inflated_columns(batch)


def test_values_at_the_edge_of_exactness_are_written_as_numpy_writes_them() -> None:
    schema = Schema("x", (Channel("v"), Channel("i", "int64")))
    big = 2.0**53
    edges = [0.0, -0.0, 0.1, 0.30000000000000004, -1e-15, 1e-16, big, -big, big - 1, 1 - big, 9.007199254740992e15]
    edges += [5e-324, 1.7976931348623157e308, np.inf, -np.inf, np.nan, 0.5, 1.5, 2.5, 123456.789]
    for value in edges:
        for number in (0, -1, 2**63 - 1, -(2**63)):
            batch = batch_from_rows("d", schema, [(0, (value, number)), (2**62, (1.0, -number - 1))])
            assert few.encode_columns(schema, batch.ts_us.tolist(), rows(batch)) == plain.inflated_columns(batch)
