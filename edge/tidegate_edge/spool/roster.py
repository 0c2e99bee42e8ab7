"""Which streams a spool has, once more beside its database: what a chunk in a damaged file belongs to.

`streams` is a text file, a line per schema and per stream, each with its own checksum; a later line about a stream
replaces an earlier one. It is written before the transaction that first stores what it speaks of, and only then.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from crc32c import crc32c
from tidegate_protocols.errors import BadInput
from tidegate_protocols.schema import Schema

from .rows import PRIORITY, Stream


class Line(msgspec.Struct, omit_defaults=True):
    """A schema, or a stream with the fingerprint of its schema in hex."""

    schema: str = ""
    number: int = 0
    device: str = ""
    fingerprint: str = ""
    epoch: int = 0
    sent_as: int | None = None
    priority: int = PRIORITY


class Roster:
    """`load` reads it; `note` appends streams that are new or were claimed since."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._schemas: set[str] = set()
        self._noted: dict[int, int | None] = {}

    def load(self) -> dict[int, Stream]:
        """The streams that can be read, without how far they have come."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        schemas: dict[str, Schema] = {}
        found: dict[int, Stream] = {}
        for text in lines:
            try:
                if crc32c(text[9:]) != int(text[:8], 16):
                    continue
                line = msgspec.json.decode(text[9:], type=Line)
                if line.schema:
                    schema = Schema.from_json(line.schema.encode())
                    schemas[schema.fingerprint.hex()] = schema
                elif line.fingerprint in schemas:
                    found[line.number] = Stream(
                        line.number, line.device, schemas[line.fingerprint], line.epoch, sent_as=line.sent_as,
                        priority=line.priority,
                    )  # fmt: skip
                    self._noted[line.number] = line.sent_as
            except (ValueError, msgspec.MsgspecError, BadInput):
                continue
        self._schemas = set(schemas)
        return found

    def missing(self, streams: list[Stream]) -> list[Stream]:
        """Those of `streams` that it does not know as they are."""
        return [stream for stream in streams if self._noted.get(stream.number, -1) != stream.sent_as]

    def note(self, streams: list[Stream]) -> None:
        """Write what it does not know yet of `streams`, synced. Raises OSError."""
        lines = self._lines(streams)
        if lines:
            with self._path.open("ab") as file:
                size = file.tell()
                try:
                    file.write(b"".join(lines))
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.ftruncate(file.fileno(), size)  # half a line would spoil the next
                    raise
            self._remember(streams)

    def rewrite(self, streams: list[Stream]) -> None:
        """Write it anew, for these streams alone. Raises OSError."""
        self._schemas.clear()
        draft = self._path.with_suffix(".new")
        with draft.open("wb") as file:
            file.write(b"".join(self._lines(streams)))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
        self._noted.clear()
        self._remember(streams)

    def _remember(self, streams: list[Stream]) -> None:
        self._schemas.update(stream.schema.fingerprint.hex() for stream in streams)
        self._noted.update((stream.number, stream.sent_as) for stream in streams)

    def _lines(self, streams: list[Stream]) -> list[bytes]:
        out = []
        seen = set(self._schemas)
        for stream in streams:
            mark = stream.schema.fingerprint.hex()
            if mark not in seen:
                seen.add(mark)
                out.append(_seal(Line(schema=stream.schema.canonical_json.decode())))
            line = Line("", stream.number, stream.device, mark, stream.epoch, stream.sent_as, stream.priority)
            out.append(_seal(line))
        return out


def _seal(line: Line) -> bytes:
    text = msgspec.json.encode(line)
    return b"%08x %b\n" % (crc32c(text), text)
