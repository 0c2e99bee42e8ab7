"""Names that travel: device ids, and the partition that a key belongs to."""

from __future__ import annotations

import re

from .errors import BadInput

DEVICE_ID_MAX = 64
_DEVICE_ID = re.compile(r"[A-Za-z0-9._:\-]{1,64}")


def check_device_id(text: str) -> str:
    """Return `text` if it may name a device: 1 to 64 characters of ``A-Z a-z 0-9 . _ : -``.

    Raises BadInput otherwise.
    """
    if _DEVICE_ID.fullmatch(text) is None:
        raise BadInput(
            f"{text[:80]!r} is not a device id", hint="1 to 64 characters of A-Z a-z 0-9 . _ : - are allowed"
        )
    return text


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit MurmurHash2 (seed 0x9747b28c), as `org.apache.kafka.common.utils.Utils.murmur2` gives it.

    Returned unsigned. librdkafka calls the partitioner that uses it ``murmur2_random``.
    """
    m = 0x5BD1E995
    mask = 0xFFFFFFFF
    length = len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k ^= k >> 24
        h = (h * m & mask) ^ (k * m & mask)
    tail = data[whole:]
    if tail:
        h ^= int.from_bytes(tail, "little")
        h = h * m & mask
    h ^= h >> 13
    h = h * m & mask
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition in which Java clients, and ours with ``murmur2_random``, put a record with this key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
