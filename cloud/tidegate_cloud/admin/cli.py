"""`tidegate topics` and `tidegate registry`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from . import registry as store
from . import topics as catalogue
from .repair import propose

bootstrap_option = click.option(
    "--bootstrap", envvar="TIDEGATE_BOOTSTRAP", default="127.0.0.1:9092", show_default=True, metavar="HOST:PORT",
    help="A broker of the Kafka cluster (TIDEGATE_BOOTSTRAP).",
)  # fmt: skip
json_option: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_kind = click.argument("kind", type=click.Choice(list(store.KINDS)))


@click.group()
def topics() -> None:
    """Create and correct the topics."""


def _changes_json(changes: list[catalogue.Change]) -> str:
    rows = [
        {
            "topic": change.topic.name,
            "action": change.action,
            "partitions": change.topic.partitions,
            "partitions_found": change.partitions,
            "settings": {key: {"found": found, "wanted": wanted} for key, (found, wanted) in change.settings.items()},
        }
        for change in changes
    ]
    return json.dumps(rows, indent=2)


def _in_words(change: catalogue.Change) -> str:
    settings = ", ".join(
        f"{key}={wanted}" if found is None else f"{key}: {found} → {wanted}"
        for key, (found, wanted) in change.settings.items()
    )
    if change.action == "create":
        return f"{change.topic.partitions} partitions, {settings}"
    if change.action == "wrong partitions":
        count = f"has {change.partitions} partitions, not {change.topic.partitions}: make a new topic and move the data"
        return f"{count}; {settings}" if settings else count
    return settings


@topics.command()
@bootstrap_option
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option(
    "--wait", "wait_s", type=click.FloatRange(0, 3600), default=30.0, show_default=True, metavar="SECONDS",
    help="How long to wait for a Kafka that does not answer yet.",
)  # fmt: skip
@json_option
def apply(bootstrap: str, dry_run: bool, wait_s: float, as_json: bool) -> None:
    """Create topics that are missing and correct settings that differ.

    Never deletes a topic and never changes a partition count: a topic with another count is named, its settings are
    corrected all the same, and the exit status is 1.
    """

    def waiting() -> None:
        click.echo(f"no Kafka answers at {bootstrap} yet; waiting up to {wait_s:g} s", err=True)

    client = catalogue.connect(bootstrap, wait_s, waiting)
    changes = catalogue.plan(client)
    due = [change for change in changes if change.action != "leave"]
    if not dry_run and due:
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("Topics", total=len(due))
            catalogue.apply(client, due, lambda _: bar.advance(task))
    if as_json:
        click.echo(_changes_json(changes))
    else:
        verbs = {"create": "created", "correct": "corrected"}
        for change in due:
            verb = change.action if dry_run else verbs.get(change.action, change.action)
            click.echo(f"{change.topic.name}: {verb}: {_in_words(change)}")
        right = len(changes) - len(due)
        click.echo(f"{right} of {len(changes)} topics {'are' if dry_run else 'were'} as they should be")
    if any(change.action == "wrong partitions" for change in changes):
        raise click.exceptions.Exit(1)


@topics.command()
@bootstrap_option
@json_option
def show(bootstrap: str, as_json: bool) -> None:
    """Show the catalogue and whether Kafka's topics are as it says."""
    changes = catalogue.plan(catalogue.connect(bootstrap))
    if as_json:
        click.echo(_changes_json(changes))
        return
    states = {"leave": "as it should be", "create": "missing", "correct": "settings differ"}
    table = Table("topic", "holds", "key", "partitions", "kept", "state", box=None, header_style="dim")
    for change in changes:
        topic = change.topic
        kept = "newest per key" if topic.retention_days is None else f"{topic.retention_days} days"
        state = states.get(change.action, change.action)
        table.add_row(topic.name, topic.holds, topic.key, str(topic.partitions), kept, state)
    Console().print(table)


@click.group()
def registry() -> None:
    """Keep fences, rules, devices, alert policies, silences and feedback."""


@registry.command()
@_kind
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@bootstrap_option
def put(kind: str, file: Path, bootstrap: str) -> None:
    """Write what FILE holds: fences from GeoJSON; everything else from JSON or TOML.

    The whole file is checked before anything is written. What is there under the same id is replaced.
    """
    found = store.KINDS[kind]
    records = store.load(found, file)
    catalogue.need(catalogue.connect(bootstrap), found.topic)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(kind.capitalize(), total=len(records))
        store.put(bootstrap, found, records, lambda done: bar.update(task, completed=done))
    click.echo(f"{len(records)} {kind} written")


@registry.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def repair(file: Path) -> None:
    """Propose valid shapes for the fences in FILE: the same GeoJSON on stdout, what was changed on stderr.

    Only geometries change. Look at them, then put them. The exit status is 1 when a fence cannot be repaired.
    """
    value, notes = propose(file)
    for _, note in notes:
        click.echo(note, err=True)
    click.echo(json.dumps(value))
    if not all(done for done, _ in notes):
        raise click.exceptions.Exit(1)


@registry.command()
@_kind
@bootstrap_option
@json_option
def ls(kind: str, bootstrap: str, as_json: bool) -> None:
    """List what the registry holds."""
    catalogue.need(catalogue.connect(bootstrap), store.KINDS[kind].topic)
    records = store.read(bootstrap, store.KINDS[kind])
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(record) for record in records], indent=2))
        return
    Console().print(_listing(store.KINDS[kind], records))


@registry.command()
@_kind
@click.argument("ids", nargs=-1, required=True)
@bootstrap_option
def rm(kind: str, ids: tuple[str, ...], bootstrap: str) -> None:
    """Remove what is registered under IDS."""
    catalogue.need(catalogue.connect(bootstrap), store.KINDS[kind].topic)
    store.remove(bootstrap, store.KINDS[kind], ids)
    click.echo(f"{len(ids)} {kind} removed")


def _listing(kind: store.Kind, records: Sequence[store.Record]) -> Table:
    """A table of records, with the fields in which at least one differs from a record that says nothing."""
    fields = msgspec.structs.fields(kind.codec.kind)
    told = [f.name for f in fields if f.required or any(getattr(r, f.name) != f.default for r in records)]
    # A list's default is a fresh list each time.
    told = [name for name in told if any(getattr(r, name) not in ([], {}) for r in records) or name == "id"]
    table = Table()
    for name in told:
        table.add_column(name, no_wrap=name == "id", overflow="fold")
    for record in records:
        table.add_row(*(_shape(r) if n == "geometry" else _cell(r) for n in told for r in [getattr(record, n)]))
    return table


def _shape(geometry: str) -> str:
    """What kind of geometry it is: its coordinates are for `--json`."""
    try:
        return str(json.loads(geometry)["type"])
    except (ValueError, KeyError, TypeError):
        return _cell(geometry)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else text[:39] + "…"
