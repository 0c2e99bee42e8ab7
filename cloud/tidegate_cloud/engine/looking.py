"""Looks at consumer groups from outside: what each has committed of a topic, how much waits, who is there."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from tidegate_protocols.topics import BY_NAME

from tidegate_cloud.apart import Apart
from tidegate_cloud.kafka import REQUEST_S, Offsets, OffsetsPending, Part, passes, reader, take

from .lagging import Sample, State, Windows


class Followed(NamedTuple):
    """A consumer group and what it reads, a topic of the catalogue."""

    group: str
    topic: str

    def __str__(self) -> str:
        return f"{self.group}/{self.topic}"


class _Known(NamedTuple):
    """Whether committed records lie behind an offset, as far as a partition's end."""

    offset: int
    end: int
    waits: bool

    def holds(self, offset: int, end: int) -> bool:
        return self.offset == offset and (self.waits or self.end == end)


class Looker:
    """Asks one cluster. Its methods raise KafkaException without an answer in time.

    The end marks of transactions are offsets too, which nobody can read and commit. So where a group does not move, it
    is tried whether any record lies behind what it has committed.
    """

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._offsets = Offsets(bootstrap, client_id)
        self._apart = Apart(bootstrap, client_id)
        self._reader = reader(bootstrap, client_id)
        self._before: dict[tuple[str, Part], int] = {}
        self._known: dict[tuple[str, Part], _Known] = {}

    def close(self) -> None:
        """End the connections."""
        self._apart.close()
        self._reader.close()

    def look(self, followed: Followed) -> dict[Part, Sample]:
        """Every partition of which the group has committed something."""
        group, topic = followed
        parts = [Part(topic, partition) for partition in range(BY_NAME[topic].partitions)]
        # The end first: what is committed grows, so a lag is rather too small than too large.
        ends = self._offsets.latest(parts)
        committed = self._committed(group, parts)
        standing = {
            part: offset
            for part, offset in committed.items()
            if offset < ends[part]
            and self._before.get((group, part)) == offset
            and not self._is_known(group, part, offset, ends[part])
        }
        for part, waits in self._waits(standing).items():
            self._known[group, part] = _Known(standing[part], ends[part], waits)
        self._before.update(((group, part), offset) for part, offset in committed.items())
        return {
            part: Sample(offset, max(0, ends[part] - offset) if self._may_wait(group, part, offset, ends[part]) else 0)
            for part, offset in committed.items()
        }

    def states(self, followed: Followed, windows: Windows) -> dict[Part, tuple[State, Sample]]:
        """The state of each partition. Whether somebody is in the group is asked only where one does not move."""
        states = windows.states(members=True)
        if any(state is State.STALL for state, _ in states.values()) and not self._apart.members(followed.group):
            return windows.states(members=False)
        return states

    def _is_known(self, group: str, part: Part, offset: int, end: int) -> bool:
        known = self._known.get((group, part))
        return known is not None and known.holds(offset, end)

    def _may_wait(self, group: str, part: Part, offset: int, end: int) -> bool:
        return not self._is_known(group, part, offset, end) or self._known[group, part].waits

    def _committed(self, group: str, parts: Sequence[Part]) -> dict[Part, int]:
        deadline = time.monotonic() + REQUEST_S
        while True:
            try:
                return {part: found.offset for part, found in self._offsets.committed(group, parts).items()}
            except OffsetsPending:  # it waits for a while by itself
                if time.monotonic() > deadline:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"what {group} has committed")) from None

    def _waits(self, offsets: Mapping[Part, int]) -> dict[Part, bool]:
        """Whether a committed record comes from each offset on."""
        found: dict[Part, bool] = {}
        if not offsets:
            return found
        self._reader.assign([TopicPartition(*part, offset) for part, offset in offsets.items()])
        deadline = time.monotonic() + REQUEST_S
        try:
            while len(found) < len(offsets):
                if time.monotonic() > deadline:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "what waits in a partition"))
                for message in take(self._reader, 1000, 0.5):
                    error = message.error()
                    if error is None or error.code() == KafkaError._PARTITION_EOF:
                        found.setdefault(Part(message.topic(), message.partition()), error is None)
                    elif not passes(error):
                        raise KafkaException(error)
        finally:
            self._reader.unassign()
        return found
