"""`tidegate processor` runs the engine; `tidegate dlq` looks at what it could not process."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click
from confluent_kafka import KafkaException
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tidegate_protocols.errors import BadInput
from tidegate_protocols.topics import DEAD_LETTERS

from tidegate_cloud.kafka import Offsets, Part, read_to, reader

from .broadcast import to_record
from .deadletters import DeadLetter
from .logic import Record
from .metrics import RunnerMetrics
from .runner import Runner
from .service import serve, service_options

_CLIENT = "tidegate-dlq"


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


@click.group()
def dlq() -> None:
    """Look at dead letters: records that could not be processed."""


_bootstrap = click.option(
    "--bootstrap", envvar="TIDEGATE_BOOTSTRAP", default="127.0.0.1:9092", show_default=True, metavar="HOST:PORT",
    help="Kafka.",
)  # fmt: skip


@dlq.command("ls")
@_bootstrap
@click.option("--reason", help="Only these: unreadable, wrong-key, wrong-partition, too-many-schemas, operator.")
@click.option("--device", help="Only records with this key.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_letters(bootstrap: str, reason: str | None, device: str | None, as_json: bool) -> None:
    """List dead letters, oldest first."""
    letters = [
        letter for letter, _ in _letters(bootstrap) if reason in (None, letter.reason) and device in (None, letter.key)
    ]
    letters.sort(key=lambda letter: letter.dead_us)
    if as_json:
        for letter in letters:
            click.echo(json.dumps({key: value for key, value in letter.as_dict().items() if key != "traceback"}))
        return
    table = Table("place", "key", "record", "reason", "error", box=None)
    for letter in letters:
        record = f"{letter.topic}[{letter.partition}]@{letter.offset}"
        table.add_row(letter.place, letter.key or "", record, letter.reason, letter.error)
    console = Console()
    console.print(table if letters else "No dead letters.")


@dlq.command()
@_bootstrap
@click.argument("place", metavar="PARTITION@OFFSET")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object, the record in hex.")
def show(bootstrap: str, place: str, as_json: bool) -> None:
    """Show one dead letter whole. PARTITION@OFFSET as `dlq ls` prints it."""
    found = next((both for both in _letters(bootstrap) if both[0].place == place), None)
    if found is None:
        raise click.ClickException(f"there is no dead letter {place}; `tidegate dlq ls` lists them")
    letter, record = found
    value = (record.value or b"").hex()
    if as_json:
        click.echo(json.dumps(letter.as_dict() | {"value": value}))
        return
    for name, content in letter.as_dict().items():
        if name != "traceback" and content not in (None, ""):
            click.echo(f"{name:10} {content}")
    if letter.traceback:
        click.echo(letter.traceback.rstrip())
    click.echo(f"{'value':10} {value[:256]}{'…' if len(value) > 256 else ''}")


def _letters(bootstrap: str) -> Iterator[tuple[DeadLetter, Record]]:
    """Every dead letter, with a progress bar on a terminal. Raises ClickException."""
    try:
        offsets = Offsets(bootstrap, _CLIENT)
        parts = [Part(DEAD_LETTERS.name, partition) for partition in range(DEAD_LETTERS.partitions)]
        ends, starts = offsets.latest(parts), offsets.earliest(parts)
        consumer = reader(bootstrap, _CLIENT)
        try:
            ends = {part: end for part, end in ends.items() if end > starts[part]}
            console = Console(stderr=True)
            for message in track(
                read_to(consumer, ends), "reading dead letters", console=console, transient=True,
                total=sum(end - starts[part] for part, end in ends.items()), disable=not console.is_terminal,
            ):  # fmt: skip
                record = to_record(message)
                try:
                    yield DeadLetter.read(record), record
                except BadInput as error:
                    click.echo(f"left out: {error}", err=True)
        finally:
            consumer.close()
    except KafkaException as error:
        raise click.ClickException(f"Kafka at {bootstrap}: {error.args[0].str()}") from None
