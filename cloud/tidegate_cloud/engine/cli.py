"""`tidegate processor` runs the engine."""

from __future__ import annotations

import click

from .metrics import RunnerMetrics
from .runner import Runner
from .service import serve, service_options


@click.command()
@service_options
@click.option("--group", default="tidegate-processor", show_default=True, help="Consumer group of all processors.")
@click.option("--instance", default="1", show_default=True, help="This instance's name, its own within the group.")
@click.option(
    "--commit-ms", type=click.IntRange(10, 60_000), default=200, show_default=True,
    help="Wanted time from a record's arrival to the commit of what it led to.",
)  # fmt: skip
@click.option(
    "--geofence", type=click.Choice(["believed", "exact"]), default="believed", show_default=True,
    help="Whether changes of fences are held back until they can be believed, or every fix counts as it is.",
)  # fmt: skip
@click.option(
    "--checkpoint-s", type=click.FloatRange(min=0.1), default=3600.0, show_default=True,
    help="No changed row of state waits longer to be written, seconds.",
)  # fmt: skip
@click.option(
    "--upgrade-hours", type=click.FloatRange(min=0), metavar="N",
    help="Make a state of an older version anew from the last N hours of the log.",
)  # fmt: skip
def processor(
    bootstrap: str, metrics_port: int, log_level: str, group: str, instance: str, commit_ms: int, checkpoint_s: float,
    upgrade_hours: float | None, geofence: str,
) -> None:  # fmt: skip
    """Turn frames into events, exactly once."""
    # Imported here, since operators bring numba with them.
    from tidegate_protocols.codec import backend

    from tidegate_cloud.operators import default_operators

    from .telemetry import COUNTERS, TelemetryLogic
    from .warm import told_when_long, warm

    operators = default_operators(believe=geofence == "believed")
    backend.prepare()  # in a child process: until its compiled decoders are there, the plain-Python one reads frames
    with told_when_long():
        warm(operators)
    metrics = RunnerMetrics("processor", COUNTERS)
    runner = Runner(
        TelemetryLogic(operators),
        bootstrap=bootstrap,
        group=group,
        instance=instance,
        metrics=metrics,
        latency_s=commit_ms / 1000,
        longest_s=checkpoint_s,
        upgrade_s=None if upgrade_hours is None else upgrade_hours * 3600,
    )
    serve(
        f"processor {group}/{instance}", runner, registry=metrics.registry, metrics_port=metrics_port,
        log_level=log_level,
    )  # fmt: skip
