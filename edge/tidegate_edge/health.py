"""How the agent is, as its metrics show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .reload import Status as ConfigStatus
from .sources import Device
from .spool import Books


@dataclass(frozen=True, slots=True)
class Health:
    """How the agent is, apart from its books. `sources` and `uplink` say in words what is in the way, if anything."""

    books: Books
    epoch: int
    frames: int
    frame_bytes: int
    uplink: str
    spool: str
    sources: Mapping[str, str]
    config: ConfigStatus | None = None
    devices: Mapping[str, Sequence[Device]] = field(default_factory=dict)
