"""Who is in a group is asked while Kafka comes and goes: an answer or an error, and never the end of who asks."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, KafkaException
from tidegate_cloud import kafka
from tidegate_cloud.kafka import Offsets
from tidegate_protocols.topics import EVENTS

from tests.support.kafka import KafkaNode
from tests.support.wait import until


def test_who_is_there_is_told_or_not_but_asking_neither_hangs_nor_kills(
    proxied_kafka: KafkaNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    offsets = Offsets(proxied_kafka.bootstrap, "asking")
    member = Consumer(
        {"bootstrap.servers": proxied_kafka.bootstrap, "client.id": "there", "group.id": "g",
         "group.protocol": "consumer"}
    )  # fmt: skip
    member.subscribe([EVENTS.name])
    found = until(lambda: member.poll(0.1) or offsets.members("g"), what="it to be there")
    assert [client for client, _ in found] == ["there"]

    proxy = proxied_kafka.proxy
    assert proxy is not None
    proxy.cut()
    monkeypatch.setattr(kafka, "REQUEST_S", 2.0)
    with pytest.raises(KafkaException):
        offsets.members("g")
    monkeypatch.undo()
    proxy.restore()
    assert until(lambda: member.poll(0.1) or offsets.members("g"), what="it to be there again")
    member.close()
    assert offsets.members("nobody-ever") == []
