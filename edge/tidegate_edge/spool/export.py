"""What waits in a spool, read from beside: an agent may run on it meanwhile. For people and for rescue."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tidegate_protocols.errors import BadInput
from tidegate_protocols.scan import Value
from tidegate_protocols.schema import Schema

from .rows import TIME_ESTIMATED, TIME_FROM_AGENT, TIME_SINCE_BOOT, Stream, decode_body, decode_head, is_lost, stream_of


@dataclass(frozen=True, slots=True)
class Waiting:
    """One scan that Kafka does not have yet. `time`: whose `ts_us` is: device, agent, estimated, or since boot."""

    device: str
    schema: Schema
    epoch: int
    seq: int
    ts_us: int
    time: str
    values: tuple[Value, ...]

    def to_json(self) -> str:
        """As an object on a line; values by channel, those that are null left out."""
        names = [channel.name for channel in self.schema.channels]
        found = {name: value for name, value in zip(names, self.values, strict=True) if value is not None}
        return json.dumps(
            {
                "device": self.device, "schema": self.schema.name, "epoch": self.epoch, "seq": self.seq,
                "ts_us": self.ts_us, "time": self.time, "values": found,
            },
            ensure_ascii=False,
        )  # fmt: skip


@contextmanager
def open_beside(file: Path) -> Iterator[sqlite3.Connection]:
    """The database for reading, as of one moment."""
    connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=10)
    try:
        connection.execute("BEGIN")
        yield connection
    finally:
        connection.close()


def streams_in(connection: sqlite3.Connection) -> dict[int, Stream]:
    """All streams by number, their `next_seq` brought up to their newest chunk."""
    schemas = {mark: Schema.from_json(text) for mark, text in connection.execute("SELECT * FROM schema")}
    streams = {row[0]: stream_of(row, schemas) for row in connection.execute("SELECT * FROM stream")}
    for (data,) in connection.execute("SELECT data FROM chunk"):
        try:
            _, number, seq, n, _, _ = decode_head(data)
        except BadInput:
            continue
        if number in streams:
            streams[number].next_seq = max(streams[number].next_seq, seq + n)
    return streams


@dataclass(slots=True)
class Missing:
    """What is not given out: chunks that are damaged, and scans of which only the names are left since a repair."""

    damaged: int = 0
    lost: int = 0


def waiting_in(connection: sqlite3.Connection, missing: Missing) -> Iterator[Waiting]:
    """Every scan that waits, in the order in which it was stored; `missing` counts what cannot be given."""
    streams = streams_in(connection)
    for (data,) in connection.execute("SELECT data FROM chunk ORDER BY id"):
        try:
            _, number, seq, n, flags, _ = decode_head(data)
            if is_lost(data):
                missing.lost += n
                continue
            if number not in streams:
                raise BadInput("it is of no stream")
            stream = streams[number]
            times, rows = decode_body(data, n, len(stream.schema.channels))
        except BadInput:
            missing.damaged += 1
            continue
        for i, (ts, values) in enumerate(zip(times, rows, strict=True)):
            if seq + i >= stream.tail:
                yield Waiting(stream.device, stream.schema, stream.epoch, seq + i, ts, _time(flags), values)


def write_json(scans: Iterator[Waiting], out: IO[str]) -> int:
    """A JSON object a line; returns how many."""
    count = 0
    for scan in scans:
        count += 1
        out.write(scan.to_json() + "\n")
    return count


def write_csv(scans: Iterator[Waiting], out: IO[str]) -> int:
    """A row per value, since devices have channels of their own; returns how many scans."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("device", "schema", "epoch", "seq", "ts_us", "time", "channel", "unit", "value"))
    count = 0
    for scan in scans:
        count += 1
        head: tuple[Any, ...] = (scan.device, scan.schema.name, scan.epoch, scan.seq, scan.ts_us, scan.time)
        for channel, value in zip(scan.schema.channels, scan.values, strict=True):
            if value is not None:
                text = repr(value) if channel.type != "bool" else str(value).lower()
                writer.writerow((*head, channel.name, channel.unit, text))
    return count


def _time(flags: int) -> str:
    if flags & TIME_SINCE_BOOT:
        return "since boot"
    if flags & TIME_ESTIMATED:
        return "estimated"
    return "agent" if flags & TIME_FROM_AGENT else "device"
