"""Whether a consumer group keeps up, partition by partition, by Burrow's rules: no threshold, only a sliding window.

https://github.com/linkedin/Burrow/wiki/Consumer-Lag-Evaluation-Rules, over what was committed as it is seen from
outside. Burrow tells a consumer that has stopped committing from one that commits the same offset again by the times of
its commits. Those cannot be asked of a broker, so here nobody being in the group is what tells them apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from tidegate_cloud.kafka import Part

WINDOW = 10  # samples, as Burrow has it


class State(StrEnum):
    """How a partition does, from good to bad.

    OK     it was at the end of the partition at some time in the window, or is coming nearer
    WARN   it moves, and the lag never became less: it is too slow
    STALL  it does not move, and the lag never became less
    STOP   the same, and nobody is in the group
    """

    OK = "OK"
    WARN = "WARN"
    STALL = "STALL"
    STOP = "STOP"


class Sample(NamedTuple):
    """What was seen at one time: the committed offset, and how many records lay behind it."""

    offset: int
    lag: int


def evaluate(window: Sequence[Sample], *, members: bool, size: int = WINDOW) -> State:
    """The state of a partition. `window`: the newest samples, oldest first; `members`: somebody is in the group.

    OK until there are `size` samples: a window that is not full says nothing.
    """
    if len(window) < size or any(sample.lag <= 0 for sample in window):
        return State.OK
    if any(later.lag < earlier.lag or later.offset < earlier.offset for earlier, later in pairwise(window)):
        return State.OK  # nearer than it was, or set back on purpose
    if window[0].offset != window[-1].offset:
        return State.WARN
    return State.STALL if members else State.STOP


def worst(states: Iterable[State]) -> str:
    """Of a group: OK, WARN when a partition is slow, ERR when one does not move."""
    found = set(states)
    if found & {State.STALL, State.STOP}:
        return "ERR"
    return "WARN" if State.WARN in found else "OK"


class Windows:
    """The windows of a group's partitions."""

    def __init__(self, size: int = WINDOW) -> None:
        self._size = size
        self._samples: dict[Part, deque[Sample]] = {}

    def add(self, samples: Mapping[Part, Sample]) -> None:
        """What was seen just now; partitions that are not in it are forgotten."""
        self._samples = {
            part: self._samples.get(part, deque(maxlen=self._size)) for part in samples
        }  # fmt: skip
        for part, sample in samples.items():
            self._samples[part].append(sample)

    def full(self) -> bool:
        """Whether every window has been filled."""
        return all(len(samples) == self._size for samples in self._samples.values())

    def states(self, *, members: bool) -> dict[Part, tuple[State, Sample]]:
        """Of each partition its state, and what was seen last."""
        return {
            part: (evaluate(samples, members=members, size=self._size), samples[-1])
            for part, samples in self._samples.items()
        }
