"""Dead letters: records that cannot be processed, kept with the place, the reason and the traceback.

A dead letter is the record itself, key and value untouched, in the same partition number of `telemetry.dead-letters`,
with these headers (text in UTF-8, numbers in decimal):

    topic, partition, offset, append_us   where the record stands
    reason      unreadable | wrong-key | wrong-partition | too-many-schemas | operator
    error       one line
    operator    the operator that raised, when one did
    traceback   its traceback, when one did (its last 8 KiB)

What was done about one is a record without a value in the same partition, with the headers `answers` (the dead letter's
offset) and `action`: retried | dropped.
"""

from __future__ import annotations

import traceback
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tidegate_protocols.errors import BadInput
from tidegate_protocols.topics import DEAD_LETTERS

from .logic import Headers, Output, Record

Reason = Literal["unreadable", "wrong-key", "wrong-partition", "too-many-schemas", "operator"]
ANSWERED = "answers"
_TRACEBACK_MAX = 8 * 1024


def dead_letter(record: Record, reason: Reason, error: BaseException, operator: str = "") -> Output:
    """`record` as a dead letter. Of BadInput the text says all; anything else comes with its traceback."""
    headers: list[tuple[str, bytes | None]] = [
        ("topic", record.topic.encode()),
        ("partition", b"%d" % record.partition),
        ("offset", b"%d" % record.offset),
        ("append_us", b"%d" % record.append_us),
        ("reason", reason.encode()),
    ]
    if isinstance(error, BadInput):
        headers.append(("error", str(error).encode()))
    else:
        headers.append(("error", f"{type(error).__name__}: {error}".encode()))
        trace = "".join(traceback.format_exception(error)).encode()
        headers.append(("traceback", trace[-_TRACEBACK_MAX:]))
    if operator:
        headers.append(("operator", operator.encode()))
    return Output(DEAD_LETTERS.name, record.key, record.value, record.partition, tuple(headers))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter as people look at it. `place` is where it stands among the dead letters, "PARTITION@OFFSET".

    `answer`: what was done about it, empty where nothing was.
    """

    place: str
    key: str | None
    topic: str
    partition: int
    offset: int
    append_us: int
    dead_us: int
    reason: str
    error: str
    operator: str
    traceback: str
    size: int
    answer: str = ""

    @classmethod
    def read(cls, record: Record) -> DeadLetter:
        """Raises BadInput when the record is no dead letter."""
        place = f"{record.partition}@{record.offset}"
        headers = dict(record.headers)
        try:
            return cls(
                place=place,
                key=None if record.key is None else record.key.decode("utf-8", "backslashreplace"),
                topic=_text(headers, "topic"),
                partition=int(_text(headers, "partition")),
                offset=int(_text(headers, "offset")),
                append_us=int(_text(headers, "append_us")),
                dead_us=record.append_us,
                reason=_text(headers, "reason"),
                error=_text(headers, "error"),
                operator=_text(headers, "operator", ""),
                traceback=_text(headers, "traceback", ""),
                size=len(record.value or b""),
            )
        except (KeyError, ValueError) as error:
            raise BadInput(f"not a dead letter: {error!r}", where=f"{record.topic} {place}") from None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def _text(headers: dict[str, bytes | None], name: str, default: str | None = None) -> str:
    value = headers.get(name)
    if value is None:
        if default is None:
            raise KeyError(name)
        return default
    return value.decode("utf-8", "backslashreplace")


# A record that waits for its schema keeps its place in these headers, so that what it leads to is the same as if it
# had not waited.
def waiting(record: Record, topic: str) -> Output:
    """`record` as a record of the retry topic."""
    headers: Headers = (
        ("topic", record.topic.encode()),
        ("partition", b"%d" % record.partition),
        ("offset", b"%d" % record.offset),
        ("append_us", b"%d" % record.append_us),
    )
    return Output(topic, record.key, record.value, record.partition, headers)


def original(record: Record) -> Record:
    """A record of the retry topic as it stood at first. Raises BadInput when it does not say where that was."""
    headers = dict(record.headers)
    try:
        return Record(
            _text(headers, "topic"), int(_text(headers, "partition")), int(_text(headers, "offset")),
            int(_text(headers, "append_us")), record.key, record.value,
        )  # fmt: skip
    except (KeyError, ValueError) as error:
        raise BadInput(f"not a waiting record: {error!r}", where=f"{record.topic}[{record.partition}]") from None
