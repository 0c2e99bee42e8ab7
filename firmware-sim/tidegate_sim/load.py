"""Plain load: so many scans a second from so many devices, to MQTT or straight to Kafka, and what was accepted.

Straight to Kafka the frames are as an agent would send them: the schema is announced first, each device has a spool of
its own (epoch = the second of the start), and a scan counts when its delivery report is there. Values wander as sensors
do and follow from the seed; the same scans go to MQTT as SenML.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from tidegate_protocols import topics
from tidegate_protocols.batch import Batch
from tidegate_protocols.errors import BadInput
from tidegate_protocols.payload.senml import encode_senml
from tidegate_protocols.scan import Scan
from tidegate_protocols.schema import Channel, Schema

from .mqtt import MqttClient
from .scenario import AUSTIN

Target = Literal["mqtt", "kafka"]
LOAD_SCHEMA = Schema(
    "load",
    (
        Channel("lat", unit="deg"), Channel("lon", unit="deg"), Channel("speed", unit="m/s"),
        Channel("temperature", unit="Cel", resolution=0.01),
    ),
)  # fmt: skip
_SENML_SCHEMA = Schema(
    "senml",
    (
        Channel("lat", unit="lat"), Channel("lon", unit="lon"), Channel("speed", unit="m/s"),
        Channel("temperature", unit="Cel"),
    ),
)  # fmt: skip


@dataclass(slots=True)
class LoadReport:
    """What was offered and what was accepted, in messages, scans and readings."""

    to: Target
    devices: int
    seconds: float = 0.0
    messages: int = 0
    scans: int = 0
    readings: int = 0
    accepted: int = 0
    refused: int = 0
    bytes: int = 0

    @property
    def scans_per_s(self) -> float:
        """Scans of accepted messages, each second."""
        share = self.accepted / self.messages if self.messages else 0.0
        return round(self.scans * share / self.seconds, 1) if self.seconds else 0.0

    def as_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self) | {"seconds": round(self.seconds, 3), "scans_per_s": self.scans_per_s})


class Walks:
    """Devices that wander: each call gives one device its next scans, one every `step_us`."""

    def __init__(self, devices: int, seed: int) -> None:
        self._rng = np.random.default_rng((seed, 7))
        angle = self._rng.uniform(0, 2 * math.pi, devices)
        radius = self._rng.uniform(200, 4000, devices)
        self._x, self._y = radius * np.cos(angle), radius * np.sin(angle)
        self._temperature = self._rng.normal(4.0, 1.0, devices)

    def next(self, device: int, n: int) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
        """Columns lat, lon, speed, temperature, each [n]."""
        speed = np.round(np.abs(self._rng.normal(8, 3, n)), 2)
        turn = self._rng.uniform(0, 2 * math.pi)
        x = self._x[device] + np.cumsum(speed) * math.cos(turn) * 0.1
        y = self._y[device] + np.cumsum(speed) * math.sin(turn) * 0.1
        temperature = self._temperature[device] + np.cumsum(self._rng.normal(0, 0.02, n))
        self._x[device], self._y[device], self._temperature[device] = x[-1], y[-1], 4 + 0.99 * (temperature[-1] - 4)
        lat = np.round(AUSTIN.lat + y / 111_195.0, 6)
        lon = np.round(AUSTIN.lon + x / (111_195.0 * math.cos(math.radians(AUSTIN.lat))), 6)
        return [lat, lon, speed, np.round(temperature, 2)]


class Pace:
    """When the next message is due: `per_s` a second, or at once when that is 0."""

    def __init__(self, per_s: float, seconds: float) -> None:
        self._per_s = per_s
        self._seconds = seconds
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def due(self, sent: int) -> int:
        """How many messages may go now; -1 when the time is over."""
        elapsed = self.elapsed
        if self._per_s:
            allowed = math.ceil(min(elapsed, self._seconds) * self._per_s) - sent
            return -1 if elapsed >= self._seconds and allowed <= 0 else max(allowed, 0)
        return -1 if elapsed >= self._seconds else 256


def _timestamps(n: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """n times up to now, a millisecond apart."""
    now = time.time_ns() // 1_000_000 * 1000
    return now - 1000 * np.arange(n - 1, -1, -1, dtype=np.int64)


async def load_mqtt(
    address: tuple[str, int],
    *,
    devices: int,
    rate: float,
    seconds: float,
    scans_per_message: int = 1,
    seed: int = 1,
    topic: str = "fleet/{device}/senml",
    window: int = 1000,
    on_progress: Callable[[LoadReport], None] | None = None,
) -> LoadReport:
    """Publish `rate` scans a second (0: as fast as they are acknowledged) as SenML at QoS 1, and drain."""
    _check(devices, rate, seconds, scans_per_message)
    report, walks = LoadReport("mqtt", devices), Walks(devices, seed)
    async with MqttClient(address, f"sim-load-{time.time_ns() // 1_000_000:x}", window=window) as client:
        pace = Pace(rate / scans_per_message, seconds)
        while (due := pace.due(report.messages)) >= 0:
            for _ in range(min(due, 256)):
                device = report.messages % devices
                name = f"load-{device:05d}"
                columns = zip(*(column.tolist() for column in walks.next(device, scans_per_message)), strict=True)
                stamps = _timestamps(scans_per_message).tolist()
                scans = [Scan(name, _SENML_SCHEMA, ts, row) for ts, row in zip(stamps, columns, strict=True)]
                payload = encode_senml(*scans)
                await client.publish(topic.format(device=name), payload)
                _count(report, scans_per_message, len(payload))
            report.accepted, report.seconds = client.acknowledged, pace.elapsed
            if on_progress is not None:
                on_progress(report)
            await asyncio.sleep(0.002 if not due else 0)
        await client.drain()
        report.accepted, report.seconds = client.acknowledged, pace.elapsed
    return report


def load_kafka(
    bootstrap: str,
    *,
    devices: int,
    rate: float,
    seconds: float,
    scans_per_frame: int = 100,
    seed: int = 1,
    codec: Literal["auto", "plain"] = "auto",
    on_progress: Callable[[LoadReport], None] | None = None,
) -> LoadReport:
    """Produce `rate` scans a second (0: as fast as they are taken) as frames, and wait for every delivery report."""
    from confluent_kafka import Producer
    from tidegate_protocols.codec import backend
    from tidegate_protocols.frame import encode_frame

    _check(devices, rate, seconds, scans_per_frame)
    if codec != "plain":
        backend.prepare()
        backend.wait()  # the load that is asked for begins at full pace, or stays plain where numba is missing
    report, walks = LoadReport("kafka", devices), Walks(devices, seed)
    down: list[Any] = []
    producer = Producer({
        "bootstrap.servers": bootstrap, "client.id": "tidegate-sim-load", "enable.idempotence": True, "linger.ms": 5,
        "message.timeout.ms": 60_000, "error_cb": down.append, "log_level": 0, **topics.PARTITIONER,
    })  # fmt: skip

    def delivered(error: Any, _message: Any) -> None:
        if error is None:
            report.accepted += 1
        else:
            report.refused += 1

    _find_kafka(producer, bootstrap, down)
    producer.produce(topics.SCHEMAS.name, LOAD_SCHEMA.canonical_json, LOAD_SCHEMA.fingerprint.hex().encode())
    if producer.flush(30):
        raise BadInput(f"Kafka at {bootstrap} did not take the schema within 30 s")
    epoch = int(time.time())
    seqs = [0] * devices
    no_nulls = (None,) * len(LOAD_SCHEMA.channels)
    pace = Pace(rate / scans_per_frame, seconds)
    while (due := pace.due(report.messages)) >= 0:
        for _ in range(min(due, 256)):
            device = report.messages % devices
            name = f"load-{device:05d}"
            columns = tuple(walks.next(device, scans_per_frame))
            batch = Batch(name, LOAD_SCHEMA, epoch, seqs[device], _timestamps(scans_per_frame), columns, no_nulls)
            seqs[device] += scans_per_frame
            frame = encode_frame(batch, codec=codec)
            while True:
                try:
                    producer.produce(topics.FRAMES.name, frame, name.encode(), on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.05)
            _count(report, scans_per_frame, len(frame))
        producer.poll(0 if due else 0.002)
        report.seconds = pace.elapsed
        if on_progress is not None:
            on_progress(report)
    producer.flush(60)
    report.seconds = pace.elapsed
    return report


def _find_kafka(producer: Any, bootstrap: str, errors: list[Any]) -> None:
    """Wait until Kafka tells its topics. Raises BadInput at once when nobody answers there, or after 15 s."""
    from confluent_kafka import KafkaError, KafkaException

    why = ""
    for _ in range(30):
        try:
            producer.list_topics(topics.FRAMES.name, timeout=0.5)
            return
        except KafkaException as error:
            why = error.args[0].str()
        producer.poll(0)
        if any(error.code() == KafkaError._ALL_BROKERS_DOWN for error in errors):
            break
    raise BadInput(f"no Kafka at {bootstrap}: {why}", hint="is it running, on that port?")


def _count(report: LoadReport, scans: int, size: int) -> None:
    report.messages += 1
    report.scans += scans
    report.readings += scans * len(LOAD_SCHEMA.channels)
    report.bytes += size


def _check(devices: int, rate: float, seconds: float, per_message: int) -> None:
    if not (1 <= devices <= 100_000 and rate >= 0 and seconds > 0 and 1 <= per_message <= 10_000):
        raise BadInput(
            f"{devices} devices, {rate:g} scans a second for {seconds:g} s, {per_message} in a message",
            hint="1 to 100,000 devices, a rate of 0 or more, 1 to 10,000 scans in a message",
        )
