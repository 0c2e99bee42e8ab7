"""From a source's scans to the spool: whose they are, when they were, and what the books say."""

from __future__ import annotations

from collections.abc import Sequence

from tidegate_protocols.errors import BadInput
from tidegate_protocols.payload.steady import SteadySchemas
from tidegate_protocols.scan import Scan

from .clock import Clock, is_set
from .spool import Spool
from .spool.rows import TIME_ESTIMATED, TIME_FROM_AGENT
from .windowing import Made, Windows


class Intake:
    """What every source hands its scans to.

    A device's time is kept when it lies between `max_past_s` before and `max_future_s` after the agent's; else the
    scan takes the agent's time and the flag that says so. While the agent's own clock cannot have been set, a device
    that knows its time is believed, and the agent's times are flagged as estimates.

    `steady` keeps one schema for devices whose messages do not always hold the same channels.
    """

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        *,
        windows: Windows | None = None,
        max_past_s: float = 30 * 86_400.0,
        max_future_s: float = 300.0,
    ) -> None:
        self.spool = spool
        self.clock = clock
        self.steady = SteadySchemas()
        for stream in spool.streams():  # the channels that devices had before this start
            nulls = (None,) * len(stream.schema.channels)
            self.steady.widen([Scan(stream.device, stream.schema, None, nulls)])
        self.windows = windows or Windows([], spool, clock)
        self.believe(max_past_s, max_future_s)

    def believe(self, max_past_s: float, max_future_s: float) -> None:
        """From now on, keep a device's time within these bounds of the agent's."""
        self._past_us = int(max_past_s * 1e6)
        self._future_us = int(max_future_s * 1e6)

    def take(self, source: str, scans: Sequence[Scan | BadInput], device: str | None = None) -> None:
        """Put what one message or read brought. `device` is whose it is where the scans do not say."""
        spool = self.spool
        book = spool.book(source)
        spool.touch(source, book)
        book.received += len(scans)
        good = []
        for scan in scans:
            if isinstance(scan, BadInput):
                book.rejected += 1
                spool.reject(source, scan.where, str(scan), b"")
            else:
                good.append(scan)
        now = self.clock.wall_us()
        set_ = is_set(now)
        earliest = now - self._past_us if set_ else 0
        latest = now + self._future_us if set_ else 2**63
        guess = TIME_FROM_AGENT if set_ else TIME_FROM_AGENT | TIME_ESTIMATED
        for scan in good:
            owner = scan.device or device
            ts, flags = scan.ts_us, 0
            if ts is None or not earliest <= ts <= latest or not (set_ or is_set(ts)):
                ts, flags = now, guess
            try:
                made = self.windows.take(source, owner or "", scan.schema, ts, scan.values, flags)
                if made is None:
                    spool.put(spool.stream(owner or "", scan.schema), ts, scan.values, flags)
                    book.accepted += 1
                    continue
            except BadInput as error:
                book.rejected += 1
                spool.reject(source, "device", str(error), b"")
                continue
            if not any(each.own for each in made):
                book.folded += 1
            self.put(made)

    def put(self, made: Sequence[Made]) -> None:
        """Store what windows gave. An aggregate counts as received here; a scan's own rest was received before."""
        spool = self.spool
        for each in made:
            book = spool.book(each.source)
            spool.touch(each.source, book)
            book.received += not each.own
            book.accepted += 1
            spool.put(spool.stream(each.device, each.schema), each.ts_us, each.values, each.flags)

    def refuse(self, source: str, place: str, error: BadInput, payload: bytes) -> None:
        """Count a message of which nothing can be read, and keep it for inspection."""
        book = self.spool.book(source)
        self.spool.touch(source, book)
        book.received += 1
        book.rejected += 1
        self.spool.reject(source, place, str(error), payload)

    def repeated(self, source: str, scans: int) -> None:
        """Count scans that came again."""
        book = self.spool.book(source)
        self.spool.touch(source, book)
        book.received += scans
        book.duplicate += scans
