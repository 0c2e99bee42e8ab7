"""The audit log: every request that could change something, every log-in, with its answer, on `console.audit`."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator

from confluent_kafka import KafkaException
from tidegate_protocols.accounts import AUDIT_LINE, AuditLine
from tidegate_protocols.topics import AUDIT

from tidegate_cloud.kafka import producer

_log = logging.getLogger(__name__)
KEPT = 5_000


class Audit:
    """Writes lines without waiting, and remembers the last that Kafka has. `take` and `clear` are the reader's."""

    def __init__(self, bootstrap: str) -> None:
        self._lines: deque[AuditLine] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._producer = producer(bootstrap, "tidegate-console-audit", {"linger.ms": 20})
        self.lost = 0

    def clear(self) -> None:
        with self._lock:
            self._lines.clear()

    def take(self, value: bytes | None) -> None:
        """A record of the topic. Raises BadInput."""
        line = AUDIT_LINE.decode(value or b"")
        with self._lock:
            self._lines.append(line)

    def newest(self) -> Iterator[AuditLine]:
        """What is remembered, the newest first."""
        with self._lock:
            lines = list(self._lines)
        return reversed(lines)

    def note(self, line: AuditLine) -> None:
        """Put a line on record. While Kafka is away it waits; where it cannot, the service's own log has it."""
        try:
            self._producer.produce(AUDIT.name, AUDIT_LINE.encode(line), line.who)
            self._producer.poll(0)
        except (BufferError, KafkaException) as error:
            self.lost += 1
            _log.error("not on the audit log (%s): %s", error, line)

    def close(self) -> None:
        """Wait shortly for what is under way."""
        self._producer.flush(2.0)
