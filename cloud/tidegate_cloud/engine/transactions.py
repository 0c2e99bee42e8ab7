"""One transaction at a time: outputs, rows and input offsets become visible together or not at all.

The transactional id is fixed per instance. A second instance with the same id fences this one (`Fenced`). To the client
an own transaction that took longer than the broker allows looks the same. One that was open for less than `TIMEOUT_S`
was fenced by somebody else for sure; of any other, `has_twin` tells, which asks whether somebody else is there at all.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from tidegate_cloud import kafka
from tidegate_cloud.clock import Clock

from .errors import Aborted, Fenced, Halt
from .logic import Output
from .patience import Caller, Stuck

_log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
_CALL_S = 5.0
_GRACE_S = 2.0
# A producer whose coordinator went away may never find it again. A new one does, and what the old one left undone the
# broker ends by itself: one call that ran out of time is enough.
_GIVE_UP_S = _CALL_S
_OPEN_S = 120.0


class Transactions:
    """The transactional producer of one instance. `has_twin`: whether another instance of its name is there."""

    def __init__(self, bootstrap: str, transactional_id: str, clock: Clock, has_twin: Callable[[], bool]) -> None:
        self._bootstrap = bootstrap
        self.transactional_id = transactional_id
        self._clock = clock
        self._has_twin = has_twin
        self._caller = Caller()
        self._producer: Producer | None = None
        self._stop = threading.Event()

    def open(self, stop: threading.Event | None = None) -> None:
        """Take over the transactional id: whoever held it is fenced and its open transaction aborted.

        Once `stop` is set, no call is tried again for long.
        """
        self._stop = stop or self._stop
        deadline = self._clock.monotonic() + _OPEN_S
        while True:
            self._producer = self._new()
            try:
                self._insist(self._producer.init_transactions, _CALL_S)
            except KafkaException as error:
                if not kafka.passes(error.args[0]) or self._clock.monotonic() > deadline or self._stop.is_set():
                    raise
            else:
                return

    def _new(self) -> Producer:
        return kafka.producer(
            self._bootstrap,
            self.transactional_id,
            {
                "transactional.id": self.transactional_id,
                "transaction.timeout.ms": int(TIMEOUT_S * 1000),
                "linger.ms": 2,
                "batch.num.messages": 50_000,
                "queue.buffering.max.messages": 500_000,
                "message.max.bytes": 2 * 2**20,
            },
        )

    def commit(self, outputs: Iterable[Output], offsets: Sequence[TopicPartition], group: Any) -> None:
        """Produce `outputs` and commit `offsets` for the group that `group` describes, in one transaction.

        Raises Aborted when it came to nothing and may be tried again from committed state; Fenced when another
        instance has this one's name; Halt for output that Kafka will never take.
        """
        assert self._producer is not None
        began = self._clock.monotonic()
        try:
            self._producer.begin_transaction()
            for output in outputs:
                self._produce(output)
            self._insist(self._send_offsets, list(offsets), group)
            self._insist(self._producer.commit_transaction, _CALL_S)
        except KafkaException as error:
            self._end_badly(error, self._clock.monotonic() - began)
        except Stuck as error:
            raise self._anew(str(error), fenced=False) from None

    def _send_offsets(self, offsets: Sequence[TopicPartition], group: Any) -> None:
        assert self._producer is not None
        self._caller.call(
            self._producer.send_offsets_to_transaction, offsets, group, _CALL_S, within_s=_CALL_S + _GRACE_S
        )

    def _produce(self, output: Output) -> None:
        assert self._producer is not None
        arguments: dict[str, Any] = {} if output.partition is None else {"partition": output.partition}
        if output.headers:
            arguments["headers"] = list(output.headers)
        while True:
            try:
                self._producer.produce(output.topic, output.value, output.key, **arguments)
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    raise Halt(
                        f"a record of {len(output.value or b'')} bytes is too large for {output.topic}"
                    ) from None
                raise
            else:
                return

    def _insist(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Call again for as long as the error says that it may be: a broker that restarts is waited for."""
        deadline = self._clock.monotonic() + _GIVE_UP_S
        while True:
            try:
                call(*arguments)
            except KafkaException as error:
                if not error.args[0].retriable() or self._clock.monotonic() > deadline or self._stop.is_set():
                    raise
                _log.info("%s: %s; again", self.transactional_id, error.args[0].str())
            else:
                return

    def _end_badly(self, error: KafkaException, open_s: float) -> None:
        assert self._producer is not None
        cause: KafkaError = error.args[0]
        if cause.txn_requires_abort():
            try:
                self._insist(self._producer.abort_transaction, _CALL_S)
            except KafkaException as second:
                cause = second.args[0]
            else:
                raise Aborted(cause.str()) from None
        fenced = cause.code() == KafkaError._FENCED and open_s < TIMEOUT_S
        raise self._anew(cause.str(), fenced=fenced) from None

    def _anew(self, reason: str, *, fenced: bool) -> Aborted | Fenced:
        """A new producer in place of one that is of no more use, unless another instance has our name by now."""
        if fenced or self._has_twin():
            return Fenced(
                f"another instance has taken over the transactional id {self.transactional_id!r}; give each instance "
                "its own --instance"
            )
        _log.warning("%s: %s; starting the producer anew", self.transactional_id, reason)
        if self._producer is not None:
            self._producer.purge()
        self.open()
        return Aborted(reason)

    def close(self) -> None:
        """Nothing is open between calls; the producer just goes."""
        self._producer = None
        self._caller.close()
