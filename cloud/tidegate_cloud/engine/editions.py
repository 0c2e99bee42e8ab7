"""What is in force: the records of broadcast topics, and the copy of them that each partition's state goes by.

An edit takes effect at one offset of each partition. A replay from before a later edit needs the content that was in
force then, and the registry's topic no longer has it once it was compacted. So the content is copied into the
checkpoint topic, into every partition (rule 10), with keys ``e/TOPIC/BUCKET.PART``: the records of a topic are spread
over 64 buckets by CRC-32 of their key, and a bucket over parts of at most 512 KiB. A value is zlib over MessagePack
``[[key, value] …]`` in order of keys.

Records of reference topics are not copied: their key names their content (schemas by fingerprint).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping

import msgspec
from tidegate_protocols.errors import BadInput

from .logic import Record

EDIT_PREFIX = b"e/"
_BUCKETS = 64
_PART_MAX = 512 * 1024

Name = tuple[str, bytes]  # topic, key
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, bytes]]).decode


def _bucket(key: bytes) -> int:
    return zlib.crc32(key) % _BUCKETS


class Edition:
    """Records by topic and key, as in force at one moment."""

    def __init__(self, content: Mapping[Name, bytes] | None = None) -> None:
        self.content: dict[Name, bytes] = {}
        self._keys: dict[tuple[str, int], set[bytes]] = {}
        self._packed: dict[tuple[str, int], list[bytes]] = {}  # what was packed before and still holds
        for (topic, key), value in (content or {}).items():
            self._put(topic, key, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Edition) and self.content == other.content

    __hash__ = None  # type: ignore[assignment]

    def _put(self, topic: str, key: bytes, value: bytes | None) -> None:
        place = topic, _bucket(key)
        self._packed.pop(place, None)
        keys = self._keys.setdefault(place, set())
        if value is None:
            self.content.pop((topic, key), None)
            keys.discard(key)
        else:
            self.content[topic, key] = value
            keys.add(key)

    def edits(self, records: Iterable[Record]) -> list[Record]:
        """Of `records`, in order, those of keys whose newest record says something else than what is in force."""
        records = list(records)
        newest = {(record.topic, record.key or b""): record.value for record in records}
        changed = {name for name, value in newest.items() if self.content.get(name) != value}
        return [record for record in records if (record.topic, record.key or b"") in changed]

    def apply(self, edits: Iterable[Record]) -> None:
        """These edits are in force from now on."""
        for edit in edits:
            self._put(edit.topic, edit.key or b"", edit.value)

    def towards(self, other: Edition) -> list[Record]:
        """The edits that make the other edition out of this one."""
        names = [
            name for name in {**self.content, **other.content} if self.content.get(name) != other.content.get(name)
        ]
        return [Record(topic, 0, -1, 0, key, other.content.get((topic, key))) for topic, key in sorted(names)]

    def rows(self, changed: Iterable[Name], stored: set[bytes]) -> Iterator[tuple[bytes, bytes | None]]:
        """Keys and values to write where these names have changed. `stored`: the keys that are there; changed."""
        for topic, bucket in sorted({(topic, _bucket(key)) for topic, key in changed}):
            prefix = b"%s%s/%02d." % (EDIT_PREFIX, topic.encode(), bucket)
            if (topic, bucket) not in self._packed:
                parts = self._parts(topic, bucket)
                self._packed[topic, bucket] = [zlib.compress(_encode(part), 1) for part in parts]
            wanted = {prefix + b"%d" % n: value for n, value in enumerate(self._packed[topic, bucket])}
            old = {key for key in stored if key.startswith(prefix)}
            yield from wanted.items()
            for key in sorted(old - wanted.keys()):
                yield key, None
            stored.difference_update(old)
            stored.update(wanted)  # in place: it is the caller's

    def _parts(self, topic: str, bucket: int) -> Iterator[list[tuple[bytes, bytes]]]:
        part: list[tuple[bytes, bytes]] = []
        size = 0
        for key in sorted(self._keys.get((topic, bucket), ())):
            value = self.content[topic, key]
            if part and size + len(value) > _PART_MAX:
                yield part
                part, size = [], 0
            part.append((key, value))
            size += len(key) + len(value)
        if part:
            yield part

    @classmethod
    def read(cls, rows: Mapping[bytes, bytes]) -> Edition:
        """From rows with the prefix ``e/``. Raises BadInput."""
        edition = cls()
        for key, value in rows.items():
            try:
                topic = key.removeprefix(EDIT_PREFIX).rpartition(b"/")[0].decode()
                for name, content in _decode(zlib.decompress(value)):
                    edition._put(topic, name, content)
            except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise BadInput(f"damaged: {error}", where=key.decode("utf-8", "replace")) from None
        return edition
