"""The outbox on Kafka: one loop that reads the alert log, and threads that send.

A partition's messages go out only once its log has been read to the end: what was overtaken while nobody was here is
not sent. The offset that is committed is that of the oldest line with a message that is not done, so a restart reads
those lines again; what became of each message says `fleet.notifications`, in the partition of the line.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from prometheus_client import CollectorRegistry, Counter, Gauge
from tidegate_protocols.alerts import NOTIFICATION, TRANSITION, Notification
from tidegate_protocols.errors import BadInput
from tidegate_protocols.topics import ALERT_LOG, NOTIFICATIONS

from tidegate_cloud.clock import Clock, SystemClock
from tidegate_cloud.kafka import Message, Offsets, Part, client_settings, passes, producer, read_to, reader, take

from .channels import Channel, SendFailed
from .config import Config
from .outbox import FINAL, Job, Outbox

_log = logging.getLogger(__name__)

_POLL_S = 0.2
_COMMIT_S = 1.0
_AGAIN_S = 0.5
_WRITE_S = 5.0
_LEAVE_S = 20.0  # what is under way is waited for this long: a little more than a channel's own time-outs


class NotifyMetrics:
    """What the service counts."""

    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        self.registry = CollectorRegistry()
        self.messages = Counter(
            "tidegate_notify_messages", "Messages that are done, by what became of them", ["receiver", "state"],
            registry=self.registry,
        )  # fmt: skip
        self.failures = Counter(
            "tidegate_notify_failures", "Attempts that failed", ["receiver"], registry=self.registry
        )
        self.unreadable = Counter(
            "tidegate_notify_unreadable", "Lines of the alert log that cannot be read", registry=self.registry
        )
        pending = Gauge("tidegate_notify_pending", "Messages that are not done", registry=self.registry)
        pending.set_function(lambda: outbox.pending)
        oldest = Gauge(
            "tidegate_notify_oldest_seconds", "Age of the oldest message that is not done", registry=self.registry
        )
        oldest.set_function(lambda: max(0.0, (clock.now_us() - (outbox.oldest_us() or clock.now_us())) / 1e6))


class Notifier:
    """One instance; any number share the partitions. `run` blocks."""

    def __init__(
        self,
        config: Config,
        channels: Mapping[tuple[str, str], Channel],
        *,
        bootstrap: str,
        group: str,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._channels = channels
        self._bootstrap = bootstrap
        self._group = group
        self._limit = config.concurrency
        self._outbox = Outbox(config)
        self.metrics = NotifyMetrics(self._outbox, self._clock)
        self._offsets = Offsets(bootstrap, group)
        self._producer = self._new_producer()
        self._pool = ThreadPoolExecutor(config.concurrency, "notify")
        self._under_way: dict[Future[None], Job] = {}
        self._starting: list[Job] = []  # to go out once it is written that they do
        self._unwritten: list[tuple[int, Notification]] = []
        self._caught_up: set[int] = set()
        self._committed: dict[int, int] = {}
        self._next_commit = 0.0
        self._stop = threading.Event()

    def run(self, stop: threading.Event, *, ready: Callable[[], None] = lambda: None) -> None:
        """Tell people until `stop` is set. Raises KafkaException for what does not heal by waiting."""
        self._stop = stop
        consumer = Consumer(
            client_settings(self._bootstrap, self._group)
            | {
                "group.id": self._group, "enable.auto.commit": False, "isolation.level": "read_committed",
                "auto.offset.reset": "earliest", "enable.partition.eof": True, "session.timeout.ms": 10_000,
            }
        )  # fmt: skip
        try:
            consumer.subscribe([ALERT_LOG.name], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
            ready()
            while not stop.is_set():
                self._round(consumer)
            self._leave(consumer, set(self._committed))
        finally:
            consumer.close()
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _new_producer(self) -> Producer:
        return producer(self._bootstrap, self._group, {"acks": "all", "linger.ms": 5})

    def _round(self, consumer: Consumer) -> None:
        for message in take(consumer, 500, _POLL_S):
            self._message(message)
        self._finished()
        self._begin()
        if self._write():
            self._start()
            if self._clock.monotonic() >= self._next_commit:
                self._next_commit = self._clock.monotonic() + _COMMIT_S
                self._commit(consumer, set(self._committed))

    def _message(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._caught_up.add(message.partition())
            elif not passes(error):
                raise KafkaException(error)
            return
        try:
            line = TRANSITION.decode(message.value() or b"")
        except BadInput as bad:
            self.metrics.unreadable.inc()
            _log.warning("%s[%d]@%d: left out: %s", message.topic(), message.partition(), message.offset(), bad)
            return
        self._keep(self._outbox.line(message.partition(), message.offset(), line, self._clock.now_us()))

    def _begin(self) -> None:
        """Choose what goes out next, as far as there is room."""
        now_us = self._clock.now_us()
        for job in self._outbox.due(now_us):
            if len(self._under_way) + len(self._starting) >= self._limit:
                return
            if job.partition in self._caught_up:
                self._keep([self._outbox.begin(job, now_us)])
                if job.under_way:
                    self._starting.append(job)

    def _start(self) -> None:
        for job in self._starting:
            channel = self._channels[job.receiver, job.channel]
            self._under_way[self._pool.submit(channel.send, job.message, self._clock.now_us() / 1e6)] = job
        self._starting = []

    def _finished(self) -> None:
        for future in [future for future in self._under_way if future.done()]:
            job = self._under_way.pop(future)
            if job.partition not in self._committed:
                continue  # somebody else has the partition; to them the message is under way still
            try:
                future.result()
            except SendFailed as error:
                self._failed(job, str(error), for_good=error.for_good, after_s=error.after_s)
            except Exception as error:  # a channel's own mistake must not keep other messages back
                _log.exception("channel %s", job.record.channel)
                self._failed(job, type(error).__name__)
            else:
                self._keep([self._outbox.sent(job, self._clock.now_us())])

    def _failed(self, job: Job, error: str, *, for_good: bool = False, after_s: float = 0.0) -> None:
        self.metrics.failures.labels(job.receiver).inc()
        _log.warning("%s to %s: %s", job.id, job.record.channel, error)
        self._keep([self._outbox.failed(job, self._clock.now_us(), error, for_good=for_good, after_s=after_s)])

    def _keep(self, records: Iterable[tuple[int, Notification]]) -> None:
        for partition, record in records:
            if record.state in FINAL:
                self.metrics.messages.labels(record.receiver, record.state).inc()
            self._unwritten.append((partition, record))

    def _write(self) -> bool:
        """Whether all that was decided is on Kafka. When it is not, nothing is sent that Kafka does not know of."""
        if not self._unwritten:
            return True
        failed: list[KafkaError] = []
        for partition, record in self._unwritten:
            self._producer.produce(
                NOTIFICATIONS.name, NOTIFICATION.encode(record), record.id.encode(), partition=partition,
                on_delivery=lambda error, _message: failed.append(error) if error is not None else None,
            )  # fmt: skip
        left = self._producer.flush(_WRITE_S)
        if failed or left:
            # All are written once more, by a producer that holds nothing back: the newest record of a message counts.
            self._producer = self._new_producer()
            _log.warning("kafka does not take what became of messages: %s", failed[0].str() if failed else "no answer")
            return False
        self._unwritten = []
        return True

    def _commit(self, consumer: Consumer, partitions: set[int]) -> None:
        moved = {p: self._outbox.position(p) for p in partitions if self._outbox.position(p) != self._committed[p]}
        if not moved:
            return
        try:
            consumer.commit(
                offsets=[TopicPartition(ALERT_LOG.name, p, o) for p, o in moved.items()], asynchronous=False
            )
        except KafkaException as error:
            if not passes(error.args[0]):
                raise
            _log.info("kafka: %s", error.args[0].str())
        else:
            self._committed |= moved

    def _assigned(self, consumer: Consumer, parts: list[TopicPartition]) -> None:
        numbers = [part.partition for part in parts]
        while not self._stop.is_set():
            try:
                committed = {part.partition: part.offset for part in consumer.committed(parts, timeout=10)}
                earliest = self._offsets.earliest([Part(ALERT_LOG.name, number) for number in numbers])
                known = self._known(numbers)
            except KafkaException as error:
                if not passes(error.args[0]):
                    raise
                _log.info("kafka: %s", error.args[0].str())
                self._stop.wait(_AGAIN_S)
            else:
                break
        else:
            return
        for part in parts:
            number = part.partition
            part.offset = max(committed[number], earliest[Part(ALERT_LOG.name, number)])
            self._outbox.take(number, part.offset, known[number].values())
            self._committed[number] = part.offset
            self._caught_up.discard(number)
        consumer.assign(parts)

    def _known(self, numbers: list[int]) -> dict[int, dict[str, Notification]]:
        """What `fleet.notifications` says of these partitions: the newest record of each message."""
        known: dict[int, dict[str, Notification]] = {number: {} for number in numbers}
        client = reader(self._bootstrap, f"{self._group}-known")
        try:
            ends = self._offsets.latest([Part(NOTIFICATIONS.name, number) for number in numbers])
            for message in read_to(client, ends):
                try:
                    record = NOTIFICATION.decode(message.value() or b"")
                except BadInput as error:
                    _log.warning("%s[%d]: left out: %s", message.topic(), message.partition(), error)
                else:
                    known[message.partition()][record.id] = record
        finally:
            client.close()
        return known

    def _revoked(self, consumer: Consumer, parts: list[TopicPartition]) -> None:
        self._leave(consumer, {part.partition for part in parts})

    def _lost(self, _consumer: Consumer, parts: list[TopicPartition]) -> None:
        self._drop({part.partition for part in parts})

    def _leave(self, consumer: Consumer, partitions: set[int]) -> None:
        """Let what is under way come to its end, and write that, before the partitions go."""
        wait([future for future, job in self._under_way.items() if job.partition in partitions], _LEAVE_S)
        self._finished()
        if self._write():
            self._commit(consumer, partitions & set(self._committed))
        self._drop(partitions)

    def _drop(self, partitions: set[int]) -> None:
        for number in partitions:
            self._outbox.drop(number)
            self._committed.pop(number, None)
            self._caught_up.discard(number)
        self._starting = [job for job in self._starting if job.partition not in partitions]
        self._unwritten = [(number, record) for number, record in self._unwritten if number not in partitions]
