"""Dead letters given back or up, each once (rule 20).

The record that goes back and the note that it went are one transaction. Who wants to write becomes the producer first
and reads after that: of two who do it at once the earlier one is fenced, or its notes are read. So a dead letter is not
retried twice by mistake.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tidegate_protocols.errors import BadInput
from tidegate_protocols.frame import peek_header
from tidegate_protocols.ids import partition_of
from tidegate_protocols.topics import DEAD_LETTERS, FRAMES, RETRY

from tidegate_cloud.kafka import producer

from .deadletters import ANSWERED, DeadLetter
from .logic import Output, Record

Action = Literal["retried", "dropped"]
_CALL_S = 30.0


def judge(letter: DeadLetter, record: Record, action: Action) -> Output | str | None:
    """The record to give back, None where there is nothing to give (dropped), or why it is left alone."""
    if letter.answer:
        return f"it was {letter.answer} before"
    if action == "dropped":
        return None
    if letter.topic not in (FRAMES.name, RETRY.name):
        return f"records of {letter.topic} are not retried"
    try:
        header = peek_header(record.value or b"")
    except BadInput as error:
        return f"it would fail again: {error}"
    if record.key != header.device.encode():
        return f"it would fail again: the key is {letter.key!r}, the frame is of device {header.device!r}"
    return Output(FRAMES.name, record.key, record.value)


class Redrive:
    """Gives dead letters back or up: what was read after it was made. Raises KafkaException, also when fenced."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._producer = producer(bootstrap, client_id, {"transactional.id": client_id})
        self._producer.init_transactions(_CALL_S)

    def commit(self, due: Sequence[tuple[DeadLetter, Output | None]], action: Action) -> None:
        """One transaction."""
        self._producer.begin_transaction()
        for letter, out in due:
            if out is not None:
                home = partition_of(out.key or b"", FRAMES.partitions)
                self._producer.produce(out.topic, out.value, out.key, partition=home)
            partition, _, offset = letter.place.partition("@")
            headers: list[tuple[str, str | bytes | None]] = [(ANSWERED, offset.encode()), ("action", action.encode())]
            self._producer.produce(DEAD_LETTERS.name, None, letter.key, partition=int(partition), headers=headers)
        self._producer.commit_transaction(_CALL_S)
