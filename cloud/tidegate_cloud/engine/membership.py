"""An instance's place in its consumer group, and its partitions as tasks.

A task is one partition number of all co-partitioned inputs. It is assigned when the group gave it every one of them,
and taken once its state is in memory; only a taken task yields records.

The group runs by KIP-848 (``group.protocol=consumer``) with the range assignor, which gives equal partition numbers of
several topics to the same member. Rebalance callbacks run inside `poll`, where no transaction is ever open: dropping
the task is all that a revocation needs.

Two consumers: one is the group's member and never fetches; the other belongs to no group and reads what is taken, from
exactly where the state says. (One consumer would have to be paused, sought and resumed instead; librdkafka 2.16 can
lose a seek that meets the check of a new leader's epoch, and then never fetches again.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from tidegate_cloud.kafka import Message, Part, client_settings, passes, take

from .errors import Aborted, Halt

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Task:
    """One partition number of all inputs.

    assigned   which of the topics the group has given us
    taken      whether its state is in memory
    positions  next offset of each topic that has not been processed yet, once taken
    ends       where each topic was last seen to end
    held       side inputs that are not read for now
    needed     side input → first offset that is still needed, where that is not the position
    """

    partition: int
    assigned: set[str] = field(default_factory=set)
    taken: bool = False
    positions: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    needed: dict[str, int] = field(default_factory=dict)

    def to_commit(self) -> dict[str, int]:
        """Where each topic must be read from, should somebody else go on from here."""
        return {topic: min(offset, self.needed.get(topic, offset)) for topic, offset in self.positions.items()}


class Membership:
    """The group's consumer. `topics`: the log input first. `dropped` is told of each taken task that goes."""

    def __init__(
        self, bootstrap: str, client_id: str, group: str, topics: Sequence[str], dropped: Callable[[int], None]
    ) -> None:
        self.bootstrap = bootstrap
        self.topics = tuple(topics)
        self.group = group
        self.client_id = client_id
        self.tasks: dict[int, Task] = {}
        self._dropped = dropped
        shared = client_settings(bootstrap, client_id) | {
            "group.id": group,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
        self._member = Consumer(shared | {"group.protocol": "consumer", "group.remote.assignor": "range"})
        self._reader = Consumer(
            shared
            | {
                "enable.partition.eof": True,
                # An offset that has expired must not turn silently into another one.
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 100,
                # The default leaves a drained queue empty for up to a second.
                "fetch.queue.backoff.ms": 5,
                "queued.max.messages.kbytes": 32 * 1024,
            }
        )

    def join(self) -> None:
        """Ask for partitions; they come during `poll`."""
        self._member.subscribe(
            list(self.topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
        )

    def _assigned(self, consumer: Consumer, parts: list[TopicPartition]) -> None:
        for part in parts:
            part.offset = OFFSET_END  # nothing is fetched here, so nothing need be looked up
        consumer.incremental_assign(parts)
        consumer.pause(parts)
        for part in parts:
            self.tasks.setdefault(part.partition, Task(part.partition)).assigned.add(part.topic)
        _log.info("%s: assigned %s", self.group, _names(parts))

    def _revoked(self, consumer: Consumer, parts: list[TopicPartition]) -> None:
        for part in parts:
            task = self.tasks.get(part.partition)
            if task is None:
                continue
            self.forget(task)
            task.assigned.discard(part.topic)
            if not task.assigned:
                del self.tasks[part.partition]
        consumer.incremental_unassign(parts)
        _log.info("%s: gave up %s", self.group, _names(parts))

    def waiting(self) -> list[Task]:
        """Tasks that are assigned whole and not taken."""
        return [task for task in self.tasks.values() if not task.taken and len(task.assigned) == len(self.topics)]

    def begin(self, task: Task, positions: Mapping[str, int], held: set[str]) -> None:
        """The task's state is in memory: its records flow from `positions`, except those of topics in `held`."""
        task.positions = dict(positions)
        task.held = set(held)
        task.ends.clear()
        task.needed.clear()
        task.taken = True
        self._read(task, [topic for topic in positions if topic not in held])

    def _read(self, task: Task, topics: Sequence[str]) -> None:
        self._reader.incremental_assign(
            [TopicPartition(topic, task.partition, task.positions[topic]) for topic in topics]
        )

    def _leave(self, task: Task, topics: Sequence[str]) -> None:
        self._reader.incremental_unassign([TopicPartition(topic, task.partition) for topic in topics])

    def hold(self, task: Task, topic: str, hold: bool) -> None:
        """Stop or go on reading a side input of a taken task, from where it is needed."""
        task.positions[topic] = task.to_commit()[topic]
        if hold:
            task.held.add(topic)
            self._leave(task, [topic])
        else:
            task.held.discard(topic)
            task.ends.pop(topic, None)
            self._read(task, [topic])

    def forget(self, task: Task) -> None:
        """The task's state is no longer in memory: nothing of it is yielded until it begins again."""
        if task.taken:
            task.taken = False
            self._leave(task, [topic for topic in task.positions if topic not in task.held])
            task.positions.clear()
            self._dropped(task.partition)

    def poll(self, count: int, wait_s: float) -> list[Message]:
        """Records of taken tasks, at most `count`, each once and in order: they count as read.

        Waits up to `wait_s` when there are none. Raises Halt when the log has expired under a task's position, Aborted
        when a side input has, and KafkaException for what does not heal.
        """
        for news in take(self._member, 100, 0):  # partitions come and go in here
            if (error := news.error()) is not None:
                self._notice(news, error)
        messages = []
        for message in take(self._reader, count, wait_s):
            error = message.error()
            if error is not None:
                self._notice(message, error)
                continue
            task = self.tasks.get(message.partition())
            if task is None or not task.taken:
                continue
            topic, offset = message.topic(), message.offset()
            if offset < task.positions[topic] or topic in task.held:
                continue
            task.positions[topic] = offset + 1
            messages.append(message)
        return messages

    def _notice(self, message: Message, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            task = self.tasks.get(message.partition())
            if task is not None:
                task.ends[message.topic()] = message.offset()
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            text = expired(message.topic(), message.partition(), None, None)
            if message.topic() == self.topics[0]:
                raise Halt(text)
            raise Aborted(text)
        elif not passes(error):
            raise KafkaException(error)
        else:
            _log.debug("%s: %s", self.group, error)

    def lag(self) -> dict[Part, int]:
        """Records that wait in each partition of taken tasks, as far as the last answer of the broker tells.

        End marks of transactions count as records until the end has been seen.
        """
        lags = {}
        for task in self.tasks.values():
            for topic, position in task.positions.items():
                high = position
                if task.ends.get(topic, -1) < position or topic in task.held:
                    watermarks = self._reader.get_watermark_offsets(TopicPartition(topic, task.partition), cached=True)
                    high = max(position, watermarks[1] if watermarks else 0)
                lags[Part(topic, task.partition)] = high - position
        return lags

    def metadata(self) -> Any:
        """Who we are in the group right now, as `send_offsets_to_transaction` wants it."""
        return self._member.consumer_group_metadata()

    def member_id(self) -> str:
        """Our name in the group; it stays the same for the life of this object."""
        return str(self._member.memberid())

    def parts(self, tasks: Sequence[Task]) -> list[Part]:
        """Every partition of every input of these tasks."""
        return [Part(topic, task.partition) for task in tasks for topic in self.topics]

    def close(self) -> None:
        """Leave the group."""
        self._member.close()
        self._reader.close()


def expired(topic: str, partition: int, wanted: int | None, first: int | None) -> str:
    """What to say when the log begins after the place where a task must go on."""
    place = "" if wanted is None else f" at offset {wanted}; the log begins at {first}"
    return (
        f"{topic}[{partition}] has expired under this group{place}. Records were deleted before they were processed. "
        "Keep the topic longer, or reset the group's offset to a point that you accept and start again"
    )


def _names(parts: Sequence[TopicPartition]) -> str:
    by_topic: dict[str, list[int]] = {}
    for part in parts:
        by_topic.setdefault(part.topic, []).append(part.partition)
    return ", ".join(f"{topic}{sorted(numbers)}" for topic, numbers in by_topic.items())
