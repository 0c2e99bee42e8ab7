"""`tidegate history`: keeps readings and events for longer than Kafka, in one file, and answers for it."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import click
import uvicorn
from confluent_kafka import KafkaException
from prometheus_client import CollectorRegistry, Gauge, start_http_server
from tidegate_protocols.errors import BadInput

from tidegate_cloud.clock import SystemClock
from tidegate_cloud.engine.service import LOG_LEVELS

from .duck import DuckStore
from .follow import Follower
from .server import create_app

_AGAIN_S = 2.0


@click.command()
@click.option("--bootstrap", envvar="TIDEGATE_BOOTSTRAP", default="127.0.0.1:9092", show_default=True, help="Kafka.")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), default=Path("history"), show_default=True,
    help="Where the file lies. One process owns it.",
)  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on, for consoles.")
@click.option("--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="0: any free port.")
@click.option("--token", envvar="TIDEGATE_HISTORY_TOKEN", default="", help="What consoles must show.")
@click.option("--raw-days", type=click.FloatRange(0.1), default=7.0, show_default=True, help="Every reading.")
@click.option("--minute-days", type=click.FloatRange(1), default=90.0, show_default=True, help="Roll-ups of a minute.")
@click.option(
    "--quarter-days", type=click.FloatRange(1), default=1100.0, show_default=True, help="Of 15 minutes, and events."
)
@click.option("--memory", default="1GB", show_default=True, help="What DuckDB may use.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Prometheus on 127.0.0.1; 0: a free port.")
@click.option("--log-level", type=click.Choice(LOG_LEVELS), default="warning", show_default=True)
def history(
    bootstrap: str, directory: Path, host: str, port: int, token: str, raw_days: float, minute_days: float,
    quarter_days: float, memory: str, metrics_port: int | None, log_level: str,
) -> None:  # fmt: skip
    """Keep readings and events for charts. Consoles ask it: tidegate console --history URL."""
    logging.basicConfig(
        level=log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if host not in ("127.0.0.1", "::1", "localhost") and not token:
        raise click.UsageError("--host beyond this machine wants a --token")
    directory.mkdir(parents=True, exist_ok=True)
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise click.ClickException(f"{host}:{port} cannot be listened on: {error.strerror}") from None
    store = DuckStore(
        directory / "history.duckdb", raw_days=raw_days, minute_days=minute_days, quarter_days=quarter_days,
        memory=memory,
    )  # fmt: skip
    try:
        _serve(store, bootstrap, listener, token, metrics_port, log_level)
    finally:
        store.close()


def _serve(
    store: DuckStore, bootstrap: str, listener: socket.socket, token: str, metrics_port: int | None, log_level: str
) -> None:
    stop = threading.Event()
    follower = Follower(bootstrap, store, SystemClock())
    failed: list[BaseException] = []
    reading = threading.Thread(target=_follow, args=(follower, stop, failed), name="history-follow")

    def figures() -> dict[str, Any]:
        return {
            "readings": follower.readings, "unreadable": follower.unreadable, "left_out": follower.left_out,
            "reading": reading.is_alive(),
        }  # fmt: skip

    config = uvicorn.Config(
        create_app(store, figures, token), log_level=log_level, log_config=None, access_log=False, ws="none",
        lifespan="off", server_header=False, timeout_graceful_shutdown=3,
    )  # fmt: skip
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = threading.Thread(target=server.run, args=([listener],), name="history-serve")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    metrics = "" if metrics_port is None else f", metrics on {_measure(follower, metrics_port)}"
    reading.start()
    serving.start()
    click.echo(f"ready: history http://{_host(listener)}:{listener.getsockname()[1]}{metrics}")
    sys.stdout.flush()
    while reading.is_alive():
        reading.join(0.2)
    server.should_exit = True
    serving.join()
    if failed:
        raise click.ClickException(f"history: {failed[0]}")


def _measure(follower: Follower, port: int) -> str:
    """Serve the follower's figures to Prometheus; returns where."""
    registry = CollectorRegistry()
    for name, words in (
        ("readings", "Readings kept"), ("frames", "Frames read"), ("lag_records", "Records on Kafka that are not kept"),
        ("unreadable", "Records that could not be read"), ("left_out", "Scans that had been kept before"),
    ):  # fmt: skip
        figure = partial(getattr, follower, name.removesuffix("_records"))
        Gauge(f"tidegate_history_{name}", words, registry=registry).set_function(figure)
    try:
        server, _ = start_http_server(port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise click.ClickException(f"port {port} cannot be had for metrics: {error.strerror}") from None
    return f"http://127.0.0.1:{server.server_port}/metrics"


def _host(listener: socket.socket) -> str:
    host = str(listener.getsockname()[0])
    return f"[{host}]" if ":" in host else host


def _follow(follower: Follower, stop: threading.Event, failed: list[BaseException]) -> None:
    """Follow Kafka until told to stop; a Kafka that is away is waited for."""
    try:
        while not stop.is_set():
            try:
                follower.run(stop)
            except KafkaException as error:
                logging.getLogger(__name__).warning("Kafka: %s; reading goes on where it was", error)
                stop.wait(_AGAIN_S)
    except (BadInput, Exception) as error:
        logging.getLogger(__name__).exception("keeping history ended")
        failed.append(error)
