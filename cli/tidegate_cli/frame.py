"""`tidegate frame`: look into frames, from a file or from a topic."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click
from rich.console import Console
from rich.table import Table
from tidegate_protocols.batch import Batch
from tidegate_protocols.codec.priors import Priors
from tidegate_protocols.errors import BadInput
from tidegate_protocols.frame import FrameHeader, decode_frame, peek_header
from tidegate_protocols.schema import Schema

from .frame_source import announced, read_frames, source
from .frame_train import train

_OWN = ("device", "epoch", "seq", "ts")  # columns of every table of scans, before the channels


@click.group()
def frame() -> None:
    """Look into frames: their headers, and the scans they hold.

    FILE holds one frame, as a record's value on telemetry.frames does; - is standard input.
    """


@frame.command()
@source
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a frame.")
def inspect(file: str | None, topic: str | None, bootstrap: str, device: str | None, last: int, as_json: bool) -> None:
    """Say what frames are: whose, which scans, which codec, how many bytes."""
    rows = [(where, len(data), peek(data, where)) for where, data in read_frames(file, topic, bootstrap, device, last)]
    if as_json:
        with _written("-"):
            for where, size, header in rows:
                click.echo(json.dumps(_header_as_json(where, size, header)))
        return
    table = Table()
    for name in ("from", "device", "epoch", "scans", "lane", "codec", "bytes", "schema", "first time"):
        table.add_column(name, justify="right" if name in ("epoch", "bytes") else "left")
    for where, size, header in rows:
        table.add_row(
            where, header.device, str(header.epoch), f"{header.seq} … {header.seq + header.n - 1}",
            header.lane.name.lower(), header.codec + (" + priors" if header.priors else ""), f"{size:,}",
            header.fingerprint.hex(), _time(header.base_ts_us),
        )  # fmt: skip
    with _written("-"):
        Console().print(table)
        sys.stdout.flush()


@frame.command()
@source
@click.option("--schema", "schema_file", type=click.Path(dir_okay=False, exists=True), help="The schema's JSON (Avro).")
@click.option("--priors", "priors_file", type=click.Path(dir_okay=False, exists=True), help="The priors that it names.")
@click.option("--to", "form", type=click.Choice(["csv", "json", "parquet"]), default="csv", show_default=True)
@click.option("--output", "-o", type=click.Path(dir_okay=False, allow_dash=True), default="-", show_default=True)
def decode(
    file: str | None, topic: str | None, bootstrap: str, device: str | None, last: int, schema_file: str | None,
    priors_file: str | None, form: str, output: str,
) -> None:  # fmt: skip
    """Write the scans that frames hold, one row a scan; all frames must be of one schema.

    From a topic the schemas and priors are those announced on device.schemas and device.priors; for a file --schema
    names one, and --priors those that it builds on.

    The columns are device, epoch, seq, ts (microseconds since 1970 UTC) and one per channel, under the channel's name;
    a channel that is itself called device, epoch or seq is written as channel.device, channel.epoch or channel.seq.
    """
    if form == "parquet" and output == "-" and sys.stdout.isatty():
        raise click.UsageError("Parquet is not for a terminal: name a file with --output.")
    schemas: dict[bytes, Schema] = {}
    priors: dict[bytes, Priors] = {}
    if schema_file is not None:
        schema = Schema.from_json(Path(schema_file).read_bytes())
        schemas[schema.fingerprint] = schema
    elif topic is not None:
        schemas, priors = announced(bootstrap)
    else:
        raise click.UsageError("A frame in a file needs --schema: the frame names its schema and does not carry it.")
    if priors_file is not None:
        known = Priors.from_json(Path(priors_file).read_bytes())
        priors[known.name] = known
    batches = []
    for where, data in read_frames(file, topic, bootstrap, device, last):
        try:
            batches.append(decode_frame(data, schemas, priors))
        except BadInput as error:
            raise error.at(where) from None
    if len({batch.schema.fingerprint for batch in batches}) > 1:
        raise BadInput("frames of several schemas do not make one table", where=topic or "", hint="choose a --device")
    with _written(output), click.open_file(output, "wb" if form == "parquet" else "w") as out:
        _write(batches, form, out)
        out.flush()


@contextmanager
def _written(output: str) -> Iterator[None]:
    """Say in one sentence why `output` cannot be written; - is standard output."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader has had enough: click ends quietly
    except OSError as error:
        if output == "-":
            # What could not be written is still buffered, and would fail once more when the interpreter ends.
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
        name = "standard output" if output == "-" else output
        raise click.ClickException(f"{name} cannot be written: {error.strerror or error}") from None


