"""From the spool to Kafka: strictly in order per stream, each scan until its delivery report, the newest seen first.

A session is one producer's life. It begins when Kafka answers, with the topics there:

1. Epochs are claimed (`claims`) and schemas are put on `device.schemas` before a stream's first frame.
2. Where the spool is behind, copies of the newest scans go out first, and go on beside the backlog (`preview`).
3. Scans follow in order (`inorder`), paced so that a backlog leaves the link to others for a share of the time
   (`pacing`), until the lane has caught up and the preview ends.

After any error, and when the oldest record in flight has waited for `STALL_S`, the producer is thrown away and a new
session begins at the first unacknowledged scan. librdkafka would reconnect unseen and send the old records first. Kafka
may then hold a scan twice, under the same name, which the cloud drops by its cursor; it never holds one out of order
for good.

Kafka refuses record batches, not records: after a refusal every frame travels in a batch of its own, so that the next
one is that frame's. Such a frame is cut in half; a single scan that is refused is given up and counted as evicted.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaException
from tidegate_protocols.batch import Lane
from tidegate_protocols.errors import BadInput
from tidegate_protocols.ota import Claim
from tidegate_protocols.topics import FRAMES, REPORTED, SCHEMAS

from .claims import choose, read_claims, sibling_epoch
from .clock import Clock
from .framing import Framer
from .inorder import InOrder, Limits, Resolve
from .lag import Lag
from .pacing import Pace
from .preview import Preview
from .producer import Full, Link, Refused
from .spool import Chunk, Spool, Stream
from .spool.reader import Reader
from .spool.rows import to_batch

log = logging.getLogger(__name__)

STALL_S = 5.0  # without an acknowledgement for so long, a new session begins with the newest scans
BEHIND_S = 5.0  # a spool whose next scan became durable so long ago is behind …
_CAUGHT_UP_S = 1.0  # … until it is no older than this
_STALL_MAX_S = 40.0
_POLL_S = 0.01
_IDLE_POLL_S = 1.0
_PAUSE_S = (0.5, 5.0)
_REACH_S = 1.0
_CLAIM_S = 30.0
_BACKLOG_FACTOR = 8  # frames of a backlog hold so many times as many scans

_TOPICS = (FRAMES.name, SCHEMAS.name, REPORTED.name)


def as_they_are(chunk: Chunk) -> tuple[int, int]:
    """The times of a chunk as they were stored."""
    return 0, chunk.flags


class Uplink:
    """Sends what the spool holds until it is stopped. `status` is "up", or says what is in the way.

    link_share   share of the link's time that a backlog may take
    spread_s     a backlog waits up to so long after a reconnection, by chance, so that a fleet does not send at once
    agent        who claims epochs
    resolve      what is known of a chunk's times
    """

    def __init__(
        self,
        spool: Spool,
        configuration: dict[str, Any],
        clock: Clock,
        *,
        max_scans: int,
        max_age_s: float,
        framer: Framer | None = None,
        link_share: float = 0.8,
        spread_s: float = 0.0,
        agent: str = "",
        resolve: Resolve = as_they_are,
    ) -> None:
        self.status = "not yet connected"
        self.frames = 0
        self.frame_bytes = 0
        self.previews = 0
        self.behind = False
        self._spool = spool
        self._configuration = configuration
        self._clock = clock
        self._max_scans = max_scans
        self._max_age_s = max_age_s
        self._framer = framer or Framer()
        self._spread_s = spread_s
        self._agent = agent
        self._resolve = resolve
        self._wake = asyncio.Event()
        self._finishing = False
        self._deadline = 0.0
        self._stall_s = STALL_S
        self._limits = Limits()
        self._pace = Pace(link_share)
        self._lag = Lag(spool.last_id)
        self._reader = Reader(spool)
        self._changed = False
        spool.on_commit = self._committed

    def configure(
        self,
        configuration: dict[str, Any],
        *,
        max_scans: int,
        max_age_s: float,
        framer: Framer,
        link_share: float,
        spread_s: float,
    ) -> None:
        """Change how frames are cut and sent: a new session begins with that."""
        self._configuration = configuration
        self._max_scans = max_scans
        self._max_age_s = max_age_s
        self._framer = framer
        self._pace.share = link_share
        self._spread_s = spread_s
        self._changed = True
        self._wake.set()

    def finish(self, grace_s: float) -> None:
        """Send what Kafka takes within `grace_s`, then end `run`."""
        self._finishing = True
        self._deadline = self._clock.monotonic() + grace_s
        self._wake.set()

    def _committed(self) -> None:
        self._lag.note(self._spool.last_id, self._clock.monotonic())
        self._wake.set()

    async def run(self) -> None:
        """Send, and begin anew after every error, with growing and jittered pauses."""
        pause = _PAUSE_S[0]
        while True:
            self._changed = False
            alone = {"batch.num.messages": 1} if self._limits.alone else {}
            link = Link({**self._configuration, **alone}, self._clock)
            acknowledged = self._spool.books.acknowledged
            session = _Session(self, link)
            try:
                if await self._reach(link):
                    await session.run()
                link.abandon()
            except sqlite3.Error as error:
                link.broken = f"the spool cannot be read: {error}"
                link.abandon()
            finally:
                await session.close()
                await asyncio.to_thread(link.close)
            done = not link.broken and not self._changed
            if self._finishing and (done or self._clock.monotonic() >= self._deadline):
                return
            self._say(link.broken or "not yet connected")
            try:  # what Kafka has acknowledged is not to be sent again
                await self._spool.commit(settle=True)
            except (sqlite3.Error, OSError) as error:
                log.warning("what Kafka has may be sent again, the spool cannot be written: %s", error)
            if self._spool.books.acknowledged > acknowledged:
                pause, self._stall_s = _PAUSE_S[0], STALL_S
            elif session.stalled:
                self._stall_s = min(2 * self._stall_s, _STALL_MAX_S)
            if link.refused:
                self._limits.alone = True
            elif link.broken and not session.mended and not session.stalled:
                await self._sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _PAUSE_S[1])

    async def _reach(self, link: Link) -> bool:
        """Wait until Kafka answers and has the topics. False when the agent ends before."""
        while not link.broken and not self._changed:
            trouble = await asyncio.to_thread(link.reach, _TOPICS, _REACH_S)
            link.poll()
            if not trouble:
                self.status = "up"
                return True
            self._say(link.trouble or trouble)
            await self._sleep(random.uniform(0.25, 0.75))
            if self._finishing and self._clock.monotonic() >= self._deadline:
                break
        return False

    def _say(self, trouble: str) -> None:
        if self.status != trouble:
            log.warning("the uplink: %s", trouble)
        self.status = trouble

    async def _sleep(self, seconds: float) -> None:
        """Wait, unless the agent's time is up or its configuration changes meanwhile."""
        until = self._clock.monotonic() + seconds
        if self._finishing:
            until = min(until, self._deadline)
        while not self._changed and (left := until - self._clock.monotonic()) > 0:
            await self._wait(left)
            if self._finishing:
                until = min(until, self._deadline)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()


