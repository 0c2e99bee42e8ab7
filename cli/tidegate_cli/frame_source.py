"""Where `tidegate frame` has its frames from: files, or a topic with what is announced beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from tidegate_protocols.codec.priors import Priors
from tidegate_protocols.errors import BadInput
from tidegate_protocols.schema import Schema
from tidegate_protocols.topics import FRAMES, PRIORS, SCHEMAS

BOOTSTRAP = click.option("--bootstrap", default="127.0.0.1:9092", envvar="TIDEGATE_BOOTSTRAP", show_default=True)

_OPTIONS = (
    click.argument("file", required=False, type=click.Path(dir_okay=False, allow_dash=True)),
    click.option("--topic", help=f"Read frames from this topic (usually {FRAMES.name}) and not from FILE."),
    BOOTSTRAP,
    click.option("--device", help="From a topic: frames of this device only."),
    click.option("--last", default=10, show_default=True, help="From a topic: the newest so many frames."),
)


def source(command: Any) -> Any:
    """Give a command the options that say where frames come from."""
    for decorate in reversed(_OPTIONS):
        command = decorate(command)
    return command


def read_frames(
    file: str | None, topic: str | None, bootstrap: str, device: str | None, last: int
) -> Iterator[tuple[str, bytes]]:
    """(where it is from, the frame), oldest first."""
    if (file is None) == (topic is None):
        raise click.UsageError("Name either a FILE (- for standard input) or a --topic.")
    if file is not None:
        try:
            with click.open_file(file, "rb") as source:
                yield file, source.read()
        except OSError as error:
            raise click.ClickException(f"{file}: {error.strerror}") from None
        return
    yield from newest(bootstrap, str(topic), device, last)


def newest(bootstrap: str, topic: str, device: str | None, last: int) -> list[tuple[str, bytes]]:
    """(where it is from, the frame) of the newest `last` frames of a topic, oldest first."""
    found: list[tuple[int, str, bytes]] = []
    for partition, offset, ts, key, value in _records(bootstrap, topic, last, device):
        if value is not None and (device is None or key == device.encode()):
            found.append((ts, f"{topic}[{partition}]@{offset}", value))
    if not found:
        raise click.ClickException(f"{topic} holds no frame" + (f" of {device}" if device else ""))
    return [(where, value) for _, where, value in sorted(found)[-last:]]


def announced(bootstrap: str) -> tuple[dict[bytes, Schema], dict[bytes, Priors]]:
    """Schemas by fingerprint and priors by name, as their topics hold them. What cannot be read is passed over."""
    schemas: dict[bytes, Schema] = {}
    priors: dict[bytes, Priors] = {}
    for _, _, _, key, value in _records(bootstrap, SCHEMAS.name, None, None):
        try:
            schema = Schema.from_json(value or b"")
        except BadInput:
            continue
        if key == schema.fingerprint.hex().encode():
            schemas[schema.fingerprint] = schema
    for _, _, _, key, value in _records(bootstrap, PRIORS.name, None, None):
        try:
            found = Priors.from_json(value or b"")
        except BadInput:
            continue
        if key == found.name.hex().encode():
            priors[found.name] = found
    return schemas, priors


def _records(
    bootstrap: str, topic: str, last: int | None, device: str | None
) -> Iterator[tuple[int, int, int, bytes | None, bytes | None]]:
    """(partition, offset, append time, key, value) of what a topic holds now; of the newest `last` a partition.

    A device's frames are all in one partition, and that one is read whole.
    """
    from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
    from tidegate_protocols.ids import partition_of

    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "tidegate-frame", "enable.auto.commit": False,
         "enable.partition.eof": True, "isolation.level": "read_committed"}
    )  # fmt: skip
    try:
        try:
            known = consumer.list_topics(topic, timeout=10).topics[topic]
            if known.error is not None:
                raise click.ClickException(f"{topic} at {bootstrap}: {known.error.str()}")
            partitions = list(known.partitions)
            if device is not None:
                partitions = [partition_of(device.encode(), len(partitions))]
            places = []
            for partition in partitions:
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
                if high > low:
                    start = OFFSET_BEGINNING if last is None or device is not None else max(low, high - last)
                    places.append(TopicPartition(topic, partition, start))
        except KafkaException as error:
            raise click.ClickException(f"{topic} at {bootstrap}: {error.args[0].str()}") from None
        if places:
            consumer.assign(places)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(f"reading {topic}", total=len(places))
            ended: set[int] = set()
            while len(ended) < len(places):
                message = consumer.poll(10)
                if message is None:
                    raise click.ClickException(f"{bootstrap} does not answer")
                failure = message.error()
                if failure is not None:
                    if failure.name() != "_PARTITION_EOF":
                        raise click.ClickException(f"{topic}: {failure.str()}")
                    ended.add(message.partition() or 0)
                    progress.update(task, completed=len(ended))
                    continue
                place = message.partition() or 0, message.offset() or 0
                yield *place, message.timestamp()[1], message.key(), message.value()
    finally:
        consumer.close()
