"""Marks: what other than the log changed the state, and where in the log it took effect (rule 13).

For replays and audits by people, on `engine.marks`, kept for 30 days and never compacted. Key: ``KIND/NAME``; value:
JSON as `Mark` has it, bytes in base64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.topics import MARKS

from .logic import Output, Record

Kind = Literal["edit", "tick", "side", "forget"]


class Mark(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One side input that took effect.

    group    consumer group whose state it changed
    kind     edit: a broadcast record; tick: time; side: records of a side input; forget: rows were given up
    offsets  partition → the log offset before which it took effect
    topic    edit and side: where it was
    key      edit: its key; forget: the row
    value    edit: its content, None for one that removes
    first, last  side: the offsets of its records in `topic`
    time_us  tick: what time it was, microseconds since 1970 UTC
    """

    group: str
    kind: Kind
    offsets: dict[int, int]
    topic: str = ""
    key: bytes = b""
    value: bytes | None = None
    first: int = -1
    last: int = -1
    time_us: int = 0
    v: int = 1

    def output(self) -> Output:
        """As it is written."""
        name = {"edit": self.key, "forget": self.key, "side": self.topic.encode(), "tick": b""}[self.kind]
        key = self.kind.encode() + b"/" + (self.topic.encode() + b"/" if self.kind == "edit" else b"") + name
        return Output(MARKS.name, key, msgspec.json.encode(self), min(self.offsets, default=0))

    @classmethod
    def read(cls, value: bytes) -> Mark:
        """Raises BadInput when it is none."""
        try:
            return msgspec.json.decode(value, type=cls)
        except msgspec.MsgspecError as error:
            raise BadInput(f"not a mark: {error}", where=MARKS.name) from None


def of_edit(group: str, edit: Record, offsets: Mapping[int, int]) -> Output:
    """The mark of an edit."""
    mark = Mark(
        group=group, kind="edit", offsets=dict(offsets), topic=edit.topic, key=edit.key or b"", value=edit.value
    )
    return mark.output()
