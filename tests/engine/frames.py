"""Frames and records for tests, and short ways to read what the engine made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tidegate_cloud.engine import Record
from tidegate_cloud.engine.inprocess import Ran
from tidegate_protocols.batch import Batch, Lane, batch_from_rows
from tidegate_protocols.events import EVENT, Event
from tidegate_protocols.frame import CodecName, encode_frame
from tidegate_protocols.ids import partition_of
from tidegate_protocols.schema import Channel, Schema
from tidegate_protocols.topics import DEVICE_PARTITIONS, EVENTS, FRAMES, SCHEMAS

SPEED = Schema("speeds", (Channel("speed", unit="m/s"),))
TEMPERATURE = Schema("temperatures", (Channel("temperature", unit="Cel"), Channel("door", "bool")))
POSITION = Schema("positions", (Channel("lat", unit="deg"), Channel("lon", unit="deg"), Channel("speed", unit="m/s")))
START_US = 1_700_000_000_000_000


def batch(
    device: str, values: Sequence[float], *, seq: int, epoch: int = 1, schema: Schema = SPEED, lane: Lane = Lane.LIVE
) -> Batch:
    """One scan a second, `values` in its first channel and zeros in the others."""
    rest = [0 if channel.type == "float64" else False for channel in schema.channels[1:]]
    rows = [(START_US + (seq + i) * 1_000_000, (value, *rest)) for i, value in enumerate(values)]
    return batch_from_rows(device, schema, rows, epoch=epoch, seq=seq, lane=lane)


def home(device: str) -> int:
    """The partition that a device's records belong in."""
    return partition_of(device.encode(), DEVICE_PARTITIONS)


class Log:
    """A topic as Kafka would keep it: offsets and append times count up as records are added."""

    def __init__(self, topic: str = FRAMES.name, *, codec: CodecName = "plain") -> None:
        self.topic = topic
        self.codec = codec
        self.records: list[Record] = []
        self._next: dict[int, int] = {}

    def add(self, value: Batch | bytes | None, *, key: str | None = None, partition: int | None = None) -> Record:
        """Append a frame, under its device's key and in its partition unless told otherwise."""
        if isinstance(value, Batch):
            key = value.device if key is None else key
            value = encode_frame(value, codec=self.codec)
        name = key or ""
        place = home(name) if partition is None else partition
        offset = self._next.get(place, 0)
        self._next[place] = offset + 1
        record = Record(
            self.topic, place, offset, START_US + 1000 * len(self.records), None if key is None else key.encode(), value
        )
        self.records.append(record)
        return record


def announcement(*schemas: Schema) -> list[Record]:
    """Schemas as `device.schemas` holds them."""
    return [
        Record(SCHEMAS.name, 0, i, START_US, schema.fingerprint.hex().encode(), schema.canonical_json)
        for i, schema in enumerate(schemas)
    ]


def events_of(ran: Ran) -> list[Event]:
    """The events of a run, in order."""
    return [EVENT.decode(record.value or b"") for record in ran.of(EVENTS.name)]


def by_key(records: Iterable[tuple[bytes | None, bytes | None]]) -> dict[bytes | None, list[bytes | None]]:
    """Values in order, by key: what order a consumer may rely on."""
    found: dict[bytes | None, list[bytes | None]] = {}
    for key, value in records:
        found.setdefault(key, []).append(value)
    return found
