"""Which QoS 1 messages of a session were stored but perhaps not yet acknowledged, so that a repetition is known.

When the agent or the connection dies between a commit and its acknowledgement, the broker sends the message again,
under the same packet id and with the DUP flag. A broker has at most a window of messages unacknowledged and they are
acknowledged in order, so the last window of them is all that can come again. Since the broker's window is not known
for certain, at least `KEPT_MIN` messages are kept.

They are stored with each commit as one row of the spool's `state`, which leaves when all of its messages are too old.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial
from hashlib import blake2b

import msgspec

from ..spool import Spool

KEPT_MIN = 2_048

_Marks = list[tuple[int, bytes]]  # packet id, hash of topic and payload


def mark_of(topic: str, payload: bytes) -> bytes:
    """What a message is recognised by: 8 bytes of BLAKE2b over its payload and the end of its topic."""
    return blake2b(payload, digest_size=8, person=topic.encode("utf-8", "surrogatepass")[-16:]).digest()


class Sessions:
    """The repeats of every session, by the label of its source; they outlive the sources."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._known: dict[str, Repeats] = {}

    def of(self, label: str, window: int) -> Repeats:
        """Those of a session in which the broker sends `window` messages unacknowledged."""
        # Twice, since what comes after a reconnection is noted beside what was unacknowledged before it.
        known = self._known.get(label)
        if known is None:
            known = self._known[label] = Repeats(self._spool, f"mqtt/{label}/", 2 * window)
        known.keep(2 * window)
        return known


class Repeats:
    """The last messages of one session. `prefix` is that of their keys in the spool's state."""

    def __init__(self, spool: Spool, prefix: str, window: int) -> None:
        self._spool = spool
        self._prefix = prefix
        self.keep(window)
        self._hashes: dict[int, bytes] = {}
        self._rows: deque[tuple[int, _Marks]] = deque()  # number and messages of each row
        self._count = 0
        self._group = -1
        self._marks: _Marks = []
        self._filters_key = f"mqtt-filters/{prefix}"
        stored = spool.state.get(self._filters_key)
        self._filters: list[str] = msgspec.msgpack.decode(stored, type=list[str]) if stored else []
        own = [key for key in spool.state if key.startswith(prefix) and key.removeprefix(prefix).isdecimal()]
        for key in sorted(own):
            marks = msgspec.msgpack.decode(spool.state[key], type=_Marks)
            self._hashes.update(marks)
            self._rows.append((int(key.removeprefix(prefix)), marks))
            self._count += len(marks)
        self._next = self._rows[-1][0] + 1 if self._rows else 0

    def keep(self, messages: int) -> None:
        """Keep so many, or `KEPT_MIN` where that is more."""
        self._kept = max(messages, KEPT_MIN)

    def subscribed(self, filters: Sequence[str], *, anew: bool = False) -> list[str]:
        """Note what the session subscribes to; return what it did before and no longer does, unless it is `anew`."""
        gone = [] if anew else [each for each in self._filters if each not in filters]
        if list(filters) != self._filters:
            self._filters = list(filters)
            text = msgspec.msgpack.encode(self._filters)
            self._spool.keep(self._filters_key, lambda: text)
        return gone

    def seen(self, mid: int, mark: bytes, *, again: bool) -> bool:
        """Whether this message repeats one that was noted; a new one is noted. `again` is its DUP flag."""
        if again and self._hashes.get(mid) == mark:
            return True
        if self._group != self._spool.group:
            self._begin_row()
        self._hashes[mid] = mark
        self._marks.append((mid, mark))
        return False

    def forget(self) -> None:
        """The broker knows the session no more: what it sends from here on is new."""
        self._spool.drop([self._key(number) for number, _ in self._rows])
        self._hashes.clear()
        self._rows.clear()
        self._marks.clear()  # of the group that is being collected, too
        self._count, self._group = 0, -1

    def _begin_row(self) -> None:
        """The spool has begun a new group: what came since the last one's begin is a row of its own."""
        self._group = self._spool.group
        marks: _Marks = []
        self._marks = marks
        number = self._next
        self._next += 1
        self._spool.keep(self._key(number), partial(self._close_row, number, marks))

    def _close_row(self, number: int, marks: _Marks) -> bytes:
        self._rows.append((number, marks))
        self._count += len(marks)
        old = []
        while self._rows and self._count - len(self._rows[0][1]) >= self._kept:
            gone, messages = self._rows.popleft()
            self._count -= len(messages)
            for mid, mark in messages:
                if self._hashes.get(mid) is mark:  # the id was not used again since
                    del self._hashes[mid]
            old.append(self._key(gone))
        if old:
            self._spool.drop(old)
        return msgspec.msgpack.encode(marks)

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number:012d}"