class _Session:
    """The life of one link.

    stalled, mended    it ended because Kafka was silent; because the spool's file is another one now
    """

    def __init__(self, uplink: Uplink, link: Link) -> None:
        self.stalled = False
        self.mended = False
        self._up = uplink
        self._link = link
        self._spool = uplink._spool
        self._clock = uplink._clock
        self._generation = self._spool.generation
        self._reader = uplink._reader
        self._newest = Reader(self._spool)
        self._preview: Preview | None = None
        self._announced: dict[bytes, bool] = {}
        self._unclaimed: dict[int, Stream] = {}
        self._claiming: asyncio.Task[None] | None = None
        self._backlog_from = 0.0
        uplink._pace.begin()
        self._lane = InOrder(
            self._spool, link, self._clock, uplink._framer, uplink._pace, uplink._limits, uplink._resolve,
            self._is_ready, max_scans=uplink._max_scans, max_age_s=uplink._max_age_s,
            backlog_scans=uplink._max_scans * _BACKLOG_FACTOR,
        )  # fmt: skip

    async def close(self) -> None:
        if self._claiming is not None:
            self._claiming.cancel()
            await asyncio.gather(self._claiming, return_exceptions=True)
        self._up.frames += self._lane.frames
        self._up.frame_bytes += self._lane.frame_bytes
        self._lane.frames = self._lane.frame_bytes = 0

    async def run(self) -> None:
        link, lane = self._link, self._lane
        await self._reader.rewind()
        self._reader.memory = True
        now = self._clock.monotonic()
        self._up._pace.arrived(self._spool.books.accepted, now)
        if self._age(now) > BEHIND_S:
            self._backlog_from = now + random.uniform(0, self._up._spread_s)
            await self._open_preview()
        while not link.broken:
            now = self._clock.monotonic()
            if self._spool.generation != self._generation:
                link.broken, self.mended = "the spool's file was mended", True
                return
            link.poll()
            if link.trouble:
                self._up._say(link.trouble)
            elif self._up.status != "up":
                self._up.status = "up"
            if link.silence(now) > self._up._stall_s:
                link.broken, self.stalled = f"no acknowledgement from Kafka for {self._up._stall_s:g} s", True
            if link.broken or self._up._changed or (self._up._finishing and self._is_finished(now)):
                return
            self._up._pace.arrived(self._spool.books.accepted, now)
            await self._watch(now)
            if self._preview is not None:
                await self._send_preview(now)
            if lane.has_room:
                lane.take(await self._reader.read())
                if self._spool.generation != self._generation:
                    continue
            if self._preview is None or now >= self._backlog_from or self._up._finishing:
                lane.cut_due(finishing=self._up._finishing)
            self._claim_missing()
            self._count()
            if not link.broken:
                await self._pause()

    def _is_finished(self, now: float) -> bool:
        idle = self._reader.at_end and not self._lane.waits and not self._link.in_flight
        return idle or now >= self._up._deadline

    def _count(self) -> None:
        up, lane = self._up, self._lane
        up.frames, lane.frames = up.frames + lane.frames, 0
        up.frame_bytes, lane.frame_bytes = up.frame_bytes + lane.frame_bytes, 0

    def _age(self, now: float) -> float:
        """How long ago the next scan to send became durable, in seconds; 0 when there is none."""
        oldest = self._lane.oldest
        if oldest is None:
            if self._reader.at_end:
                return 0.0
            oldest = self._reader.position + 1
        return self._up._lag.age(oldest, now)

    async def _watch(self, now: float) -> None:
        """Open the preview when the lane falls behind, end it when it has caught up."""
        if self._preview is None:
            if self._age(now) > BEHIND_S and not self._up._finishing:
                await self._open_preview()
        elif self._reader.at_end and self._age(now) <= _CAUGHT_UP_S:
            self._preview = None
            self._up.behind = self._lane.behind = False
            self._reader.memory = True

    async def _open_preview(self) -> None:
        self._preview = Preview(self._up._max_scans)
        self._up.behind = self._lane.behind = True
        self._reader.memory = False
        await self._newest.skip_to_tail()

    async def _send_preview(self, now: float) -> None:
        preview = self._preview
        assert preview is not None
        while chunks := await self._newest.read():
            preview.take(chunks)
        if self._link.in_flight_bytes < 2 * self._up._pace.window:
            preview.send(now, self._send_copy)

    def _send_copy(self, stream: Stream, chunks: list[Chunk], start: int, stop: int) -> bool:
        """Send a copy; False where the link takes no more just now. What cannot be sent as it is, is left out."""
        if self._link.broken:
            return False
        resolved = self._up._resolve(chunks[0])
        if resolved is None:
            return True
        if not self._is_ready(stream):
            return False
        shift_us, flags = resolved
        limits = self._up._limits
        start = max(start, stop - limits.scans.get(stream.number, stop))
        if (stream.number, start) in limits.single:
            return True

        def report(delivered: bool, _took_s: float) -> None:
            if not delivered and limits.alone:
                limits.shrink(stream, start, stop, "refused by Kafka")

        try:
            batch = to_batch(chunks, start, stop, Lane.PREVIEW, shift_us=shift_us, flags=flags)
            frame = self._up._framer.encode(batch)
            self._link.send(FRAMES.name, stream.device.encode(), frame, report)
        except Full:
            return False
        except (Refused, BadInput) as error:
            limits.shrink(stream, start, stop, str(error))
            return True
        self._up.previews += 1
        return not self._link.broken

    async def _pause(self) -> None:
        """Until there is something to do: a commit, a delivery report, a frame that is due."""
        lane, link = self._lane, self._link
        if lane.interrupted or (lane.has_room and not self._reader.at_end):
            await asyncio.sleep(0)
            return
        wait = _POLL_S if link.in_flight or self._claiming is not None else _IDLE_POLL_S
        now = self._clock.monotonic()
        due = lane.wait(now)
        if due is not None:
            held = self._backlog_from - now if self._preview is not None else 0.0
            wait = min(wait, max(due, held, self._up._pace.wait(now), _POLL_S if lane.blocked else 0.0))
        if self._preview is not None and (due := self._preview.wait(now)) is not None:
            wait = min(wait, max(due, _POLL_S))
        await self._up._wait(wait)

    # ---- what goes before a stream's first frame

    def _is_ready(self, stream: Stream) -> bool:
        """Whether the stream's epoch is claimed and its schema is on Kafka. The first question sees to both."""
        if stream.sent_as is None:
            self._unclaimed[stream.number] = stream
            return False
        mark = stream.schema.fingerprint
        known = self._announced.get(mark)
        if known is None:

            def report(delivered: bool, _took_s: float) -> None:
                self._announced[mark] = delivered
                self._up._wake.set()

            self._announced[mark] = False
            try:
                self._link.send(SCHEMAS.name, mark.hex().encode(), stream.schema.canonical_json, report)
            except Refused as error:
                self._link.broken = f"{SCHEMAS.name}: {error}"
        return bool(known)

    def _claim_missing(self) -> None:
        if self._unclaimed and self._claiming is None:
            streams = [stream for stream in self._unclaimed.values() if stream.sent_as is None]
            self._unclaimed.clear()
            if streams:
                self._claiming = asyncio.create_task(self._claim(streams), name="claim")

    async def _claim(self, streams: Sequence[Stream]) -> None:
        """Claim an epoch for these streams' devices; what is in the way breaks the link."""
        try:
            every = self._spool.every()
            devices = {stream.device for stream in streams if sibling_epoch(stream, every) is None}
            last: dict[str, Claim] = {}
            if devices:
                last = await asyncio.to_thread(read_claims, self._up._configuration, devices, _CLAIM_S)
            mine = self._spool.state["spool"].decode()
            epochs, claims = choose(streams, every, last, mine, self._up._agent)
            await self._publish(claims)
            await self._spool.claim(epochs)
        except (KafkaException, TimeoutError, sqlite3.Error, OSError) as error:
            text = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            self._link.broken = self._link.broken or f"{REPORTED.name}: {text}"
        finally:
            self._claiming = None
            self._up._wake.set()

    async def _publish(self, claims: dict[str, Claim]) -> None:
        """Put the claims on Kafka, and wait until it has them."""
        left = len(claims)
        done = asyncio.Event()
        if not left:
            return

        def report(delivered: bool, _took_s: float) -> None:
            nonlocal left
            left -= delivered
            if not left:
                done.set()

        for device, claim in claims.items():
            while True:
                try:
                    self._link.send(REPORTED.name, device.encode(), claim.encode(), report)
                    break
                except Full:
                    await asyncio.sleep(_POLL_S)
                except Refused as error:
                    raise OSError(str(error)) from None
        await done.wait()
