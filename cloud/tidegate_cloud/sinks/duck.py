"""A history store in one DuckDB file.

Layout:

    series    id, device, channel, unit         one row for each that was ever kept
    raw       series, ts_us, value              every reading, for `raw_days`
    previews  series, ts_us, value              until the same have come in order
    minutes   series, ts_us, n, low, high, total   per minute; may hold several rows for one, which add up
    quarters  the same per 15 minutes
    bounds    raw_from_us                       what is older is in roll-ups alone
    dirty     ts_us                             minutes whose roll-up is not what `raw` says any more
    events    as on fleet.events, by id
    streams   device, fingerprint, preview, epoch, next
    offsets   topic, partition, next

Invariants: one transaction holds a portion, its offsets and its cursors. A minute is in `dirty`, or `minutes` says what
`raw` says of it. Readings of a minute that `raw` no longer has are added to `minutes` and `quarters` at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import numpy.typing as npt
from tidegate_protocols.errors import BadInput
from tidegate_protocols.events import Event

from .store import Columns, Place, Portion, Series, Stream

MINUTE_US, QUARTER_US, DAY_US = 60_000_000, 900_000_000, 86_400_000_000
_SETTLED_US = 90_000_000  # a minute is rolled up so long after its end
_LAYOUT = """
create table if not exists series(id integer primary key, device varchar, channel varchar, unit varchar);
create table if not exists raw(series integer, ts_us bigint, value double);
create table if not exists previews(series integer, ts_us bigint, value double);
create table if not exists minutes(series integer, ts_us bigint, n bigint, low double, high double, total double);
create table if not exists quarters(series integer, ts_us bigint, n bigint, low double, high double, total double);
create table if not exists dirty(ts_us bigint primary key);
create table if not exists bounds(raw_from_us bigint);
create table if not exists events(id varchar primary key, device varchar, ts_us bigint, body varchar);
create table if not exists streams(
    device varchar, fingerprint blob, preview boolean, epoch bigint, next bigint,
    primary key(device, fingerprint, preview));
