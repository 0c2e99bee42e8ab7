"""`tidegate alerts`: the alert engine as a service."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import uuid
from typing import Any

import click
from confluent_kafka import KafkaException
from prometheus_client import Gauge, start_http_server
from tidegate_protocols.errors import BadInput

from tidegate_cloud.engine.errors import Halt
from tidegate_cloud.engine.metrics import RunnerMetrics
from tidegate_cloud.engine.runner import Runner

from .logic import COUNTERS, AlertLogic

GROUP = "tidegate-alerts"


@click.command()
@click.option("--bootstrap", envvar="TIDEGATE_BOOTSTRAP", default="127.0.0.1:9092", show_default=True, help="Kafka.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Prometheus on 127.0.0.1; 0: a free port.")
@click.option("--latency-ms", type=click.IntRange(1), default=100, show_default=True, help="Wanted time to commit.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="warning", show_default=True
)
def alerts(bootstrap: str, metrics_port: int | None, latency_ms: int, log_level: str) -> None:
    """Turn events into alerts, and do what people ask of them. Any number of these share the work."""
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logic = AlertLogic()
    metrics = RunnerMetrics("alerts", COUNTERS)
    Gauge(
        "tidegate_alerts_open", "Alerts of this instance's partitions that are not resolved", registry=metrics.registry
    ).set_function(logic.open_alerts)
    where = _serve_metrics(metrics, metrics_port)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def ready() -> None:
        click.echo(f"ready: alerts on {bootstrap}{where}")
        sys.stdout.flush()

    try:
        Runner(
            logic, bootstrap=bootstrap, group=GROUP, instance=uuid.uuid4().hex[:12], metrics=metrics,
            latency_s=latency_ms / 1000,
        ).run(stop, ready=ready)  # fmt: skip
    except (BadInput, Halt) as error:
        raise click.ClickException(str(error)) from None
    except KafkaException as error:
        raise click.ClickException(f"Kafka at {bootstrap}: {error.args[0].str()}") from None


def _serve_metrics(metrics: RunnerMetrics, port: int | None) -> str:
    if port is None:
        return ""
    try:
        server, _thread = start_http_server(port, "127.0.0.1", metrics.registry)
    except OSError as error:
        raise click.ClickException(f"metrics port {port}: {error.strerror}") from None
    address: Any = server.server_address
    return f", metrics http://127.0.0.1:{address[1]}/metrics"