def peek(data: bytes, where: str) -> FrameHeader:
    """The header of a frame, with its place in the error when there is one."""
    try:
        return peek_header(data)
    except BadInput as error:
        raise error.at(where) from None


def _time(ts_us: int) -> str:
    from datetime import UTC, datetime, timedelta

    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ts_us)).isoformat()
    except OverflowError:
        return f"{ts_us} µs"


def _header_as_json(where: str, size: int, header: FrameHeader) -> dict[str, Any]:
    return {
        "from": where, "bytes": size, "device": header.device, "fingerprint": header.fingerprint.hex(),
        "epoch": header.epoch, "seq": header.seq, "scans": header.n, "first_ts_us": header.base_ts_us,
        "lane": header.lane.name.lower(), "time_estimated": header.time_estimated,
        "time_from_agent": header.time_from_agent, "codec": header.codec, "priors": header.priors.hex() or None,
        "column_bytes": header.end - header.body,
    }  # fmt: skip


def _rows(batch: Batch) -> Iterator[list[Any]]:
    columns = [
        [value if mask is None or mask[i] else None for i, value in enumerate(column.tolist())]
        for column, mask in zip(batch.columns, batch.valid, strict=True)
    ]
    for i, ts in enumerate(batch.ts_us.tolist()):
        yield [batch.device, batch.epoch, batch.seq + i, ts, *(column[i] for column in columns)]


def _column_name(channel: str) -> str:
    # No channel's name holds a dot, so nothing else can be called that.
    return f"channel.{channel}" if channel in _OWN else channel


def _write(batches: list[Batch], form: str, out: IO[Any]) -> None:
    names = [*_OWN, *(_column_name(channel.name) for channel in batches[0].schema.channels)]
    if form == "csv":
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(names)
        for batch in batches:
            writer.writerows(_rows(batch))
    elif form == "json":
        for batch in batches:
            for row in _rows(batch):
                # JSON has no word for these three; text keeps them apart from null.
                plain = [str(v) if isinstance(v, float) and not math.isfinite(v) else v for v in row]
                out.write(json.dumps(dict(zip(names, plain, strict=True))) + "\n")
    else:
        _write_parquet(batches, names, out)


def _write_parquet(batches: list[Batch], names: list[str], out: IO[bytes]) -> None:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise click.ClickException("Parquet needs pyarrow: pip install pyarrow") from None
    types = {"float64": pa.float64(), "int64": pa.int64(), "bool": pa.bool_()}
    schema = batches[0].schema
    kinds = [pa.string(), pa.int64(), pa.int64(), pa.timestamp("us", "UTC")]
    fields = zip(names, kinds + [types[channel.type] for channel in schema.channels], strict=True)
    with pq.ParquetWriter(out, pa.schema(list(fields))) as writer:
        for batch in batches:
            n = len(batch)
            arrays = [
                pa.array([batch.device] * n), pa.array([batch.epoch] * n, pa.int64()),
                pa.array(range(batch.seq, batch.seq + n), pa.int64()), pa.array(batch.ts_us).cast(kinds[3]),
            ]  # fmt: skip
            for column, mask in zip(batch.columns, batch.valid, strict=True):
                arrays.append(pa.array(column, mask=None if mask is None else ~mask))
            writer.write_batch(pa.record_batch(arrays, schema=writer.schema))


frame.add_command(train)
