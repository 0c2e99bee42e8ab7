"""Fan-out: what changed goes to every client of the stream, and no client can make the console wait.

- Changes of alerts are queued per client, up to `QUEUE_MAX`. A client that lets more pile up is told to reload and is
  closed; nothing is left out silently.
- Positions and fences are conflated: a client is sent what changed since it was last sent any, however long ago. That
  is at most 4 times a second, and at once after a pause. Clients that keep up share one encoding.
- Health goes out every second, and doubles as a sign of life. A client that has taken nothing for a minute is cut.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from tidegate_cloud.clock import Clock

from . import tokens
from .picture import Change, Delta, Lost, Picture, refusal, removal
from .tokens import Token

QUEUE_MAX = 1_000
CLIENTS_MAX = 2_000
FLUSH_S = 0.25
STUCK_S = 60.0

Send = Callable[[bytes], Awaitable[None]]


class Full(Exception):
    """There are as many clients as the console serves."""


class Client:
    """One client of the stream: what it has had, and what it is owed."""

    def __init__(self, token: Token | None, picture: Picture, missed: list[Change]) -> None:
        self.offsets = list(token.offsets if token else picture.offsets)
        self.seq = 0 if token is None else picture.seq_of(token)
        self.queue: deque[Change | bytes] = deque(missed)
        self.wake = asyncio.Event()
        self.wake.set()
        self.reload = ""
        self.health = b""
        self.task = asyncio.current_task()
        self.sending_since: float | None = None

    def offer(self, item: Change | bytes, queue_max: int) -> None:
        """Queue something that must not be left out; too much of it ends the client instead."""
        if self.reload:
            return
        if len(self.queue) >= queue_max:
            self.end("it fell too far behind")
        else:
            self.queue.append(item)
            self.wake.set()

    def end(self, reason: str) -> None:
        """Tell it to reload, as soon as it takes anything, and close it."""
        self.queue.clear()
        self.reload = reason
        self.wake.set()


class Hub:
    """See the module's docstring. `observe` is told how old the newest reading of each flush is, in seconds."""

    def __init__(
        self,
        picture: Picture,
        clock: Clock,
        *,
        queue_max: int = QUEUE_MAX,
        observe: Callable[[float], None] | None = None,
    ) -> None:
        self.picture = picture
        self._clock = clock
        self._queue_max = queue_max
        self._observe = observe or (lambda seconds: None)
        self._clients: set[Client] = set()
        self._health = b""
        self._newest_us = 0
        self._flushed_at = float("-inf")
        self._flushing: asyncio.TimerHandle | None = None
        self._shown_seq = picture.seq  # clients are woken for conflated content up to here
        self._shared: dict[int, tuple[int, bytes, bytes]] = {}
        self._last_head: tuple[int, list[int], str] | None = None
        self._closed = False

    @property
    def clients(self) -> int:
        return len(self._clients)

    def publish(self, delta: Delta) -> None:
        """Something was read from Kafka."""
        changes = self.picture.apply(delta)
        if delta.topic_id is not None:
            self._shown_seq = self.picture.seq
            self._shared.clear()
            for client in self._clients:
                client.end("the alerts were made anew")
        refusals = [refusal(line) for line in delta.transitions if line.action == "refused"]
        items: list[Change | bytes] = [*changes, *refusals, *map(removal, delta.gone)]
        for item in items:
            for client in self._clients:
                client.offer(item, self._queue_max)
        self._newest_us = max(self._newest_us, delta.newest_us)
        if self.picture.seq > self._shown_seq and self._flushing is None:
            loop = asyncio.get_running_loop()
            wait = self._flushed_at + FLUSH_S - loop.time()
            self._flushing = loop.call_later(wait, self._flush) if wait > 0 else None
            if wait <= 0:
                self._flush()

    def health(self, event: bytes) -> None:
        """A new word on health: the event's data, JSON."""
        self._health = b"event: health\ndata: " + event + b"\n\n"
        stuck = asyncio.get_running_loop().time() - STUCK_S
        for client in list(self._clients):
            client.health = self._health
            client.wake.set()
            if client.sending_since is not None and client.sending_since < stuck and client.task is not None:
                client.task.cancel()

    def close(self) -> None:
        """End every stream."""
        self._closed = True
        for client in self._clients:
            client.end("the console is being restarted")

    async def serve(self, token: Token | None, send: Send) -> None:
        """Serve one client until it falls behind or the console ends; cancel it when the client goes.

        `send` returns once the client can take more. Raises Full, before anything is sent.
        """
        if len(self._clients) >= CLIENTS_MAX or self._closed:
            raise Full
        try:
            missed = [] if token is None else self.picture.missed(token, self._now_s())
        except Lost as lost:
            await send(_reload(str(lost)))
            return
        client = Client(token, self.picture, missed)
        client.health = self._health
        self._clients.add(client)
        try:
            await self._send(client, send, b"retry: 1000\n\n")
            while not client.reload:
                await client.wake.wait()
                client.wake.clear()
                if owed := self._owed(client):
                    await self._send(client, send, owed)
            if not self._closed:  # one that ends has lost nothing: its clients go on at the next, by their tokens
                await self._send(client, send, _reload(client.reload))
        finally:
            self._clients.discard(client)

    async def _send(self, client: Client, send: Send, data: bytes) -> None:
        client.sending_since = asyncio.get_running_loop().time()
        await send(data)
        client.sending_since = None

    def _owed(self, client: Client) -> bytes:
        """What the client has not had, as text of the stream. Each event's id says what it will have had with it."""
        parts: list[str | bytes] = []
        while client.queue:
            item = client.queue.popleft()
            if isinstance(item, bytes):
                parts += (self._id(client), item)
            elif item.offset >= client.offsets[item.partition]:  # else it had that from a console that is further on
                client.offsets[item.partition] = item.offset + 1
                parts += (self._id(client), item.event)
        if client.seq < self._shown_seq:
            seq, positions, fences = self._conflated(client.seq)
            if fences:
                client.seq = client.seq if positions else seq
                parts += (self._id(client), b"event: fences\ndata: ", fences, b"\n\n")
            client.seq = seq
            if positions:
                parts += (self._id(client), b"event: positions\ndata: ", positions, b"\n\n")
        if client.health:
            parts += (self._id(client), client.health)
            client.health = b""
        return b"".join(part.encode() if isinstance(part, str) else part for part in parts)

    def _conflated(self, since: int) -> tuple[int, bytes, bytes]:
        found = self._shared.get(since)
        if found is None:
            found = self._shared[since] = (self.picture.seq, *self.picture.conflated(since))
        return found

    def _flush(self) -> None:
        self._flushing = None
        self._flushed_at = asyncio.get_running_loop().time()
        self._shown_seq = self.picture.seq
        self._shared.clear()
        if self._newest_us and self._clients:
            self._observe(max(0.0, (self._clock.now_us() - self._newest_us) / 1e6))
        self._newest_us = 0
        for client in self._clients:
            client.wake.set()

    def _id(self, client: Client) -> str:
        return f"id: {tokens.joined(self._head(client.offsets), client.seq)}\n"

    def _head(self, offsets: list[int]) -> str:
        """Clients that keep up stand at the same offsets: theirs is made once."""
        known = self._last_head
        now_s = self._now_s()
        if known is None or known[0] != now_s or known[1] != offsets:
            known = now_s, list(offsets), tokens.head(self.picture.topic_id, self.picture.process, now_s, offsets)
            self._last_head = known
        return known[2]

    def _now_s(self) -> int:
        return self._clock.now_us() // 1_000_000


def _reload(reason: str) -> bytes:
    # Without an id: a client that only remembers ids must not come back with one that is void.
    return b'event: reload\ndata: {"reason":"' + reason.encode() + b'"}\n\n'
