"""`tidegate lag`: whether consumer groups keep up, once or always."""

from __future__ import annotations

import json
import time

import click
from confluent_kafka import KafkaException
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tidegate_protocols.topics import ALERT_LOG, ALERT_MEMBERS, BY_NAME, EVENTS, FRAMES

from .lag_watch import Watch
from .lagging import WINDOW, Windows, worst
from .looking import Followed, Looker
from .service import serve, service_options

_ALL = (
    Followed("tidegate-processor", FRAMES.name),
    Followed("tidegate-alerts", EVENTS.name),
    Followed("tidegate-alerts-groups", ALERT_MEMBERS.name),
    Followed("tidegate-notify", ALERT_LOG.name),
)
_bootstrap = click.option(
    "--bootstrap", envvar="TIDEGATE_BOOTSTRAP", default="127.0.0.1:9092", show_default=True, metavar="HOST:PORT",
    help="Kafka.",
)  # fmt: skip


def _followed(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> tuple[Followed, ...]:
    found = []
    for text in given:
        group, _, topic = text.rpartition("=")
        if not group or topic not in BY_NAME:
            raise click.BadParameter(f"{text!r} is not GROUP=TOPIC with one of Tidegate's topics")
        found.append(Followed(group, topic))
    return tuple(found) or _ALL


@click.group(invoke_without_command=True)
@_bootstrap
@click.option("--group", default="tidegate-processor", show_default=True, help="Consumer group.")
@click.option(
    "--topic", type=click.Choice(sorted(BY_NAME)), default=FRAMES.name, show_default=True, metavar="TOPIC",
    help="What it reads.",
)  # fmt: skip
@click.option(
    "--every", type=click.FloatRange(min=0.05), default=1.0, show_default=True, help="Seconds between two looks."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def lag(ctx: click.Context, bootstrap: str, group: str, topic: str, every: float, as_json: bool) -> None:
    """Say of every partition whether its consumer keeps up, from ten looks.

    OK: it was at the end, or comes nearer. WARN: it moves but falls behind. STALL: it does not move. STOP: it does not
    move, and nobody is in the group. The status is 1 when one does not move.
    """
    if ctx.invoked_subcommand is not None:
        return
    followed, windows = Followed(group, topic), Windows()
    looker = Looker(bootstrap, "tidegate-lag")
    console = Console(stderr=True)
    try:
        for look in track(
            range(WINDOW), "looking", console=console, transient=True, disable=not console.is_terminal
        ):  # fmt: skip
            if look:
                time.sleep(every)
            windows.add(looker.look(followed))
        states = looker.states(followed, windows)
    except KafkaException as error:
        raise click.ClickException(f"Kafka at {bootstrap}: {error.args[0].str()}") from None
    finally:
        looker.close()
    said = worst(state for state, _ in states.values())
    if as_json:
        rows = [
            {"partition": part.partition, "state": state, "committed": sample.offset, "lag": sample.lag}
            for part, (state, sample) in states.items()
        ]
        click.echo(json.dumps({"group": group, "state": said, "partitions": rows}))
    elif not states:
        click.echo(f"{group} has committed nothing of {topic}")
    else:
        table = Table("partition", "state", "committed", "lag", box=None)
        for part, (state, sample) in states.items():
            table.add_row(str(part.partition), state, f"{sample.offset:,}", f"{sample.lag:,}")
        Console().print(table)
        click.echo(f"{group} on {topic}: {said}")
    if said == "ERR":
        raise click.exceptions.Exit(1)


@lag.command()
@service_options
@click.option(
    "--of", "followed", callback=_followed, multiple=True, metavar="GROUP=TOPIC",
    help="Watch this group; may be repeated. Without it: the processor, the alert engine's stages and the notifier.",
)  # fmt: skip
@click.option(
    "--every", type=click.FloatRange(min=0.05), default=2.0, show_default=True,
    help="Seconds between two looks. Ten make a verdict: an outage that is shorter than that is nobody's business.",
)  # fmt: skip
@click.option("--no-events", is_flag=True, help="Only metrics: write no events, so there are no alerts.")
def watch(
    bootstrap: str, metrics_port: int, log_level: str, followed: tuple[Followed, ...], every: float, no_events: bool
) -> None:
    """Go on looking: metrics for Prometheus, and an event whenever a group begins or ceases to fall behind.

    The alert engine makes alerts of them, by the policy `pipeline`. When that is what has stopped, only the metrics say
    so: let Prometheus watch `tidegate_lag_state` too.
    """
    watching = Watch(bootstrap, followed, every_s=every, tell=not no_events)
    serve("lag", watching, registry=watching.registry, metrics_port=metrics_port, log_level=log_level)
