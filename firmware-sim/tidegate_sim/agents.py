"""Simulated agents that take configurations over the air, as real ones do and as real ones fail to.

What an agent is told is not verified here: this is load and behaviour, not security. A configuration is bad when a
given text stands in it; what an agent does with a bad one is its nature:

good      takes it, sees in its probation that it is bad, goes back and says so
crashes   takes a bad one and restarts over it: says `applying`, and much later that it went back
liar      says that all is well, while its alerts say otherwise
vanishes  takes a bad one and is never heard again until it is told something good in person
dead      is never heard at all
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tidegate_protocols.ota import Reported

SECOND = 1_000_000
Nature = Literal["good", "crashes", "liar", "vanishes", "dead"]


@dataclass(slots=True)
class SimAgent:
    """One agent. `away` until `back_us`. Times in microseconds; `apply_s` until it switches, then its probation."""

    name: str
    nature: Nature
    seed: int
    probation_s: float = 60.0
    heartbeat_s: float = 300.0
    back_us: int = 0
    number: int = 0
    running: int = 0
    bad: bool = False
    ever_bad: bool = False
    alerts: int = 0
    _due: list[tuple[int, Callable[[int], Reported | None]]] = field(default_factory=list)
    _told: tuple[int, bool] | None = None
    _gone: bool = False
    _heartbeat_us: int = 0

    def tell(self, number: int, bad: bool, now_us: int) -> None:
        """What is on record for it now. One that is away finds it when it comes back: the newest only."""
        if number > self.number:
            self._told = (number, bad)

    def step(self, now_us: int) -> list[Reported]:
        """What it says up to now."""
        if self.nature == "dead" or now_us < self.back_us:
            return []
        said: list[Reported] = []
        if self._told is not None and self._told[0] > self.number:
            self._take(*self._told, now_us)
        while self._due and self._due[0][0] <= now_us:
            at_us, act = self._due.pop(0)
            report = act(at_us)
            if report is not None:
                said.append(report)
        if not self._gone and now_us >= self._heartbeat_us:
            said.append(self._report("running", now_us))
        if said:
            self._heartbeat_us = now_us + int(self.heartbeat_s * SECOND)
        return said

    def _take(self, number: int, bad: bool, now_us: int) -> None:
        self.number = number
        rng = random.Random(f"{self.seed}/{self.name}/{number}")
        switch_us = now_us + int(rng.uniform(0.2, 3.0) * SECOND)
        end_us = switch_us + int(self.probation_s * SECOND)
        before = self.running
        self._due = [(switch_us, lambda at: self._switch(number, bad, at))]
        if not bad or self.nature == "liar":
            self._due.append((end_us, lambda at: self._report("running", at)))
        elif self.nature == "vanishes":
            self._gone = True
            self._due.append((switch_us, lambda at: None))
        else:
            late_us = end_us if self.nature == "good" else end_us + int(self.probation_s * SECOND)
            self._due.append((late_us, lambda at: self._back(before, at)))
        if not bad:
            self._gone = False

    def _switch(self, number: int, bad: bool, at_us: int) -> Reported | None:
        self.running, self.bad = number, bad
        self.ever_bad = self.ever_bad or bad
        if bad and self.nature == "liar":
            self.alerts += 3
        return None if self._gone else self._report("applying", at_us)

    def _back(self, before: int, at_us: int) -> Reported:
        self.running, self.bad = before, False
        return self._report("rolled-back", at_us, why="no readings from any source within its probation")

    def _report(self, state: Literal["applying", "running", "rolled-back"], at_us: int, why: str = "") -> Reported:
        return Reported(
            agent=self.name, number=self.number, state=state, running=self.running, since_us=at_us, heard_us=at_us,
            why=why, version="sim", clock="synchronised", free_bytes=1 << 30,
        )  # fmt: skip


def make_agents(count: int, seed: int, *, shares: dict[Nature, float], probation_s: float = 60.0) -> list[SimAgent]:
    """`count` agents named ``sim-00001`` on. `shares` of those that are not good; the same seed gives the same ones."""
    rng = random.Random(seed)
    natures: list[Nature] = []
    for nature, share in shares.items():
        natures += [nature] * round(count * share)
    natures += ["good"] * (count - len(natures))
    rng.shuffle(natures)
    return [
        SimAgent(f"sim-{number:05}", nature, seed, probation_s=probation_s)
        for number, nature in enumerate(natures[:count], 1)
    ]
