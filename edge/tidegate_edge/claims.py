"""Which epoch a device's scans are sent under: one that no other spool has used.

The cloud drops scans of an epoch older than the newest it has seen of a device. So a new spool claims a higher one for
each of its devices on `device.reported`, before it sends anything of it, and keeps the claim: key, the device; value,
JSON with the epoch, the spool that has it and the agent. A claim that is there under our own spool's name was made
before a crash, and holds. Two agents that both speak for a device take turns in vain; frames of the older one are
counted as duplicates by the cloud.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from tidegate_protocols.batch import EPOCH_MAX
from tidegate_protocols.ids import partition_of
from tidegate_protocols.ota import Claim
from tidegate_protocols.topics import REPORTED

from .spool import Stream


def sibling_epoch(stream: Stream, every: Iterable[Stream]) -> int | None:
    """The epoch under which another stream of the same device and the same epoch of the spool is sent already."""
    for each in every:
        if each.device == stream.device and each.epoch == stream.epoch and each.sent_as is not None:
            return each.sent_as
    return None


def choose(
    streams: Iterable[Stream], every: Iterable[Stream], last: Mapping[str, Claim], spool: str, agent: str
) -> tuple[dict[Stream, int], dict[str, Claim]]:
    """The epoch of each of `streams`, and the claims that are to be made before.

    `every` are all streams of the spool called `spool`; `last` are the claims that were found on Kafka.
    """
    epochs: dict[Stream, int] = {}
    claims: dict[str, Claim] = {}
    given = {(each.device, each.epoch): each.sent_as for each in every if each.sent_as is not None}
    for stream in sorted(streams, key=lambda each: each.epoch):
        key = stream.device, stream.epoch
        if key not in given:
            found = claims.get(stream.device) or last.get(stream.device)
            used = {epoch for (device, _), epoch in given.items() if device == stream.device}
            if found is None or found.epoch < stream.epoch:
                epoch = stream.epoch
            elif found.spool == spool and found.epoch not in used:
                epoch = found.epoch  # claimed before a crash
            else:
                epoch = found.epoch + 1
            given[key] = epoch = min(epoch, EPOCH_MAX)
            claim = Claim(epoch, spool, agent)
            if claim != found:
                claims[stream.device] = claim
        epochs[stream] = given[key]
    return epochs, claims


def read_claims(configuration: dict[str, Any], devices: Iterable[str], timeout_s: float) -> dict[str, Claim]:
    """The last claims of these devices, where there are any. Blocks: not for the event loop's thread.

    Raises KafkaException for what Kafka says, and TimeoutError when the end is not reached within `timeout_s`.
    """
    wanted = {device.encode(): device for device in devices}
    consumer = Consumer(
        {
            **_for_consumers(configuration),
            "group.id": "tidegate-claims",  # it joins none: partitions are assigned by hand and nothing is committed
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "isolation.level": "read_uncommitted",
            "queued.max.messages.kbytes": 1_024,
        }
    )
    found: dict[str, Claim] = {}
    deadline = time.monotonic() + timeout_s
    try:
        topic = consumer.list_topics(REPORTED.name, timeout_s).topics[REPORTED.name]
        if topic.error is not None:
            raise KafkaException(topic.error)
        left = {partition_of(device, len(topic.partitions)) for device in wanted}
        consumer.assign([TopicPartition(REPORTED.name, partition, 0) for partition in left])
        while left:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{REPORTED.name}: not read within {timeout_s:g} s")
            for message in consumer.consume(500, 0.1):
                error = message.error()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        left.discard(message.partition())
                    elif not error.retriable():
                        raise KafkaException(error)
                elif (device := wanted.get(message.key() or b"")) is not None:
                    claim = _decode(message.value())
                    if claim is not None:
                        found[device] = claim
    finally:
        consumer.close()
    return found


def _decode(value: bytes | None) -> Claim | None:
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=Claim)
    except msgspec.MsgspecError:
        return None  # somebody else's


def _for_consumers(configuration: dict[str, Any]) -> dict[str, Any]:
    """What of the producer's configuration is of the connection."""
    kept = (
        "bootstrap.servers",
        "client.id",
        "logger",
        "socket.",
        "security.",
        "ssl.",
        "sasl.",
        "enable.ssl",
        "reconnect.",
    )
    return {key: value for key, value in configuration.items() if key.startswith(kept)}
