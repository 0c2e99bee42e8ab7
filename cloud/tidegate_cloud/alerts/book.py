"""The rows of a Logic whose every row belongs to one key and knows when time alone will change it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from tidegate_protocols.errors import BadInput

from tidegate_cloud.engine import RowKey

_PREFIX = b"d/"


class Row(Protocol):
    """due_us  when time alone will change it; None: never
    empty   whether there is nothing to keep
    """

    @property
    def due_us(self) -> int | None: ...
    @property
    def empty(self) -> bool: ...
    def to_bytes(self) -> bytes | None: ...


R = TypeVar("R", bound=Row)


class Book(Generic[R]):
    """Rows by partition and key. `new` makes an empty one, `read` one from its bytes (raises BadInput)."""

    def __init__(self, topic: str, new: Callable[[], R], read: Callable[[bytes], R]) -> None:
        self._topic = topic
        self._new = new
        self._read = read
        self._rows: dict[int, dict[bytes, R]] = {}
        self._due: dict[int, list[tuple[int, bytes]]] = {}  # heaps of (time, key)
        self._alarm: dict[int, dict[bytes, int]] = {}  # the earliest time of each key on its heap

    def take(self, partition: int, rows: Mapping[bytes, bytes]) -> Iterable[R]:
        """Read the rows of a partition, and return them. Raises BadInput naming the row."""
        self.drop(partition)
        found = self._rows[partition] = {}
        self._due[partition] = []
        self._alarm[partition] = {}
        for key, value in rows.items():
            try:
                found[key.removeprefix(_PREFIX)] = self._read(value)
            except BadInput as error:
                raise error.at(f"{self._topic}[{partition}], {key.decode('utf-8', 'replace')}") from None
        for key in found:
            self._set_alarm(partition, key)
        return found.values()

    def drop(self, partition: int) -> None:
        """Forget a partition."""
        self._rows.pop(partition, None)
        self._due.pop(partition, None)
        self._alarm.pop(partition, None)

    def row(self, partition: int, key: bytes) -> R:
        """The row of a key, an empty one where there is none."""
        rows = self._rows[partition]
        row = rows.get(key)
        if row is None:
            row = rows[key] = self._new()
        return row

    def items(self, partition: int) -> list[tuple[bytes, R]]:
        """The rows of a partition."""
        return list(self._rows[partition].items())

    def settle(self, partition: int, key: bytes) -> RowKey:
        """A row may have changed: set its alarm, or forget it when nothing is left. Returns its name."""
        if self._rows[partition][key].empty:
            del self._rows[partition][key]
        else:
            self._set_alarm(partition, key)
        return RowKey(partition, _PREFIX + key)

    def due(self, partition: int, now_us: int) -> Iterator[tuple[bytes, R]]:
        """The rows whose time has come. Each is to be settled before the next is asked for."""
        heap = self._due[partition]
        while heap and heap[0][0] <= now_us:
            due_us, key = heapq.heappop(heap)
            if self._alarm[partition].get(key) != due_us:
                continue  # an earlier one has been set since
            del self._alarm[partition][key]
            row = self._rows[partition].get(key)
            if row is not None:
                yield key, row

    def to_bytes(self, keys: Iterable[RowKey]) -> Iterator[tuple[RowKey, bytes | None]]:
        """The bytes of these rows as they are now; None for one that is no more."""
        for name in keys:
            row = self._rows[name.partition].get(name.key.removeprefix(_PREFIX))
            yield name, None if row is None else row.to_bytes()

    def _set_alarm(self, partition: int, key: bytes) -> None:
        due_us = self._rows[partition][key].due_us
        if due_us is not None and due_us < self._alarm[partition].get(key, due_us + 1):
            self._alarm[partition][key] = due_us
            heapq.heappush(self._due[partition], (due_us, key))
