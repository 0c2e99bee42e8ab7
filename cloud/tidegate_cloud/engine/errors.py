"""Why an instance stops, or takes its partitions again."""

from __future__ import annotations


class Halt(RuntimeError):
    """The instance must not go on: going on could lose or repeat something. The text says why and what to do."""


class Fenced(Halt):
    """Another producer with this instance's transactional id has taken over."""


class Aborted(RuntimeError):
    """A transaction came to nothing. Its micro-batch left no trace; memory must be forgotten (rule 2)."""
