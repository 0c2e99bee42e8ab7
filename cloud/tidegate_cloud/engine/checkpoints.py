"""How rows and positions are kept in Kafka.

A record of a checkpoint topic: key = row key; value = a header of 12 bytes, then the Logic's bytes; or a tombstone::

    0   u8    layout of this header, 1
    1   u8    0
    2   u16   state version of the Logic that wrote the row, little-endian
    4   i64   tag: the first offset of the log input that the row does not include

A committed offset carries JSON ``{"v": 1, "state": N, "replay_from": OFFSET}``. `replay_from` is the lowest offset that
a row not yet written needs; as long as every row is written in the transaction that changed it, it is the committed
offset itself, and recovery has nothing to replay.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
from tidegate_protocols.errors import BadInput

from tidegate_cloud.kafka import Offsets, Part, read_to, reader

LAYOUT = 1
_HEADER = struct.Struct("<BxHq")


class StoredRow(NamedTuple):
    """A row as it was read back."""

    state_version: int
    tag: int
    value: bytes


def seal(state_version: int, tag: int, value: bytes) -> bytes:
    """The checkpoint record's value for a row."""
    return _HEADER.pack(LAYOUT, state_version, tag) + value


def unseal(data: bytes) -> StoredRow:
    """Read a checkpoint record's value. Raises BadInput."""
    if len(data) < _HEADER.size or data[0] != LAYOUT:
        raise BadInput(
            f"a row of {len(data)} bytes starts with {data[:1].hex() or 'nothing'}, not with layout {LAYOUT}",
            where="checkpoint",
        )
    _, version, tag = _HEADER.unpack_from(data)
    return StoredRow(version, tag, data[_HEADER.size :])


class Position(msgspec.Struct, frozen=True):
    """What is committed beside an offset."""

    state: int
    replay_from: int
    v: int = 1

    def text(self) -> str:
        """As committed."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def read(cls, text: str) -> Position:
        """Raises BadInput when the text is not ours."""
        try:
            position = msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise BadInput(f"{text[:80]!r}: {error}", where="committed metadata") from None
        if position.v != 1:
            raise BadInput(f"layout {position.v}", where="committed metadata", hint="upgrade this program")
        return position


class Checkpoints:
    """Reads the rows of partitions from one checkpoint topic. One long-lived consumer, no group."""

    def __init__(self, bootstrap: str, client_id: str, topic: str, offsets: Offsets) -> None:
        self.topic = topic
        self._offsets = offsets
        self._reader = reader(bootstrap, f"{client_id}-checkpoints")

    def load(self, partitions: Iterable[int]) -> dict[int, dict[bytes, StoredRow]]:
        """All rows of these partitions as of now: to the high watermark, past every transaction below it (rule 1).

        Call it only after the committed offset has been read as stable. Raises BadInput for a row that is not ours,
        KafkaException.
        """
        parts = [Part(self.topic, partition) for partition in partitions]
        newest: dict[int, dict[bytes, bytes]] = {part.partition: {} for part in parts}
        for message in read_to(self._reader, self._offsets.latest(parts)):
            key, value = message.key() or b"", message.value()
            if value is None:
                newest[message.partition()].pop(key, None)
            else:
                newest[message.partition()][key] = value
        self._reader.unassign()
        return {partition: self._unsealed(partition, rows) for partition, rows in newest.items()}

    def _unsealed(self, partition: int, rows: Mapping[bytes, bytes]) -> dict[bytes, StoredRow]:
        try:
            return {key: unseal(value) for key, value in rows.items()}
        except BadInput as error:
            raise error.at(f"{self.topic}[{partition}]") from None

    def close(self) -> None:
        self._reader.close()
