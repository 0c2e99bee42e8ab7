"""`tidegate lag`: whether consumer groups keep up."""

from __future__ import annotations

import json
import time

import click
from confluent_kafka import KafkaException
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tidegate_protocols.topics import BY_NAME, FRAMES

from tidegate_cloud.kafka import Offsets, OffsetsPending, Part

from .lagging import WINDOW, Sample, State, Windows, worst


@click.command()
@click.option(
    "--bootstrap", envvar="TIDEGATE_BOOTSTRAP", default="127.0.0.1:9092", show_default=True, metavar="HOST:PORT",
    help="Kafka.",
)  # fmt: skip
@click.option("--group", default="tidegate-processor", show_default=True, help="Consumer group.")
@click.option(
    "--topic", type=click.Choice(sorted(BY_NAME)), default=FRAMES.name, show_default=True, metavar="TOPIC",
    help="What it reads.",
)  # fmt: skip
@click.option(
    "--every", type=click.FloatRange(min=0.05), default=1.0, show_default=True, help="Seconds between two looks."
)
@click.option("--watch", is_flag=True, help="Go on, and say whenever a partition's state changes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object; with --watch, one a line.")
def lag(bootstrap: str, group: str, topic: str, every: float, watch: bool, as_json: bool) -> None:
    """Say of every partition whether its consumer keeps up, from ten looks.

    OK: it was at the end, or comes nearer. WARN: it moves but falls behind. STALL: it does not move. STOP: it does not
    move, and nobody is in the group. The status is 1 when one does not move.
    """
    offsets, windows = Offsets(bootstrap, "tidegate-lag"), Windows()
    parts = [Part(topic, partition) for partition in range(BY_NAME[topic].partitions)]
    console = Console(stderr=True)
    told: dict[Part, State] = {}
    try:
        for look in track(
            range(WINDOW), "looking", console=console, transient=True, disable=not console.is_terminal
        ):  # fmt: skip
            if look:
                time.sleep(every)
            windows.add(_look(offsets, group, parts))
        while True:
            members = bool(offsets.members(group))
            states = windows.states(members=members)
            if not watch:
                break
            changed = {part: found for part, found in states.items() if told.get(part, State.OK) != found[0]}
            for part, (state, sample) in changed.items():
                _line(part, state, sample, as_json)
            told = {part: state for part, (state, _) in states.items()}
            time.sleep(every)
            windows.add(_look(offsets, group, parts))
    except KafkaException as error:
        raise click.ClickException(f"Kafka at {bootstrap}: {error.args[0].str()}") from None
    verdict = worst(state for state, _ in states.values())
    if as_json:
        rows = [_row(part, state, sample) for part, (state, sample) in states.items()]
        click.echo(json.dumps({"group": group, "state": verdict, "members": members, "partitions": rows}))
    elif not states:
        click.echo(f"{group} has committed nothing of {topic}")
    else:
        table = Table("partition", "state", "committed", "lag", box=None)
        for part, (state, sample) in states.items():
            table.add_row(str(part.partition), state, f"{sample.offset:,}", f"{sample.lag:,}")
        Console().print(table)
        click.echo(f"{group} on {topic}: {verdict}")
    if verdict == "ERR":
        raise click.exceptions.Exit(1)


def _look(offsets: Offsets, group: str, parts: list[Part]) -> dict[Part, Sample]:
    """The end first: what is committed grows, so a lag is rather too small than too large. Raises KafkaException."""
    ends = offsets.latest(parts)
    while True:
        try:
            committed = offsets.committed(group, parts)
        except OffsetsPending:
            continue  # it waits for a while by itself
        return {part: Sample(found.offset, max(0, ends[part] - found.offset)) for part, found in committed.items()}


def _row(part: Part, state: State, sample: Sample) -> dict[str, object]:
    return {"partition": part.partition, "state": state, "committed": sample.offset, "lag": sample.lag}


def _line(part: Part, state: State, sample: Sample, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_row(part, state, sample)))
    else:
        click.echo(f"{part.topic}[{part.partition}]: {state}, {sample.lag:,} behind {sample.offset:,}")
