"""Where readings come from: serial ports and MQTT brokers. `running` starts, restarts and exchanges them."""

from __future__ import annotations

from typing import Protocol


class Source(Protocol):
    """Something that hands scans to the intake until it is stopped.

    status  how it is, in words
    well    True: it takes in what comes; False: something is in the way; None: there is nothing to judge by, as with a
            port that nobody has plugged in
    heard_us  when a device was last heard, by the agent's clock, or 0
    """

    status: str

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
