"""Rule 12 on a real Kafka: time passes for a processor no faster than its log, however late the hour is."""

from __future__ import annotations

import threading

import pytest
from tidegate_cloud.clock import SystemClock
from tidegate_cloud.engine import Record
from tidegate_cloud.engine.metrics import RunnerMetrics
from tidegate_cloud.engine.runner import Runner
from tidegate_cloud.engine.telemetry import COUNTERS, TelemetryLogic
from tidegate_protocols.events import EVENT
from tidegate_protocols.frame import encode_frame
from tidegate_protocols.topics import EVENTS, FRAMES, SCHEMAS

from tests.engine.folding import Fold
from tests.engine.frames import SPEED, announcement, batch
from tests.engine.processes import read
from tests.support.kafka import KafkaNode, produce
from tests.support.wait import until

FRAME_COUNT = 3000  # more than a micro-batch takes
HOUR_US = 3_600_000_000


class AnHourLater(SystemClock):
    """A processor with it looks at what was appended just now as one that is an hour behind."""

    def now_us(self) -> int:
        return super().now_us() + HOUR_US


def presence_of_one_device(kafka: KafkaNode) -> list[str]:
    """What a processor that is an hour behind says of a device that has sent all the time."""
    announced = announcement(SPEED)
    produce(kafka.bootstrap, SCHEMAS.name, [(record.key, record.value) for record in announced])
    frames = [(b"bus-1", encode_frame(batch("bus-1", [1.0], seq=seq))) for seq in range(FRAME_COUNT)]
    produce(kafka.bootstrap, FRAMES.name, frames)
    logic = TelemetryLogic([Fold()])
    logic.tick_s = 0.0  # with every micro-batch
    runner = Runner(
        logic, bootstrap=kafka.bootstrap, group="late", instance="1", metrics=RunnerMetrics("late", COUNTERS),
        clock=AnHourLater(),
    )  # fmt: skip
    stop = threading.Event()
    thread = threading.Thread(target=runner.run, args=(stop,))
    thread.start()
    try:

        def said() -> list[str]:
            events = [EVENT.decode(record.value or b"") for record in read(kafka, EVENTS.name)]
            return [event.kind for event in events if event.operator == "presence"]

        until(lambda: kafka.lag("late", FRAMES.name) == 0, 60, "the log to be worked off")
        return until(lambda: said()[-1:] == ["silent"] and said(), what="the device to be silent at last")
    finally:
        stop.set()
        thread.join()


def test_a_device_whose_frames_are_still_to_be_read_is_not_silent(fresh_kafka: KafkaNode) -> None:
    assert presence_of_one_device(fresh_kafka) == ["silent"]


def test_by_the_clock_alone_it_would_be(fresh_kafka: KafkaNode, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_the_clock(self: Runner, logs: dict[int, list[Record]]) -> dict[int, int]:
        return {task.partition: self._clock.now_us() for task in self._taken()}

    monkeypatch.setattr(Runner, "_ticks", by_the_clock)
    said = presence_of_one_device(fresh_kafka)
    assert said.count("heard") > 0
    assert said.count("silent") == said.count("heard") + 1
