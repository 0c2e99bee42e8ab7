"""Events of a replay held against the record, by id (rule B9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tidegate_protocols.events import Event

from .cursors import DeviceRow

Names = Mapping[str, tuple[int, int]]  # device → (epoch, sequence number)


@dataclass(slots=True)
class Comparison:
    """Events, by their device and time: only in the replay, only in the record, and in both but different.

    `same`: how many are in both, alike.
    """

    added: list[Event] = field(default_factory=list)
    missing: list[Event] = field(default_factory=list)
    changed: list[tuple[Event, Event]] = field(default_factory=list)
    same: int = 0

    @property
    def alike(self) -> bool:
        return not (self.added or self.missing or self.changed)

    def add(self, other: Comparison) -> None:
        """Add what was found in another partition."""
        self.added += other.added
        self.missing += other.missing
        self.changed += other.changed
        self.same += other.same


def open_from(rows: Iterable[tuple[str, DeviceRow]]) -> dict[str, tuple[int, int]]:
    """Where main's cursor stands, of each device that has a preview open; the least of several."""
    found: dict[str, tuple[int, int]] = {}
    for device, row in rows:
        cursors = [(c.epoch, c.next) for c in row.cursors.values() if c.shown is not None]
        if cursors:
            found[device] = min(cursors)
    return found


def of_record(events: Iterable[Event], cursors: Names) -> dict[str, Event]:
    """The record, by id: what is not provisional, and what is and lies at or past main's cursor of an open preview."""
    record = {}
    for event in events:
        if event.lane == "provisional":
            cursor = cursors.get(event.device)
            if cursor is None or (event.epoch, event.seq) < cursor:
                continue
        record[event.id] = event
    return record


def compare(replayed: Iterable[Event], recorded: Iterable[Event], cursors: Names) -> Comparison:
    """`replayed` against `recorded`; `cursors` as `open_from` gives them at the end of the replay."""
    ours, theirs = of_record(replayed, cursors), of_record(recorded, cursors)
    found = Comparison()
    for name, event in ours.items():
        other = theirs.get(name)
        if other is None:
            found.added.append(event)
        elif other != event:
            found.changed.append((event, other))
        else:
            found.same += 1
    found.missing += [event for name, event in theirs.items() if name not in ours]
    for events in (found.added, found.missing):
        events.sort(key=_order)
    found.changed.sort(key=lambda pair: _order(pair[0]))
    return found


def _order(event: Event) -> tuple[int, str, str]:
    return event.ts_us, event.device, event.id
