"""Which events an alert engine has had: what comes again, by a replay or a second run, changes nothing.

The events of one operator about one subject of a device come in the order in which they were learnt. So what is older
than the newest one had been there, and of those as old as that one their ids are kept.

Limits: 256 pairs of operator and subject per device, 64 ids each. Where a pair has been forgotten, whatever was learnt
no later than the newest of what was forgotten counts as had.
"""

from __future__ import annotations

import msgspec
from tidegate_protocols.events import Event

PAIRS_MAX = 256
IDS_MAX = 64


class Entry(msgspec.Struct, array_like=True):
    """The newest events of one operator about one subject. `ids`: those learnt at that time."""

    operator: str
    subject: str
    learnt_us: int
    ids: list[str]


class Seen:
    """The pairs, the one that was heard of last at the end. `floor_us`: the newest time that was forgotten."""

    def __init__(self, entries: list[Entry], floor_us: int) -> None:
        self._entries = {(entry.operator, entry.subject): entry for entry in entries}
        self.floor_us = floor_us

    def entries(self) -> list[Entry]:
        """What to keep."""
        return list(self._entries.values())

    @property
    def newest_us(self) -> int | None:
        """When the newest of all was learnt; None: there is none."""
        return max((entry.learnt_us for entry in self._entries.values()), default=None)

    def __contains__(self, event: Event) -> bool:
        entry = self._entries.get((event.operator, event.subject))
        if entry is None:
            return event.learnt_us <= self.floor_us
        return event.learnt_us < entry.learnt_us or (event.learnt_us == entry.learnt_us and event.id in entry.ids)

    def add(self, event: Event) -> None:
        """An event that was not there before."""
        key = event.operator, event.subject
        entry = self._entries.pop(key, None)
        if entry is None or entry.learnt_us != event.learnt_us:
            entry = Entry(*key, event.learnt_us, [])
        entry.ids = [*entry.ids[1 - IDS_MAX :], event.id]
        self._entries[key] = entry
        if len(self._entries) > PAIRS_MAX:
            oldest = self._entries.pop(next(iter(self._entries)))
            self.floor_us = max(self.floor_us, oldest.learnt_us)

    def expire(self, until_us: int) -> None:
        """Forget what was learnt by this time."""
        old = [entry for entry in self._entries.values() if entry.learnt_us <= until_us]
        for entry in old:
            del self._entries[entry.operator, entry.subject]
            self.floor_us = max(self.floor_us, entry.learnt_us)
