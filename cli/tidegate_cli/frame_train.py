"""`tidegate frame train`: priors from frames that were sent, so that later ones are smaller."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click
from tidegate_protocols.batch import Batch
from tidegate_protocols.codec import backend
from tidegate_protocols.codec.priors import Priors
from tidegate_protocols.errors import BadInput
from tidegate_protocols.frame import decode_frame, encode_frame
from tidegate_protocols.schema import Schema
from tidegate_protocols.topics import FRAMES, PARTITIONER, PRIORS

from .frame_source import BOOTSTRAP, announced, newest

_HELD_OUT = 5  # one frame in so many is not learnt from, and shows what was learnt


@click.command()
@click.argument("files", nargs=-1, type=click.Path(dir_okay=False, exists=True))
@click.option("--topic", help=f"Learn from this topic (usually {FRAMES.name}) and not from FILES.")
@BOOTSTRAP
@click.option("--device", help="From a topic: frames of this device only.")
@click.option("--last", default=1000, show_default=True, help="From a topic: the newest so many frames.")
@click.option("--schema", "schema_file", type=click.Path(dir_okay=False, exists=True), help="The schema's JSON (Avro).")
@click.option("--name", help="Frames of the schema of this name only.")
@click.option("--version", type=click.IntRange(min=1), help="Which training this is; one more than the last announced.")
@click.option("--output", "-o", type=click.Path(dir_okay=False), required=True, help="Where the priors are written.")
@click.option("--announce", is_flag=True, help=f"Put them on {PRIORS.name} too, where whoever reads frames finds them.")
def train(
    files: tuple[str, ...], topic: str | None, bootstrap: str, device: str | None, last: int, schema_file: str | None,
    name: str | None, version: int | None, output: str, announce: bool,
) -> None:  # fmt: skip
    """Learn from frames how their schema's columns are best written.

    Frames that name the priors that come of it are smaller, most of all those of few scans, and can be read only with
    them. So announce priors first, then name their file in the agents' configuration (batch.priors). Learn from frames
    that are like those to come: of their size, from many devices.
    """
    if bool(files) == (topic is not None):
        raise click.UsageError("Name either FILES or a --topic.")
    if files and schema_file is None:
        raise click.UsageError("Frames in files need --schema: a frame names its schema and does not carry it.")
    schemas, priors = announced(bootstrap) if topic is not None or announce else ({}, {})
    if schema_file is not None:
        schema = Schema.from_json(Path(schema_file).read_bytes())
        schemas = {schema.fingerprint: schema}
    if topic is not None:
        frames = newest(bootstrap, topic, device, last)
    else:
        frames = [(file, Path(file).read_bytes()) for file in files]
    batches = _of_one_schema(frames, schemas, priors, name)
    if not backend.available():
        raise click.ClickException("training needs numba: pip install tidegate[kernels]")
    backend.load()
    known = [each.version for each in priors.values() if each.fingerprint == batches[0].schema.fingerprint]
    found = _train(batches, version or max(known, default=0) + 1)
    Path(output).write_bytes(found.canonical_json)
    click.echo(f"priors {found.name.hex()}, version {found.version}, of schema {batches[0].schema.name}: {output}")
    if announce:
        _announce(bootstrap, found)
        click.echo(f"announced on {PRIORS.name}")


def _of_one_schema(
    frames: list[tuple[str, bytes]], schemas: dict[bytes, Schema], priors: dict[bytes, Priors], name: str | None
) -> list[Batch]:
    batches: list[Batch] = []
    unreadable = 0
    for where, data in frames:
        try:
            batch = decode_frame(data, schemas, priors)
        except BadInput as error:
            if len(frames) == 1:
                raise error.at(where) from None
            unreadable += 1
            continue
        if name is None or batch.schema.name == name:
            batches.append(batch)
    if unreadable:
        click.echo(f"{unreadable} of {len(frames)} frames cannot be read and are left out", err=True)
    names = Counter(f"{batch.schema.name} ({batch.schema.fingerprint.hex()})" for batch in batches)
    if len(names) > 1:
        told = ", ".join(f"{name}: {count}" for name, count in names.most_common())
        raise click.ClickException(f"the frames are of several schemas: {told}. Choose one with --name or --schema.")
    if not batches:
        raise click.ClickException("there is no frame to learn from" + (f" of schema {name}" if name else ""))
    return batches


def _train(batches: list[Batch], version: int) -> Priors:
    """Priors from all batches; says first what those from most of them do for the others."""
    from tidegate_protocols.codec.training import train_priors

    shown = batches[::_HELD_OUT]
    rest = [batch for i, batch in enumerate(batches) if i % _HELD_OUT]
    if rest:
        trial = train_priors(rest, version)
        before = sum(len(encode_frame(batch, codec="auto")) for batch in shown)
        after = sum(len(encode_frame(batch, codec="auto", priors=trial)) for batch in shown)
        click.echo(
            f"learnt from {len(rest)} frames, {len(shown)} others have {after / len(shown):.0f} bytes in the mean "
            f"instead of {before / len(shown):.0f}"
        )
    return train_priors(batches, version)


def _announce(bootstrap: str, priors: Priors) -> None:
    from confluent_kafka import Producer

    failed: list[str] = []
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, **PARTITIONER})
    producer.produce(
        PRIORS.name, priors.canonical_json, priors.name.hex().encode(),
        on_delivery=lambda error, _: failed.append(error.str()) if error is not None else None,
    )  # fmt: skip
    if producer.flush(30) or failed:
        raise click.ClickException(f"{PRIORS.name} at {bootstrap}: {failed[0] if failed else 'no answer within 30 s'}")
