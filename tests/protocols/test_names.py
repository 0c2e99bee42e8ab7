"""Device ids, the partition of a key, and the catalogue of topics."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_protocols import topics
from tidegate_protocols.errors import BadInput
from tidegate_protocols.ids import check_device_id, murmur2, partition_of

ALLOWED = string.ascii_letters + string.digits + "._:-"


@given(st.text(ALLOWED, min_size=1, max_size=64))
def test_an_id_of_allowed_characters_passes(text: str) -> None:
    assert check_device_id(text) == text


@given(st.text(max_size=70).filter(lambda text: not (0 < len(text) <= 64 and set(text) <= set(ALLOWED))))
def test_any_other_id_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="device id"):
        check_device_id(text)


def test_a_newline_at_the_end_is_not_overlooked() -> None:
    with pytest.raises(BadInput):
        check_device_id("bus-7\n")


# Kafka's own UtilsTest.testMurmur2, as signed 32-bit numbers.
@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_agrees_with_kafka(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed % 2**32


@given(st.binary(max_size=80), st.integers(1, 64))
def test_a_partition_is_one_of_those_there_are(key: bytes, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions


def test_murmur2_agrees_with_a_naive_twin_at_every_tail_length() -> None:
    def naive(data: bytes) -> int:
        m, h = 0x5BD1E995, 0x9747B28C ^ len(data)
        while len(data) >= 4:
            k = int.from_bytes(data[:4], "little") * m % 2**32
            k = (k ^ (k >> 24)) * m % 2**32
            h = h * m % 2**32 ^ k
            data = data[4:]
        for i in reversed(range(len(data))):
            h ^= data[i] << 8 * i
        if data:
            h = h * m % 2**32
        h = (h ^ (h >> 13)) * m % 2**32
        return h ^ (h >> 15)

    for size in range(20):
        key = bytes(range(200, 200 + size))
        assert murmur2(key) == naive(key)


def test_every_topic_keyed_by_device_has_the_same_partition_count() -> None:
    counts = {topic.partitions for topic in topics.CATALOGUE if "device" in topic.key and topic.partitions > 1}
    assert counts == {topics.DEVICE_PARTITIONS}


def test_names_in_the_catalogue_are_unique_and_legal() -> None:
    assert len(topics.BY_NAME) == len(topics.CATALOGUE)
    for name in topics.BY_NAME:
        assert 0 < len(name) <= 249
        assert set(name) <= set(string.ascii_letters + string.digits + "._-")


@pytest.mark.parametrize("topic", topics.CATALOGUE, ids=lambda topic: topic.name)
def test_a_topic_is_compacted_or_has_a_retention_never_both(topic: topics.Topic) -> None:
    config = topic.config()
    assert config["message.timestamp.type"] == "LogAppendTime"
    assert (config["cleanup.policy"] == "compact") == ("retention.ms" not in config)


def test_extra_settings_are_carried() -> None:
    assert topics.CHECKPOINTS.config()["segment.bytes"] == str(16 * 2**20)
