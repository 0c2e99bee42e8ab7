"""Fences are edited while frames flow and the processor is killed: each record is judged once, by the fences that are
said to have been in force for it, and a replay by what is said finds every event again.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from click.testing import CliRunner
from tidegate_cloud.engine.replay_cli import replay
from tidegate_protocols.batch import batch_from_rows
from tidegate_protocols.events import EVENT
from tidegate_protocols.frame import encode_frame
from tidegate_protocols.registry import FENCE, Fence
from tidegate_protocols.topics import EVENTS, FENCES, FRAMES, SCHEMAS

from tests.engine.frames import POSITION, START_US, announcement
from tests.engine.processes import read
from tests.support.kafka import KafkaNode, produce
from tests.support.service import services
from tests.support.wait import until

DEVICES = [f"van-{number}" for number in range(12)]
SCANS = 6


def put_fence(kafka: KafkaNode, rng: random.Random) -> None:
    """The yard is moved a little, or done away with."""
    lon = rng.choice([0.0, 0.002, 0.004, None])
    value = None
    if lon is not None:
        ring = [[lon, 0.0], [lon + 0.003, 0.0], [lon + 0.003, 0.01], [lon, 0.01], [lon, 0.0]]
        shape = {"type": "Polygon", "coordinates": [ring]}
        value = FENCE.encode(Fence(id="yard", name="Yard", geometry=json.dumps(shape)))
    produce(kafka.bootstrap, FENCES.name, [(b"yard", value)])


def drive(kafka: KafkaNode, rng: random.Random, turn: int) -> None:
    """A frame of every device, whose scans are anywhere in and around the yard."""
    frames = []
    for device in DEVICES:
        rows = [
            (START_US + (turn * SCANS + i) * 10_000_000, (0.005, rng.uniform(-0.002, 0.01), 5.0)) for i in range(SCANS)
        ]
        frames.append(
            (device.encode(), encode_frame(batch_from_rows(device, POSITION, rows, epoch=1, seq=turn * SCANS)))
        )
    produce(kafka.bootstrap, FRAMES.name, frames)


def test_fences_are_edited_while_the_processor_is_killed(fresh_kafka: KafkaNode, tmp_path: Path) -> None:
    kafka = fresh_kafka
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    produce(kafka.bootstrap, SCHEMAS.name, [(record.key, record.value) for record in announcement(POSITION)])
    with services(tmp_path) as group:
        processor = group.add(
            "processor", "processor", "--bootstrap", kafka.bootstrap, "--geofence", "exact", "--checkpoint-s", "1"
        ).start(timeout=300)
        turn = 0
        for _ in range(4):
            before = sum(1 for _ in read(kafka, EVENTS.name))
            for _ in range(rng.randrange(3, 9)):
                put_fence(kafka, rng)
                drive(kafka, rng, turn)
                turn += 1
            until(lambda before=before: len(read(kafka, EVENTS.name)) > before, what="events")  # type: ignore[misc]
            put_fence(kafka, rng)
            drive(kafka, rng, turn)
            turn += 1
            processor.kill()  # the last edit was taken, or it was not
            put_fence(kafka, rng)
            drive(kafka, rng, turn)
            turn += 1
            processor.start()
        until(lambda: kafka.lag("tidegate-processor", FRAMES.name) == 0, 60, "everything to be processed")
        assert processor.stop() == 0

    events = [EVENT.decode(record.value or b"") for record in read(kafka, EVENTS.name)]
    assert len({event.id for event in events}) == len(events)
    ran = CliRunner().invoke(
        replay, ["--bootstrap", kafka.bootstrap, "--json", "--as", "same", "--compare", "--geofence", "exact"]
    )
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["compare"] == {"same": len(events), "added": [], "missing": [], "changed": []}
    assert len(events) > 2 * turn
