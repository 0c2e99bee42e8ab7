"""Rows that are written behind: which have changed since they were last written, and when they become due.

A row that only log records change can be made again from the log, so it need not be written with every record (rules 4
to 8). What is written when follows from three bounds:

- a replay of everything from the oldest unwritten change must not last longer than `replay_s`;
- what is written for that is at most `share` of the bytes of the input, as long as nothing else asks for more: under
  full load this one holds and a replay may last longer;
- no change waits longer than `longest_s`, whether records come or not.

The oldest changes are written first, a few with every transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from .logic import RowKey

REPLAY_S = 2.0
LONGEST_S = 3600.0
SHARE = 0.4
_CREDIT_MIN = 64 * 1024
_CREDIT_MAX = 8 * 2**20
# Of a record in a replay, until it has been measured; a batch says something about it from so many records on.
_RECORD_S = 1e-4
_RECORDS_MIN = 256
# Reading it, beside processing it.
_READING = 1.3


class Behind:
    """Unwritten changes, oldest first, by partition."""

    def __init__(self) -> None:
        # partition → key → (offset of the log from which it can be made again, when it changed)
        self._rows: dict[int, dict[bytes, tuple[int, float]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def changed(self, keys: Iterable[RowKey], offsets: Mapping[int, int], now: float) -> None:
        """Log records at `offsets` (by partition) or later changed these rows. Offsets never go back."""
        for partition, key in keys:
            rows = self._rows.get(partition)
            if rows is None:
                rows = self._rows[partition] = {}
            if key not in rows:
                rows[key] = offsets[partition], now

    def written(self, keys: Iterable[RowKey]) -> None:
        """These rows are stored as they are now."""
        for partition, key in keys:
            self._rows.get(partition, {}).pop(key, None)

    def __contains__(self, key: RowKey) -> bool:
        return key.key in self._rows.get(key.partition, ())

    def replay_from(self, partition: int, position: int) -> int:
        """The lowest offset that an unwritten row needs (rule 6), `position` when there is none."""
        return next(iter(self._rows.get(partition, {}).values()), (position, 0.0))[0]

    def of(self, partition: int) -> list[RowKey]:
        """The unwritten rows of a partition, oldest first."""
        return [RowKey(partition, key) for key in self._rows.get(partition, ())]

    def oldest(self) -> tuple[int, float] | None:
        """The partition with the oldest unwritten change, and when that was."""
        heads = [(next(iter(rows.values()))[1], partition) for partition, rows in self._rows.items() if rows]
        if not heads:
            return None
        since, partition = min(heads)
        return partition, since

    def oldest_rows(self, partition: int, count: int) -> Iterator[RowKey]:
        """Up to `count` of a partition's unwritten rows, oldest first."""
        for _, key in zip(range(count), self._rows[partition], strict=False):
            yield RowKey(partition, key)

    def drop(self, partition: int) -> None:
        """The partition is no longer ours."""
        self._rows.pop(partition, None)


class Schedule:
    """How long a replay would last, and how much may be written to shorten it."""

    def __init__(self, *, replay_s: float = REPLAY_S, longest_s: float = LONGEST_S, share: float = SHARE) -> None:
        self.replay_s = replay_s
        self.longest_s = longest_s
        self._share = share
        self._record_s = _RECORD_S
        self._credit = float(_CREDIT_MIN)

    def took(self, records: int, size: int, seconds: float) -> None:
        """A micro-batch of so many records and bytes took so long to process."""
        self._credit = min(self._credit + self._share * size, _CREDIT_MAX)
        if records >= _RECORDS_MIN:
            self._record_s += (_READING * seconds / records - self._record_s) / 8

    def wrote(self, size: int) -> None:
        """So many bytes of rows were written."""
        self._credit = max(self._credit - size, -float(_CREDIT_MAX))

    def replay_lasts(self, records: int) -> float:
        """Seconds to replay so many records."""
        return records * self._record_s

    def due(self, records: int, age_s: float) -> bool:
        """Whether the oldest change, `age_s` old and so many records back, should be written now."""
        if age_s >= self.longest_s:
            return True
        return self._credit > 0 and self.replay_lasts(records) > self.replay_s
