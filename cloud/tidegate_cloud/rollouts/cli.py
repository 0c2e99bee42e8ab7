"""`tidegate rollouts`: the server that tells agents what to run."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path

import click
from confluent_kafka import KafkaException
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from tidegate_protocols.errors import BadInput

from tidegate_cloud.clock import SystemClock
from tidegate_cloud.engine.errors import Halt
from tidegate_cloud.engine.service import service_options

from . import asking, keys
from .director import Director
from .server import Server


@click.command()
@click.option(
    "--keys", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, envvar="TIDEGATE_KEYS",
    help="Folder made by `tidegate config keys init`; the root's private keys need not be in it.",
)  # fmt: skip
@service_options
def rollouts(folder: Path, bootstrap: str, metrics_port: int, log_level: str) -> None:
    """Tell agents what to run, in waves, and take back what does harm. One is active; a second one takes over."""
    logging.basicConfig(
        level=log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    server = Server(bootstrap, Director(keys.ring(folder)), SystemClock())
    asking.publish_roots(bootstrap, keys.roots(folder))
    registry = CollectorRegistry()
    registry.register(_Metrics(server))
    try:
        http, thread = start_http_server(metrics_port, addr="127.0.0.1", registry=registry)
    except OSError as error:
        raise click.ClickException(f"port {metrics_port} cannot be had for metrics: {error.strerror}") from None
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        server.run(stop, ready=lambda: _ready(http.server_port))
    except (Halt, BadInput) as error:
        raise click.ClickException(f"rollouts: {error}") from None
    except KafkaException as error:
        raise click.ClickException(f"rollouts: Kafka: {error.args[0].str()}") from None
    finally:
        http.shutdown()
        thread.join()


def _ready(port: int) -> None:
    click.echo(f"ready: rollouts, metrics on http://127.0.0.1:{port}/metrics")
    sys.stdout.flush()


class _Metrics:
    """Read from the controller when somebody asks."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def collect(self) -> list[GaugeMetricFamily | CounterMetricFamily]:
        controller = self._server.controller
        rollouts_by = GaugeMetricFamily("tidegate_rollouts", "Rollouts by state", labels=["state"])
        states = [rollout.state for rollout in list(controller.rollouts.values())]
        for state in sorted(set(states)):
            rollouts_by.add_metric([state], states.count(state))
        heard = list(controller.fleet.heard.values())
        agents = GaugeMetricFamily("tidegate_agents", "Agents by what they said last", labels=["state"])
        for said in sorted({one.said.state for one in heard}):
            agents.add_metric([said], sum(one.said.state == said for one in heard))
        refused = CounterMetricFamily("tidegate_rollouts_refused_records", "Records that could not be read")
        refused.add_metric([], self._server.refused)
        told = CounterMetricFamily("tidegate_rollouts_told_bytes", "Bytes of what agents were told")
        told.add_metric([], self._server.bytes_told)
        return [rollouts_by, agents, refused, told]
