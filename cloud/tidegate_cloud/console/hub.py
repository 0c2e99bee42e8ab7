"""Fan-out: what changed goes to every client of the stream, and no client can make the console wait.

- Changes of alerts lie in one log that all clients share, `QUEUE_MAX` deep. A client that falls out of it is told to
  reload and is closed; nothing is left out silently.
- Positions and fences are conflated: a client is sent what changed since it was last sent any, however long ago. That
  is at most 4 times a second, and at once after a pause.
- A client that has not taken what it was sent is passed over until it has. If that took a second or more, it is told
  (`behind`) before it is sent anything else, and gets positions once a second only, until it has kept up for a while.
  One that has taken nothing for a minute is cut.
- Health goes out every second, and doubles as a sign of life.

One round of writing serves all clients. Clients that keep up stand at the same place, so that what they are owed is put
into words once, and each is given the same bytes. Between two rounds the event loop has as much time as the last took.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from tidegate_cloud.clock import Clock

from . import tokens
from .picture import Change, Delta, Lost, Picture, refusal, removal
from .sinks import QueueSink, Sink
from .tokens import Token
from .views import encode
from .wire import Event, Format, as_sse

QUEUE_MAX = 10_000
CLIENTS_MAX = 20_000
FLUSH_S = 0.25
STUCK_S = 60.0
_SLOW_S = 1.0  # who takes longer than this for what it was sent is told, and from then on gets positions this often
_RECOVERED_S = 10.0
_ROUND_S = 0.025
_RETRY_S = 0.1  # clients that were busy are looked at again
_AT_ONCE = 200  # clients per turn of the event loop, and entries of the log per piece
_SHARED_MAX = 64

HELLO = b"retry: 1000\n\n"

Send = Callable[[Any], Awaitable[None]]


class Full(Exception):
    """There are as many clients as the console serves."""


class _Entry(NamedTuple):
    """A line of the log. `head`: the token's first part after it; `partition`: -1 where Kafka has no place for it."""

    kind: str
    data: bytes
    head: str
    partition: int = -1
    offset: int = 0


class Client:
    """One client: how far in the log it is, which conflated content it has had, and how it keeps up."""

    __slots__ = (
        "ahead", "backlog", "brief", "every_s", "good", "health", "kept_up_since", "moved_at", "pos", "positions_at",
        "seq", "sink", "waited", "wrote_at",
    )  # fmt: skip

    def __init__(self, sink: Sink, pos: int, seq: int, good: Callable[[], bool], brief: bool) -> None:
        self.sink = sink
        self.brief = brief  # it is told of devices only when they become known or are named anew
        self.good = good  # whether it may still be served
        self.pos = pos
        self.seq = seq
        self.health = -1
        self.backlog: list[Change] = []  # what it missed before it came, the next one last
        self.ahead: list[int] | None = None  # its own offsets, while they are not the console's
        self.every_s = FLUSH_S
        self.positions_at = self.wrote_at = self.moved_at = self.kept_up_since = float("-inf")
        self.waited = 0


