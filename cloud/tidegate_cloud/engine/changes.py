"""What other than the log changed one partition's state, and before which record: read from marks (rule 13)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .editions import Edition, Name
from .logic import Record
from .marks import Mark


@dataclass(slots=True)
class Changes:
    """Of one partition, in order of offsets: what took effect before the record with that offset.

    edits     at several offsets
    ticks     (offset, microseconds since 1970)
    forgets   (offset, the row's key)
    unmarked  keys whose content no mark tells of: what the registry says now is taken to have been in force always
    """

    edits: list[tuple[int, Record]] = field(default_factory=list)
    ticks: list[tuple[int, int]] = field(default_factory=list)
    forgets: list[tuple[int, bytes]] = field(default_factory=list)
    unmarked: dict[Name, bytes] = field(default_factory=dict)

    def at(self, offset: int) -> Edition:
        """What was in force for the record with this offset."""
        edition = Edition(self.unmarked)
        edition.apply(edit for before, edit in self.edits if before <= offset)
        return edition

    def stops(self, first: int, last: int) -> Sequence[int]:
        """Offsets in `first` < … <= `last` before which something took effect."""
        everything = (*self.edits, *self.ticks, *self.forgets)
        return sorted({offset for offset, _ in everything if first < offset <= last})


def changes(marks: Iterable[Mark], partition: int, current: Mapping[Name, bytes]) -> Changes:
    """The changes of a partition. `marks`: of one group, as they were written; `current`: what is in force now.

    A key whose first mark is later than a record was not there before, as far as anyone can tell: marks are kept for 30
    days, and a partition's first owner marks everything that it finds.
    """
    found = Changes()
    for mark in marks:
        offset = mark.offsets.get(partition)
        if offset is None:
            continue
        match mark.kind:
            case "edit":
                found.edits.append((offset, Record(mark.topic, 0, -1, 0, mark.key, mark.value)))
            case "tick":
                found.ticks.append((offset, mark.time_us))
            case "forget":
                found.forgets.append((offset, mark.key))
            case "side":
                pass  # frames that waited: a replay knows every schema from the beginning
    for group in (found.edits, found.ticks, found.forgets):
        group.sort(key=lambda item: item[0])  # stable: in the order written
    told = {(edit.topic, edit.key or b"") for _, edit in found.edits}
    found.unmarked = {name: value for name, value in current.items() if name not in told}
    return found
