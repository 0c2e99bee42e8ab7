"""A director with keys of its own, and an agent's verifier beside it."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from tidegate_cloud.rollouts import keys
from tidegate_cloud.rollouts.director import Director
from tidegate_edge.ota.verify import Answer, Question, verify
from tidegate_protocols.ota import Desired

SHA = hashlib.sha256(b"[batch]\n").hexdigest()
FILES = {"config.toml": (SHA, 8)}


def now_us() -> int:
    """The machine's time: TUF's client reads no other clock."""
    return time.time_ns() // 1000


class Pair:
    """`sign` and `verify`, with what each must remember."""

    def __init__(self, folder: Path, agent: str = "truck-7", *, online_threshold: int = 1) -> None:
        self.keys = folder / "keys"
        self.memory = folder / agent
        self.agent = agent
        self.number = 0
        if not self.keys.exists():
            keys.create(self.keys, online_threshold=online_threshold)
        self.bootstrap = keys.roots(self.keys)[1]

    @property
    def director(self) -> Director:
        return Director(keys.ring(self.keys))

    def sign(self, number: int, stamp: int | None = None, agent: str = "", at_us: int | None = None) -> Desired:
        return self.director.sign(
            agent or self.agent, number, stamp or number, FILES, rollout="R-1", now_us=at_us or now_us(), places={}
        )

    def verify(self, desired: Desired | bytes) -> Answer:
        value = desired if isinstance(desired, bytes) else desired.encode()
        return verify(self.memory, self.agent, Question(value, self.bootstrap, keys.roots(self.keys), self.number))
