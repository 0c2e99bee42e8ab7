"""How events of the stream are written: as server-sent events, as JSON for WebSockets, or as they are.

An event has a kind, its data as JSON, and the token with which a reader goes on after it ("" where there is none).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Event(NamedTuple):
    """One event for one reader. `data` is JSON."""

    kind: str
    data: bytes
    id: str = ""


Format = Callable[[Sequence[Event]], Any]


def as_sse(events: Sequence[Event]) -> bytes:
    """Server-sent events (WHATWG HTML, section 9.2)."""
    return b"".join(
        b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.kind.encode(), event.data)
        if event.id
        else b"event: %b\ndata: %b\n\n" % (event.kind.encode(), event.data)
        for event in events
    )


def as_json(events: Sequence[Event]) -> bytes:
    """One JSON array of ``{"event", "id", "data"}``; kinds and tokens hold nothing that JSON would escape."""
    return b"[" + b",".join(
        b'{"event":"%b","id":"%b","data":%b}' % (event.kind.encode(), event.id.encode(), event.data)
        for event in events
    ) + b"]"  # fmt: skip


def as_events(events: Sequence[Event]) -> Sequence[Event]:
    """For readers within the console itself."""
    return events
