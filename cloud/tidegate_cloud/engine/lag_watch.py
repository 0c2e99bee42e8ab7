"""Watches consumer groups by Burrow's rules: gauges for Prometheus, and events from which alerts are made.

An event is about a group and a topic, whatever the number of partitions, and belongs to a device that is none
(`DEVICE`). It says how things stand and not what changed, so nothing need be remembered: the first look that can tell
says it anew, what was told before attaches to the alert that is open, and several watchers do no harm.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import KafkaException
from prometheus_client import CollectorRegistry, Counter, Gauge
from tidegate_protocols.events import EVENT, Event, event_id
from tidegate_protocols.topics import EVENTS

from tidegate_cloud.clock import Clock, SystemClock
from tidegate_cloud.kafka import Part, write

from .lagging import Sample, State, Windows
from .looking import Followed, Looker

_log = logging.getLogger(__name__)

DEVICE = "tidegate:pipeline"
OPERATOR = "lag"
_KINDS = {State.OK: "keeps-up", State.WARN: "slow", State.STALL: "stalled", State.STOP: "stopped"}
_ORDER = list(State)  # from good to bad
_SEVERITY = {State.WARN: "warning", State.STALL: "critical", State.STOP: "critical"}


def verdict(followed: Followed, states: Mapping[Part, tuple[State, Sample]], now_us: int) -> Event:
    """How a group stands: as its worst partition does. `value`: the records that wait in all that are not OK."""
    worst = max((state for state, _ in states.values()), key=_ORDER.index, default=State.OK)
    bad = {part.partition: sample.lag for part, (state, sample) in states.items() if state is not State.OK}
    attrs = {"group": followed.group, "topic": followed.topic}
    if bad:
        attrs |= {"partitions": ", ".join(map(str, sorted(bad))), "severity": _SEVERITY[worst]}
    kind, subject = _KINDS[worst], str(followed)
    return Event(
        id=event_id(DEVICE, OPERATOR, kind, subject, provisional=False, epoch=0, seq=now_us, ordinal=0),
        device=DEVICE, operator=OPERATOR, kind=kind, phase="begin" if bad else "end", subject=subject, ts_us=now_us,
        learnt_us=now_us, epoch=0, seq=now_us, ordinal=0, value=float(sum(bad.values())) if bad else None, attrs=attrs,
    )  # fmt: skip


class Watch:
    """A service. `every_s`: between two looks; ten make a verdict. `tell`: write events."""

    def __init__(
        self, bootstrap: str, followed: Sequence[Followed], *, every_s: float, tell: bool = True,
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        self._bootstrap = bootstrap
        self._windows = {each: Windows() for each in followed}
        self._every_s = every_s
        self._tell = tell
        self._clock = clock or SystemClock()
        self._told: dict[Followed, str] = {}
        self._labelled: set[tuple[str, str, str]] = set()
        self.registry = CollectorRegistry()
        labels = ["group", "topic", "partition"]
        self._states = Gauge(
            "tidegate_lag_state", "0 OK, 1 WARN: falls behind, 2 STALL: does not move, 3 STOP: and nobody is there",
            labels, registry=self.registry,
        )  # fmt: skip
        self._records = Gauge("tidegate_lag_records", "Records that wait", labels, registry=self.registry)
        self._up = Gauge("tidegate_lag_kafka_up", "Whether Kafka answered the last look", registry=self.registry)
        self._looks = Counter("tidegate_lag_looks", "Looks that Kafka answered", registry=self.registry)
        self._events = Counter("tidegate_lag_events", "Events written", ["kind"], registry=self.registry)

    def run(self, stop: threading.Event, *, ready: Callable[[], None] = lambda: None) -> None:
        """Watch until `stop` is set. While Kafka is away nothing is known, and nothing told."""
        looker = Looker(self._bootstrap, "tidegate-lag")
        ready()
        try:
            while not stop.is_set():
                try:
                    self._look(looker)
                    self._up.set(1)
                    self._looks.inc()
                except KafkaException as error:
                    _log.warning("Kafka does not answer: %s", error.args[0].str())
                    self._up.set(0)
                stop.wait(self._every_s)
        finally:
            looker.close()

    def _look(self, looker: Looker) -> None:
        shown: set[tuple[str, str, str]] = set()
        for followed, windows in self._windows.items():
            windows.add(looker.look(followed))
            states = looker.states(followed, windows)
            for part, (state, sample) in states.items():
                labels = (followed.group, followed.topic, str(part.partition))
                shown.add(labels)
                self._states.labels(*labels).set(_ORDER.index(state))
                self._records.labels(*labels).set(sample.lag)
            if states and windows.full():
                self._say(followed, verdict(followed, states, self._clock.now_us()))
        for labels in self._labelled - shown:
            self._states.remove(*labels)
            self._records.remove(*labels)
        self._labelled = shown

    def _say(self, followed: Followed, event: Event) -> None:
        if self._told.get(followed) == event.kind:
            return
        level = logging.INFO if event.phase == "end" else logging.WARNING
        _log.log(level, "%s: %s %s", followed, event.kind, event.attrs.get("partitions", ""))
        if self._tell:
            missing, why = write(self._bootstrap, "tidegate-lag", EVENTS.name, [(DEVICE, EVENT.encode(event))])
            if missing:
                _log.warning("not told: %s", why)
                return  # the next look says it again
            self._events.labels(event.kind).inc()
        self._told[followed] = event.kind
