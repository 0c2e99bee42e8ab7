"""Where readings come from: serial ports and MQTT brokers."""

from __future__ import annotations

from typing import Protocol


class Source(Protocol):
    """Something that hands scans to the intake until it is stopped."""

    async def run(self) -> None:
        """Take in what comes, for ever; trouble with one device or connection is the source's own to mend."""

    def stop(self) -> None:
        """Take in nothing more. Acknowledgements for what is durable may still be given."""

    async def close(self) -> None:
        """Give up every connection."""
