"""The streams of a spool: those that scans are put into, and those of earlier epochs that are still being sent."""

from __future__ import annotations

from collections.abc import Iterator

from tidegate_protocols.ids import check_device_id
from tidegate_protocols.schema import Schema

from .rows import PRIORITY, Stream
from .store import Ranks


class Streams:
    """All streams of a file by their number; those of `epoch` also by device and schema."""

    def __init__(self, epoch: int = 0, by_number: dict[int, Stream] | None = None) -> None:
        self.by_number = by_number or {}
        self._epoch = epoch
        self._current = {
            (each.device, each.schema.fingerprint): each for each in self.by_number.values() if each.epoch == epoch
        }
        self._next_number = max(self.by_number, default=0) + 1

    def __iter__(self) -> Iterator[Stream]:
        return iter(self.by_number.values())

    def of(self, device: str, schema: Schema, priority: int = PRIORITY) -> Stream:
        """The stream of this epoch, new or known. Raises BadInput for no device id."""
        key = (device, schema.fingerprint)
        found = self._current.get(key)
        if found is None:
            check_device_id(device)
            found = Stream(self._next_number, device, schema, self._epoch, priority=priority)
            self._next_number += 1
            self._current[key] = self.by_number[found.number] = found
        return found

    def current(self) -> list[Stream]:
        """Those of this epoch, in the order in which they were first seen."""
        return list(self._current.values())

    def before(self, stream: Stream) -> list[Stream]:
        """Those of the same device and schema in earlier epochs."""
        return [
            each
            for each in self
            if each.epoch < stream.epoch
            and each.device == stream.device
            and each.schema.fingerprint == stream.schema.fingerprint
        ]

    def ranks(self) -> Ranks:
        """The streams by priority, for an eviction."""
        by_priority: dict[int, set[int]] = {}
        for stream in self:
            by_priority.setdefault(stream.priority, set()).add(stream.number)
        if len(by_priority) == 1:
            return [(priority, None) for priority in by_priority]
        return [(priority, frozenset(by_priority[priority])) for priority in sorted(by_priority)]
