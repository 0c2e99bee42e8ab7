"""A runner as a service: metrics, one line when it is ready, a clean end on SIGTERM, one sentence when it fails."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

import click
from confluent_kafka import KafkaException
from prometheus_client import CollectorRegistry, start_http_server
from tidegate_protocols.errors import BadInput

from .errors import Halt

LOG_LEVELS = ("debug", "info", "warning", "error")


def service_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every service that runs on Kafka."""
    for option in (
        click.option("--log-level", type=click.Choice(LOG_LEVELS), default="warning", show_default=True),
        click.option(
            "--metrics-port", type=click.IntRange(0, 65535), default=0, show_default=True,
            help="Port for Prometheus on 127.0.0.1; 0 takes a free one.",
        ),
        click.option(
            "--bootstrap", envvar="TIDEGATE_BOOTSTRAP", default="127.0.0.1:9092", show_default=True,
            metavar="HOST:PORT", help="Kafka.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


class Runs(Protocol):
    """What a service runs: a `Runner`, or several of them together."""

    def run(self, stop: threading.Event, *, ready: Callable[[], None] = ...) -> None: ...


def serve(name: str, runner: Runs, *, registry: CollectorRegistry, metrics_port: int, log_level: str) -> None:
    """Run until SIGTERM or SIGINT. Exits with status 1 and one sentence when the runner must stop."""
    logging.basicConfig(
        level=log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        server, thread = start_http_server(metrics_port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise click.ClickException(f"port {metrics_port} cannot be had for metrics: {error.strerror}") from None
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        runner.run(stop, ready=lambda: _ready(name, server.server_port))
    except (Halt, BadInput) as error:
        raise click.ClickException(f"{name}: {error}") from None
    except KafkaException as error:
        raise click.ClickException(f"{name}: Kafka: {error.args[0].str()}") from None
    finally:
        server.shutdown()
        thread.join()


def _ready(name: str, port: int) -> None:
    click.echo(f"ready: {name}, metrics on http://127.0.0.1:{port}/metrics")
    sys.stdout.flush()
