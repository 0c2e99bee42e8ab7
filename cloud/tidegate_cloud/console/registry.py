"""The registry as Kafka has it, for reading and editing: fences, rules, devices, policies, silences.

Versions go up by one with each change. Whoever edits may say which version was looked at; if it is another one by then,
nothing is written.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Any

import msgspec
from tidegate_protocols.errors import BadInput

from tidegate_cloud.admin import registry as admin
from tidegate_cloud.admin.files import flat
from tidegate_cloud.admin.registry import KINDS, Kind

from .writer import Writer

EDITED: tuple[str, ...] = tuple(name for name in KINDS if name != "feedback")
"""What people edit here. (Feedback is what the alert engine makes of "false alarm".)"""
_WITH_PAST = frozenset(("fences",))
PAST_KEPT = 50
KIND_OF_TOPIC: dict[str, Kind] = {KINDS[name].topic.name: KINDS[name] for name in EDITED}


class Changed(Exception):
    """Somebody else changed it meanwhile. `version`: as it is now, 0 where it is not there."""

    def __init__(self, version: int) -> None:
        super().__init__(f"it is at version {version} by now" if version else "it is not there any more")
        self.version = version


class Registry:
    """See the module's docstring. `take` and `clear` are the reading thread's, everything else the event loop's."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._records: dict[str, dict[str, Any]] = {name: {} for name in EDITED}
        self._past: dict[str, dict[str, deque[tuple[int, Any]]]] = {name: {} for name in EDITED}
        self._read = dict.fromkeys(EDITED, -1)
        self._lock = threading.Lock()
        self._writing = asyncio.Lock()

    def clear(self) -> None:
        """Forget everything: it will be read again."""
        with self._lock:
            for name in EDITED:
                self._records[name].clear()
                self._past[name].clear()
                self._read[name] = -1

    def take(self, kind: Kind, key: str, value: bytes | None, offset: int, at_us: int) -> None:
        """A record of the kind's topic, and when Kafka had it. Raises BadInput, and leaves what was there."""
        with self._lock:
            self._read[kind.name] = offset
            record = None if value is None else kind.codec.decode(value)
            if record is None:
                self._records[kind.name].pop(key, None)
            else:
                self._records[kind.name][key] = record
            if kind.name in _WITH_PAST:
                self._past[kind.name].setdefault(key, deque(maxlen=PAST_KEPT)).append((at_us, record))

    def all(self, kind: str) -> list[Any]:
        """Every record of a kind, by id."""
        with self._lock:
            return [self._records[kind][name] for name in sorted(self._records[kind])]

    def get(self, kind: str, name: str) -> Any | None:
        return self._records[kind].get(name)

    def past(self, kind: str, name: str) -> list[tuple[int, Any]]:
        """When a record was written and what it was, None for removed; the newest first, as far as Kafka has it."""
        with self._lock:
            return list(reversed(self._past[kind].get(name, ())))

    async def put(self, kind: str, name: str, entry: dict[str, Any], seen: int | None = None) -> Any:
        """Check a record, give it the next version and write it; returns it as it now is.

        `seen`: the version that was looked at, 0 for none. Raises BadInput, Changed, NotSaved.
        """
        one = KINDS[kind]
        async with self._writing:
            known = self.get(kind, name)
            self._compare(known, seen)
            fields = dict(entry) | {"id": name}
            if "version" in one.codec.kind.__struct_fields__:
                fields["version"] = (known.version if known is not None else 0) + 1
            record = await asyncio.to_thread(check, one, fields)
            await self._write(one, name, one.codec.encode(record))
            return record

    async def remove(self, kind: str, name: str, seen: int | None = None) -> bool:
        """Remove a record; False where there is none. Raises Changed, NotSaved."""
        async with self._writing:
            known = self.get(kind, name)
            if known is None:
                return False
            self._compare(known, seen)
            await self._write(KINDS[kind], name, None)
            return True

    async def _write(self, kind: Kind, name: str, value: bytes | None) -> None:
        await self._writer.put(kind.topic.name, name, value, lambda: self._read[kind.name])

    def _compare(self, known: Any | None, seen: int | None) -> None:
        version = 0 if known is None else getattr(known, "version", 1)
        if seen is not None and seen != version:
            raise Changed(version)


def check(kind: Kind, fields: dict[str, Any]) -> Any:
    """The record that these fields make. Raises BadInput with the place."""
    return admin.record_of(kind, fields, kind.name)


def fence_fields(feature: Any) -> dict[str, Any]:
    """A GeoJSON Feature as the fields of a Fence. Raises BadInput."""
    fields = flat(feature, "fence")
    fields.pop("version", None)
    return fields


def as_feature(fence: Any) -> dict[str, Any]:
    """A Fence as a GeoJSON Feature."""
    properties = {key: value for key, value in msgspec.structs.asdict(fence).items() if key != "geometry"}
    try:
        geometry = msgspec.json.decode(fence.geometry)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadInput(f"its geometry is not JSON: {error}", where=f"fence {fence.id}") from None
    return {"type": "Feature", "id": fence.id, "geometry": geometry, "properties": properties}
