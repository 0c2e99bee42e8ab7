"""An edge that is often away: scans in a durable spool, sent strictly in order, with previews while it is behind."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tidegate_protocols.batch import Batch, Lane

from tests.engine.folding import POISON
from tests.engine.frames import batch

Name = tuple[int, int]  # epoch, sequence number


@dataclass
class Sent:
    """A frame on its way: the first scan's name, and the values."""

    epoch: int
    first: int
    lane: Lane
    values: list[float]

    def batch(self, device: str) -> Batch:
        return batch(device, self.values, seq=self.first, epoch=self.epoch, lane=self.lane)

    def names(self) -> list[Name]:
        return [(self.epoch, self.first + i) for i in range(len(self.values))]


class Edge:
    """`spool` holds scans (epoch, seq, value) in order; `wires` are connections that still deliver, the newest last.

    What was delivered lands in `log`, in order. Everything that an edge can suffer is a method.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.spool: list[tuple[int, int, float]] = []
        self.sent = 0
        self.wires: list[list[Sent]] = [[]]
        self.log: list[Sent] = []
        self.epoch, self.seq, self.link = 0, 0, True
        self.value = 15
        self.accepted: set[Name] = set()
        self.gone: set[Name] = set()
        self.quota = rng.choice([12, 30, 1000])
        self._shown: Name = (-1, 0)
        self._poisoned = rng.choice([None, 7])

    def accept(self) -> None:
        self.value = max(0, min(50, self.value + self.rng.choice([-9, -3, -1, 0, 1, 3, 9])))
        value = POISON if self.seq % 31 == self._poisoned else float(self.value)
        self.spool.append((self.epoch, self.seq, value))
        self.accepted.add((self.epoch, self.seq))
        self.seq += 1
        while len(self.spool) > self.quota:  # may evict what is in flight: then it was counted twice
            at = 0 if self.rng.random() < 0.8 else self.rng.randrange(len(self.spool))
            self.gone.add(self.spool.pop(at)[:2])
            self.sent -= at < self.sent

    def _push(self, rows: list[tuple[int, int, float]], lane: Lane) -> None:
        self.wires[-1].append(Sent(*rows[0][:2], lane, [value for _, _, value in rows]))

    def send(self) -> None:
        if not self.link or self.sent >= len(self.spool):
            return
        runs: list[list[tuple[int, int, float]]] = [[]]  # what is unsent, cut where numbers jump
        for row in self.spool[self.sent :]:
            if runs[-1] and row[:2] != (runs[-1][-1][0], runs[-1][-1][1] + 1):
                runs.append([])
            runs[-1].append(row)
        behind = len(self.spool) - self.sent > 4
        newest = [row for row in runs[-1][-3:] if row[:2] > self._shown]
        if behind and newest:
            self._push(newest, Lane.PREVIEW)
            self._shown = newest[-1][:2]
        rows = runs[0][: self.rng.randint(1, 4)]
        self.sent += len(rows)
        self._push(rows, Lane.BACKLOG if behind else Lane.LIVE)

    def deliver(self) -> None:
        wire = self.rng.choice(self.wires)
        if not wire:
            return
        frame = wire.pop(0)
        self.log.append(frame)
        if wire is self.wires[-1] and frame.lane != Lane.PREVIEW and self.rng.random() < 0.9:
            names = set(frame.names())
            while self.sent and self.spool[0][:2] in names:  # acknowledged: only ever a prefix goes
                del self.spool[0]
                self.sent -= 1

    def turn(self) -> None:
        """The link goes, or comes back."""
        self.link = not self.link
        if not self.link:
            self.fail()

    def fail(self) -> None:
        """A connection or the process is lost; the old connection may still deliver."""
        self.wires = [wire for wire in self.wires if wire and self.rng.random() < 0.7] + [[]]
        self.sent = 0
        self._shown = (-1, 0)

    def lose_spool(self) -> None:
        """A damaged file: some scans are salvaged, under their old names."""
        kept = [row for row in self.spool if self.rng.random() < 0.6]
        self.gone |= {row[:2] for row in self.spool} - {row[:2] for row in kept}
        self.spool, self.seq, self.epoch = kept, 0, self.epoch + 1
        self.fail()

    def again(self) -> None:
        """Something delivered long ago comes once more."""
        if self.log:
            self.log.append(self.rng.choice(self.log))

    def suffer(self, steps: int) -> None:
        """A life of so many steps, without its end."""
        acts = {
            self.accept: 8.0, self.send: 7.0, self.deliver: 9.0, self.turn: self.rng.choice([0.2, 0.8]),
            self.fail: 0.4, self.lose_spool: 0.1, self.again: 0.5,
        }  # fmt: skip
        for act in self.rng.choices(list(acts), list(acts.values()), k=steps):
            act()

    def drain(self) -> None:
        """Everything that is left is sent and delivered."""
        self.link, self.quota = True, 1 << 30
        self.accept()  # a preview of scans that are lost since ends with the next one
        while self.spool:
            self.send()
            self.deliver()
            if self.sent == len(self.spool) and not self.wires[-1]:
                self.fail()  # all is sent, and an acknowledgement was lost
        while any(self.wires):
            self.deliver()
