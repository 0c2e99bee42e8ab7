"""Real buses over serial and MQTT, through a real Kafka, to events: every position once, every crossing found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tidegate_protocols import topics
from tidegate_protocols.batch import Lane
from tidegate_protocols.events import EVENT, Event
from tidegate_protocols.frame import decode_frame
from tidegate_protocols.registry import FENCE
from tidegate_protocols.schema import LAT, LON, Schema

from tests.spine import buses
from tests.spine.buses import Crossing, Fix
from tests.support.kafka import KafkaNode, consume_all, produce
from tests.support.mqtt import MqttBroker
from tests.support.service import Service, Services, services
from tests.support.wait import until

SPEED = 200
SLICE_MINUTES = 25

_AGENT = """
[agent]
name = "depot"
data_dir = "{data_dir}"

[kafka]
bootstrap = "{bootstrap}"

[batch]
max_scans = 50
max_age_ms = 100

[[source]]
type = "serial"
path = "{serial}/*"
protocol = "nmea"
device = "{{name}}"

[[source]]
type = "mqtt"
host = "127.0.0.1"
port = {mqtt_port}
client_id = "depot"

[[source.subscribe]]
filter = "fleet/+/senml"
payload = "senml"
device = "{{1}}"
"""


class Spine:
    """The whole way of a reading, each part a process of its own."""

    def __init__(self, kafka: KafkaNode, mqtt: MqttBroker, directory: Path, group: Services) -> None:
        self.kafka = kafka
        self.manifest = directory / "manifest.jsonl"
        self._serial = directory / "tty"
        self._serial.mkdir()
        self._mqtt = mqtt
        self._group = group
        config = directory / "agent.toml"
        config.write_text(
            _AGENT.format(
                data_dir=directory / "agent", bootstrap=kafka.bootstrap, serial=self._serial, mqtt_port=mqtt.port
            ),
            "utf-8",
        )
        self.fences = buses.fences()
        produce(kafka.bootstrap, topics.FENCES.name, [(fence.id, FENCE.encode(fence)) for fence in self.fences])
        self.processor = group.add("processor", "processor", "--bootstrap", kafka.bootstrap, "--geofence", "exact")
        self.agent = group.add("agent", "agent", "run", "--config", config)

    def replay(self, *slice_of: str) -> Service:
        """Start the buses: half of them over serial, half over MQTT."""
        return self._group.add(
            "replay", "sim", "replay", "--data", buses.evening(), "--speed", str(SPEED),
            "--split", "serial=0.5,mqtt=0.5", "--serial-dir", self._serial,
            "--mqtt", f"127.0.0.1:{self._mqtt.port}", "--manifest", self.manifest, "--json", *slice_of,
        ).start(ready=False)  # fmt: skip

    def positions(self) -> list[Fix]:
        """Every position on telemetry.frames as a cursor per stream lets it through, in the order it lies there.

        Previews are copies of what follows in order. What was unacknowledged when the link broke lies there twice.
        """
        schemas = {
            schema.fingerprint: schema
            for schema in (Schema.from_json(m.value()) for m in consume_all(self.kafka.bootstrap, topics.SCHEMAS.name))
        }
        fixes = []
        cursors: dict[tuple[str, bytes], tuple[int, int]] = {}
        for message in consume_all(self.kafka.bootstrap, topics.FRAMES.name):
            batch = decode_frame(message.value(), schemas)
            assert message.key() == batch.device.encode()
            if batch.lane is Lane.PREVIEW:
                continue
            stream = (batch.device, batch.schema.fingerprint)
            epoch, cursor = cursors.get(stream, (batch.epoch, 0))
            assert (epoch, batch.seq) <= (batch.epoch, cursor), f"{stream} skips from {cursor} to {batch.seq}"
            cursors[stream] = (batch.epoch, max(cursor, batch.seq + len(batch)))
            lat, lon = (batch.columns[batch.schema.index[name]] for name in (LAT, LON))
            rows = zip(batch.ts_us.tolist(), lat.tolist(), lon.tolist(), strict=True)
            fixes += [Fix(batch.device, *fix) for fix in list(rows)[max(0, cursor - batch.seq) :]]
        return fixes

    def events(self) -> list[Event]:
        return [EVENT.decode(message.value()) for message in consume_all(self.kafka.bootstrap, topics.EVENTS.name)]

    def committed(self) -> int:
        """How many frames the processor has committed."""
        everything = self.kafka.lag("nobody", topics.FRAMES.name)
        return everything - self.kafka.lag("tidegate-processor", topics.FRAMES.name)

    def processed(self) -> bool:
        """Whether the processor has committed everything that is on telemetry.frames."""
        return self.kafka.lag("tidegate-processor", topics.FRAMES.name) == 0


@pytest.fixture
def spine(fresh_kafka: KafkaNode, mqtt_broker: MqttBroker, tmp_path: Path) -> Iterator[Spine]:
    with services(tmp_path) as group:
        yield Spine(fresh_kafka, mqtt_broker, tmp_path, group)


@pytest.fixture
def mortal_spine(private_kafka: KafkaNode, mqtt_broker: MqttBroker, tmp_path: Path) -> Iterator[Spine]:
    """The same on a Kafka that the test may stop."""
    with services(tmp_path) as group:
        yield Spine(private_kafka, mqtt_broker, tmp_path, group)


def test_a_slice_of_the_evening(spine: Spine) -> None:
    spine.processor.start()
    spine.agent.start()
    run_and_check(spine, ["--limit-minutes", str(SLICE_MINUTES)])


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_whole_evening(spine: Spine) -> None:
    spine.processor.start()
    spine.agent.start()
    found = run_and_check(spine, [])
    assert len(spine.positions()) == 21_786  # unique by vehicle and timestamp in the file
    assert len(found) > 6_000


@pytest.mark.full
@pytest.mark.timeout(300)
def test_processor_killed_five_times_and_kafka_restarted(mortal_spine: Spine) -> None:
    spine = mortal_spine

    def disturb(kills: int = 5) -> None:
        for kill in range(kills):
            enough = spine.committed() + 200
            until(lambda enough=enough: spine.committed() >= enough, 60, "200 more frames to be processed")
            spine.processor.kill()
            if kill == 2:
                spine.kafka.restart()
            spine.processor.start()

    spine.processor.start()
    spine.agent.start()
    run_and_check(spine, ["--limit-minutes", "60"], disturb)


def run_and_check(spine: Spine, slice_of: list[str], disturb: Callable[[], None] = lambda: None) -> set[Crossing]:
    """Replay, and hold what Kafka has against what was sent and against what shapely says of the same points."""
    replay = spine.replay(*slice_of)
    disturb()
    assert replay.wait(300) == 0, replay.tail()
    fixes = buses.sent(spine.manifest)
    report = json.loads(replay.tail(1))
    assert min(report["serial_sent"], report["mqtt_sent"]) > len(fixes) / 4, "hardly anything over one of the links"
    until(lambda: len(spine.positions()) >= len(fixes), 120, "every position on Kafka")
    assert Counter(spine.positions()) == Counter(fixes)

    until(spine.processed, 120, "the processor to have committed every frame")
    events = [event for event in spine.events() if event.operator == "geofence"]
    found = [Crossing(event.device, event.ts_us, event.kind, event.subject) for event in events]
    expected = buses.crossings(fixes, spine.fences)
    assert len({event.id for event in events}) == len(events), "an event id is there twice"
    assert Counter(found) == Counter(expected)
    assert len(expected) > 500, "the slice is too small to show anything"
    return expected
