"""Frames, fences and devices straight onto Kafka, for tests of what comes after it; and by hand, to look at the pages.

    python -m tests.support.fleet --bootstrap HOST:PORT --devices 50

keeps that many vehicles driving round Austin, one frame a second each, until it is interrupted.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence

import click
from tidegate_protocols.batch import Batch, batch_from_rows
from tidegate_protocols.frame import encode_frame
from tidegate_protocols.registry import DEVICE, FENCE, Device, Fence
from tidegate_protocols.schema import Channel, Schema
from tidegate_protocols.topics import DEVICES, FENCES, FRAMES, SCHEMAS

from tests.support.kafka import produce

POSITION = Schema(
    "van",
    (
        Channel("lat", unit="lat"), Channel("lon", unit="lon"), Channel("speed", unit="m/s"),
        Channel("heading", unit="deg"), Channel("accuracy", unit="m"), Channel("cargo", unit="Cel"),
        Channel("door", "bool"),
    ),
)  # fmt: skip
YARD = Fence(
    id="yard", name="Reefer Yard", severity="critical", alert_on="enter", radius_m=400.0,
    geometry=json.dumps({"type": "Point", "coordinates": [-97.7431, 30.2672]}),
)  # fmt: skip

Row = tuple[int, Sequence[float | int | bool | None]]


def announce(bootstrap: str, *schemas: Schema) -> None:
    """Put schemas on device.schemas."""
    produce(bootstrap, SCHEMAS.name, [(schema.fingerprint.hex(), schema.canonical_json) for schema in schemas])


def send(bootstrap: str, *batches: Batch) -> None:
    """Put batches on telemetry.frames, in order."""
    produce(bootstrap, FRAMES.name, [(batch.device, encode_frame(batch)) for batch in batches])


def register(bootstrap: str, *things: Device | Fence) -> None:
    """Put devices and fences into the registry."""
    for thing in things:
        if isinstance(thing, Device):
            produce(bootstrap, DEVICES.name, [(thing.id, DEVICE.encode(thing))])
        else:
            produce(bootstrap, FENCES.name, [(thing.id, FENCE.encode(thing))])


def a_batch(device: str, seq: int, rows: Sequence[Row], schema: Schema = POSITION) -> Batch:
    """Scans of a device under consecutive sequence numbers."""
    return batch_from_rows(device, schema, rows, epoch=1, seq=seq)


def where(number: int, at_s: float) -> tuple[float, ...]:
    """Values of POSITION for vehicle `number` on its circle at a time in seconds."""
    angle = at_s / (20 + 7 * (number % 11)) + number
    radius = 0.004 * (1 + number % 9)
    lat, lon = 30.2672 + radius * math.sin(angle), -97.7431 + radius * math.cos(angle)
    return lat, lon, 8.0 + number % 5, (-math.degrees(angle)) % 360, 4.0, 4 + 3 * math.sin(at_s / 60 + number)


def driving(devices: int, at_us: int, seq: int) -> Iterator[Batch]:
    """One scan of each vehicle."""
    for number in range(devices):
        row = (*where(number, at_us / 1e6), number % 7 == 0)
        yield a_batch(f"van-{number:03}", seq, [(at_us, row)])


@click.command()
@click.option("--bootstrap", required=True)
@click.option("--devices", default=50, show_default=True)
def main(bootstrap: str, devices: int) -> None:
    announce(bootstrap, POSITION)
    register(bootstrap, YARD, *(Device(id=f"van-{n:03}", name=f"Van {n}", group="City") for n in range(devices)))
    seq = int(time.time())  # a later run goes on above this one's numbers
    while True:
        send(bootstrap, *driving(devices, time.time_ns() // 1000, seq))
        seq += 1
        time.sleep(1)


if __name__ == "__main__":
    main()
