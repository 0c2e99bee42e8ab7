"""Where readings come from: serial ports and MQTT brokers. `running` starts, restarts and exchanges them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Device:
    """How one device of a source is, or the port where it should be.

    well      as with sources
    status    in words
    heard_us  when it was last understood, by the agent's clock, or 0
    good      scans that it brought since its port was opened, or the agent started
    bad       what could not be read of it since
    """

    name: str
    well: bool | None
    status: str
    heard_us: int = 0
    good: int = 0
    bad: int = 0


class Source(Protocol):
    """Something that hands scans to the intake until it is stopped.

    status  how it is, in words
    well    True: it takes in what comes; False: something is in the way; None: there is nothing to judge by, as with a
            port that nobody has plugged in
    heard_us  when a device was last heard, by the agent's clock, or 0
    devices   each device by itself, where the source knows them one by one
    """

    status: str

    @property
    def devices(self) -> Sequence[Device]: ...

    @property
    def heard_us(self) -> int: ...

    @property
    def well(self) -> bool | None: ...

    async def run(self) -> None:
        """Take in what comes, for ever; trouble with one device or connection is the source's own to mend."""

    def stop(self) -> None:
        """Take in nothing more. Acknowledgements for what is durable may still be given."""

    async def close(self) -> None:
        """Give up every connection."""
