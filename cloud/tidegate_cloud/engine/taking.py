"""Taking partitions: from what is committed to state in memory (rules 1 to 7, 10, 16, 18).

In this order, and the order matters:

1. The committed offsets are read once no transactional commit of them is pending. Whoever owned the partition before
   can commit nothing after that: the group knows that it is no longer a member in charge.
2. Then, not before, the checkpoint partition's high watermark is taken, and rows are read until the last stable offset
   has passed it: every row that belongs to the committed offset lies below.
3. A partition without a committed offset gets one, its start, before anything of it is processed: else two instances
   could start it at two places.
4. What lies between `replay_from` and the committed offset is replayed silently, under the edits that were in force
   then; the partition's own copy says which.
5. Where the registry says something else by now, that takes effect for these partitions at the committed offset, in a
   transaction with every row that is behind (rule 11).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import TopicPartition
from tidegate_protocols.errors import BadInput

from tidegate_cloud.kafka import Committed, Offsets, Part

from . import marks
from .checkpoints import Checkpoints, Position, StoredRow
from .committing import Committer
from .editions import EDIT_PREFIX, Edition
from .errors import Halt
from .logic import Logic, Output, Outputs, Record
from .membership import Membership, Task, expired
from .replaying import Replayer, Span

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Found:
    """What is stored of one partition."""

    task: Task
    rows: dict[bytes, bytes]
    tags: dict[bytes, int]
    edits: dict[bytes, bytes]
    edition: Edition
    span: Span
    old: bool  # of an older state version


class InForce:
    """The edition that the Logic goes by now, and the keys of its copies in each partition."""

    def __init__(self, logic: Logic) -> None:
        self._logic = logic
        self.edition = Edition()
        self.stored: dict[int, set[bytes]] = {}

    def apply(self, edits: Sequence[Record]) -> list[Record]:
        """These edits are in force from now on, as far as they can be read; which those are."""
        if not edits:
            return []
        refused = set(self._logic.broadcast(edits) or ())
        accepted = [edit for edit in edits if edit not in refused]
        self.edition.apply(accepted)
        return accepted

    def switch(self, other: Edition) -> None:
        """Go by another edition."""
        self.apply(self.edition.towards(other))

    def copies(self, partition: int, edits: Sequence[Record]) -> list[Output]:
        """What to write into a partition's state so that it has these edits."""
        stored = self.stored.setdefault(partition, set())
        names = [(edit.topic, edit.key or b"") for edit in edits]
        return [
            Output(self._logic.checkpoint_topic, key, value, partition)
            for key, value in self.edition.rows(names, stored)
        ]  # fmt: skip

    def drop(self, partition: int) -> None:
        """The partition is no longer ours."""
        self.stored.pop(partition, None)


