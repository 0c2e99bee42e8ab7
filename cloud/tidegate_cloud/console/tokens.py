"""Resume tokens: where in Kafka, and where in one console's own memory, a client of the stream stands.

Text: ``BASE64URL~SEQ``. The first part, without padding, holds

    16  topic id of fleet.alerts: another one means that the topic was made anew
    8   the console process that gave the token
    …   varint: when, seconds since 1970 UTC
    …   varint: number of partitions, then per partition a varint: the next offset of fleet.alerts

SEQ counts, in that process alone, what is only ever sent in its newest form (positions, fences). Any console takes a
token that any other gave: it then sends all of those anew, and of the alerts exactly what the offsets say is missing.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from tidegate_protocols.codec.varint import put_varint, take_varint
from tidegate_protocols.errors import BadInput

TOPIC_ID_SIZE = 16
PROCESS_SIZE = 8
_TEXT_MAX = 2048
_PARTITIONS_MAX = 1024


@dataclass(frozen=True, slots=True)
class Token:
    """See the module's docstring. `offsets`: the next offset per partition of fleet.alerts."""

    topic_id: bytes
    process: bytes
    at_s: int
    offsets: tuple[int, ...]
    seq: int

    def text(self) -> str:
        """The token as it travels."""
        return joined(head(self.topic_id, self.process, self.at_s, self.offsets), self.seq)


def head(topic_id: bytes, process: bytes, at_s: int, offsets: Sequence[int]) -> str:
    """The part of a token that many clients share."""
    out = bytearray(topic_id + process)
    put_varint(out, at_s)
    put_varint(out, len(offsets))
    for offset in offsets:
        put_varint(out, offset)
    return base64.urlsafe_b64encode(out).decode().rstrip("=")


def joined(head: str, seq: int) -> str:
    """A whole token."""
    return f"{head}~{seq}"


def parse(text: str) -> Token:
    """Read a token. Raises BadInput."""
    encoded, mark, seq = text.partition("~")
    if len(text) > _TEXT_MAX or not mark or not (seq.isascii() and seq.isdigit() and len(seq) < 20):
        raise BadInput("not a resume token", where="from")
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("not a resume token", where="from") from None
    pos = TOPIC_ID_SIZE + PROCESS_SIZE
    try:
        at_s, pos = take_varint(data, pos, len(data), "time")
        count, pos = take_varint(data, pos, len(data), "number of partitions")
        if count > _PARTITIONS_MAX:
            raise BadInput(f"{count} partitions")
        offsets = []
        for _ in range(count):
            offset, pos = take_varint(data, pos, len(data), "offset")
            offsets.append(offset)
        if pos != len(data):
            raise BadInput("bytes after the last offset", where=f"byte {pos}")
    except BadInput as error:
        raise error.at("from") from None
    return Token(
        data[:TOPIC_ID_SIZE], data[TOPIC_ID_SIZE : TOPIC_ID_SIZE + PROCESS_SIZE], at_s, tuple(offsets), int(seq)
    )
