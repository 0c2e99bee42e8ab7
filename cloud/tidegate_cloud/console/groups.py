"""Groups of alerts and messages to people, as Kafka has them: kept by the reading thread, read by everyone."""

from __future__ import annotations

import threading
from collections import OrderedDict

from tidegate_protocols.alerts import GROUP, NOTIFICATION, Group, Notification

from .views import encode

RESOLVED_KEPT = 200
NOTICES_KEPT = 5_000


class Groups:
    """The groups that are not resolved, and the last that are."""

    def __init__(self) -> None:
        self._open: dict[str, Group] = {}
        self._resolved: OrderedDict[str, Group] = OrderedDict()
        self._changed = True

    def take(self, key: str, value: bytes | None) -> None:
        """A record of fleet.alert-groups. Raises BadInput, and leaves what was there."""
        group = None if value is None else GROUP.decode(value)
        self._open.pop(key, None)
        self._resolved.pop(key, None)
        if group is not None and group.state == "resolved":
            self._resolved[key] = group
            if len(self._resolved) > RESOLVED_KEPT:
                self._resolved.popitem(last=False)
        elif group is not None:
            self._open[key] = group
        self._changed = True

    def changes(self) -> bytes | None:
        """All of them as a JSON array, the last changed first, if any changed since the last call."""
        if not self._changed:
            return None
        self._changed = False
        every = sorted([*self._open.values(), *self._resolved.values()], key=lambda g: (-g.changed_us, g.id))
        return encode(every)


class Notices:
    """The newest word on each of the last messages. Thread-safe."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, Notification] = OrderedDict()  # the last heard of last
        self._lock = threading.Lock()

    def clear(self) -> None:
        with self._lock:
            self._of.clear()

    def take(self, key: str, value: bytes | None) -> None:
        """A record of fleet.notifications. Raises BadInput."""
        notice = None if value is None else NOTIFICATION.decode(value)
        with self._lock:
            self._of.pop(key, None)
            if notice is not None:
                self._of[key] = notice
                if len(self._of) > NOTICES_KEPT:
                    self._of.popitem(last=False)

    def newest(self, states: frozenset[str], alert: str, limit: int) -> list[Notification]:
        """The last heard of first; only those in a state, of an alert."""
        with self._lock:
            every = list(reversed(self._of.values()))
        found = (n for n in every if (not states or n.state in states) and (not alert or n.alert == alert))
        return [notice for notice, _ in zip(found, range(limit), strict=False)]
