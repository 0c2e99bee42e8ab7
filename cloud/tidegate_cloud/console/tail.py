"""Reads Kafka for the console, in a thread of its own: librdkafka's calls block.

First the small topics whole (alerts, registry, schemas) and the alert log of the last 7 days; then, for as long as it
lives, whatever is added to them, and the frames from an hour ago on. Frames are decoded here, thousands together, and
what changed is handed to the event loop as one `Delta` per round; the newest of each device becomes JSON here, not
more often than every `_SHOWN_S`. At most `_AHEAD` deltas wait for the loop; then reading waits.

When a topic was made anew, everything is forgotten and read again.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition
from tidegate_protocols.alerts import ALERT, TRANSITION
from tidegate_protocols.codec.bulk import decode_many
from tidegate_protocols.codec.priors import Priors
from tidegate_protocols.errors import BadInput
from tidegate_protocols.frame import NotYetReadable
from tidegate_protocols.registry import DEVICE
from tidegate_protocols.schema import Schema
from tidegate_protocols.topics import (
    ACCOUNTS,
    ALERT_GROUPS,
    ALERT_LOG,
    ALERTS,
    AUDIT,
    BY_NAME,
    DEVICES,
    FENCES,
    FRAMES,
    NOTIFICATIONS,
    PRIORS,
    RULES,
    SCHEMAS,
)

from tidegate_cloud.apart import Apart
from tidegate_cloud.clock import Clock
from tidegate_cloud.kafka import Message, Offsets, Part, passes, reader, take

from .areas import Areas
from .fleet import Fleet
from .groups import Groups, Notices
from .history import HOUR_US, History
from .lag import Lag
from .picture import TRANSITIONS_MAX, AlertRecord, Delta
from .pipeline import TopicView
from .probe import Probe
from .rates import Rates
from .registry import KIND_OF_TOPIC, Registry
from .security import audit as audit_log
from .security.accounts import Accounts
from .security.audit import Audit
from .views import Stage, encode

_log = logging.getLogger(__name__)

_WHOLE = (ALERTS, SCHEMAS, PRIORS, ACCOUNTS, ALERT_GROUPS, NOTIFICATIONS, *(BY_NAME[name] for name in KIND_OF_TOPIC))
_LOGS = (ALERT_LOG, AUDIT)
_LOG_US = 7 * 24 * HOUR_US
_FRAMES_AT_ONCE = 5_000
_WAIT_S = 0.05
_SHOWN_S = 0.1
_AHEAD = 4
_WAITING_MAX = 10_000
_ANSWER_S = 10.0
_LEAVE_S = 5.0  # the thread is a daemon: a Kafka that does not answer must not keep the console from ending

Publish = Callable[[Delta, Callable[[], None]], None]
"""Hand a delta to the event loop, which calls the second argument once it has taken it in."""


class Tail:
    """See the module's docstring. `failed`: the reason why reading ended for good, when it did."""

    def __init__(
        self,
        bootstrap: str,
        history: History,
        publish: Publish,
        clock: Clock,
        accounts: Accounts,
        audit: Audit,
        registry: Registry,
    ) -> None:
        self._bootstrap = bootstrap
        self._accounts = accounts
        self._audit = audit
        self._registry = registry
        self._history = history
        self._publish = publish
        self._clock = clock
        self._stop = threading.Event()
        self._again = threading.Event()
        self._ready = threading.Event()
        self._free = threading.Semaphore(_AHEAD)
        self._thread = threading.Thread(target=self._run, name="console-tail", daemon=True)
        self._lag = Lag(clock.now_us())
        self._probe: Probe | None = None
        self.notices = Notices()
        self._begin()
        self.rates = Rates()
        self.unreadable = 0
        self.failed: BaseException | None = None

    def _begin(self) -> None:
        self._fleet = Fleet()
        self._areas = Areas()
        self._groups = Groups()
        self.notices.clear()
        self._schemas: dict[bytes, Schema] = {}
        self._priors: dict[bytes, Priors] = {}
        self._waiting: deque[Message] = deque(maxlen=_WAITING_MAX)  # frames whose schema is still to come
        self._changed: set[str] = set()
        self._named: set[str] = set()
        self._newest_us = 0
        self._show_s = float("-inf")
        self._history.clear()
        self._accounts.clear()
        self._audit.clear()
        self._registry.clear()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End reading, and wait for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_LEAVE_S)

    def wait_ready(self, timeout: float) -> bool:
        """Whether the small topics have been read whole. Raises what ended the reading, when something did."""
        ready = self._ready.wait(timeout)
        if self.failed is not None:
            raise self.failed
        return ready

    def behind_us(self, now_us: int) -> int:
        return self._lag.behind_us(now_us)

    def stages(self, now_us: int) -> list[Stage]:
        return [] if self._probe is None else self._probe.stages(now_us)

    def topics(self) -> list[TopicView]:
        """What each topic gets."""
        return [] if self._probe is None else self._probe.rates.views()

    @property
    def kafka_up(self) -> bool:
        return self._probe is None or self._probe.kafka_up

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._again.clear()
                try:
                    self._read_on()
                except (BadInput, KafkaException) as error:
                    if not self._ready.is_set():
                        raise
                    _log.warning("reading Kafka begins anew: %s", error)
                    self._stop.wait(1.0)
        except BaseException as error:
            self.failed = error
            if self._ready.is_set():
                _log.exception("reading Kafka ended")
        finally:
            self._ready.set()

    def _read_on(self) -> None:
        """Read everything from the beginning and follow it, until a topic is made anew."""
        small = reader(self._bootstrap, "tidegate-console")
        frames = reader(self._bootstrap, "tidegate-console-frames")
        apart = Apart(self._bootstrap, "tidegate-console-topics")
        try:
            parts = _partitions(small)
            ids = apart.topic_ids(list(parts))
            self._begin()
            self._lag = Lag(self._clock.now_us() - HOUR_US)
            delta = Delta(topic_id=ids[ALERTS.name])
            self._load(small, parts, delta)
            self._fill(delta)
            self._hand_over(delta)
            self._assign_frames(frames, len(parts[FRAMES.name]))
            watched = [*parts[ALERTS.name], *parts[FRAMES.name]]
            self._probe = Probe(self._bootstrap, self._lag, apart, watched, ids, self._again.set, self._clock)
            self._probe.ask()
            self._probe.start()
            self._ready.set()
            while not (self._stop.is_set() or self._again.is_set()):
                self._round(small, frames)
        finally:
            if self._probe is not None:
                self._probe.stop()
            apart.close()
            small.close()
            frames.close()

    def _load(self, consumer: Consumer, parts: Mapping[str, list[Part]], delta: Delta) -> None:
        """Read the small topics to where they end now."""
        offsets = Offsets(self._bootstrap, "tidegate-console-load")
        whole = [part for topic in _WHOLE for part in parts[topic.name]]
        log = [part for topic in _LOGS for part in parts[topic.name]]
        ends = offsets.latest([*whole, *log])
        since_ms = (self._clock.now_us() - _LOG_US) // 1000
        begin = {
            Part(tp.topic, tp.partition): ends[Part(tp.topic, tp.partition)] if tp.offset < 0 else tp.offset
            for tp in consumer.offsets_for_times([TopicPartition(*part, since_ms) for part in log], timeout=_ANSWER_S)
        }
        most = {ALERT_LOG.name: TRANSITIONS_MAX // ALERT_LOG.partitions, AUDIT.name: audit_log.KEPT}
        begin = {part: max(offset, ends[part] - most[part.topic]) for part, offset in begin.items()}
        begin |= dict.fromkeys(whole, 0)
        consumer.assign([TopicPartition(*part, offset) for part, offset in begin.items()])
        left = {part for part, offset in begin.items() if offset < ends[part]}
        while left and not self._stop.is_set():
            messages = take(consumer, 10_000, 0.2)
            for message in self._good(messages):
                self._small(message, delta)
            for message in messages:
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    part = Part(message.topic(), message.partition())
                    if message.offset() >= ends[part]:
                        left.discard(part)

    def _assign_frames(self, consumer: Consumer, partitions: int) -> None:
        since_ms = (self._clock.now_us() - HOUR_US) // 1000
        wanted = [TopicPartition(FRAMES.name, partition, since_ms) for partition in range(partitions)]
        found = consumer.offsets_for_times(wanted, timeout=_ANSWER_S)
        for tp in found:
            if tp.offset < 0:
                tp.offset = OFFSET_END
        consumer.assign(found)

    def _round(self, small: Consumer, frames: Consumer) -> None:
        delta = Delta()
        for message in self._good(take(small, 1000, 0)):
            self._small(message, delta)
        self._frames(self._good(take(frames, _FRAMES_AT_ONCE, _WAIT_S)))
        self._fill(delta)
        if delta:
            self._hand_over(delta)

    def _fill(self, delta: Delta) -> None:
        """Put in what is conflated: the devices, fences and rules that changed."""
        began_s = self._clock.monotonic()
        if self._changed and began_s >= self._show_s:
            delta.devices = [(view.id, encode(view)) for view in self._fleet.views(self._changed)]
            delta.places = self._fleet.places(self._changed)
            delta.gone = sorted(self._changed.difference(device for device, _ in delta.devices))
            delta.named, self._named = self._named, set()
            self._changed.clear()
            delta.newest_us, self._newest_us = self._newest_us, 0
            ended_s = self._clock.monotonic()  # while there is much to catch up on, most of the time is for reading
            self._show_s = max(began_s + _SHOWN_S, ended_s + 3 * (ended_s - began_s))
        delta.fences, delta.rules = self._areas.changes()
        delta.groups = self._groups.changes()

    def _hand_over(self, delta: Delta) -> None:
        while not self._free.acquire(timeout=0.2):
            if self._stop.is_set():
                return
        self._publish(delta, self._free.release)

    def _small(self, message: Message, delta: Delta) -> None:
        key, value = (message.key() or b"").decode("utf-8", "replace"), message.value()
        kind = KIND_OF_TOPIC.get(message.topic())
        try:
            if kind is not None:
                self._registry.take(kind, key, value, message.offset(), message.timestamp()[1] * 1000)
            match message.topic():
                case ALERTS.name:
                    alert = None if value is None else ALERT.decode(value)
                    delta.alerts.append(AlertRecord(message.partition(), message.offset(), key, alert))
                case ALERT_LOG.name:
                    delta.transitions.append(TRANSITION.decode(value or b""))
                case DEVICES.name:
                    self._fleet.name(key, None if value is None else DEVICE.decode(value))
                    self._changed.add(key)
                    self._named.add(key)
                case FENCES.name:
                    self._areas.fence(key, value)
                case RULES.name:
                    self._areas.rule(key, value)
                case SCHEMAS.name:
                    self._schema(value)
                case PRIORS.name:
                    self._new_priors(value)
                case ACCOUNTS.name:
                    self._accounts.take(key, value, message.offset())
                case ALERT_GROUPS.name:
                    self._groups.take(key, value)
                case NOTIFICATIONS.name:
                    self.notices.take(key, value)
                case AUDIT.name:
                    self._audit.take(value)
        except BadInput as error:
            place = f"{message.topic()}[{message.partition()}]@{message.offset()}"
            _log.warning("left out: %s", error.at(place))
        except Exception:  # one record that we read wrongly must not end the reader, for it would come again for ever
            _log.exception("left out: %s[%d]@%d", message.topic(), message.partition(), message.offset())

    def _schema(self, value: bytes | None) -> None:
        if value is None:
            return
        schema = Schema.from_json(value)
        self._schemas[schema.fingerprint] = schema
        self._try_again()

    def _new_priors(self, value: bytes | None) -> None:
        if value is None:
            return
        priors = Priors.from_json(value)
        self._priors[priors.name] = priors
        self._try_again()

    def _try_again(self) -> None:
        waiting, self._waiting = self._waiting, deque(maxlen=_WAITING_MAX)
        self._frames(list(waiting))

    def _frames(self, messages: Sequence[Message]) -> None:
        while messages:
            found = decode_many([message.value() for message in messages], self._schemas, self._priors)
            for place, error in found.bad.items():
                if isinstance(error, NotYetReadable):
                    self._waiting.append(messages[place])
                else:
                    self.unreadable += 1  # the processor makes a dead letter of it
            append_us = np.array([message.timestamp()[1] * 1000 for message in messages[: found.taken]], np.int64)
            devices = [device.decode("ascii") for device in found.devices]
            readings = 0
            for block in found.blocks:
                self._fleet.block(block, devices, append_us[block.message])
                self._history.append(block, devices)
                self._newest_us = max(self._newest_us, int(block.ts_us.max()))
                readings += sum(len(block) if mask is None else int(mask.sum()) for mask in block.valid)
            good = found.device[found.block >= 0]
            self._changed.update(devices[number] for number in np.unique(good).tolist())
            self.rates.add(self._clock.monotonic(), len(good), readings)
            messages = messages[found.taken :]

    def _good(self, messages: Sequence[Message]) -> list[Message]:
        """Those of the messages that are records; notes how far their partitions have been read."""
        good, last = [], {}
        for message in messages:
            error = message.error()
            part = message.topic(), message.partition()
            if error is None:
                good.append(message)
                last[part] = message
            elif error.code() == KafkaError._PARTITION_EOF:
                self._lag.read(Part(*part), message.offset())
            elif error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID):
                self._again.set()
            elif not passes(error):
                raise KafkaException(error)
        for part, message in last.items():
            self._lag.read(Part(*part), message.offset() + 1, message.timestamp()[1] * 1000)
        return good


def _partitions(consumer: Consumer) -> dict[str, list[Part]]:
    """The partitions of every topic that the console reads. Raises BadInput when one is missing."""
    known = consumer.list_topics(timeout=_ANSWER_S).topics
    found = {}
    for topic in (*_WHOLE, *_LOGS, FRAMES):
        if topic.name not in known:
            raise BadInput("the topic does not exist", where=topic.name, hint="`tidegate topics apply` makes it")
        if len(known[topic.name].partitions) != topic.partitions:
            raise BadInput(f"it has not {topic.partitions} partitions", where=topic.name)
        found[topic.name] = [Part(topic.name, partition) for partition in range(topic.partitions)]
    return found
