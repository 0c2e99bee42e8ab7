"""How the agent is, so that it can be judged whether a new configuration does as well as the one before it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

UPLINK = "uplink"
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Condition:
    """The agent at one moment.

    well      per source, and for "uplink": True, False, or None where there is nothing to judge by
    words     the same in words
    restarts  per source, how often it has raised
    spool     what is wrong with the disk, or ""
    pending, acknowledged  scans of the spool
    memory    resident bytes
    """

    well: Mapping[str, bool | None]
    words: Mapping[str, str]
    restarts: Mapping[str, int]
    spool: str
    pending: int
    acknowledged: int
    memory: int


def worse(before: Condition, start: Condition, now: Condition, memory_max: int) -> list[str]:
    """In which respects the agent does not do as well as before the switch; none is good.

    `start` is from just after the switch. What was in trouble before is not held against the new configuration, a new
    source that is in trouble is; one whose port is not plugged in is not, unless it was before.
    """
    found = []
    for part, well in now.well.items():
        was = before.well.get(part)
        new = part not in before.well
        if (well is False and (new or was is not False)) or (well is None and was is True and part != UPLINK):
            found.append(f"{part}: {now.words[part]}")
    for part, restarts in now.restarts.items():
        if restarts > start.restarts.get(part, 0):
            found.append(f"{part} failed: {now.words[part]}")
    if now.spool and not before.spool:
        found.append(f"the spool: {now.spool}")
    stands = now.pending > 0 and now.pending >= start.pending and now.acknowledged == start.acknowledged
    if stands and before.well.get(UPLINK) is True and now.well.get(UPLINK) is not False:
        found.append(f"the spool does not drain: {now.pending} scans wait")
    if now.memory > memory_max:
        found.append(f"{now.memory >> 20} MiB of memory, over {memory_max >> 20}")
    return found


def resident_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * _PAGE
