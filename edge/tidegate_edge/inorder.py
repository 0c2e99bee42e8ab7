"""The in-order lane: each stream's scans from its oldest on, cut into frames, until Kafka has acknowledged them.

Chunks of a stream are gathered until they make a frame of `max_scans` or the oldest of them has waited `max_age_s`.
Sent spans of a stream form a queue; what Kafka acknowledged leaves from its head, so that only a prefix of a stream is
ever acknowledged. A stream whose device and schema have scans of an earlier epoch waits until those are acknowledged.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tidegate_protocols.batch import Lane
from tidegate_protocols.errors import BadInput
from tidegate_protocols.topics import FRAMES

from .clock import Clock
from .framing import Framer
from .pacing import Pace
from .producer import Full, Link, Refused
from .spool import Chunk, Spool, Stream
from .spool.rows import to_batch

log = logging.getLogger(__name__)

HELD_SCANS = 12_288  # scans read from the spool and not yet acknowledged
_HELD_BACKLOG = 65_536  # the same while behind, when they are kept as they stand on the disk
_HELD_CHUNKS = (3_072, 16_384)  # chunks, live and behind: one of a single scan takes as much memory as one of twenty
_HELD_BYTES = 3 << 20
_TURN_S = 0.02  # how long a backlog is cut before sources and the preview have their turn

# What is added to a chunk's times, and what is to be said of them; None while that is not known yet.
Resolve = Callable[[Chunk], "tuple[int, int] | None"]


@dataclass(slots=True, eq=False)
class _Span:
    """Scans `start` to `stop` on their way. `state`: None while unknown, then True (delivered) or False (given up)."""

    start: int
    stop: int
    done: list[Chunk]
    state: bool | None = None


@dataclass(slots=True, eq=False)
class _Outgoing:
    """What is known of a stream while it is being sent. `next` is the number of the first scan not yet cut."""

    stream: Stream
    chunks: deque[Chunk] = field(default_factory=deque)
    next: int = 0
    scans: int = 0
    since: float = 0.0
    sent: deque[_Span] = field(default_factory=deque)
    before: list[Stream] = field(default_factory=list)


@dataclass(slots=True)
class Limits:
    """What Kafka refused of this spool: it is sent otherwise from then on.

    alone     every frame in a batch of its own, since Kafka refuses batches
    scans     scans per frame, by stream
    single    (stream, seq) of single scans that Kafka will not have
    """

    alone: bool = False
    scans: dict[int, int] = field(default_factory=dict)
    single: set[tuple[int, int]] = field(default_factory=set)

    def shrink(self, stream: Stream, start: int, stop: int, why: str) -> None:
        """Send less at once from here on; nothing at all of a single scan."""
        scans = stop - start
        log.error("%s, %d scans from %d: %s", stream.device, scans, start, why)
        if scans == 1:
            self.single.add((stream.number, start))
        else:
            self.scans[stream.number] = scans // 2


class InOrder:
    """The lane for the life of one link.

    `ready` says whether a stream may be sent by now: its epoch is claimed and its schema known to Kafka.
    """

    def __init__(
        self,
        spool: Spool,
        link: Link,
        clock: Clock,
        framer: Framer,
        pace: Pace,
        limits: Limits,
        resolve: Resolve,
        ready: Callable[[Stream], bool],
        *,
        max_scans: int,
        max_age_s: float,
        backlog_scans: int,
    ) -> None:
        self.behind = False
        self.blocked = False
        self.interrupted = False
        self.frames = 0
        self.frame_bytes = 0
        self.in_flight_bytes = 0
        self._spool = spool
        self._generation = spool.generation
        self._link = link
        self._clock = clock
        self._framer = framer
        self._pace = pace
        self._limits = limits
        self._resolve = resolve
        self._is_ready = ready
        self._max_scans = max_scans
        self._max_age_s = max_age_s
        self._backlog_scans = backlog_scans
        self._outgoing: dict[int, _Outgoing] = {}
        self._waiting: dict[int, _Outgoing] = {}  # those with chunks to cut, the one that waits longest first
        self._ready: dict[int, _Outgoing] = {}  # those of them that have enough for a frame
        self._held_scans = 0
        self._held_bytes = 0
        self._held_chunks = 0

    @property
    def waits(self) -> bool:
        """Whether there is anything to cut."""
        return bool(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether more chunks should be read."""
        scans = _HELD_BACKLOG if self.behind else HELD_SCANS
        chunks = _HELD_CHUNKS[self.behind]
        return self._held_scans < scans and self._held_chunks < chunks and self._held_bytes < _HELD_BYTES

    @property
    def oldest(self) -> int | None:
        """Id of a chunk that has waited longest, or nearly, to be cut; None when nothing does."""
        for out in self._waiting.values():
            return out.chunks[0].id
        return None

    def wait(self, now: float) -> float | None:
        """Seconds until the next frame is due; None when nothing waits."""
        for out in self._waiting.values():
            return max(0.0, out.since + self._max_age_s - now)
        return None

    def take(self, chunks: Iterable[Chunk]) -> None:
        """Chunks that were read, in the order of their ids."""
        now = self._clock.monotonic()
        enough = self._backlog_scans if self.behind else self._max_scans
        for chunk in chunks:
            stream = chunk.stream
            if chunk.stop <= stream.tail:  # it left, and only the file does not know it yet
                self._spool.acknowledge(stream, chunk.seq, chunk.stop, [chunk])
                continue
            out = self._outgoing.get(stream.number)
            if out is None:
                before = self._spool.predecessors(stream) if stream.epoch == self._spool.epoch else []
                out = self._outgoing[stream.number] = _Outgoing(
                    stream, next=max(chunk.seq, stream.tail), before=before
                )  # fmt: skip
            if not out.chunks:
                out.since = now
                self._waiting[stream.number] = out
            out.chunks.append(chunk)
            out.scans += chunk.n
            self._held_scans += chunk.n
            self._held_bytes += chunk.size
            self._held_chunks += 1
            if out.scans >= enough:
                self._ready[stream.number] = out

    def cut_due(self, *, finishing: bool) -> None:
        """Send every frame that is full or whose time has come; all of them where the store has no more room.

        A backlog's frames are large and many: after some of them `interrupted` says that there are more.
        """
        now = self._clock.monotonic()
        self.interrupted = False
        crowded = finishing or not self.has_room
        enough = self._backlog_scans if self.behind else self._max_scans
        self.blocked = False
        due = list(self._ready.values())
        for out in self._waiting.values():
            if not crowded and now - out.since < self._max_age_s:
                break
            due.append(out)
        for out in due:
            whole = crowded or now - out.since >= self._max_age_s
            while out.chunks and (whole or out.scans >= enough):
                if self.behind and self._clock.monotonic() - now >= _TURN_S:
                    self.interrupted = True
                    return
                if not self._pace.may_send(now, self.in_flight_bytes, behind=self.behind):
                    self.blocked = True
                    return
                try:
                    if not self._cut(out, enough, now):
                        self.blocked = True
                        break
                except Full:
                    self.blocked = True
                    return
                if self._link.broken:
                    return

    def _cut(self, out: _Outgoing, enough: int, now: float) -> bool:
        """Cut one frame from the head of what waits, and send it. False where that cannot be yet."""
        stream = out.stream
        first = out.chunks[0]
        start = out.next = max(out.next, first.seq)
        if first.lost or (stream.number, start) in self._limits.single:
            stop = first.stop if first.lost else start + 1
            why = first.lost or "refused by Kafka"
            log.error("%s, scans %d to %d are given up: %s", stream.device, start, stop - 1, why)
            self._sent(out, _Span(start, stop, [], state=False))
            return True
        if out.before:
            out.before = [each for each in out.before if each.tail < each.next_seq]
        resolved = self._resolve(first)
        if resolved is None or out.before or not self._is_ready(stream):
            return False
        limit = min(enough, self._limits.scans.get(stream.number, enough))
        limit = max(1, min(limit, stream.chunk_max * 4))
        chunks = [first]
        stop = first.stop
        for chunk in out.chunks:
            if chunk is first:
                continue
            # A chunk that would not fit whole waits for the next frame: most frames end where a chunk does.
            if chunk.seq != stop or chunk.flags != first.flags or chunk.lost or chunk.stop - start > limit:
                break
            chunks.append(chunk)
            stop = chunk.stop
        stop = min(stop, start + limit)
        span = _Span(start, stop, [])
        shift_us, flags = resolved
        lane = Lane.BACKLOG if self.behind else Lane.LIVE
        try:
            frame = self._framer.encode(to_batch(chunks, start, stop, lane, shift_us=shift_us, flags=flags))
            self._link.send(FRAMES.name, stream.device.encode(), frame, self._reporter(out, span, len(frame)))
        except (Refused, BadInput) as error:  # known before it travels, so it is this frame's
            self._limits.shrink(stream, start, stop, str(error))
            return True
        self._pace.sent(len(frame), stop - start, now)
        self.in_flight_bytes += len(frame)
        self.frames += 1
        self.frame_bytes += len(frame)
        self._sent(out, span)
        return True

    def _sent(self, out: _Outgoing, span: _Span) -> None:
        """Note a span as sent, and take the chunks that end in it from those that wait."""
        out.next = span.stop
        while out.chunks and out.chunks[0].stop <= span.stop:
            chunk = out.chunks.popleft()
            out.scans -= chunk.n
            chunk.ts, chunk.values = [], []  # what is sent again is read again
            span.done.append(chunk)
        number = out.stream.number
        if out.scans < (self._backlog_scans if self.behind else self._max_scans):
            self._ready.pop(number, None)
        self._waiting.pop(number, None)
        if out.chunks:
            out.since = self._clock.monotonic()
            self._waiting[number] = out
        out.sent.append(span)
        if span.state is not None:
            self._settle(out)

    def _reporter(self, out: _Outgoing, span: _Span, size: int) -> Callable[[bool, float], None]:
        def report(delivered: bool, took_s: float) -> None:
            self.in_flight_bytes -= size
            if delivered:
                self._pace.delivered(took_s)
                span.state = True
                self._settle(out)
            elif self._limits.alone:
                self._limits.shrink(out.stream, span.start, span.stop, "refused by Kafka")

        return report

    def _settle(self, out: _Outgoing) -> None:
        """Hand the spool what is known from the head of the stream on."""
        if self._spool.generation != self._generation:
            return  # the file that these chunks were read from is no more
        while out.sent and out.sent[0].state is not None:
            span = out.sent.popleft()
            leave = self._spool.acknowledge if span.state else self._spool.give_up
            leave(out.stream, span.start, span.stop, span.done)
            for chunk in span.done:
                self._held_scans -= chunk.n
                self._held_bytes -= chunk.size
                self._held_chunks -= 1
