"""`tidegate replay`: the log once more, into a shadow topic."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from confluent_kafka import KafkaException
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tidegate_protocols.errors import BadInput
from tidegate_protocols.events import Event
from tidegate_protocols.topics import EVENTS, FRAMES

from tidegate_cloud.admin import topics
from tidegate_cloud.kafka import Part

from .again import Done, Plan, Replay
from .comparing import Comparison, compare
from .telemetry import TelemetryLogic

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SHOWN = 20


def _place(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | datetime | None:
    if value is None or value.isdigit():
        return None if value is None else int(value)
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no offset and no time such as 2026-03-01T12:00Z") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _seconds(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no duration such as 90s, 15m, 6h or 2d")
    return float(found[1]) * _UNITS[found[2]]


@click.command()
@click.option(
    "--bootstrap", envvar="TIDEGATE_BOOTSTRAP", default="127.0.0.1:9092", show_default=True, metavar="HOST:PORT",
    help="Kafka.",
)  # fmt: skip
@click.option(
    "--as", "name", required=True, metavar="NAME", help="Name of this replay, for its topic and its progress."
)
@click.option(
    "--from", "start", callback=_place, default="0", show_default=True, metavar="TIME|OFFSET", help="From here, UTC."
)
@click.option(
    "--to", "stop", callback=_place, metavar="TIME|OFFSET", help="Up to and without this.  [default: what is there now]"
)
@click.option(
    "--warm",
    callback=_seconds,
    default="0s",
    show_default=True,
    metavar="DURATION",
    help="So long before, without output.",
)
@click.option("--operators", metavar="A,B", help="Only these.  [default: all]")
@click.option(
    "--edits", type=click.Choice(["then", "now"]), default="then", show_default=True,
    help="Fences, rules and devices as in force at each record, or as they are now.",
)  # fmt: skip
@click.option(
    "--geofence", type=click.Choice(["believed", "exact"]), default="believed", show_default=True,
    help="As the processor was told.",
)  # fmt: skip
@click.option("--compare", "comparing", is_flag=True, help="Hold the events against those that the processor found.")
@click.option("--group", default="tidegate-processor", show_default=True, help="The processor's consumer group.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def replay(
    bootstrap: str, name: str, start: int | datetime, stop: int | datetime | None, warm: float, operators: str | None,
    edits: str, geofence: str, comparing: bool, group: str, as_json: bool,
) -> None:  # fmt: skip
    """Run the log through the operators again, from empty rows, into fleet.events.replay.NAME.

    Called again with the same NAME and options it goes on where it was. With --compare the status is 1 when events
    were added, are missing or have changed.
    """
    if not _NAME.fullmatch(name):
        raise click.BadParameter("small letters, digits and -, at most 41", param_hint="--as")
    chosen = tuple(part.strip() for part in operators.split(",")) if operators else ()
    topic = dataclasses.replace(EVENTS, name=f"{EVENTS.name}.replay.{name}", holds="events of a replay")
    from tidegate_protocols.codec import backend

    backend.prepare()
    _operators(chosen, geofence)  # before anything is made
    try:
        client = topics.connect(bootstrap)
        topics.need(client, FRAMES)
        topics.apply(client, [change for change in topics.plan(client, [topic]) if change.action == "create"])
        again = Replay(bootstrap, group, name, topic.name, lambda: TelemetryLogic(_operators(chosen, geofence)))
        try:
            plans = _plans(again, start, stop, warm, (chosen, edits, geofence), group if comparing else None)
            began = time.monotonic()
            done = _run(again, plans)
            seconds = time.monotonic() - began
            found = _compare(again, topic.name, plans, done, chosen) if comparing else None
        finally:
            again.close()
    except KafkaException as error:
        raise click.ClickException(f"Kafka at {bootstrap}: {error.args[0].str()}") from None
    except BadInput as error:
        raise click.ClickException(str(error)) from None
    _tell(topic.name, plans, done, found, seconds, edits, as_json)
    if found is not None and not found.alike:
        raise click.exceptions.Exit(1)


def _operators(chosen: Sequence[str], geofence: str) -> list[Any]:
    from tidegate_cloud.operators import default_operators

    everything = default_operators(believe=geofence == "believed")
    names = [operator.name for operator in everything]
    if unknown := [name for name in chosen if name not in names]:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(names)}", param_hint="--operators")
    return [operator for operator in everything if not chosen or operator.name in chosen]


def _plans(
    again: Replay, start: int | datetime, stop: int | datetime | None, warm: float,
    how: tuple[tuple[str, ...], str, str], committed_by: str | None,
) -> dict[int, Plan]:  # fmt: skip
    """What to do in each partition: what was planned before, where this replay was begun before."""
    parts = [Part(FRAMES.name, partition) for partition in range(FRAMES.partitions)]
    offsets = again.offsets
    earliest, latest = offsets.earliest(parts), offsets.latest(parts)

    def at(place: int | datetime, before_s: float = 0.0) -> dict[Part, int]:
        if isinstance(place, datetime):
            return offsets.at_time(parts, int((place.timestamp() - before_s) * 1e6))
        return dict.fromkeys(parts, place)

    first = at(start)
    begin = at(start, warm) if isinstance(start, datetime) else first
    if warm and not isinstance(start, datetime):
        raise BadInput("--warm wants a time", where="--from", hint="give --from as a time")
    last = at(stop) if stop is not None else latest
    reached = offsets.committed(committed_by, parts) if committed_by else {}
    plans = {}
    for part in parts:
        end = min(last[part], latest[part])
        if committed_by:
            end = min(end, reached[part].offset if part in reached else 0)
        begins = max(begin[part], earliest[part])
        plan = Plan(
            warm=begins,
            first=max(first[part], begins),
            last=max(end, begins),
            operators=how[0],
            edits=how[1],
            geofence=how[2],
        )
        begun = again.begun(part.partition)
        if begun is not None:
            old = begun[0].plan
            # Where the end was left open it was settled when the replay was begun.
            same = msgspec.structs.replace(plan, last=old.last) if stop is None else plan
            if old != same:
                raise BadInput(
                    f"a replay of that name was begun with other options (partition {part.partition}: {old})",
                    where="--as", hint="give the same options to go on with it, or another name",
                )  # fmt: skip
            plan = old
        if plan.last > plan.warm:
            plans[part.partition] = plan
    return plans


def _run(again: Replay, plans: dict[int, Plan]) -> dict[int, Done]:
    console = Console(stderr=True)
    columns = (TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    done: dict[int, Done] = {}
    began, readings = time.monotonic(), 0
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=sum(plan.last - plan.warm for plan in plans.values()), rate="")
        for partition, plan in plans.items():

            def told(records: int, here: int, before: int = readings) -> None:
                rate = (before + here) / max(1e-9, time.monotonic() - began)
                progress.update(bar, advance=records, rate=f"{rate:,.0f} readings/s")

            done[partition] = again.run(partition, plan, told)
            readings += done[partition].counts.get("readings", 0)
    return done


def _compare(
    again: Replay, topic: str, plans: dict[int, Plan], done: dict[int, Done], chosen: Sequence[str]
) -> Comparison:
    found = Comparison()
    for partition, plan in plans.items():
        since_us, until_us = done[partition].append_us
        if plan.first == 0:
            since_us = 0

        def wanted(event: Event, since_us: int = since_us, until_us: int = until_us) -> bool:
            return since_us <= event.learnt_us <= until_us and (not chosen or event.operator in chosen)

        ours = filter(wanted, list(again.events(topic, partition)))
        theirs = filter(wanted, list(again.events(EVENTS.name, partition)))
        found.add(compare(ours, theirs, done[partition].cursors))
    return found


def _tell(
    topic: str, plans: dict[int, Plan], done: dict[int, Done], found: Comparison | None, seconds: float, edits: str,
    as_json: bool,
) -> None:  # fmt: skip
    counts: dict[str, int] = {}
    for one in done.values():
        for name, count in one.counts.items():
            counts[name] = counts.get(name, 0) + count
    records, skipped = sum(one.records for one in done.values()), sum(one.skipped for one in done.values())
    unmarked = max((one.unmarked for one in done.values()), default=0)
    rate = counts.get("readings", 0) / max(seconds, 1e-9)
    if as_json:
        result: dict[str, Any] = {
            "topic": topic, "records": records, "skipped": skipped, "seconds": round(seconds, 3),
            "readings_per_s": round(rate), "edits": edits, "unmarked": unmarked, "counts": counts,
            "partitions": {str(partition): msgspec.to_builtins(plan) for partition, plan in plans.items()},
        }  # fmt: skip
        if found is not None:
            result["compare"] = {
                "same": found.same, "added": [msgspec.to_builtins(event) for event in found.added],
                "missing": [msgspec.to_builtins(event) for event in found.missing],
                "changed": [[msgspec.to_builtins(event) for event in pair] for pair in found.changed],
            }  # fmt: skip
        click.echo(json.dumps(result))
        return
    click.echo(
        f"{records:,} frames, {counts.get('readings', 0):,} readings in {seconds:.1f} s ({rate:,.0f} a second): "
        f"{counts.get('events', 0):,} events, {counts.get('dead_letters', 0):,} dead letters"
    )
    if skipped:
        click.echo(f"{skipped:,} of the frames had been given out before")
    click.echo(f"events are on {topic}")
    if edits == "now":
        click.echo("fences, rules and devices: as they are now")
    else:
        click.echo(f"fences, rules and devices: as recorded; {unmarked:,} that no mark tells of, as they are now")
    if found is None:
        return
    click.echo(
        f"against the record: {found.same:,} the same, {len(found.added):,} added, {len(found.missing):,} missing, "
        f"{len(found.changed):,} changed"
    )
    shown = [("+", event) for event in found.added] + [("-", event) for event in found.missing]
    shown += [("~", pair[0]) for pair in found.changed]
    for sign, event in shown[:_SHOWN]:
        when = datetime.fromtimestamp(event.ts_us / 1e6, UTC).isoformat(timespec="milliseconds")
        click.echo(f"{sign} {when} {event.device} {event.operator} {event.kind} {event.subject}")
    if len(shown) > _SHOWN:
        click.echo(f"… {len(shown) - _SHOWN:,} more; --json tells all")
