"""Processors as child processes, what they are fed, and what must come out of it."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tidegate_cloud.engine import Record
from tidegate_cloud.engine.broadcast import to_record
from tidegate_cloud.engine.checkpoints import unseal
from tidegate_cloud.engine.inprocess import Ran, run
from tidegate_cloud.engine.telemetry import TelemetryLogic
from tidegate_cloud.kafka import Offsets, Part
from tidegate_protocols.frame import encode_frame
from tidegate_protocols.schema import Schema
from tidegate_protocols.topics import CHECKPOINTS, DEVICE_PARTITIONS, EVENTS, FRAMES, SCHEMAS

from tests.engine.folding import POISON, Fold
from tests.engine.frames import SPEED, TEMPERATURE, announcement, batch, home
from tests.support.kafka import KafkaNode, consume_all, produce
from tests.support.wait import until

_ROOT = Path(__file__).parents[2]


class Processor:
    """One `tests.engine.processor` process."""

    def __init__(self, kafka: KafkaNode, directory: Path, instance: str, *options: str) -> None:
        self.log = directory / f"{instance}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.engine.processor",
                    "--bootstrap",
                    kafka.bootstrap,
                    "--instance",
                    instance,
                    *options,
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=_ROOT,
            )

    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        return self.process.wait(60)


class Fleet:
    """Devices that produce frames, and processors; whatever still runs at the end is killed."""

    def __init__(self, kafka: KafkaNode, directory: Path, devices: int = 40) -> None:
        self.kafka = kafka
        self.directory = directory
        self.offsets = Offsets(kafka.bootstrap, "test-fleet")
        self.admin = kafka.admin()  # kept: the answers of a client that is gone never come
        self.started: list[Processor] = []
        self._devices = [f"bus-{number}" for number in range(devices)]
        self._seq = 0

    def announce(self, *schemas: Schema) -> None:
        records = announcement(*schemas)
        produce(self.kafka.bootstrap, SCHEMAS.name, [(record.key, record.value) for record in records])

    def start(self, instance: str, *options: str) -> Processor:
        self.started.append(Processor(self.kafka, self.directory, instance, *options))
        return self.started[-1]

    def drive(self, rounds: int, scans: int = 4) -> None:
        """`rounds` frames of every device and schema, with a poisoned one now and then, and some noise."""
        rng = random.Random(self._seq)
        records = []
        for _ in range(rounds):
            for device in self._devices:
                for schema in (SPEED, TEMPERATURE):
                    values = [float(rng.randrange(100)) for _ in range(scans)]
                    if rng.random() < 0.005:
                        values[1] = POISON
                    frame = encode_frame(batch(device, values, seq=self._seq, schema=schema))
                    records.append((device.encode(), b"noise" if rng.random() < 0.002 else frame))
            self._seq += scans
        produce(self.kafka.bootstrap, FRAMES.name, records)

    def written(self, topic: str = EVENTS.name) -> int:
        """How far a topic has grown, whatever becomes of it."""
        return sum(self.offsets.latest([Part(topic, p) for p in range(DEVICE_PARTITIONS)]).values())

    def expected(self, *schemas: Schema) -> Ran:
        """What an undisturbed run makes of all frames that are on Kafka now."""
        logic = TelemetryLogic([Fold("one"), Fold("two")], silent_after_s=1e6)
        logic.broadcast(announcement(*(schemas or (SPEED, TEMPERATURE))))
        return run(logic, [read(self.kafka, FRAMES.name)], partitions=range(DEVICE_PARTITIONS))

    def assert_as_undisturbed(self, timeout: float = 60) -> Ran:
        """Wait until everything has been processed; then events and rows are, byte for byte, those of one clean run."""
        want = self.expected()
        until(
            lambda: len(read(self.kafka, EVENTS.name)) >= len(want.of(EVENTS.name)), timeout,
            f"{len(want.of(EVENTS.name))} events",
        )  # fmt: skip
        until(lambda: rows(self.kafka) == want.rows, 20, "rows as of an undisturbed run")
        got = read(self.kafka, EVENTS.name)
        assert by_partition((r.partition, r.key, r.value) for r in got) == by_partition(
            (r.partition, r.key, r.value) for r in _placed(want)
        )
        return want


def _placed(ran: Ran) -> list[Record]:
    return [Record(out.topic, home((out.key or b"").decode()), 0, 0, out.key, out.value) for out in ran.of(EVENTS.name)]


def by_partition(
    records: Iterator[tuple[int, bytes | None, bytes | None]],
) -> dict[int, list[tuple[bytes | None, bytes | None]]]:
    """Keys and values in order, by partition."""
    found: dict[int, list[tuple[bytes | None, bytes | None]]] = {}
    for partition, key, value in records:
        found.setdefault(partition, []).append((key, value))
    return found


def read(kafka: KafkaNode, topic: str) -> Sequence[Record]:
    """All committed records of a topic, partition by partition."""
    return [to_record(message) for message in consume_all(kafka.bootstrap, topic)]


def rows(kafka: KafkaNode) -> dict[tuple[int, bytes], bytes]:
    """The state rows as a new owner would read them."""
    newest = {(record.partition, record.key or b""): record.value for record in read(kafka, CHECKPOINTS.name)}
    return {
        key: unseal(value).value for key, value in newest.items() if value is not None and key[1].startswith(b"d/")
    }  # fmt: skip


@contextmanager
def fleet(kafka: KafkaNode, directory: Path) -> Iterator[Fleet]:
    made = Fleet(kafka, directory)
    try:
        yield made
    finally:
        for processor in made.started:
            processor.process.kill()
            processor.process.wait()
