"""`tidegate alerts`: the alert engine as a service, and its policies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import click
from prometheus_client import Gauge

from tidegate_cloud.engine.metrics import RunnerMetrics
from tidegate_cloud.engine.runner import Runner
from tidegate_cloud.engine.service import Runs, serve, service_options

from . import group_logic, logic
from .group_logic import GroupLogic
from .logic import AlertLogic
from .policy_cli import policies


class Together:
    """Runs several at once, each in a thread; when one ends, or fails, all do, and the first failure is raised."""

    def __init__(self, *runs: Runs) -> None:
        self._runs = runs

    def run(self, stop: threading.Event, *, ready: Callable[[], None] = lambda: None) -> None:
        failures: list[BaseException] = []
        left = [len(self._runs)]
        lock = threading.Lock()

        def one_is_ready() -> None:
            with lock:
                left[0] -= 1
                if left[0] == 0:
                    ready()

        def run(each: Runs) -> None:
            try:
                each.run(stop, ready=one_is_ready)
            except BaseException as error:  # whatever it is, the others must not go on without it
                failures.append(error)
            finally:
                stop.set()

        threads = [threading.Thread(target=run, args=(each,), daemon=True) for each in self._runs]
        for thread in threads:
            thread.start()
        _join(threads)
        if failures:
            raise failures[0]


def _join(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        while thread.is_alive():
            thread.join(0.5)  # with a time-out, so that signals are seen meanwhile


@click.group(invoke_without_command=True)
@service_options
@click.option("--group", default="tidegate-alerts", show_default=True, help="Consumer group of all alert engines.")
# A name that stays lets a restart end the transaction that a killed predecessor left open; readers wait for that.
@click.option("--instance", default="1", show_default=True, help="This instance's name, its own within the group.")
@click.option(
    "--commit-ms", type=click.IntRange(10, 60_000), default=100, show_default=True,
    help="Wanted time from an event's arrival to the commit of what it led to.",
)  # fmt: skip
@click.pass_context
def alerts(
    ctx: click.Context, bootstrap: str, metrics_port: int, log_level: str, group: str, instance: str, commit_ms: int
) -> None:
    """Turn events into alerts, and do what people ask of them. Any number of these share the work.

    With a subcommand: look at the policies and change them.
    """
    if ctx.invoked_subcommand is not None:
        return
    first, second = AlertLogic(), GroupLogic()
    metrics = RunnerMetrics("alerts", logic.COUNTERS)
    more = RunnerMetrics("alert_groups", group_logic.COUNTERS, metrics.registry)
    Gauge(
        "tidegate_alerts_open", "Alerts of this instance's partitions that are not resolved", registry=metrics.registry
    ).set_function(first.open_alerts)
    latency_s = commit_ms / 1000
    both = Together(
        Runner(first, bootstrap=bootstrap, group=group, instance=instance, metrics=metrics, latency_s=latency_s),
        Runner(
            second, bootstrap=bootstrap, group=f"{group}-groups", instance=instance, metrics=more, latency_s=latency_s
        ),
    )
    serve(f"alerts {group}/{instance}", both, registry=metrics.registry, metrics_port=metrics_port, log_level=log_level)


alerts.add_command(policies)
