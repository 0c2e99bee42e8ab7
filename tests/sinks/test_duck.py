"""The history store: what it answers is what a plain list would, over roll-ups, late data, retention and restarts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tidegate_cloud.sinks.duck import DAY_US, MINUTE_US, QUARTER_US, DuckStore
from tidegate_cloud.sinks.store import Columns, Portion, Series, Stream
from tidegate_protocols.errors import BadInput

from tests.support.alerts import an_event

NOON = 1_700_000_100_000_000 // QUARTER_US * QUARTER_US
SECOND = 1_000_000
Reading = tuple[int, float]


def columns(readings: Sequence[Reading], device: str = "van-1", channel: str = "cargo") -> Columns:
    ts_us, value = zip(*readings, strict=True)
    return Columns(
        channel, "Cel", [device], np.zeros(len(readings), np.int32), np.array(ts_us, np.int64), np.array(value, float)
    )


def rows(series: Series | None) -> list[tuple[int, float, float, float, int]]:
    assert series is not None
    return list(zip(series.ts_us, series.low, series.high, series.mean, series.n, strict=True))


def stretches(readings: Sequence[Reading], width: int) -> list[tuple[int, float, float, float, int]]:
    """What a chart of so wide stretches shows, worked out plainly."""
    found: dict[int, list[float]] = defaultdict(list)
    for ts_us, value in readings:
        found[ts_us // width * width].append(value)
    return [
        (at, min(values), max(values), math.fsum(values) / len(values), len(values))
        for at, values in sorted(found.items())
    ]


def same(found: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]) -> bool:
    return len(found) == len(expected) and all(
        one == pytest.approx(other, abs=1e-9) for one, other in zip(found, expected, strict=True)
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    portions=st.lists(
        st.lists(
            st.tuples(st.integers(0, 3 * 3600), st.integers(-50, 50)), min_size=1, max_size=8, unique_by=lambda r: r[0]
        ),
        min_size=1, max_size=5, unique_by=lambda portion: portion[0][0],
    ),
    tidied=st.sets(st.integers(0, 4)), reopened=st.booleans(),
)  # fmt: skip
def test_every_resolution_says_what_the_readings_say_however_late_they_came(
    tmp_path_factory: pytest.TempPathFactory, portions: list[list[tuple[int, int]]], tidied: set[int], reopened: bool
):
    path = tmp_path_factory.mktemp("duck") / "h.duckdb"
    store = DuckStore(path)
    kept: dict[int, float] = {}
    for number, portion in enumerate(portions):
        readings = [(NOON + s * SECOND, v / 4) for s, v in portion if NOON + s * SECOND not in kept]
        if readings:
            store.keep(Portion(readings=[columns(readings)], offsets={("f", 0): number + 1}))
            kept.update(readings)
        if number in tidied:
            store.tidy(NOON + 4 * 3600 * SECOND)
    if reopened:
        store.close()
        store = DuckStore(path)
        assert store.offsets()["f", 0] <= len(portions)
    plain = sorted(kept.items())
    end = NOON + 4 * 3600 * SECOND
    whole = store.series("van-1", "cargo", NOON, end, 10_000)
    assert rows(whole) == [(ts, v, v, v, 1) for ts, v in plain]
    for points, width in ((240, MINUTE_US), (16, QUARTER_US), (4, 4 * QUARTER_US)):
        found = store.series("van-1", "cargo", NOON, end, points)
        assert found is not None
        assert found.resolution_s * 1e6 == width
        assert same(rows(found), stretches(plain, width)), (points, rows(found), stretches(plain, width))
    store.close()


def test_a_portion_is_kept_with_its_offsets_or_not_at_all(tmp_path: Path):
    store = DuckStore(tmp_path / "h.duckdb")
    stream = Stream("van-1", b"12345678", False)
    store.keep(Portion([columns([(NOON, 1.0)])], cursors={stream: (1, 5)}, offsets={("f", 3): 7}))
    bad = columns([(NOON + 1, 2.0)])
    broken = Columns(bad.channel, bad.unit, bad.devices, bad.device, bad.ts_us, np.array(["x"], object))
    with pytest.raises(Exception, match="onversion"):
        store.keep(
            Portion([columns([(NOON + 2, 2.0)], "van-9"), broken], cursors={stream: (1, 9)}, offsets={("f", 3): 8})
        )
    assert store.offsets() == {("f", 3): 7}
    assert store.cursors() == {stream: (1, 5)}
    assert store.series("van-9", "cargo", NOON, NOON + 10, 100) is None
    store.keep(Portion([columns([(NOON + 2, 2.0)], "van-9")], offsets={("f", 3): 8}))
    assert rows(store.series("van-9", "cargo", NOON, NOON + 10, 100)) == [(NOON + 2, 2.0, 2.0, 2.0, 1)]
    store.close()


def test_what_is_old_is_forgotten_by_resolution_and_late_readings_still_count(tmp_path: Path):
    store = DuckStore(tmp_path / "h.duckdb", raw_days=1, minute_days=3, quarter_days=10)
    old = [(NOON + i * 10 * SECOND, float(i)) for i in range(12)]
    store.keep(Portion([columns(old)]))
    now = NOON + 2 * DAY_US
    store.tidy(now)
    assert rows(store.series("van-1", "cargo", NOON, NOON + MINUTE_US * 2, 1000)) == []
    assert rows(store.series("van-1", "cargo", NOON, NOON + QUARTER_US, 15)) == stretches(old, MINUTE_US)
    late = (NOON + 5 * SECOND, 99.0)
    store.keep(Portion([columns([late])]))
    store.tidy(now)
    assert rows(store.series("van-1", "cargo", NOON, NOON + QUARTER_US, 15)) == stretches([*old, late], MINUTE_US)
    store.close()
    store = DuckStore(tmp_path / "h.duckdb", raw_days=1, minute_days=3, quarter_days=10)
    store.keep(Portion([columns([(NOON + 6 * SECOND, 100.0)])]))
    every = [*old, late, (NOON + 6 * SECOND, 100.0)]
    assert same(rows(store.series("van-1", "cargo", NOON, NOON + DAY_US, 96)), stretches(every, QUARTER_US))
    store.tidy(NOON + 5 * DAY_US)
    assert rows(store.series("van-1", "cargo", NOON, NOON + QUARTER_US, 15)) == []
    assert same(rows(store.series("van-1", "cargo", NOON, NOON + DAY_US, 96)), stretches(every, QUARTER_US))
    store.tidy(NOON + 20 * DAY_US)
    assert rows(store.series("van-1", "cargo", NOON, NOON + DAY_US, 96)) == []
    store.close()


def test_previews_are_shown_until_the_same_have_come_in_order(tmp_path: Path):
    store = DuckStore(tmp_path / "h.duckdb")
    store.keep(Portion([columns([(NOON, 1.0)])], [columns([(NOON + 30, 30.0), (NOON + 40, 40.0)])]))
    seen = [(ts, value) for ts, value, *_ in rows(store.series("van-1", "cargo", NOON, NOON + 100, 100))]
    assert seen == [(NOON, 1.0), (NOON + 30, 30.0), (NOON + 40, 40.0)]
    store.keep(Portion([columns([(NOON + 20, 20.0), (NOON + 30, 30.0)])], reached={"van-1": NOON + 30}))
    series = rows(store.series("van-1", "cargo", NOON, NOON + 100, 100))
    assert [(ts, n) for ts, *_, n in series] == [(NOON, 1), (NOON + 20, 1), (NOON + 30, 1), (NOON + 40, 1)]
    store.close()


def test_events_are_kept_once_and_found_by_device_and_time(tmp_path: Path):
    store = DuckStore(tmp_path / "h.duckdb")
    events = [an_event("entered", n, device=f"van-{n % 2}", at_s=n) for n in range(4)]
    store.keep(Portion(events=events))
    store.keep(Portion(events=events[:2]))
    begin, end = events[0].ts_us, events[3].ts_us
    assert store.events("", begin, end + 1, 10) == events[::-1]
    assert store.events("van-1", begin, end, 10) == [events[1]]
    assert len(store.events("", begin, end, 2)) == 2
    assert store.channels("van-1") == []
    store.close()


def test_what_is_no_history_is_refused_in_a_sentence(tmp_path: Path):
    path = tmp_path / "h.duckdb"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(BadInput, match=r"h\.duckdb"):
        DuckStore(path)
