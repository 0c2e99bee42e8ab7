"""The registry: fences, rules, devices, alert policies, silences, feedback; read from files, kept in compacted topics.

A file holds one or many. Fences are GeoJSON (RFC 7946): a Feature or a FeatureCollection, where `id` may stand beside
`properties` or in them and the other fields of a Fence are properties. The rest is JSON (an object, or an array of
them) or TOML (an array of tables named as the kind: `rules`, `devices` …).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import KafkaException
from tidegate_protocols.avro import AvroCodec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.ids import check_device_id
from tidegate_protocols.policies import POLICY, SILENCE, Policy, Silence
from tidegate_protocols.registry import DEVICE, FEEDBACK, FENCE, RULE, Device, Feedback, Fence, Rule
from tidegate_protocols.topics import DEVICES, FENCES, POLICIES, RULES, SILENCES, Topic
from tidegate_protocols.topics import FEEDBACK as FEEDBACK_TOPIC

from tidegate_cloud.kafka import Offsets, Part, read_to, reader, write
from tidegate_cloud.policy_checks import check_policy
from tidegate_cloud.silences import check_silence

from .files import features_of, flat, parse, read_text

Record = Fence | Rule | Device | Policy | Silence | Feedback

# What the client library retries by itself is no news for a person who has not asked for a log.
logging.getLogger("tidegate_cloud.kafka").addHandler(logging.NullHandler())
_ALERT_ON = ("enter", "exit", "none")


def _check_fence(fence: Fence) -> None:
    if fence.alert_on not in _ALERT_ON:
        raise BadInput(f"alert_on is {fence.alert_on!r}", where=f"fence {fence.id!r}", hint=" or ".join(_ALERT_ON))
    # Here, since operators bring numba with them.
    from tidegate_cloud.operators.fence_terms import parse_terms
    from tidegate_cloud.operators.fences import parse_shape

    parse_terms(fence)
    parse_shape(fence)


def _check_rule(rule: Rule) -> None:
    from tidegate_cloud.operators.control import check_rule

    check_rule(rule)


def _check_device(device: Device) -> None:
    check_device_id(device.id)
    from tidegate_cloud.operators.zones import check_zone

    check_zone(device.time_zone)


def _check_feedback(feedback: Feedback) -> None:
    check_device_id(feedback.device)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing that the registry keeps: its name in the plural, its topic, its codec, what makes it valid."""

    name: str
    topic: Topic
    codec: AvroCodec[Any]
    check: Callable[[Any], None]


KINDS: dict[str, Kind] = {
    "fences": Kind("fences", FENCES, FENCE, _check_fence),
    "rules": Kind("rules", RULES, RULE, _check_rule),
    "devices": Kind("devices", DEVICES, DEVICE, _check_device),
    "feedback": Kind("feedback", FEEDBACK_TOPIC, FEEDBACK, _check_feedback),
    "policies": Kind("policies", POLICIES, POLICY, check_policy),
    "silences": Kind("silences", SILENCES, SILENCE, check_silence),
}


def load(kind: Kind, path: Path) -> list[Record]:
    """Read and check every record of `kind` in a file. Raises BadInput naming the file, the record and the field."""
    text = read_text(path)
    entries = (
        [flat(*feature) for feature in features_of(path, text)] if kind.name == "fences" else _entries(kind, path, text)
    )
    records, seen = [], set()
    for number, entry in enumerate(entries, 1):
        where = f"{path}, entry {number}"
        if isinstance(entry, dict) and isinstance(entry.get("id"), str):
            where += f" ({entry['id']})"
        record = record_of(kind, entry, where)
        if record.id in seen:
            raise BadInput(f"{record.id!r} is there twice", where=where)
        seen.add(record.id)
        records.append(record)
    if not records:
        raise BadInput(f"no {kind.name} in it", where=str(path))
    return records


def record_of(kind: Kind, entry: Any, where: str) -> Record:
    """The record that an object's fields make. Raises BadInput naming the place and the field."""
    if not isinstance(entry, dict):
        raise BadInput("not an object", where=where)
    unknown = set(entry) - set(kind.codec.kind.__struct_fields__)
    if unknown:
        raise BadInput(
            f"unknown field {sorted(unknown)[0]!r}",
            where=where,
            hint=f"known are {', '.join(kind.codec.kind.__struct_fields__)}",
        )
    try:
        record: Record = msgspec.convert(entry, kind.codec.kind)
    except msgspec.ValidationError as error:
        raise BadInput(str(error), where=where) from None
    if not record.id:
        raise BadInput("id is empty", where=where)
    try:
        kind.check(record)
    except BadInput as error:
        raise error.at(where) from None
    return record


def _entries(kind: Kind, path: Path, text: str) -> Iterable[Any]:
    value = parse(path, text)
    listed = value.get(kind.name) if isinstance(value, dict) else None
    if isinstance(listed, list):
        return listed
    if path.suffix == ".toml":
        raise BadInput(f"no [[{kind.name}]] in it", where=str(path))
    return value if isinstance(value, list) else [value]


def put(bootstrap: str, kind: Kind, records: Sequence[Record], done: Callable[[int], None] | None = None) -> None:
    """Write records to their topic and wait until Kafka has them. Raises BadInput with Kafka's reason."""
    _write(bootstrap, kind, [(record.id, kind.codec.encode(record)) for record in records], done)


def remove(bootstrap: str, kind: Kind, ids: Sequence[str]) -> None:
    """Remove records. Raises BadInput for ids that are not there, before anything is removed."""
    present = {record.id for record in read(bootstrap, kind)}
    for name in ids:
        if name not in present:
            raise BadInput(f"no {name!r} in it", where=kind.topic.name)
    _write(bootstrap, kind, [(name, None) for name in ids], None)


def read(bootstrap: str, kind: Kind) -> list[Record]:
    """What the registry holds now, by id. Raises BadInput when Kafka does not answer or a record is damaged."""
    newest: dict[str, Record] = {}
    name = f"tidegate-registry-{uuid.uuid4().hex[:8]}"
    consumer = reader(bootstrap, name)
    try:
        parts = [Part(kind.topic.name, number) for number in range(kind.topic.partitions)]
        for message in read_to(consumer, Offsets(bootstrap, name).latest(parts)):
            key, value = (message.key() or b"").decode("utf-8", "replace"), message.value()
            if value is None:
                newest.pop(key, None)
            else:
                where = f"{message.topic()}[{message.partition()}]@{message.offset()}"
                try:
                    newest[key] = kind.codec.decode(value)
                except BadInput as error:
                    raise error.at(where) from None
    except KafkaException as error:
        raise BadInput(f"Kafka refused: {error.args[0].str()}", where=kind.topic.name) from None
    finally:
        consumer.close()
    return [newest[key] for key in sorted(newest)]


def _write(
    bootstrap: str, kind: Kind, records: Sequence[tuple[str, bytes | None]], done: Callable[[int], None] | None
) -> None:
    failed, why = write(bootstrap, "tidegate-registry", kind.topic.name, records, done)
    if failed:
        raise BadInput(
            f"{failed} of {len(records)} not written: {why}",
            where=kind.topic.name,
            hint="tidegate topics apply creates the topics",
        )
