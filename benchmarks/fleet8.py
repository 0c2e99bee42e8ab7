"""The workload `fleet8`: 10,000 vehicles with 8 numeric channels and a GPS fix in one scan of ten, over 10,000 fences.

Frames are bit-packed. What a device measures is taken from a few hundred walks that were encoded beforehand, under
names and times of its own, so that a load of tens of thousands of frames a second can be made beside what is measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from itertools import count

import numpy as np
from crc32c import crc32c
from tidegate_protocols.batch import Batch
from tidegate_protocols.codec import backend
from tidegate_protocols.codec.varint import put_varint, zigzag
from tidegate_protocols.frame import encode_frame, peek_header
from tidegate_protocols.registry import FENCE, Fence
from tidegate_protocols.schema import Channel, Schema
from tidegate_protocols.topics import FENCES, SCHEMAS

CHANNELS = 8
FENCE_COUNT = 10_000
SCHEMA = Schema(
    "fleet8",
    (
        Channel("lat", unit="deg"), Channel("lon", unit="deg"),
        Channel("speed", unit="m/s", resolution=0.01), Channel("rpm", "int64", unit="1/min"),
        Channel("coolant", unit="Cel", resolution=0.1), Channel("cargo", unit="Cel", resolution=0.01),
        Channel("voltage", unit="V", resolution=0.01), Channel("fuel", unit="%", resolution=0.1),
        Channel("load", unit="%", resolution=0.1), Channel("tyre", unit="kPa", resolution=1.0),
    ),
)  # fmt: skip
_LAT, _LON, _SIDE = 30.0, -98.0, 2.0  # the region's corner and side, degrees
_WALKS, _STEPS = 200, 16
_FIX_EVERY = 10
START_US = 1_700_000_000_000_000


def fences() -> list[Fence]:
    """Hexagons of 100 to 500 m spread over the region."""
    rng = np.random.default_rng(8)
    made = []
    for i in range(FENCE_COUNT):
        lat, lon = _LAT + _SIDE * rng.random(), _LON + _SIDE * rng.random()
        radius = rng.uniform(100, 500) / 111_195
        narrow = math.cos(math.radians(lat))
        corners = [(math.cos(k * math.pi / 3), math.sin(k * math.pi / 3)) for k in range(6)]
        ring = [[lon + radius * x / narrow, lat + radius * y] for x, y in corners]
        shape = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
        made.append(Fence(id=f"fence-{i}", name=f"Fence {i}", geometry=json.dumps(shape)))
    return made


def registry() -> dict[str, list[tuple[bytes, bytes]]]:
    """Topic → records that must be there first."""
    return {
        SCHEMAS.name: [(SCHEMA.fingerprint.hex().encode(), SCHEMA.canonical_json)],
        FENCES.name: [(fence.id.encode(), FENCE.encode(fence)) for fence in fences()],
    }


@cache
def _bodies(scans: int) -> list[list[tuple[bytes, int]]]:
    """For each walk and step the columns of a frame as bytes, and the time of its first scan after START_US."""
    backend.load()
    rng = np.random.default_rng(scans)
    walks = []
    for _ in range(_WALKS):
        n = scans * _STEPS
        speed = np.round(np.clip(12 + np.cumsum(rng.normal(0, 0.2, n)), 0, 35), 2)
        heading = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 0.02, n))
        lat = _LAT + _SIDE * rng.random() + np.cumsum(speed * np.sin(heading)) / 111_195
        lon = _LON + _SIDE * rng.random() + np.cumsum(speed * np.cos(heading)) / 96_000
        slow = np.cumsum(rng.normal(0, 0.02, n))
        columns = (
            np.round(lat, 6), np.round(lon, 6), speed, (800 + 90 * speed + rng.integers(0, 40, n)).astype(np.int64),
            np.round(88 + slow + rng.normal(0, 0.1, n), 1), np.round(4 + 0.3 * slow + rng.normal(0, 0.02, n), 2),
            np.round(13.8 + rng.normal(0, 0.03, n), 2), np.round(70 - np.arange(n) / n * 5, 1),
            np.round(np.clip(speed * 2.2 + rng.normal(0, 3, n), 0, 100), 1),
            np.round(840 + slow + rng.normal(0, 0.6, n)),
        )  # fmt: skip
        fix = np.arange(n) % _FIX_EVERY == 0
        steps = []
        for step in range(_STEPS):
            part = slice(step * scans, (step + 1) * scans)
            ts_us = START_US + 1_000_000 * np.arange(part.start, part.stop, dtype=np.int64)
            batch = Batch(
                "x", SCHEMA, 1, 0, ts_us, tuple(np.ascontiguousarray(column[part]) for column in columns),
                (fix[part], fix[part], *([None] * CHANNELS)),
            )  # fmt: skip
            frame = encode_frame(batch, codec="bitpack")
            header = peek_header(frame)
            steps.append((frame[header.body : header.end], 1_000_000 * part.start))
        walks.append(steps)
    return walks


def device(number: int) -> bytes:
    """A device's id."""
    return b"van-%05d" % number


def messages(devices: int, scans: int, *, first_round: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """(key, frame) without end: a frame of each device, then the next of each."""
    bodies = _bodies(scans)
    head = encode_frame(_tiny(), codec="bitpack")[:12]
    for step in count(first_round):
        for number in range(devices):
            body, after_us = bodies[number % _WALKS][step % _STEPS]
            name = device(number)
            out = bytearray(head)
            out.append(len(name))
            out += name
            put_varint(out, 1)
            put_varint(out, step * scans)
            put_varint(out, scans)
            put_varint(out, zigzag(START_US + after_us + step // _STEPS * _STEPS * scans * 1_000_000))
            out += body
            out += crc32c(out).to_bytes(4, "little")
            yield name, bytes(out)


def _tiny() -> Batch:
    columns = tuple(np.zeros(1, channel.dtype) for channel in SCHEMA.channels)
    return Batch("x", SCHEMA, 1, 0, np.array([START_US], np.int64), columns, (None,) * len(columns))