create table if not exists offsets(topic varchar, partition integer, next bigint, primary key(topic, partition));
"""


class DuckStore:
    """See the module's docstring. Raises BadInput where the file is another process's or no such file."""

    def __init__(
        self,
        path: Path,
        *,
        raw_days: float = 7,
        minute_days: float = 90,
        quarter_days: float = 1100,
        memory: str = "1GB",
    ) -> None:
        try:
            self._connection = duckdb.connect(str(path), config={"memory_limit": memory, "threads": 2})
            self._connection.execute(_LAYOUT)
        except duckdb.IOException as error:
            raise BadInput(f"it cannot be opened: {error}", where=str(path)) from None
        self._days = (raw_days, minute_days, quarter_days)
        self._lock = threading.Lock()  # of the series' numbers
        rows = self._connection.execute("select id, device, channel, unit from series").fetchall()
        self._ids = {(device, channel, unit): number for number, device, channel, unit in rows}
        found = self._connection.execute("select raw_from_us from bounds").fetchone()
        self._raw_from_us = int(found[0]) if found else -(2**62)

    def offsets(self) -> Mapping[Place, int]:
        rows = self._connection.cursor().execute("select topic, partition, next from offsets").fetchall()
        return {(topic, partition): int(offset) for topic, partition, offset in rows}

    def cursors(self) -> Mapping[Stream, tuple[int, int]]:
        rows = self._connection.cursor().execute("select * from streams").fetchall()
        return {Stream(device, bytes(mark), preview): (epoch, number) for device, mark, preview, epoch, number in rows}

    def keep(self, portion: Portion) -> None:
        connection = self._connection
        connection.begin()
        fresh: dict[tuple[str, str, str], int] = {}
        try:
            for columns in portion.readings:
                self._readings(columns, fresh)
            for device, at_us in portion.reached.items():
                connection.execute(
                    "delete from previews where ts_us <= ? and series in (select id from series where device = ?)",
                    [at_us, device],
                )
            for columns in portion.previews:
                incoming = self._incoming(columns, fresh)  # noqa: F841 (DuckDB finds it by its name)
                connection.execute("insert into previews select series, ts_us, value from incoming")
            if portion.events:
                self._events(portion.events)
            for stream, (epoch, number) in portion.cursors.items():
                connection.execute(
                    "insert or replace into streams values (?, ?, ?, ?, ?)",
                    [stream.device, stream.fingerprint, stream.preview, epoch, number],
                )
            for (topic, partition), offset in portion.offsets.items():
                connection.execute("insert or replace into offsets values (?, ?, ?)", [topic, partition, offset])
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        with self._lock:
            self._ids |= fresh

    def tidy(self, now_us: int) -> None:
        self._roll_up(now_us)
        raw, minutes, quarters = (int(now_us - days * DAY_US) for days in self._days)
        connection = self._connection
        connection.begin()
        try:
            raw = max(raw - raw % MINUTE_US, self._raw_from_us)
            connection.execute("delete from raw where ts_us < ?", [raw])
            connection.execute("delete from bounds")
            connection.execute("insert into bounds values (?)", [raw])
            connection.execute("delete from minutes where ts_us < ?", [minutes - minutes % QUARTER_US])
            connection.execute("delete from quarters where ts_us < ?", [quarters])
            connection.execute("delete from events where ts_us < ?", [quarters])
            connection.execute("delete from previews where ts_us < ?", [raw])
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        self._raw_from_us = raw
        connection.execute("checkpoint")

    def series(self, device: str, channel: str, from_us: int, to_us: int, max_points: int) -> Series | None:
        with self._lock:
            known = {unit: number for (d, c, unit), number in self._ids.items() if (d, c) == (device, channel)}
        if not known:
            return None
        numbers, unit = list(known.values()), next(reversed(known))
        cursor = self._connection.cursor()
        width = -(-max(1, to_us - from_us) // max_points)
        if width < MINUTE_US:
            rows = cursor.execute(_RAW_COUNT, [numbers, from_us, to_us] * 2).fetchone()
            if rows and rows[0] <= max_points:
                found = cursor.execute(_RAW, [numbers, from_us, to_us] * 2).fetchnumpy()
                value = found["value"].tolist()
                return Series(
                    device, channel, unit, 0.0, found["ts_us"].tolist(), value, value, value, [1] * len(value)
                )  # fmt: skip
            table = _RAW_STRETCHES
            width = -(-width // 1_000_000) * 1_000_000 if width > 1_000_000 else width
        elif width < QUARTER_US:
            width, table = -(-width // MINUTE_US) * MINUTE_US, _MINUTES
        else:
            width, table = -(-width // QUARTER_US) * QUARTER_US, _QUARTERS
        parts = table.count("list_contains")
        found = cursor.execute(
            f"select ts_us // {width} * {width} as began, sum(n) as n, min(low) as low, max(high) as high,"
            f" sum(total) / sum(n) as mean from ({table}) group by began order by began",
            [numbers, from_us, to_us] * parts,
        ).fetchnumpy()
        return Series(
            device, channel, unit, width / 1e6, found["began"].tolist(), found["low"].tolist(), found["high"].tolist(),
            found["mean"].tolist(), [int(n) for n in found["n"].tolist()],
        )  # fmt: skip

    def channels(self, device: str) -> list[tuple[str, str]]:
        with self._lock:
            return sorted({channel: unit for (d, channel, unit) in self._ids if d == device}.items())

    def events(self, device: str, from_us: int, to_us: int, limit: int) -> list[Event]:
        where = "ts_us >= ? and ts_us < ?" + (" and device = ?" if device else "")
        rows = self._connection.cursor().execute(
            f"select body from events where {where} order by ts_us desc, id limit ?",
            [from_us, to_us, *([device] if device else []), limit],
        )  # fmt: skip
        return [msgspec.json.decode(body, type=Event) for (body,) in rows.fetchall()]

    def close(self) -> None:
        self._connection.close()

    def _events(self, events: Sequence[Event]) -> None:
        incoming = {  # noqa: F841
            "id": np.array([event.id for event in events], object),
            "device": np.array([event.device for event in events], object),
            "ts_us": np.array([event.ts_us for event in events], np.int64),
            "body": np.array([msgspec.json.encode(event).decode() for event in events], object),
        }
        self._connection.execute("insert or ignore into events select id, device, ts_us, body from incoming")

    def _readings(self, columns: Columns, fresh: dict[tuple[str, str, str], int]) -> None:
        connection = self._connection
        incoming = self._incoming(columns, fresh)  # noqa: F841
        old = self._raw_from_us
        connection.execute("insert into raw select series, ts_us, value from incoming where ts_us >= ?", [old])
        connection.execute(
            "insert or ignore into dirty select distinct ts_us // ? * ? from incoming where ts_us >= ?",
            [MINUTE_US, MINUTE_US, old],
        )
        for table, width in (("minutes", MINUTE_US), ("quarters", QUARTER_US)):
            connection.execute(
                f"insert into {table} select series, ts_us // ? * ? as began, count(*), min(value), max(value),"
                " sum(value) from incoming where ts_us < ? group by series, began",
                [width, width, old],
            )

    def _incoming(self, columns: Columns, fresh: dict[tuple[str, str, str], int]) -> dict[str, npt.NDArray[Any]]:
        numbers = np.array(
            [self._number(device, columns.channel, columns.unit, fresh) for device in columns.devices], np.int32
        )  # fmt: skip
        return {"series": numbers[columns.device], "ts_us": columns.ts_us, "value": columns.value}

    def _number(self, device: str, channel: str, unit: str, fresh: dict[tuple[str, str, str], int]) -> int:
        key = (device, channel, unit)
        number = self._ids.get(key, fresh.get(key))
        if number is None:
            number = fresh[key] = len(self._ids) + len(fresh) + 1
            self._connection.execute("insert into series values (?, ?, ?, ?)", [number, *key])
        return number

    def _roll_up(self, now_us: int) -> None:
        """Make the minutes that are over anew from their readings, and the quarters around them from the minutes."""
        connection = self._connection
        connection.begin()
        try:
            due = connection.execute(
                "select ts_us from dirty where ts_us < ? order by ts_us", [now_us - _SETTLED_US - MINUTE_US]
            ).fetchnumpy()["ts_us"]
            for low, high in _stretches(due.tolist(), MINUTE_US):
                self._make("minutes", "raw", "count(*), min(value), max(value), sum(value)", low, high, MINUTE_US)
                connection.execute("delete from dirty where ts_us >= ? and ts_us < ?", [low, high])
            for low, high in _stretches(sorted({at - at % QUARTER_US for at in due.tolist()}), QUARTER_US):
                self._make("quarters", "minutes", "sum(n), min(low), max(high), sum(total)", low, high, QUARTER_US)
            connection.commit()
        except BaseException:
            connection.rollback()
            raise

    def _make(self, table: str, source: str, what: str, low: int, high: int, width: int) -> None:
        self._connection.execute(f"delete from {table} where ts_us >= ? and ts_us < ?", [low, high])
        self._connection.execute(
            f"insert into {table} select series, ts_us // {width} * {width} as began, {what} from {source}"
            " where ts_us >= ? and ts_us < ? group by series, began order by began, series",
            [low, high],
        )


def _stretches(starts: Iterable[int], width: int) -> Iterable[tuple[int, int]]:
    """Neighbouring starts as (low, high), `high` excluded."""
    low = high = None
    for start in starts:
        if low is None or start != high:
            if low is not None and high is not None:
                yield low, high
            low = start
        high = start + width
    if low is not None and high is not None:
        yield low, high


_WHERE = "list_contains(?::integer[], series) and ts_us >= ? and ts_us < ?"
# A preview and the reading in order are the same scan.
_BOTH = (
    f"select ts_us, value, 0 as way from raw where {_WHERE}"
    f" union all select ts_us, value, 1 from previews where {_WHERE}"
)
_RAW = f"select ts_us, arg_min(value, way) as value from ({_BOTH}) group by ts_us order by ts_us"
_RAW_COUNT = f"select count(distinct ts_us) from ({_BOTH})"
_RAW_STRETCHES = f"select ts_us, 1 as n, value as low, value as high, value as total from ({_RAW})"
_FRESH = (
    f"select ts_us, 1 as n, value as low, value as high, value as total from raw where {_WHERE}"
    f" and ts_us // {MINUTE_US} * {MINUTE_US} in (from dirty)"
)
_MINUTES = (
    f"select ts_us, n, low, high, total from minutes where {_WHERE} and ts_us not in (from dirty) union all {_FRESH}"
)
_QUARTER_DIRTY = f"(select ts_us // {QUARTER_US} * {QUARTER_US} from dirty)"
_QUARTERS = (
    f"select ts_us, n, low, high, total from quarters where {_WHERE} and ts_us not in {_QUARTER_DIRTY}"
    f" union all select ts_us, n, low, high, total from ({_MINUTES})"
    f" where ts_us // {QUARTER_US} * {QUARTER_US} in {_QUARTER_DIRTY}"
)
