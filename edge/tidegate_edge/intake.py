"""From a source's scans to the spool: whose they are, when they were, and what the books say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tidegate_protocols.errors import BadInput
from tidegate_protocols.payload.steady import SteadySchemas
from tidegate_protocols.scan import Scan
from tidegate_protocols.schema import Schema

from .clock import EARLIEST_US, Clock, is_set
from .spool import Spool, Stream
from .spool.rows import PRIORITY
from .times import Times
from .windowing import Made, Windows

_DAY_US = 86_400_000_000


class Intake:
    """What every source hands its scans to.

    A device's time is kept when it lies between `max_past_s` before and `max_future_s` after the agent's; else the
    scan takes the agent's time and the flag that says so (`times`). While the agent's clock is not synchronised, a day
    more is allowed either way; while it cannot have been set at all, a device that knows its time is believed.

    `priorities` are those of sources that have one of their own: of a full spool the lowest leave first.

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
        times: Times | None = None,
        priorities: Mapping[str, int] | None = None,
    ) -> None:
        self.spool = spool
        self.clock = clock
        self.steady = SteadySchemas()
        for stream in spool.streams():  # the channels that devices had before this start
            nulls = (None,) * len(stream.schema.channels)
            self.steady.widen([Scan(stream.device, stream.schema, None, nulls)])
        self.windows = windows or Windows([], spool, clock)
        self.priorities = priorities or {}
        self._times = times or Times(spool, clock)
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
        earliest, latest = self._believed()
        stamp: tuple[int, int] | None = None
        for scan in good:
            owner = scan.device or device
            ts, flags = scan.ts_us, 0
            if ts is None or not earliest <= ts <= latest:
                stamp = stamp or self._times.stamp()
                ts, flags = stamp
            try:
                made = self.windows.take(source, owner or "", scan.schema, ts, scan.values, flags)
                if made is None:
                    spool.put(self._stream(source, owner or "", scan.schema), ts, scan.values, flags)
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
            spool.put(self._stream(each.source, each.device, each.schema), each.ts_us, each.values, each.flags)

    def _stream(self, source: str, device: str, schema: Schema) -> Stream:
        return self.spool.stream(device, schema, self.priorities.get(source, PRIORITY))

    def _believed(self) -> tuple[int, int]:
        """The first and the last time that a device may say."""
        now = self.clock.wall_us()
        if not is_set(now):
            return EARLIEST_US, 2**62
        slack = 0 if self._times.is_sure() else _DAY_US
        return now - self._past_us - slack, now + self._future_us + slack

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
