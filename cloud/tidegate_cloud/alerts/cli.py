"""`tidegate alerts`: the alert engine as a service."""

from __future__ import annotations

import click
from prometheus_client import Gauge

from tidegate_cloud.engine.metrics import RunnerMetrics
from tidegate_cloud.engine.runner import Runner
from tidegate_cloud.engine.service import serve, service_options

from .logic import COUNTERS, AlertLogic


@click.command()
@service_options
@click.option("--group", default="tidegate-alerts", show_default=True, help="Consumer group of all alert engines.")
# A name that stays lets a restart end the transaction that a killed predecessor left open; readers wait for that.
@click.option("--instance", default="1", show_default=True, help="This instance's name, its own within the group.")
@click.option(
    "--commit-ms", type=click.IntRange(10, 60_000), default=100, show_default=True,
    help="Wanted time from an event's arrival to the commit of what it led to.",
)  # fmt: skip
def alerts(bootstrap: str, metrics_port: int, log_level: str, group: str, instance: str, commit_ms: int) -> None:
    """Turn events into alerts, and do what people ask of them. Any number of these share the work."""
    logic = AlertLogic()
    metrics = RunnerMetrics("alerts", COUNTERS)
    Gauge(
        "tidegate_alerts_open", "Alerts of this instance's partitions that are not resolved", registry=metrics.registry
    ).set_function(logic.open_alerts)
    runner = Runner(
        logic, bootstrap=bootstrap, group=group, instance=instance, metrics=metrics, latency_s=commit_ms / 1000
    )
    serve(
        f"alerts {group}/{instance}", runner, registry=metrics.registry, metrics_port=metrics_port, log_level=log_level
    )
