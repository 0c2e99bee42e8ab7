"""The silent replay: rows that were not written before the last commit are made again from the log (rules 4, 7, 16)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from tidegate_cloud.kafka import passes, reader, take

from .broadcast import to_record
from .errors import Halt
from .logic import Logic, MicroBatch, Outputs, Record

_log = logging.getLogger(__name__)

_COUNT = 5000
_LOG_ROW = b"d/"

Span = tuple[int, int]  # log offsets: from, up to and without


def not_included(records: Sequence[Record], tags: Mapping[int, Mapping[bytes, int]]) -> list[Record]:
    """Of these records, by partition, those that the stored row of their key does not include yet (rule 4)."""
    none: Mapping[bytes, int] = {}
    left = [
        record for record in records
        if record.offset >= tags.get(record.partition, none).get(_LOG_ROW + (record.key or b""), -1)
    ]  # fmt: skip
    return sorted(left, key=lambda record: record.partition)  # stable: offsets stay in order


class Replayer:
    """Replays spans of the log into a Logic. One long-lived consumer, no group."""

    def __init__(self, bootstrap: str, client_id: str, logic: Logic) -> None:
        self._logic = logic
        self._settings = bootstrap, f"{client_id}-replay"
        self._reader: Consumer | None = None

    def replay(
        self, spans: Mapping[int, Span], tags: Mapping[int, Mapping[bytes, int]],
        replayed: Callable[[Outputs, dict[int, int]], None], *, tolerant: bool = False,
    ) -> int:  # fmt: skip
        """Process the records of `spans` (by partition) again, and drop what comes out but the rows; how many records.

        A record is left out where the row of its key includes it already: `tags` says up to where. `replayed` is told
        of each step what changed, and the lowest offsets (by partition) that led to it.

        Raises Halt when an operator raises: a record on which one did has its row written with it, so this one did not
        when it was first met. `tolerant`: such records are passed over instead, as when they are met first.
        """
        count = 0
        for records in self._records({partition: span for partition, span in spans.items() if span[0] < span[1]}):
            fresh = not_included(records, tags)
            if not fresh:
                continue
            out = self._logic.process(MicroBatch(records=fresh))
            if out.failures and not tolerant:
                raise Halt(
                    f"{self._logic.log_topic}: what went well once fails now: {out.failures[0]}. The program has "
                    "changed, or the machine is at fault; run the program that wrote the state"
                )
            offsets: dict[int, int] = {}
            for record in fresh:
                offsets.setdefault(record.partition, record.offset)
            replayed(out, offsets)
            count += len(fresh)
        return count

    def _records(self, left: dict[int, Span]) -> Iterator[list[Record]]:
        if not left:
            return
        if self._reader is None:
            self._reader = reader(*self._settings)
        topic = self._logic.log_topic
        self._reader.assign([TopicPartition(topic, partition, start) for partition, (start, _) in left.items()])
        while left:
            records = []
            for message in take(self._reader, _COUNT, 0.5):
                error, partition = message.error(), message.partition()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        if partition in left and message.offset() >= left[partition][1]:
                            del left[partition]
                    elif not passes(error):
                        raise KafkaException(error)
                    continue
                if partition not in left:
                    continue
                if message.offset() < left[partition][1]:
                    records.append(to_record(message))
                if message.offset() >= left[partition][1] - 1:
                    del left[partition]
            if records:
                yield records
        self._reader.unassign()

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
