"""Recorded positions: a CSV file as the capmetrics project keeps them, one row per vehicle and time.

Columns by name: ``vehicle_id, timestamp, speed, latitude, longitude`` (others are passed over), the timestamp in ISO
8601 with an offset from UTC. The speed is metres a second: the recorded values are whole miles an hour, converted
(0.44704, 0.89408 …), and agree on the average with the distances between the positions.
"""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tidegate_protocols.errors import BadInput

_COLUMNS = ("vehicle_id", "timestamp", "speed", "latitude", "longitude")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Record:
    """One recorded position. Degrees, m/s; `ts_us` as recorded."""

    vehicle: str
    ts_us: int
    lat: float
    lon: float
    speed: float | None


def read_records(path: Path, *, skip_minutes: float = 0.0, limit_minutes: float | None = None) -> list[Record]:
    """The file's positions, unique by vehicle and time (the first row counts), in the order of time.

    `skip_minutes` and `limit_minutes` cut a slice, counted from the first record. Raises BadInput that names the line.
    """
    unique: dict[tuple[str, int], Record] = {}
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream = gzip.GzipFile(fileobj=raw) if packed else raw
            rows = csv.DictReader(io.TextIOWrapper(stream, "utf-8", newline=""))
            missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise BadInput(f"no column {', '.join(missing)}", where=f"{path}, line 1")
            for row in rows:
                try:
                    record = _record(row)
                except (TypeError, ValueError) as error:
                    raise BadInput(f"{error}", where=f"{path}, line {rows.line_num}") from None
                unique.setdefault((record.vehicle, record.ts_us), record)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"cannot be read: {error}", where=str(path)) from None
    records = sorted(unique.values(), key=lambda r: (r.ts_us, r.vehicle))
    if records:
        start_us = records[0].ts_us + round(skip_minutes * 60e6)
        end_us = None if limit_minutes is None else start_us + round(limit_minutes * 60e6)
        records = [r for r in records if r.ts_us >= start_us and (end_us is None or r.ts_us < end_us)]
    if not records:
        raise BadInput("no record", where=str(path), hint="is the slice inside what was recorded?")
    return records


def _record(row: dict[str, str]) -> Record:
    moment = datetime.fromisoformat(row["timestamp"])
    if moment.tzinfo is None:
        raise ValueError(f"timestamp {row['timestamp']!r} has no offset from UTC")
    since = moment - _EPOCH
    lat, lon = float(row["latitude"]), float(row["longitude"])
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise ValueError(f"{lat}, {lon} is no place on earth")
    speed = float(row["speed"]) if row["speed"] else None
    ts_us = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return Record(row["vehicle_id"], ts_us, lat, lon, speed)
