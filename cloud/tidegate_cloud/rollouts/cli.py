"""`tidegate rollouts`: the server that tells agents what to run."""

from __future__ import annotations

from pathlib import Path

import click
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from tidegate_cloud.clock import SystemClock
from tidegate_cloud.engine.service import serve, service_options

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
    server = Server(bootstrap, Director(keys.ring(folder)), SystemClock())
    asking.publish_roots(bootstrap, keys.roots(folder))
    registry = CollectorRegistry()
    registry.register(_Metrics(server))
    serve("rollouts", server, registry=registry, metrics_port=metrics_port, log_level=log_level)


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
