"""Runs a Logic in a plain for-loop, without Kafka: for tests, and wherever records are already at hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .logic import Logic, MicroBatch, Output, Outputs, Record, RowKey


@dataclass(slots=True)
class Ran:
    """What a run left: its output in order, and the rows as they stand."""

    records: list[Output] = field(default_factory=list)
    rows: dict[RowKey, bytes] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def of(self, topic: str) -> list[Output]:
        """The output to one topic."""
        return [record for record in self.records if record.topic == topic]


def run(logic: Logic, batches: Iterable[MicroBatch | Sequence[Record]], *, partitions: Iterable[int] = (0,)) -> Ran:
    """Take `partitions` empty, process every micro-batch (or plain sequence of log records), keep what comes out.

    Broadcast content is the caller's to give, with `logic.broadcast`, before or between.
    """
    ran = Ran()
    for partition in partitions:
        logic.take(partition, {})
    for batch in batches:
        step(logic, batch, ran)
    return ran


def step(logic: Logic, batch: MicroBatch | Sequence[Record], ran: Ran) -> None:
    """One micro-batch; what comes out is added to `ran`."""
    keep(logic, logic.process(batch if isinstance(batch, MicroBatch) else MicroBatch(records=batch)), ran)


def keep(logic: Logic, out: Outputs, ran: Ran) -> None:
    """Add what a `process` gave, and the rows that it changed, to `ran`."""
    ran.records += out.records
    for name, count in out.counts.items():
        ran.counts[name] = ran.counts.get(name, 0) + count
    for key, value in logic.rows(out.touched | out.behind):
        if value is None:
            ran.rows.pop(key, None)
        else:
            ran.rows[key] = value
