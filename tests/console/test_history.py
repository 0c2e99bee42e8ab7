"""The last hour in bounded memory, and how it is thinned for a chart."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_cloud.console.history import HOUR_US, History, decimate
from tidegate_protocols.batch import Batch, batch_from_rows
from tidegate_protocols.schema import Channel, Schema

from tests.support.batches import as_block

TEMP = Schema("temp", (Channel("t", unit="Cel"), Channel("n", "int64"), Channel("on", "bool")))
OTHER = Schema("other", (Channel("t", unit="Cel"), Channel("rpm")))
S = 1_000_000


def batch(rows: list[tuple[int, tuple[float | int | bool | None, ...]]], device: str = "d", schema: Schema = TEMP):
    return batch_from_rows(device, schema, rows)


def take(history: History, *batches: Batch) -> None:
    """Take in batches of one schema as one block."""
    history.append(as_block(batches), list(dict.fromkeys(batch.device for batch in batches)))


def test_a_channel_comes_back_by_time_with_its_holes():
    history = History()
    take(history, batch([(2 * S, (2.5, 7, True)), (3 * S, (None, 8, False))]))
    take(history, batch([(1 * S, (1.5, None, None))]))  # a backlog
    found = history.series("d", "t", 0, 10 * S)
    assert found is not None
    assert (found.unit, found.since_us) == ("Cel", 1 * S)
    assert found.ts_us.tolist() == [1 * S, 2 * S, 3 * S]
    assert found.values[:2].tolist() == [1.5, 2.5]
    assert math.isnan(found.values[2])
    on = history.series("d", "on", 2 * S, 3 * S)
    assert on is not None
    assert on.values.tolist() == [1.0, 0.0]


def test_what_nobody_sent_is_not_there():
    history = History()
    take(history, batch([(S, (1.0, 1, True))]))
    assert history.series("d", "rpm", 0, S) is None
    assert history.series("e", "t", 0, S) is None


def test_a_scan_that_came_twice_is_given_once_and_schemas_of_a_device_are_put_together():
    history = History()
    take(history, batch([(S, (1.0, 1, True)), (2 * S, (2.0, 2, True))]))
    take(history, batch([(2 * S, (2.0, 2, True)), (3 * S, (3.0, 3, True))]))
    take(history, batch([(4 * S, (4.0, 900.0))], schema=OTHER))
    found = history.series("d", "t", 0, 10 * S)
    assert found is not None
    assert found.values.tolist() == [1.0, 2.0, 3.0, 4.0]


@given(sizes=st.lists(st.integers(1, 90), min_size=1, max_size=30))
def test_a_ring_holds_the_newest_scans_whatever_the_batches(sizes: list[int]):
    history = History()
    sent = 0
    for size in sizes:
        take(history, batch([((sent + i) * S, (float(sent + i), sent + i, None)) for i in range(size)]))
        sent += size
    found = history.series("d", "t", 0, sent * S)
    assert found is not None
    assert found.values.tolist() == [float(i) for i in range(sent)]  # all within an hour: all kept


def test_a_ring_stops_growing_once_it_holds_an_hour():
    history = History(64 * 1024)
    for i in range(2_000):
        take(history, batch([(i * 10 * S, (float(i), i, True))]))
    found = history.series("d", "t", 0, 20_000 * S)
    assert found is not None
    assert 360 <= len(found.values) <= 512 + 64 * 1024 // 8 // 36  # the ring, and what is not in it yet
    assert 19_990 * S - found.since_us >= HOUR_US


@settings(deadline=None)
@given(budget=st.integers(1024, 20_000), devices=st.integers(1, 20), each=st.integers(1, 40))
def test_memory_stays_within_the_budget_and_the_longest_silent_goes_first(budget: int, devices: int, each: int):
    history = History(budget)
    for i in range(each):
        for device in range(devices):
            take(history, batch([(i * S, (1.0, 1, True))], device=f"d{device}"))
    assert history.nbytes <= budget
    assert history.series(f"d{devices - 1}", "t", 0, each * S) is not None


def test_a_batch_larger_than_its_ring_may_be_leaves_its_newest_scans():
    history = History(budget=600)
    take(history, batch([(i * S, (float(i), i, True)) for i in range(100)]))
    found = history.series("d", "t", 0, 100 * S)
    assert found is not None
    assert found.values.tolist() == [float(i) for i in range(84, 100)]


@given(
    values=st.lists(st.one_of(st.just(math.nan), st.floats(-1e9, 1e9)), min_size=1, max_size=400),
    max_points=st.integers(10, 60),
)
def test_thinning_keeps_ends_and_extremes_within_the_limit(values: list[float], max_points: int):
    ts_us = np.arange(len(values), dtype=np.int64)
    column = np.array(values)
    kept_ts, kept = decimate(ts_us, column, max_points)
    assert len(kept) <= max(max_points, 0)
    assert kept_ts[0] == 0
    assert kept_ts[-1] == len(values) - 1
    assert np.all(np.diff(kept_ts) > 0)
    np.testing.assert_array_equal(kept, column[kept_ts])
    real = column[~np.isnan(column)]
    if len(real):
        assert np.nanmin(kept) == real.min()
        assert np.nanmax(kept) == real.max()


def test_a_hole_longer_than_a_stretch_stays_a_hole():
    column = np.concatenate((np.ones(100), np.full(100, np.nan), np.ones(100)))
    kept_ts, kept = decimate(np.arange(300), column, 30)
    assert np.isnan(kept[(kept_ts >= 120) & (kept_ts < 180)]).all()
    assert ((kept_ts >= 120) & (kept_ts < 180)).any()