class Hub:
    """See the module's docstring. `observe` is told how old the newest reading of each flush is, in seconds."""

    def __init__(
        self,
        picture: Picture,
        clock: Clock,
        *,
        queue_max: int = QUEUE_MAX,
        clients_max: int = CLIENTS_MAX,
        observe: Callable[[float], None] | None = None,
    ) -> None:
        self.picture = picture
        self.cut = self.reloaded = 0
        self._clock = clock
        self._queue_max = queue_max
        self._clients_max = clients_max
        self._observe = observe or (lambda seconds: None)
        self._clients: dict[Client, None] = {}  # in the order in which they came
        self._log: list[_Entry] = []
        self._log_first = 0
        self._offsets = list(picture.offsets)  # where the log ends
        self._health: Event | None = None
        self._health_no = 0
        self._newest_us = 0
        self._shown_seq = picture.seq  # conflated content goes out up to here
        self._shown_at = float("-inf")
        self._shared: dict[Any, Any] = {}
        self._last_head: tuple[int, list[int], str] | None = None
        self._round: asyncio.Task[None] | None = None
        self._again: asyncio.TimerHandle | None = None
        self._next_round = float("-inf")
        self._dirty = False
        self._closed = False

    @property
    def clients(self) -> int:
        return len(self._clients)

    @property
    def slow_clients(self) -> int:
        """Clients that do not keep up."""
        late = asyncio.get_event_loop().time() - _SLOW_S
        return sum(
            client.every_s > FLUSH_S or (client.waited > 0 and client.wrote_at < late) for client in self._clients
        )

    def publish(self, delta: Delta) -> None:
        """Something was read from Kafka."""
        changes = self.picture.apply(delta)
        if delta.topic_id is not None:
            for client in list(self._clients):
                self._reload(client, "the alerts were made anew")
            self._log_first, self._log = self._end, []
            self._shared.clear()
            self._shown_seq = self.picture.seq
            self._offsets = list(self.picture.offsets)
            changes = []  # whoever comes from now on has them in its snapshot, or is owed them by its token
        for change in changes:
            self._offsets[change.partition] = change.offset + 1
            head = self._head(self._offsets)
            self._log.append(_Entry(change.kind, change.data, head, change.partition, change.offset))
        head = self._head(self._offsets)
        self._log += [_Entry("refused", refusal(line), head) for line in delta.transitions if line.action == "refused"]
        self._log += [_Entry("device-removed", removal(device), head) for device in delta.gone]
        if len(self._log) > 2 * self._queue_max:
            surplus = len(self._log) - self._queue_max
            del self._log[:surplus]
            self._log_first += surplus
        if self._clients:
            self._newest_us = max(self._newest_us, delta.newest_us)
        else:
            self._shown_seq = self.picture.seq
        self._kick()

    def health(self, data: bytes) -> None:
        """A new word on health, JSON."""
        self._health = Event("health", data)
        self._health_no += 1
        for client in [client for client in self._clients if not client.good()]:
            self.leave(client)
            client.sink.end()
        self._kick()

    def close(self) -> None:
        """End every stream. Clients have lost nothing: they go on at the next console, by their tokens."""
        self._closed = True
        for client in list(self._clients):
            self.leave(client)
            client.sink.end()
        for task in (self._round, self._again):
            if task is not None:
                task.cancel()

    def join(
        self, token: Token | None, sink: Sink, good: Callable[[], bool] = lambda: True, brief: bool = False
    ) -> Client:
        """Serve a client from where its token stands, else from now on, for as long as `good` says so.

        Raises Full before anything is written.
        """
        if len(self._clients) >= self._clients_max or self._closed:
            raise Full
        client = Client(sink, self._end, 0, good, brief)
        try:
            if token is not None:
                client.backlog = self.picture.missed(token, self._now_s())[::-1]
                client.seq = self.picture.seq_of(token)
                if client.backlog or list(token.offsets) != self.picture.offsets:
                    client.ahead = list(token.offsets)
        except Lost as lost:
            sink.write(sink.format([_reload(str(lost))]))
            sink.end()
            return client
        self._clients[client] = None
        self._kick()
        return client

    def leave(self, client: Client) -> None:
        """The client has gone."""
        self._clients.pop(client, None)

    async def serve(
        self,
        token: Token | None,
        send: Send,
        format: Format = as_sse,
        hello: Any = HELLO,
        good: Callable[[], bool] = lambda: True,
        brief: bool = False,
    ) -> None:
        """Serve one client through `send`, which returns once the client can take more, until it falls behind or the
        console ends; cancel it when the client goes. Raises Full, before anything is sent.
        """
        sink = QueueSink(format, asyncio.current_task())
        if hello:
            sink.write(hello)
        client = self.join(token, sink, good, brief)
        try:
            while (data := await sink.take()) is not None:
                await send(data)
                if client.waited:
                    self._kick()
        finally:
            self.leave(client)

    @property
    def _end(self) -> int:
        return self._log_first + len(self._log)

    def _kick(self) -> None:
        self._dirty = True
        if self._clients and not self._closed and (self._round is None or self._round.done()):
            self._round = asyncio.get_running_loop().create_task(self._rounds())

    async def _rounds(self) -> None:
        """Write until nobody is owed anything."""
        loop = asyncio.get_running_loop()
        while self._dirty:
            wait = self._next_round - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            self._dirty = False
            began = loop.time()
            self._show(began)
            for number, client in enumerate(list(self._clients), 1):
                if client in self._clients:
                    self._feed(client, began)
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(0)
            ended = loop.time()
            self._next_round = max(began + _ROUND_S, ended + (ended - began))
            self._look_again(loop)

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        wait = None
        if any(client.waited or client.every_s > FLUSH_S for client in self._clients):
            wait = _RETRY_S
        if self.picture.seq > self._shown_seq:
            due = max(0.0, self._shown_at + FLUSH_S - loop.time())
            wait = due if wait is None else min(wait, due)
        if self._again is not None:
            self._again.cancel()
        self._again = None if wait is None else loop.call_later(wait, self._kick)

    def _show(self, now: float) -> None:
        """Let conflated content go out, unless the last did less than a quarter of a second ago."""
        if self.picture.seq > self._shown_seq and now - self._shown_at >= FLUSH_S:
            self._shown_seq, self._shown_at = self.picture.seq, now
            if self._newest_us:
                self._observe(max(0.0, (self._clock.now_us() - self._newest_us) / 1e6))
            self._newest_us = 0

    def _feed(self, client: Client, now: float) -> None:
        """Write what a client is owed, if it has taken what it was written before."""
        sink = client.sink
        while True:
            waiting = sink.waiting()
            if waiting:
                if waiting != client.waited:
                    client.waited, client.moved_at = waiting, now
                elif now - client.moved_at > STUCK_S:
                    self.cut += 1
                    self.leave(client)
                    sink.abort()
                return
            if self._end - client.pos > self._queue_max:
                self._reload(client, "it fell too far behind")
                return
            events = self._pace(client, now)
            client.waited = 0
            data = self._owed(client, now, events)
            if data is None:
                return
            client.wrote_at = client.moved_at = now
            sink.write(data)

    def _pace(self, client: Client, now: float) -> list[Event]:
        """Judge how a client keeps up; returns what it is to be told of that."""
        if client.waited and now - client.wrote_at >= _SLOW_S:
            client.every_s, client.kept_up_since = _SLOW_S, now
            return [_behind(now - client.wrote_at, client.every_s)]
        if client.every_s > FLUSH_S and now - client.kept_up_since >= _RECOVERED_S:
            client.every_s = FLUSH_S
            return [_behind(0.0, client.every_s)]
        return []

    def _reload(self, client: Client, reason: str) -> None:
        """Tell a client to begin anew, as soon as it takes anything, and close it."""
        self.reloaded += 1
        self.leave(client)
        client.sink.write(client.sink.format([_reload(reason)]))
        client.sink.end()

    def _owed(self, client: Client, now: float, first: list[Event]) -> Any:
        """The next piece of what a client has not had, in its own format; None when it has had everything."""
        if client.ahead is not None:
            return self._owed_alone(client, client.ahead, first)
        slow = client.every_s > FLUSH_S and now - client.positions_at < client.every_s
        show = client.seq if slow else self._shown_seq
        end = min(self._end, client.pos + _AT_ONCE)
        place = (client.pos, client.seq, client.health)
        client.pos = end
        if show > client.seq:
            client.seq, client.positions_at = show, now
        client.health = self._health_no
        reached = (client.pos, client.seq, client.health)
        if place == reached and not first:
            return None
        if first:
            return client.sink.format([*first, *self._events(*place, *reached, client.brief)])
        key = (client.sink.format, place, reached, client.brief)
        found = self._shared.get(key)
        if found is None:
            events = self._events(*place, *reached, client.brief)
            if len(self._shared) >= _SHARED_MAX:
                self._shared.clear()
            found = self._shared[key] = client.sink.format(events) if events else None
        return found

    def _owed_alone(self, client: Client, offsets: list[int], events: list[Event]) -> Any:
        """The same for a client whose offsets are its own: what it missed, then what it has not had from elsewhere."""
        while client.backlog and len(events) < _AT_ONCE:
            change = client.backlog.pop()
            offsets[change.partition] = change.offset + 1
            events.append(Event(change.kind, change.data, self._id(offsets, client.seq)))
        if client.backlog:
            return client.sink.format(events)
        for entry in self._entries(client.pos, client.pos + _AT_ONCE):
            client.pos += 1
            if entry.partition >= 0:
                if entry.offset < offsets[entry.partition]:
                    continue  # it had that from a console that is further on
                offsets[entry.partition] = entry.offset + 1
            events.append(Event(entry.kind, entry.data, self._id(offsets, client.seq)))
        if client.pos == self._end:
            if all(own <= ours for own, ours in zip(offsets, self._offsets, strict=True)):
                client.ahead = None
            seq, health = client.seq, client.health
            client.seq, client.health = max(seq, self._shown_seq), self._health_no
            events += self._latest(self._head(offsets), seq, health, client.seq, client.health, client.brief)
        return client.sink.format(events) if events else None

    def _entries(self, pos: int, end: int) -> Sequence[_Entry]:
        return self._log[pos - self._log_first : end - self._log_first]

    def _events(
        self, pos: int, seq: int, health: int, to_pos: int, to_seq: int, to_health: int, brief: bool
    ) -> list[Event]:
        """What happened between two places."""
        events = [Event(entry.kind, entry.data, tokens.joined(entry.head, seq)) for entry in self._entries(pos, to_pos)]
        head = self._head(self._offsets) if to_pos == self._end else self._log[to_pos - self._log_first - 1].head
        return events + self._latest(head, seq, health, to_seq, to_health, brief)

    def _latest(self, head: str, seq: int, health: int, to_seq: int, to_health: int, brief: bool) -> list[Event]:
        """What is only ever sent in its newest form. Each event's id says what its reader will have had with it."""
        events = []
        if seq < to_seq:
            positions, fences = self.picture.conflated(seq, brief)
            newest = {
                "fences": fences, "groups": self.picture.groups_since(seq),
                "rollouts": self.picture.rollouts_since(seq), "positions": positions,
            }  # fmt: skip
            sent = [(kind, data) for kind, data in newest.items() if data]
            # Only the last of these says that its reader has had all of them.
            events = [Event(kind, data, tokens.joined(head, seq)) for kind, data in sent]
            events[-1:] = [event._replace(id=tokens.joined(head, to_seq)) for event in events[-1:]]
        if health < to_health and self._health is not None:
            events.append(self._health._replace(id=tokens.joined(head, to_seq)))
        return events

    def _id(self, offsets: list[int], seq: int) -> str:
        return tokens.joined(self._head(offsets), seq)

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


def _reload(reason: str) -> Event:
    # Without an id: a client that only remembers ids must not come back with one that is void.
    return Event("reload", encode({"reason": reason}))


def _behind(held_s: float, every_s: float) -> Event:
    return Event("behind", encode({"behind_ms": int(held_s * 1000), "interval_ms": int(every_s * 1000)}))
