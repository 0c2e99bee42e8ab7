"""Questions for the admin client, asked in a child process: answered, and survived when the child does not."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin import NewTopic
from tidegate_cloud.apart import Apart
from tidegate_cloud.broker import free_port
from tidegate_cloud.kafka import passes
from tidegate_protocols.topics import COMMANDS, EVENTS

from tests.support.kafka import QUIET, KafkaNode
from tests.support.wait import until


@pytest.fixture
def apart(fresh_kafka: KafkaNode) -> Iterator[Apart]:
    with Apart(fresh_kafka.bootstrap, "test-apart") as made:
        yield made


def kill(apart: Apart) -> None:
    assert apart._child is not None
    apart._child.kill()
    apart._child.wait()


def test_topic_ids_change_with_a_topic_that_is_made_anew(fresh_kafka: KafkaNode, apart: Apart) -> None:
    client = fresh_kafka.admin()
    before = apart.topic_ids([COMMANDS.name, EVENTS.name])
    assert [len(topic_id) for topic_id in before.values()] == [16, 16]
    client.create_topics([NewTopic("apart", 1, 1)])["apart"].result(30)
    try:
        first = until(lambda: ids(apart), what="the topic to be known")
        assert ids(apart) == first
        client.delete_topics(["apart"], operation_timeout=30)["apart"].result(30)
        until(lambda: not ids(apart), what="the topic to be gone")
        client.create_topics([NewTopic("apart", 1, 1)])["apart"].result(30)
        assert until(lambda: ids(apart), what="the new topic to be known") != first
    finally:
        client.delete_topics(["apart"], operation_timeout=30)["apart"].result(30)
    assert apart.topic_ids([COMMANDS.name, EVENTS.name]) == before


def ids(apart: Apart) -> dict[str, bytes]:
    """Nothing while the topic is not known."""
    try:
        return apart.topic_ids(["apart"])
    except KafkaException as error:
        if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise
        return {}


def test_members_are_named_and_a_killed_child_is_replaced(fresh_kafka: KafkaNode, apart: Apart) -> None:
    member = Consumer(
        {
            "bootstrap.servers": fresh_kafka.bootstrap,
            "group.id": "test-apart-group",
            "group.protocol": "consumer",
            "client.id": "somebody",
            **QUIET,
        }
    )
    try:
        member.subscribe([COMMANDS.name])
        until(lambda: member.poll(0.1) is None and member.assignment(), what="the member to be given its partitions")
        assert apart.topic_ids([COMMANDS.name])
        kill(apart)
        assert apart.members("test-apart-group") == [("somebody", member.memberid())]
    finally:
        member.close()


def test_a_question_without_an_answer_is_an_error_that_passes() -> None:
    with Apart(f"127.0.0.1:{free_port()}", "test-apart") as nowhere:
        with pytest.raises(KafkaException, match="Timed out") as told:  # the client itself gives up, after 5 s
            nowhere.topic_ids([EVENTS.name])
        assert passes(told.value.args[0])
        # The same again, but the child is gone before it has said anything.
        errors: list[BaseException] = []
        thread = threading.Thread(target=lambda: errors.append(_raised(nowhere)))
        thread.start()
        until(nowhere._lock.locked, what="the question to be under way")
        kill(nowhere)
        thread.join()
    assert isinstance(errors[0], KafkaException)
    assert passes(errors[0].args[0])


def _raised(apart: Apart) -> BaseException:
    with pytest.raises(KafkaException) as told:
        apart.topic_ids([EVENTS.name])
    return told.value
