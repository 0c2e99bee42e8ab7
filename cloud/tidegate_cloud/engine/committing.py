"""What goes into a transaction beside the output: the rows that are due, and the offsets with `replay_from`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

from confluent_kafka import TopicPartition

from tidegate_cloud.clock import Clock

from .behind import Behind, Schedule
from .checkpoints import Position, seal
from .logic import Logic, Output, RowKey
from .membership import Membership, Task
from .transactions import Transactions

_log = logging.getLogger(__name__)

# Of rows in one transaction; more are written in several, one after the other.
_ROWS_MAX = 8 * 2**20
_GROUP = 64


class Committer:
    """Commits on behalf of one instance, and knows what is not written yet.

    behind    rows that changed since they were written
    tags      partition → row → the first log offset that it does not include, as stored
    replayed  partition → `replay_from` as committed
    """

    def __init__(
        self, logic: Logic, members: Membership, transactions: Transactions, schedule: Schedule, clock: Clock
    ) -> None:
        self.logic = logic
        self.members = members
        self.transactions = transactions
        self.schedule = schedule
        self.clock = clock
        self.behind = Behind()
        self.tags: dict[int, dict[bytes, int]] = {}
        self.replayed: dict[int, int] = {}
        self.written_bytes = 0

    def drop(self, partition: int) -> None:
        """The partition's state is no longer in memory."""
        self.behind.drop(partition)
        self.tags.pop(partition, None)
        self.replayed.pop(partition, None)

    def commit(self, outputs: Iterable[Output], touched: Iterable[RowKey], partitions: Iterable[int]) -> None:
        """One transaction: `outputs`, the rows that must be written or are due, and where `partitions` are by now.

        Raises as `Transactions.commit`. Without anything to say nothing is committed.
        """
        sealed = [*outputs, *self._sealed(touched), *self._due()]
        rows = {
            out.partition for out in sealed if out.topic == self.logic.checkpoint_topic and out.partition is not None
        }
        moved = sorted({*partitions, *rows})
        if not (sealed or moved):
            return
        self._transact(sealed, moved)

    def write_all(self, tasks: Sequence[Task], outputs: Iterable[Output] = (), *, at_once: bool = False) -> None:
        """Write every row of these tasks that is behind (a barrier), in as many transactions as it takes.

        `outputs` go with the last one, and with it the tasks' positions are committed. `at_once`: all in one.
        """
        keys = [key for task in tasks for key in self.behind.of(task.partition)]
        ready: list[Output] = []
        size = 0
        for at in range(0, len(keys), _GROUP):
            more = list(self._sealed(keys[at : at + _GROUP]))
            grown = sum(len(out.value or b"") for out in more)
            if ready and size + grown > _ROWS_MAX and not at_once:
                self._transact(ready, sorted({out.partition for out in ready if out.partition is not None}))
                ready, size = [], 0
            ready += more
            size += grown
        self._transact([*ready, *outputs], [task.partition for task in tasks])

    def _transact(self, outputs: Sequence[Output], partitions: Sequence[int]) -> None:
        self.transactions.commit(outputs, self.positions(partitions), self.members.metadata())
        for partition in partitions:
            self.replayed[partition] = self._replay_from(partition)

    def _due(self) -> Iterator[Output]:
        """The oldest rows, for as long as they are due."""
        while (oldest := self.behind.oldest()) is not None:
            partition, since = oldest
            if not self.schedule.due(self.window(), self.clock.monotonic() - since):
                return
            yield from self._sealed(list(self.behind.oldest_rows(partition, _GROUP)))

    def rows_are_due(self) -> bool:
        """Whether a transaction should be made for rows alone."""
        oldest = self.behind.oldest()
        return oldest is not None and self.schedule.due(self.window(), self.clock.monotonic() - oldest[1])

    def window(self) -> int:
        """How many records a replay of everything would read."""
        return sum(
            task.positions[self.logic.log_topic] - self._replay_from(partition)
            for partition, task in self.members.tasks.items()
            if task.taken
        )

    def age_s(self) -> float:
        """How old the oldest unwritten change is."""
        oldest = self.behind.oldest()
        return 0.0 if oldest is None else self.clock.monotonic() - oldest[1]

    def _replay_from(self, partition: int) -> int:
        return self.behind.replay_from(partition, self.members.tasks[partition].positions[self.logic.log_topic])

    def _sealed(self, keys: Iterable[RowKey]) -> Iterator[Output]:
        """These rows as checkpoint records; from then on they count as written."""
        keys = list(keys)
        for key, value in self.logic.rows(keys):
            tag = self.members.tasks[key.partition].positions[self.logic.log_topic]
            sealed = None if value is None else seal(self.logic.state_version, tag, value)
            size = len(sealed or b"") + len(key.key)
            self.written_bytes += size
            self.schedule.wrote(size)
            if sealed is None:
                self.tags.setdefault(key.partition, {}).pop(key.key, None)
            else:
                self.tags.setdefault(key.partition, {})[key.key] = tag
            yield Output(self.logic.checkpoint_topic, key.key, sealed, key.partition)
        self.behind.written(keys)

    def sealed(self, row: Output) -> Output:
        """A row of the engine's own, as a checkpoint record."""
        if row.value is None or row.partition is None:
            return row
        tag = self.members.tasks[row.partition].positions[self.logic.log_topic]
        return row._replace(value=seal(self.logic.state_version, tag, row.value))

    def positions(self, partitions: Iterable[int]) -> list[TopicPartition]:
        """Where these partitions are, as it is committed."""
        return [
            TopicPartition(topic, partition, offset, self._position(topic, partition, offset).text())
            for partition in partitions
            for topic, offset in self.members.tasks[partition].to_commit().items()
        ]

    def _position(self, topic: str, partition: int, offset: int) -> Position:
        replay_from = self._replay_from(partition) if topic == self.logic.log_topic else offset
        return Position(self.logic.state_version, replay_from)

    def forgettable(self, keys: Iterable[RowKey]) -> list[RowKey]:
        """Of these rows, those that may be tombstoned: written, and never needed by a replay again (rule 17)."""
        return [
            key
            for key in keys
            if key not in self.behind
            and self.tags.get(key.partition, {}).get(key.key, 1 << 62) <= self.replayed.get(key.partition, -1)
        ]
