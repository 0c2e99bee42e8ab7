"""Taking partitions: from what is committed to state in memory (rules 1 to 3).

In this order, and the order matters:

1. The committed offsets are read once no transactional commit of them is pending. Whoever owned the partition before
   can commit nothing after that: the group knows that it is no longer a member in charge.
2. Then, not before, the checkpoint partition's high watermark is taken, and rows are read until the last stable offset
   has passed it: every row that belongs to the committed offset lies below.
3. A partition without a committed offset gets one, its start, before anything of it is processed: else two instances
   could start it at two places.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import TopicPartition
from tidegate_protocols.errors import BadInput

from tidegate_cloud.kafka import Committed, Offsets, Part

from .checkpoints import Checkpoints, Position
from .errors import Halt
from .logic import Logic
from .membership import Membership, Task, expired
from .transactions import Transactions

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Taker:
    """What it takes to take partitions. Knows no state of its own."""

    logic: Logic
    members: Membership
    transactions: Transactions
    checkpoints: Checkpoints
    offsets: Offsets

    def take(self, tasks: Sequence[Task]) -> None:
        """Take these tasks; their records flow afterwards.

        Raises OffsetsPending when it is too early, Aborted when the first commit came to nothing, Halt when going on
        is not possible.
        """
        parts = self.members.parts(tasks)
        committed = self.offsets.committed(self.members.group, parts)
        earliest = self.offsets.earliest(parts)
        self._commit_starts(parts, committed, earliest)
        for part, position in committed.items():
            self._check(part, position, earliest[part])
        rows = self.checkpoints.load(task.partition for task in tasks)
        for task in tasks:
            stored = rows[task.partition]
            for row in stored.values():
                self._check_version(row.state_version, f"{self.logic.checkpoint_topic}[{task.partition}]")
            try:
                self.logic.take(task.partition, {key: row.value for key, row in stored.items()})
            except BadInput as error:
                self.logic.drop(task.partition)
                raise Halt(str(error.at(f"{self.logic.checkpoint_topic}[{task.partition}]"))) from None
            positions = {}
            for topic in self.members.topics:
                part = Part(topic, task.partition)
                positions[topic] = max(committed[part].offset, earliest[part])
            held = {t for t in self.logic.side_topics if not self.logic.reads(t, task.partition)}
            self.members.begin(task, positions, held)
        _log.info(
            "%s: took %s with %d rows", self.members.group, sorted(task.partition for task in tasks),
            sum(len(stored) for stored in rows.values()),
        )  # fmt: skip

    def _commit_starts(
        self, parts: Sequence[Part], committed: dict[Part, Committed], earliest: dict[Part, int]
    ) -> None:
        fresh = [part for part in parts if part not in committed]
        if not fresh:
            return
        starts = []
        for part in fresh:
            metadata = Position(state=self.logic.state_version, replay_from=earliest[part]).text()
            committed[part] = Committed(earliest[part], metadata)
            starts.append(TopicPartition(part.topic, part.partition, earliest[part], metadata))
        self.transactions.commit((), starts, self.members.metadata())

    def _check(self, part: Part, committed: Committed, earliest: int) -> None:
        place = f"{part.topic}[{part.partition}]"
        try:
            position = Position.read(committed.metadata)
        except BadInput as error:
            raise Halt(
                f"{place}: {error}: the group {self.members.group!r} was committed by another program; "
                "use another --group"
            ) from None
        self._check_version(position.state, place)
        if position.replay_from < committed.offset:
            raise Halt(
                f"{place}: rows are written behind (replay from {position.replay_from}, committed {committed.offset}) "
                "by a newer program; upgrade this one"
            )
        if committed.offset < earliest:
            text = expired(part.topic, part.partition, committed.offset, earliest)
            if part.topic == self.logic.log_topic:
                raise Halt(text)
            # What waited at the side until it expired is lost; the log need not stop for it.
            _log.error("%s; going on at the log's beginning", text)

    def _check_version(self, version: int, place: str) -> None:
        if version != self.logic.state_version:
            raise Halt(
                f"{place}: state of version {version}; this program reads {self.logic.state_version}. "
                "Run the program that wrote it, or start a new --group on an empty checkpoint topic"
            )
