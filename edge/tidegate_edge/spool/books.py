"""The books: what became of every scan. They are stored with the scans, so they hold over any restart.

    received = rejected + duplicate + folded + accepted          per source
    accepted = acknowledged + evicted + pending                  for the spool

The unit is the scan; a message of which no scan can be read counts as one, rejected.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec


class SourceBook(msgspec.Struct, array_like=True):
    """What a source was given and what became of it.

    received   scans that came, readable or not, and aggregates when a window makes them
    rejected   could not be read, or had no device
    duplicate  came again: the same scan was, or will be, accepted from another transmission
    folded     went into windows whole: nothing of it is stored by itself
    accepted   stored
    """

    received: int = 0
    rejected: int = 0
    duplicate: int = 0
    folded: int = 0
    accepted: int = 0

    def balances(self) -> bool:
        return self.received == self.rejected + self.duplicate + self.folded + self.accepted


@dataclass(frozen=True, slots=True)
class Books:
    """The books as of one commit.

    evicted is an upper bound of what is missing: where Kafka's acknowledgement was lost, the scan may have arrived.
    bytes is what the pending scans take of the quota.
    """

    sources: dict[str, SourceBook] = field(default_factory=dict)
    accepted: int = 0
    acknowledged: int = 0
    evicted: int = 0
    bytes: int = 0

    @property
    def pending(self) -> int:
        return self.accepted - self.acknowledged - self.evicted

    def balance(self) -> bool:
        """Whether both equations hold."""
        return (
            all(book.balances() for book in self.sources.values())
            and sum(book.accepted for book in self.sources.values()) == self.accepted
            and self.pending >= 0
        )
