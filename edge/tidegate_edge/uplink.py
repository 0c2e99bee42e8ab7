"""From the spool to Kafka: strictly in order per stream, each scan until its delivery report.

Frames are cut and encoded when they are sent. Chunks of a stream are gathered until they make a frame of `max_scans`
or the oldest of them has waited `max_age_s`. Sent spans of a stream form a queue; what Kafka acknowledged leaves from
its head, so that only a prefix of a stream is ever acknowledged.

After any error the producer is thrown away and a new one begins at the first unacknowledged scan. Kafka may then hold
a scan twice, under the same name, which the cloud drops by its cursor; it never holds one out of order for good.

Kafka refuses record batches, not records: after a refusal every frame travels in a batch of its own, so that the next
one is that frame's. Such a frame is cut in half; a single scan that is refused is given up and counted as evicted.
A schema is on `device.schemas`, acknowledged, before its first frame is sent.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tidegate_protocols.batch import Lane
from tidegate_protocols.errors import BadInput
from tidegate_protocols.topics import FRAMES, SCHEMAS

from .clock import Clock
from .framing import Framer
from .producer import Full, Link, Refused
from .spool import Chunk, Spool, Stream
from .spool.reader import Reader
from .spool.rows import to_batch

log = logging.getLogger(__name__)

_HELD_SCANS = 12_288  # scans read from the spool and not yet acknowledged
_HELD_BYTES = 4 << 20
_POLL_S = 0.01
_IDLE_POLL_S = 1.0
_BEHIND_MS = 10_000  # a scan that was stored so long ago travels as backlog
_PAUSE_S = (0.5, 30.0)


@dataclass(slots=True, eq=False)
class _Span:
    """Scans `start` to `stop` on their way. `state`: None while unknown, then True (delivered) or False (given up)."""

    start: int
    stop: int
    done: list[Chunk]
    state: bool | None = None
    refused: bool = False


@dataclass(slots=True, eq=False)
class _Outgoing:
    """What is known of a stream while it is being sent. `next` is the number of the first scan not yet cut."""

    stream: Stream
    chunks: deque[Chunk] = field(default_factory=deque)
    next: int = 0
    scans: int = 0
    since: float = 0.0
    sent: deque[_Span] = field(default_factory=deque)


class Uplink:
    """Sends what the spool holds until it is stopped. `status` is "up", or says what is in the way."""

    def __init__(
        self,
        spool: Spool,
        configuration: dict[str, Any],
        clock: Clock,
        *,
        max_scans: int,
        max_age_s: float,
        framer: Framer | None = None,
    ) -> None:
        self.status = "not yet connected"
        self.frames = 0
        self.frame_bytes = 0
        self._spool = spool
        self._configuration = configuration
        self._clock = clock
        self._max_scans = max_scans
        self._max_age_s = max_age_s
        self._framer = framer or Framer()
        self._wake = asyncio.Event()
        self._finishing = False
        self._deadline = 0.0
        self._reader = Reader(spool)
        self._limits: dict[int, int] = {}  # scans per frame, of streams whose frames Kafka refused
        self._alone = False
        self._changed = False
        self._refused: set[tuple[int, int]] = set()  # (stream, seq) of single scans that Kafka refused
        self._begin()
        spool.on_commit = self._wake.set

    def _begin(self) -> None:
        self._outgoing: dict[int, _Outgoing] = {}
        self._waiting: dict[int, _Outgoing] = {}  # those with chunks to cut, the one that waits longest first
        self._ready: dict[int, _Outgoing] = {}  # those of them that have enough for a frame
        self._announced: dict[bytes, bool] = {}
        self._held_scans = 0
        self._held_bytes = 0
        self._in_flight = 0
        self._blocked = False
        self._reader.rewind()

    def configure(self, configuration: dict[str, Any], *, max_scans: int, max_age_s: float, framer: Framer) -> None:
        """Change how frames are cut; with another configuration of the client, begin anew with that one."""
        self._max_scans = max_scans
        self._max_age_s = max_age_s
        self._framer = framer
        if configuration != self._configuration:
            self._configuration = configuration
            self._changed = True
            self._wake.set()

    def finish(self, grace_s: float) -> None:
        """Send what Kafka takes within `grace_s`, then end `run`."""
        self._finishing = True
        self._deadline = self._clock.monotonic() + grace_s
        self._wake.set()

    async def run(self) -> None:
        """Send, and begin anew after every error, with growing and jittered pauses."""
        pause = _PAUSE_S[0]
        while True:
            self._changed = False
            link = Link({**self._configuration, **({"batch.num.messages": 1} if self._alone else {})})
            try:
                acknowledged = self._spool.books.acknowledged
                await self._session(link)
                link.abandon()
            finally:
                await asyncio.to_thread(link.close)
            if self._finishing:
                return
            self.status = link.broken or "not yet connected"
            log.warning("the uplink begins anew: %s", link.broken or "its configuration has changed")
            # What Kafka has acknowledged is not to be sent again.
            await self._spool.commit(settle=True)
            if self._spool.books.acknowledged > acknowledged:
                pause = _PAUSE_S[0]
            if link.refused:
                self._alone = True
            elif link.broken:
                await self._sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _PAUSE_S[1])
            self._begin()

    async def _sleep(self, seconds: float) -> None:
        """Wait, unless the agent ends or its configuration changes meanwhile."""
        until = self._clock.monotonic() + seconds
        while not self._finishing and not self._changed and (left := until - self._clock.monotonic()) > 0:
            await self._wait(left)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _session(self, link: Link) -> None:
        while True:
            link.poll()
            if link.trouble and self.status != link.trouble:
                log.warning("Kafka: %s", link.trouble)
                self.status = link.trouble
            if link.broken or self._changed or (self._finishing and self._is_finished()):
                return
            if self._held_scans < _HELD_SCANS and self._held_bytes < _HELD_BYTES:
                for chunk in await self._reader.read():
                    self._take(chunk)
            self._cut_due(link)
            if not link.broken:
                await self._pause()

    def _is_finished(self) -> bool:
        idle = self._reader.at_end and not self._waiting and not self._in_flight
        return idle or self._clock.monotonic() >= self._deadline

    async def _pause(self) -> None:
        """Until there is something to do: a commit, a delivery report, a frame that is due."""
        room = self._held_scans < _HELD_SCANS and self._held_bytes < _HELD_BYTES
        if room and not self._reader.at_end:
            await asyncio.sleep(0)
            return
        wait = _POLL_S if self._in_flight else _IDLE_POLL_S
        if self._waiting and not self._blocked:
            oldest = next(iter(self._waiting.values()))
            wait = min(wait, max(0.0, oldest.since + self._max_age_s - self._clock.monotonic()))
        await self._wait(wait)

    def _take(self, chunk: Chunk) -> None:
        stream = chunk.stream
        if chunk.stop <= stream.tail:  # acknowledged before, and not yet settled
            return
        out = self._outgoing.get(stream.number)
        if out is None:
            out = self._outgoing[stream.number] = _Outgoing(stream, next=max(chunk.seq, stream.tail))
        if not out.chunks:
            out.since = self._clock.monotonic()
            self._waiting[stream.number] = out
        out.chunks.append(chunk)
        out.scans += len(chunk)
        self._held_scans += len(chunk)
        self._held_bytes += chunk.size
        if out.scans >= self._max_scans:
            self._ready[stream.number] = out

    def _cut_due(self, link: Link) -> None:
        """Send every frame that is full or whose time has come; all of them where the store has no more room."""
        now = self._clock.monotonic()
        crowded = self._held_scans >= _HELD_SCANS or self._held_bytes >= _HELD_BYTES or self._finishing
        self._blocked = False
        due = list(self._ready.values())
        for out in self._waiting.values():
            if not crowded and now - out.since < self._max_age_s:
                break
            due.append(out)
        for out in due:
            whole = crowded or now - out.since >= self._max_age_s
            try:
                while out.chunks and (whole or out.scans >= self._max_scans):
                    if not self._announce(link, out.stream):
                        self._blocked = True
                        break
                    self._cut(link, out)
            except Full:
                self._blocked = True
                break
            if link.broken:
                break

    def _announce(self, link: Link, stream: Stream) -> bool:
        """Whether the stream's schema is on Kafka. The first question sends it there."""
        mark = stream.schema.fingerprint
        known = self._announced.get(mark)
        if known is None:

            def report(delivered: bool) -> None:
                self._in_flight -= 1
                self._announced[mark] = delivered

            link.send(SCHEMAS.name, mark.hex().encode(), stream.schema.canonical_json, report)
            self._announced[mark] = False
            self._in_flight += 1
        return bool(known)

    def _cut(self, link: Link, out: _Outgoing) -> None:
        """Cut one frame from the head of what waits, and send it."""
        first = out.chunks[0]
        start = out.next = max(out.next, first.seq)
        if first.damaged or (out.stream.number, start) in self._refused:
            stop = first.stop if first.damaged else start + 1
            why = first.damaged or "refused by Kafka"
            log.error("%s, scans %d to %d are given up: %s", out.stream.device, start, stop - 1, why)
            self._sent(out, _Span(start, stop, [], state=False))
            return
        limit = min(self._max_scans, self._limits.get(out.stream.number, self._max_scans))
        limit = max(1, min(limit, out.stream.chunk_max * 4))
        chunks = [first]
        stop = first.stop
        for chunk in out.chunks:
            if chunk is first:
                continue
            # A chunk that would not fit whole waits for the next frame: most frames end where a chunk does.
            if chunk.seq != stop or chunk.flags != first.flags or chunk.damaged or chunk.stop - start > limit:
                break
            chunks.append(chunk)
            stop = chunk.stop
        stop = min(stop, start + limit)
        lane = Lane.LIVE if self._clock.wall_us() // 1000 - first.committed_ms < _BEHIND_MS else Lane.BACKLOG
        span = _Span(start, stop, [])
        try:
            frame = self._framer.encode(to_batch(chunks, start, stop, lane))
            link.send(FRAMES.name, out.stream.device.encode(), frame, self._reporter(link, out, span))
        except (Refused, BadInput) as error:  # known before it travels, so it is this frame's
            self._shrink(out, span, str(error))
            return
        self._in_flight += 1
        self.frames += 1
        self.frame_bytes += len(frame)
        self._sent(out, span)

    def _sent(self, out: _Outgoing, span: _Span) -> None:
        """Note a span as sent, and take the chunks that end in it from those that wait."""
        out.next = span.stop
        while out.chunks and out.chunks[0].stop <= span.stop:
            chunk = out.chunks.popleft()
            out.scans -= len(chunk)
            span.done.append(chunk)
        number = out.stream.number
        if out.scans < self._max_scans:
            self._ready.pop(number, None)
        self._waiting.pop(number, None)
        if out.chunks:
            out.since = self._clock.monotonic()
            self._waiting[number] = out
        out.sent.append(span)
        if span.state is not None:
            self._settle(out)

    def _reporter(self, link: Link, out: _Outgoing, span: _Span) -> Callable[[bool], None]:
        def report(delivered: bool) -> None:
            self._in_flight -= 1
            if delivered:
                self.status = "up"
                link.trouble = ""
                span.state = True
                self._settle(out)
            else:
                if self._alone:
                    self._shrink(out, span, "refused by Kafka")

        return report

    def _shrink(self, out: _Outgoing, span: _Span, why: str) -> None:
        """Send less at once from here on; nothing at all of a single scan."""
        scans = span.stop - span.start
        log.error("%s, %d scans from %d: %s", out.stream.device, scans, span.start, why)
        if scans == 1:
            self._refused.add((out.stream.number, span.start))
        else:
            self._limits[out.stream.number] = scans // 2

    def _settle(self, out: _Outgoing) -> None:
        """Hand the spool what is known from the head of the stream on."""
        while out.sent and out.sent[0].state is not None:
            span = out.sent.popleft()
            leave = self._spool.acknowledge if span.state else self._spool.give_up
            leave(out.stream, span.start, span.stop, span.done)
            for chunk in span.done:
                self._held_scans -= len(chunk)
                self._held_bytes -= chunk.size
