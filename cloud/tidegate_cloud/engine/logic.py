"""What a runner runs: a `Logic`, its micro-batches, and what comes out of one.

A Logic is deterministic and does no I/O: no clock, no randomness, no Kafka. Its state is a function of its log input
up to an offset, so a runner may kill, move and repeat it anywhere. The same Logic serves the Kafka runner
(`runner.Runner`) and a plain for-loop (`inprocess.run`).

Inputs, all with the same partition count and partitioned by the same key (rule 19 in docs/engine.md):

- **log input**: one topic. What is in a partition, in that order, is what happened.
- **side inputs**: co-partitioned topics whose order against the log is not fixed (people's commands, frames that
  waited for a schema). They apply at the start of a micro-batch, and the rows that they change are written in its
  transaction.
- **broadcast inputs**: small compacted topics that every instance reads whole (fences, rules, schemas, policies).
- **ticks**: time, as far as it is safe to say so (rule 12).

State is kept in rows. A row has a key (bytes, unique in its partition, prefixed by kind: ``d/DEVICE`` for what belongs
to a device) and a value that only the Logic understands. A log record changes at most the row ``d/`` + its key: rows
that read each other are one row, written together under one tag. The runner keeps the rows in a compacted checkpoint
topic, in the partition of their input, tagged with the first log offset that they do not include.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

Headers = tuple[tuple[str, bytes | None], ...]


class Record(NamedTuple):
    """One record of an input. `append_us`: when the broker appended it, microseconds since 1970 UTC.

    `value` is None for a tombstone.
    """

    topic: str
    partition: int
    offset: int
    append_us: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Output(NamedTuple):
    """One record to produce. `partition` None: the one that its key belongs to (murmur2)."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None
    headers: Headers = ()


class RowKey(NamedTuple):
    """A row of state: the partition it lives in, and its key there."""

    partition: int
    key: bytes


@dataclass(slots=True)
class MicroBatch:
    """What is taken in one transaction. The parts apply in this order: sides, ticks, records.

    records  log input; offset order within a partition, partitions one after the other
    sides    side inputs; order within a topic and partition as appended
    ticks    partition → microseconds since 1970: every log record appended by then has been processed
    """

    records: Sequence[Record] = ()
    sides: Sequence[Record] = ()
    ticks: Mapping[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Outputs:
    """What a micro-batch led to.

    records  to be produced, in this order, in the micro-batch's transaction
    touched  rows that are written in this transaction: a side input or a tick changed them, or a replay must not meet
             again what did (rules 9 and 15)
    counts   what to add to the runner's counters, by name; names it does not know are ignored
    needed   (side topic, partition) → the lowest offset that was read but is still needed; complete each time. It is
             committed in place of what was read last, and reading starts there again after a hold or a restart
    behind   rows that only log records changed, each the row of its own key: they may be written later (rules 4 to 8)
    failures  log records on which an operator raised, in words: met in a silent replay, they stop it (rule 16)
    seconds  how long each stage took, for the metrics
    """

    records: list[Output] = field(default_factory=list)
    touched: set[RowKey] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)
    needed: dict[tuple[str, int], int] = field(default_factory=dict)
    behind: set[RowKey] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class Forgets(Protocol):
    """A Logic that gives up rows after a time has these methods too."""

    def forgettable(self, partition: int, now_us: int) -> Sequence[RowKey]:
        """Rows of a partition that need not be kept any more, every record up to `now_us` having been processed."""
        ...

    def forget(self, keys: Iterable[RowKey]) -> None:
        """Forget these rows."""
        ...


class Logic(Protocol):
    """See the module's docstring. Attributes (plain ones will do) are fixed for the life of the object.

    name              short, for log lines and metrics
    state_version     raised when the meaning of a row's bytes changes; an older program then refuses the state
    log_topic         the log input
    side_topics       side inputs
    broadcast_topics  broadcast inputs
    checkpoint_topic  where the rows are kept
    tick_s            a tick is wanted this often for each partition, in seconds; None: never

    Beside these it may have `reference_topics`: those of the broadcast topics whose keys name their content (schemas by
    fingerprint). A new record there changes nothing about what was processed before, so it is no edit.
    """

    @property
    def name(self) -> str: ...
    @property
    def state_version(self) -> int: ...
    @property
    def log_topic(self) -> str: ...
    @property
    def side_topics(self) -> tuple[str, ...]: ...
    @property
    def broadcast_topics(self) -> tuple[str, ...]: ...
    @property
    def checkpoint_topic(self) -> str: ...
    @property
    def tick_s(self) -> float | None: ...

    def broadcast(self, records: Sequence[Record]) -> Sequence[Record] | None:
        """Broadcast records: once with the whole content before the first `take`, then what was added since, right
        before a `process`. The newest value of a key counts; a tombstone removes.

        Must be idempotent, and what an edit does to rows must follow from comparing a row with what is in force when
        its device is processed, not from having seen the edit: after an abort the rows are older than the edits.
        Input that cannot be read is logged and left out, never raised; it may be returned, and then does not count as
        in force.
        """
        ...

    def take(self, partition: int, rows: Mapping[bytes, bytes]) -> None:
        """A partition comes: these are all its rows, by key. Raises BadInput when one cannot be read."""
        ...

    def drop(self, partition: int) -> None:
        """A partition goes, or is about to be taken again: forget everything about it."""
        ...

    def process(self, batch: MicroBatch) -> Outputs:
        """Apply a micro-batch. Everything in it is of partitions that were taken.

        The events and the rows must not depend on how the log is cut into micro-batches. Bad input and errors that
        one record causes become dead letters; whatever is raised from here stops the instance.
        """
        ...

    def rows(self, keys: Iterable[RowKey]) -> Iterable[tuple[RowKey, bytes | None]]:
        """The bytes of these rows as they are now; None for a row that is no more."""
        ...

    def reads(self, topic: str, partition: int) -> bool:
        """Whether a side input should be read on now. Asked after every micro-batch; False holds it where it is."""
        ...
