"""`tidegate agent`: run the agent, check its configuration, look at its spool."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click
import msgspec
from tidegate_protocols.errors import BadInput

from .config import Config, load
from .logs import set_up
from .places import data_dir_of, read_file
from .spool.books import SourceBook
from .status import ask, in_words, is_well
from .systemd import notify

if TYPE_CHECKING:
    from .agent import Agent

_PATIENCE_S = 3.0  # how long `run` waits for brokers before it says that it is ready, and what it waits for
_CONFIG = click.option(
    "--config", "path", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The agent's TOML file."
)


@click.group("agent")
def agent() -> None:
    """The agent on the device: serial and MQTT in, Kafka out, nothing lost in between."""


@agent.command()
@_CONFIG
@click.option("--metrics-port", type=click.IntRange(0, 65_535), help="Serve metrics here; 0 takes a free port.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def run(path: Path, metrics_port: int | None, log_level: str, log_format: str) -> None:
    """Run the agent until SIGTERM or Ctrl-C; SIGHUP or a change of the file loads the configuration anew."""
    set_up(log_level, log_format)
    try:
        asyncio.run(_run(path, metrics_port))
    except BadInput as error:
        _fail(str(error))


async def _run(path: Path, metrics_port: int | None) -> None:
    from .boot import Boot  # the client libraries are loaded for `run` alone

    def adjust(config: Config) -> None:
        if metrics_port is not None:
            config.metrics.port = metrics_port

    boot = await Boot.start(path, adjust=adjust)
    running = boot.agent
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.stop)
    loop.add_signal_handler(signal.SIGHUP, boot.reload)
    telling = asyncio.create_task(_tell_ready(running))
    try:
        await boot.run()
    finally:
        telling.cancel()


async def _tell_ready(running: Agent) -> None:
    waiting = await running.until_ready(_PATIENCE_S)
    text = f"ready: agent {running.config.agent.name}, epoch {running.spool.epoch}"
    if running.metrics_port is not None:
        text += f", metrics http://127.0.0.1:{running.metrics_port}/metrics"
    if waiting:
        text += f"; waits for {', '.join(waiting)}"
    click.echo(text)
    sys.stdout.flush()
    notify("READY=1", f"STATUS={text.removeprefix('ready: ')}")


@agent.command()
@_CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(path: Path, as_json: bool) -> None:
    """Say how a running agent is. The exit status is 1 when something is in its way, 2 when none runs."""
    found = ask(_data_dir(path))
    if found is None:
        click.echo(f"no agent runs in {_data_dir(path)} (`tidegate agent spool ls` shows its books)", err=True)
        sys.exit(2)
    if as_json:
        click.echo(json.dumps(found))
    else:
        for line in in_words(found):
            click.echo(line)
    sys.exit(0 if is_well(found) else 1)


@agent.command()
def unit() -> None:
    """Print a systemd unit for this installation: tidegate agent unit > /etc/systemd/system/tidegate-agent.service"""
    executable = Path(sys.argv[0]).absolute()
    text = (Path(__file__).parent / "install" / "tidegate-agent.service").read_text("utf-8")
    click.echo(text.replace("@EXECUTABLE@", str(executable)), nl=False)


@agent.command()
@_CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(path: Path, as_json: bool) -> None:
    """Check a configuration and print what is in force, defaults included."""
    config = msgspec.to_builtins(_load(path))
    for source in config["source"]:
        if source.get("password"):
            source["password"] = "…"
    if as_json:
        click.echo(json.dumps(config))
        return
    for section, content in config.items():
        if content is None:
            continue
        for i, table in enumerate(content if isinstance(content, list) else [content]):
            name = f"{section}[{i}]" if isinstance(content, list) else section
            _print_table(name, table)
    click.echo(f"{path} is sound.")


def _print_table(name: str, table: dict[str, Any]) -> None:
    for key, value in table.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for i, item in enumerate(value):
                _print_table(f"{name}.{key}[{i}]", item)
        elif isinstance(value, dict) and value:
            _print_table(f"{name}.{key}", value)
        elif value is not None:
            click.echo(f"{name}.{key} = {json.dumps(value, ensure_ascii=False)}")


@agent.group()
def spool() -> None:
    """Look into the spool, whether the agent runs or not."""


@spool.command("ls")
@_CONFIG
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def spool_ls(path: Path, as_json: bool) -> None:
    """Show the books, the streams and what was rejected, as of the last commit."""
    file = _spool_file(path)
    try:
        books = _read_books(file)
    except (sqlite3.Error, msgspec.DecodeError, KeyError) as error:
        _fail(f"{file}: cannot be read: {error}")
    if as_json:
        click.echo(json.dumps(books))
        return
    from rich.console import Console
    from rich.table import Table

    fields = SourceBook.__struct_fields__
    table = Table("source", *fields, box=None, header_style="dim")
    for name, book in books["sources"].items():
        table.add_row(name, *(f"{book[field]:,}" for field in fields))
    console = Console(soft_wrap=True)
    console.print(table, crop=False, overflow="ignore", no_wrap=True)
    console.print(
        f"accepted {books['accepted']:,} = acknowledged {books['acknowledged']:,} + evicted {books['evicted']:,}"
        f" + pending {books['pending']:,} ({books['bytes']:,} bytes), epoch {books['epoch']}"
    )
    for reject in books["rejects"]:
        console.print(f"rejected from {reject['source']} {reject['place']}: {reject['error']}", markup=False)


@spool.command()
@_CONFIG
@click.option("--format", "form", type=click.Choice(["json", "csv"]), default="json", show_default=True)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file, not to the terminal."
)
def export(path: Path, form: str, output: Path | None) -> None:
    """Write out every scan that waits: a JSON object a line, or as CSV a row a value.

    Nothing is taken out of the spool. The exit status is 1 when something of it cannot be read.
    """
    from .spool import export as exporting

    write = exporting.write_csv if form == "csv" else exporting.write_json
    missing = exporting.Missing()
    try:
        with exporting.open_beside(_spool_file(path)) as connection, _output(output) as out:
            count = write(exporting.waiting_in(connection, missing), out)
    except (sqlite3.Error, OSError) as error:
        _fail(f"cannot be exported: {error}")
    click.echo(f"{count:,} scans" + (f", {missing.lost:,} lost in a damaged file" if missing.lost else ""), err=True)
    if missing.damaged:
        _fail(f"{missing.damaged} chunks cannot be read (`tidegate agent spool repair` salvages what there is)")


@spool.command()
@_CONFIG
def repair(path: Path) -> None:
    """Check the spool of an agent that does not run, and make it anew of what can be read where it is damaged.

    A running agent does this by itself. The damaged file is kept beside the new one.
    """
    file = _spool_file(path)
    try:
        click.echo(asyncio.run(_repair(file.parent)))
    except BadInput as error:
        _fail(str(error))


async def _repair(directory: Path) -> str:
    from .clock import SystemClock
    from .spool import Spool, export

    def aside() -> set[str]:
        return {file.name for file in directory.glob("spool.db.damaged-*") if file.suffix[-4:] not in ("-wal", "-shm")}

    def look(connection: sqlite3.Connection) -> tuple[str, export.Missing]:
        missing = export.Missing()
        found = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
        for _ in export.waiting_in(connection, missing):
            pass
        return found, missing

    before = await asyncio.to_thread(aside)
    opened = await Spool.open(directory, SystemClock(), max_bytes=1 << 62)  # what waits is not to be evicted here
    try:
        found, missing = await opened.query(look)
        if found != "ok" or missing.damaged:
            await opened.mend(sqlite3.DatabaseError(found), force=True)
            _, missing = await opened.query(look)
        waiting = opened.books.pending - missing.lost
    finally:
        await opened.close()
    words = f"{waiting:,} scans wait, {missing.lost:,} are lost"
    kept = await asyncio.to_thread(aside) - before
    return f"repaired: {words}; the damaged file is kept as {', '.join(sorted(kept))}" if kept else f"sound: {words}"


@contextmanager
def _output(path: Path | None) -> Iterator[IO[str]]:
    if path is None:
        yield sys.stdout
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        yield file


def _spool_file(path: Path) -> Path:
    file = _data_dir(path) / "spool.db"
    if not file.exists():
        _fail(f"{file}: there is no spool yet (the agent makes it when it first runs)")
    return file


def _read_books(file: Path) -> dict[str, Any]:
    connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=10)
    try:
        connection.execute("BEGIN")  # one moment for all that follows
        state = dict(connection.execute("SELECT key, value FROM state"))
        acknowledged, evicted = connection.execute(
            "SELECT coalesce(sum(acknowledged), 0), coalesce(sum(evicted), 0) FROM stream"
        ).fetchone()
        rejects = connection.execute("SELECT source, at_us, place, error, payload FROM reject ORDER BY id").fetchall()
    finally:
        connection.close()
    sources = {
        key.removeprefix("source/"): msgspec.structs.asdict(msgspec.msgpack.decode(value, type=SourceBook))
        for key, value in state.items()
        if key.startswith("source/")
    }
    accepted = sum(book["accepted"] for book in sources.values())
    evicted += int(state.get("lost", b"0"))
    return {
        "epoch": int(state["epoch"]),
        "sources": sources,
        "accepted": accepted,
        "acknowledged": acknowledged,
        "evicted": evicted,
        "pending": accepted - acknowledged - evicted,
        "bytes": int(state["bytes"]),
        "rejects": [
            {"source": source, "at_us": at_us, "place": place, "error": error, "payload": payload.hex()}
            for source, at_us, place, error, payload in rejects
        ],
    }


def _load(path: Path) -> Config:
    try:
        return load(path)
    except BadInput as error:
        _fail(str(error))


def _data_dir(path: Path) -> Path:
    try:
        found = data_dir_of(read_file(path))
    except BadInput as error:
        _fail(str(error))
    if found is None:
        _fail(f"{path}: agent.data_dir: is missing")
    return found


def _fail(text: str) -> NoReturn:
    click.echo(text, err=True)
    sys.exit(1)
