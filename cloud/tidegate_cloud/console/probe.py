"""Asks Kafka once a second where things stand: where topics end, how far other stages are, which topics these are."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition
from tidegate_protocols.topics import ALERT_LOG, COMMANDS, DEAD_LETTERS, EVENTS, FRAMES, RETRY

from tidegate_cloud.apart import Apart
from tidegate_cloud.clock import Clock
from tidegate_cloud.kafka import Offsets, Part, client_settings

from .lag import Lag
from .pipeline import TopicRates
from .views import Stage

_log = logging.getLogger(__name__)
_EVERY_S = 1.0
_ANSWER_S = 5.0
_ALSO = (EVENTS, ALERT_LOG, COMMANDS, DEAD_LETTERS, RETRY)  # whose rates are shown
_PROCESSOR = "tidegate-processor"  # its consumer group; it reads the frames


class Probe:
    """Keeps `lag` and the stages' lags up to date, in a thread of its own.

    `expected`: the ids that the reading thread knows; `anew` is called when Kafka says other ones.
    """

    def __init__(
        self,
        bootstrap: str,
        lag: Lag,
        apart: Apart,
        parts: Sequence[Part],
        expected: dict[str, bytes],
        anew: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._apart = apart
        self._offsets = Offsets(bootstrap, "tidegate-console-probe")
        # A consumer that never joins. The same question through the admin client ends the whole process when the
        # coordinator goes away meanwhile (librdkafka #3663).
        self._group = Consumer(
            client_settings(bootstrap, "tidegate-console-probe") | {"group.id": _PROCESSOR, "enable.auto.commit": False}
        )
        self._lag = lag
        self._parts = list(parts)
        known = set(parts)
        others = [Part(topic.name, number) for topic in _ALSO for number in range(topic.partitions)]
        self._all = [*parts, *(part for part in others if part not in known)]
        self._expected = expected
        self._anew = anew
        self._clock = clock
        self._frames = [part for part in parts if part.topic == FRAMES.name]
        self._processor = Lag(clock.now_us())
        self._processor_seen = False
        self._last: tuple[int, dict[Part, int]] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="console-probe", daemon=True)
        self.kafka_up = True
        self.rates = TopicRates()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(1.0)  # it may be waiting for an answer; nothing hangs on it

    def stages(self, now_us: int) -> list[Stage]:
        """How far behind each stage before this one is. (What the alert engine commits cannot be told from offsets
        alone: the markers of transactions are offsets too.)
        """
        return [Stage("processor", self._processor.behind_us(now_us) // 1000 if self._processor_seen else None)]

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self.ask()

    def ask(self) -> None:
        """Ask once, now."""
        try:
            self._ask()
            self.kafka_up = True
        except KafkaException as error:
            _log.log(logging.WARNING if self.kafka_up else logging.INFO, "Kafka does not answer: %s", error)
            self.kafka_up = False

    def _ask(self) -> None:
        at_us = self._clock.now_us()
        ends = self._offsets.latest(self._all)
        self._lag.ends(at_us, {part: ends[part] for part in self._parts})
        sums: dict[str, int] = defaultdict(int)
        for part, end in ends.items():
            sums[part.topic] += end
        self.rates.look(self._clock.monotonic(), sums)
        if self._last is not None:
            # Against the ends of a second ago: what a transaction is just about to commit is not a lag.
            self._processor.ends(self._last[0], {part: self._last[1][part] for part in self._frames})
            asked = [TopicPartition(*part) for part in self._frames]
            for tp in self._group.committed(asked, timeout=_ANSWER_S):
                if tp.error is None and tp.offset >= 0:
                    self._processor_seen = True
                    self._processor.read(Part(tp.topic, tp.partition), tp.offset)
        self._last = at_us, ends
        if self._apart.topic_ids(list(self._expected)) != self._expected:
            self._anew()