@dataclass(slots=True)
class Taker:
    """What it takes to take partitions. Knows no state of its own.

    upgrade_s  how far back a state of an older version is made anew from, in seconds; None: it is refused
    """

    logic: Logic
    members: Membership
    committer: Committer
    checkpoints: Checkpoints
    offsets: Offsets
    replayer: Replayer
    in_force: InForce
    upgrade_s: float | None = None

    def take(self, tasks: Sequence[Task], now_us: int) -> None:
        """Take these tasks; their records flow afterwards.

        Raises OffsetsPending when it is too early, Aborted when a commit came to nothing, Halt when going on is not
        possible.
        """
        parts = self.members.parts(tasks)
        committed = self.offsets.committed(self.members.group, parts)
        earliest = self.offsets.earliest(parts)
        self._commit_starts(parts, committed, earliest)
        positions = {part: self._check(part, position, earliest[part]) for part, position in committed.items()}
        rows = self.checkpoints.load(task.partition for task in tasks)
        found = [self._found(task, rows[task.partition], positions, committed) for task in tasks]
        current = Edition(self.in_force.edition.content)
        try:
            for one in found:
                self._begin(one, committed, earliest)
            count = self._replay(found)
            self._upgrade([one for one in found if one.old], earliest, now_us)
        finally:
            self.in_force.switch(current)
        self._bring_up([one for one in found if one.edition != current])
        _log.info(
            "%s: took %s with %d rows, after %d records", self.members.group, sorted(task.partition for task in tasks),
            sum(len(one.rows) for one in found), count,
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
        self.committer.transactions.commit((), starts, self.members.metadata())

    def _check(self, part: Part, committed: Committed, earliest: int) -> Position:
        place = f"{part.topic}[{part.partition}]"
        try:
            position = Position.read(committed.metadata)
        except BadInput as error:
            raise Halt(
                f"{place}: {error}: the group {self.members.group!r} was committed by another program; "
                "use another --group"
            ) from None
        self._check_version(position.state, place)
        first = min(position.replay_from, committed.offset)
        if first < earliest and position.state == self.logic.state_version:
            text = expired(part.topic, part.partition, first, earliest)
            if part.topic == self.logic.log_topic:
                raise Halt(text)
            # What waited at the side until it expired is lost; the log need not stop for it.
            _log.error("%s; going on at the log's beginning", text)
        return position

    def _check_version(self, version: int, place: str) -> None:
        if version > self.logic.state_version or (version < self.logic.state_version and self.upgrade_s is None):
            newer = version > self.logic.state_version
            raise Halt(
                f"{place}: state of version {version}; this program reads {self.logic.state_version}. "
                + (
                    "Run the program that wrote it, or a newer one"
                    if newer
                    else "Start it once with --upgrade-hours N to make the state anew from the last N hours of the "
                    "log, or run the program that wrote it"
                )
            )

    def _found(
        self, task: Task, stored: dict[bytes, StoredRow], positions: dict[Part, Position],
        committed: dict[Part, Committed],
    ) -> Found:  # fmt: skip
        part = Part(self.logic.log_topic, task.partition)
        place = f"{self.logic.checkpoint_topic}[{task.partition}]"
        edits = {key: row.value for key, row in stored.items() if key.startswith(EDIT_PREFIX)}
        rows = {key: row for key, row in stored.items() if not key.startswith(EDIT_PREFIX)}
        try:
            edition = Edition.read(edits)
        except BadInput as error:
            raise Halt(str(error.at(place))) from None
        old = positions[part].state < self.logic.state_version
        for row in rows.values():
            if not old and row.state_version != self.logic.state_version:
                raise Halt(f"{place}: a row of version {row.state_version} under a commit of {positions[part].state}")
        return Found(
            task, {key: row.value for key, row in rows.items()}, {key: row.tag for key, row in rows.items()}, edits,
            edition, (min(positions[part].replay_from, committed[part].offset), committed[part].offset), old,
        )  # fmt: skip

    def _begin(self, one: Found, committed: dict[Part, Committed], earliest: dict[Part, int]) -> None:
        """The stored rows come into memory, and the task stands where it was committed."""
        partition = one.task.partition
        try:
            self.logic.take(partition, {} if one.old else one.rows)
        except BadInput as error:
            self.logic.drop(partition)
            raise Halt(str(error.at(f"{self.logic.checkpoint_topic}[{partition}]"))) from None
        positions = {}
        for topic in self.members.topics:
            part = Part(topic, partition)
            positions[topic] = max(committed[part].offset, earliest[part])
        self.committer.tags[partition] = {} if one.old else dict(one.tags)
        self.in_force.stored[partition] = set(one.edits)
        held = {topic for topic in self.logic.side_topics if not self.logic.reads(topic, partition)}
        self.members.begin(one.task, positions, held)
        self.committer.replayed[partition] = one.span[0]

    def _replay(self, found: Sequence[Found]) -> int:
        """Everything up to the committed offsets again; partitions that go by the same edits together."""
        left = [one for one in found if not one.old and one.span[0] < one.span[1]]
        count = 0
        while left:
            edition = left[0].edition
            self.in_force.switch(edition)
            same = [one for one in left if one.edition == edition]
            left = [one for one in left if one not in same]
            spans = {one.task.partition: one.span for one in same}
            count += self.replayer.replay(spans, {one.task.partition: one.tags for one in same}, self._replayed)
        return count

    def _replayed(self, out: Outputs, offsets: dict[int, int]) -> None:
        self.committer.behind.changed(out.behind | out.touched, offsets, self.committer.clock.monotonic())

    def _upgrade(self, old: Sequence[Found], earliest: dict[Part, int], now_us: int) -> None:
        """Rule 18: rows of an older version are made anew from a stated point; one transaction a partition flips it."""
        if not old or self.upgrade_s is None:
            return
        since_us = now_us - int(self.upgrade_s * 1e6)
        starts = self.offsets.at_time((Part(self.logic.log_topic, one.task.partition) for one in old), since_us)
        for one in old:
            self.in_force.switch(one.edition)
            partition = one.task.partition
            part = Part(self.logic.log_topic, partition)
            self.replayer.replay(
                {partition: (max(starts[part], earliest[part]), one.span[1])}, {}, self._replayed, tolerant=True
            )
            made = {key.key for key in self.committer.behind.of(partition)}
            gone = [
                Output(self.logic.checkpoint_topic, key, None, partition) for key in sorted(one.rows.keys() - made)
            ]  # fmt: skip
            self.committer.write_all([one.task], gone, at_once=True)
            _log.warning(
                "%s[%d]: the state was made anew from offset %d: %d rows", self.logic.log_topic, partition,
                max(starts[part], earliest[part]), len(made),
            )  # fmt: skip

    def _bring_up(self, behind: Sequence[Found]) -> None:
        """What was edited while nobody had these partitions takes effect."""
        if not behind:
            return
        outputs: list[Output] = []
        told: set[bytes] = set()
        offsets = {one.task.partition: one.task.positions[self.logic.log_topic] for one in behind}
        for one in behind:
            edits = one.edition.towards(self.in_force.edition)
            outputs += self.sealed_copies(one.task.partition, edits)
            for edit in edits:
                mark = f"{edit.topic}/".encode() + (edit.key or b"")
                if mark not in told:
                    told.add(mark)
                    outputs.append(marks.of_edit(self.members.group, edit, offsets))
        self.committer.write_all([one.task for one in behind], outputs)

    def sealed_copies(self, partition: int, edits: Sequence[Record]) -> list[Output]:
        """Copies of edits as checkpoint records of a partition."""
        return [self.committer.sealed(out) for out in self.in_force.copies(partition, edits)]
