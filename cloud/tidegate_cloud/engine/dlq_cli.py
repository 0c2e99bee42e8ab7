"""`tidegate dlq`: what the engine could not process."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from confluent_kafka import KafkaException
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tidegate_protocols.errors import BadInput
from tidegate_protocols.topics import DEAD_LETTERS

from tidegate_cloud.kafka import Offsets, Part, read_to, reader

from .broadcast import to_record
from .deadletters import ANSWERED, DeadLetter
from .logic import Output, Record
from .redrive import Action, Redrive, judge

_CLIENT = "tidegate-dlq"
_PIECE = 500  # dead letters in a transaction


@click.group()
def dlq() -> None:
    """Look at dead letters, records that could not be processed, and give them back or up."""


_bootstrap = click.option(
    "--bootstrap", envvar="TIDEGATE_BOOTSTRAP", default="127.0.0.1:9092", show_default=True, metavar="HOST:PORT",
    help="Kafka.",
)  # fmt: skip


@dlq.command("ls")
@_bootstrap
@click.option("--reason", help="Only these: unreadable, wrong-key, wrong-partition, too-many-schemas, operator.")
@click.option("--device", help="Only records with this key.")
@click.option("--open", "only_open", is_flag=True, help="Only those that were neither retried nor dropped.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_letters(bootstrap: str, reason: str | None, device: str | None, only_open: bool, as_json: bool) -> None:
    """List dead letters, oldest first, and what was done about them."""
    letters = [
        letter
        for letter, _ in _letters(bootstrap)
        if reason in (None, letter.reason) and device in (None, letter.key) and not (only_open and letter.answer)
    ]
    letters.sort(key=lambda letter: letter.dead_us)
    if as_json:
        for letter in letters:
            click.echo(json.dumps({key: value for key, value in letter.as_dict().items() if key != "traceback"}))
        return
    table = Table("place", "key", "record", "reason", "done", "error", box=None)
    for letter in letters:
        record = f"{letter.topic}[{letter.partition}]@{letter.offset}"
        table.add_row(letter.place, letter.key or "", record, letter.reason, letter.answer, letter.error)
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


def _time(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no time such as 2026-03-01T12:00Z") from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1e6)


def _chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which dead letters."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
        click.option("--all", "everything", is_flag=True, help="All of them."),
        click.option("--until", callback=_time, metavar="TIME", help="Dead before this, UTC."),
        click.option("--since", callback=_time, metavar="TIME", help="Dead since then, UTC."),
        click.option("--topic", help="Only from this topic."),
        click.option("--device", help="Only with this key."),
        click.option("--reason", help="Only for this reason."),
        _bootstrap,
        click.argument("places", nargs=-1, metavar="[PARTITION@OFFSET]..."),
    ):
        command = option(command)
    return command


@dlq.command()
@_chosen
def retry(bootstrap: str, dry_run: bool, **which: Any) -> None:
    """Give dead letters back to telemetry.frames, where that can help.

    Each once, and only those that would get further than last time. What an operator raised on reaches the sinks; its
    events come by `tidegate replay`, once the program is mended.
    """
    _answer(bootstrap, "retried", dry_run, which)


@dlq.command()
@_chosen
def drop(bootstrap: str, dry_run: bool, **which: Any) -> None:
    """Give dead letters up: they stay, marked as dropped, and are not retried."""
    _answer(bootstrap, "dropped", dry_run, which)


def _answer(bootstrap: str, action: Action, dry_run: bool, which: dict[str, Any]) -> None:
    if not any(which.values()):
        raise click.UsageError("say which: PARTITION@OFFSET, a filter, or --all")
    try:
        redrive = None if dry_run else Redrive(bootstrap, _CLIENT)  # before the dead letters are read
        found = [(letter, record) for letter, record in _letters(bootstrap) if _is_meant(letter, **which)]
        if missing := set(which["places"]) - {letter.place for letter, _ in found}:
            raise click.ClickException(f"there is no such dead letter: {', '.join(sorted(missing))}")
        due = _judged(found, action)
        if redrive is not None:
            _commit(redrive, due, action)
    except KafkaException as error:
        raise click.ClickException(f"Kafka at {bootstrap}: {error.args[0].str()}") from None
    click.echo(f"{len(due)} {'would be ' if dry_run else ''}{action}, {len(found) - len(due)} left")


def _judged(found: Sequence[tuple[DeadLetter, Record]], action: Action) -> list[tuple[DeadLetter, Output | None]]:
    due = []
    for letter, record in found:
        verdict = judge(letter, record, action)
        if isinstance(verdict, str):
            click.echo(f"{letter.place} is left: {verdict}", err=True)
        else:
            due.append((letter, verdict))
    return due


def _commit(redrive: Redrive, due: Sequence[tuple[DeadLetter, Output | None]], action: Action) -> None:
    console = Console(stderr=True)
    pieces = [due[i : i + _PIECE] for i in range(0, len(due), _PIECE)]
    for piece in track(pieces, action, console=console, transient=True, disable=not console.is_terminal):
        redrive.commit(piece, action)


def _is_meant(
    letter: DeadLetter, places: tuple[str, ...], reason: str | None, device: str | None, topic: str | None,
    since: int | None, until: int | None, everything: bool,
) -> bool:  # fmt: skip
    return (
        (not places or letter.place in places)
        and reason in (None, letter.reason)
        and device in (None, letter.key)
        and topic in (None, letter.topic)
        and (since is None or letter.dead_us >= since)
        and (until is None or letter.dead_us < until)
    )


def _letters(bootstrap: str) -> list[tuple[DeadLetter, Record]]:
    """Every dead letter, and what was done about it; a progress bar on a terminal. Raises ClickException."""
    records = list(_records(bootstrap))
    answers = {
        f"{record.partition}@{(headers[ANSWERED] or b'').decode()}": (headers.get("action") or b"").decode()
        for record in records if ANSWERED in (headers := dict(record.headers))
    }  # fmt: skip
    letters = []
    for record in records:
        if ANSWERED in dict(record.headers):
            continue
        try:
            letter = DeadLetter.read(record)
        except BadInput as error:
            click.echo(f"left out: {error}", err=True)
        else:
            letters.append((dataclasses.replace(letter, answer=answers.get(letter.place, "")), record))
    return letters


def _records(bootstrap: str) -> Iterator[Record]:
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
                yield to_record(message)
        finally:
            consumer.close()
    except KafkaException as error:
        raise click.ClickException(f"Kafka at {bootstrap}: {error.args[0].str()}") from None
