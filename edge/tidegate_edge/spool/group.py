"""What one commit of the spool stores, while it is collected and while it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tidegate_protocols.schema import Schema

from .books import SourceBook
from .rows import Chunk, Stream
from .store import Transaction


@dataclass(slots=True)
class Group:
    """What the next commit will store."""

    chunks: list[Chunk] = field(default_factory=list)
    open: dict[int, Chunk] = field(default_factory=dict)
    schemas: list[Schema] = field(default_factory=list)
    books: dict[str, SourceBook] = field(default_factory=dict)
    keep: dict[str, Callable[[], bytes]] = field(default_factory=dict)
    drop: list[str] = field(default_factory=list)
    rejects: list[tuple[str, int, str, str, bytes]] = field(default_factory=list)
    then: list[Callable[[], None]] = field(default_factory=list)
    scans: int = 0

    def is_empty(self) -> bool:
        return not (self.chunks or self.books or self.keep or self.drop or self.rejects or self.then)


@dataclass(slots=True)
class Commit:
    """A transaction with what follows when it has succeeded."""

    transaction: Transaction
    chunks: list[Chunk]
    new: list[Stream]
    books: dict[str, SourceBook]
    then: list[Callable[[], None]]
    acknowledged: int
    evicted: int
