"""Fan-out of alerts over server-sent events: how much one core delivers, and what an idle client costs.

The server is a process of its own on one core: the console's whole application under uvicorn, with changes of alerts
put in at a steady rate. The clients are another process on another core: plain sockets under epoll, which find each
alert's own time in what arrives. A step of the rate counts while at least 98 % of what is due arrives and the 99th
percentile stays within 150 ms; the last such step is reported.

Peers, in the same run, under the same clients and the same uvicorn: `raw ASGI` is the usual way, a queue and a
coroutine per client that sends each event by `await send(…)`; `sse-starlette` joins where it is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import re
import resource
import select
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import uvicorn
from tidegate_cloud.console.app import create_app
from tidegate_cloud.console.picture import AlertRecord, Delta
from tidegate_cloud.console.protocol import ConsoleProtocol
from tidegate_cloud.console.security.passwords import digest
from tidegate_cloud.console.service import ConsoleService
from tidegate_protocols.accounts import API_TOKEN, USER, ApiToken, User
from tidegate_protocols.alerts import Alert

from benchmarks.common import Row, percentile, run

CLIENTS = 1_000
IDLE = 10_000
P99_MS = 150.0
_SECRET = "only-for-this-benchmark"
_SHARE = 0.98
_AT = re.compile(rb'"changed_us":(\d+)')
_RATES = (10, 20, 30, 40, 60, 80, 100, 120, 140, 160, 200, 250, 300)


def _alert(number: int) -> Alert:
    now_us = time.time_ns() // 1000
    return Alert(
        id=f"{number:032x}", device=f"van-{number % 500}", rule="geofence", subject="yard", state="open",
        severity="warning", kind="entered", title="Entered Reefer Yard", started_us=now_us, opened_us=now_us,
        changed_us=now_us, version=1, event=f"{number:032x}", events=1, lat=51.2, lon=2.9,
    )  # fmt: skip


class _Ours:
    """The console's whole application, fed as Kafka's reader would feed it; no Kafka is asked for anything."""

    def __init__(self) -> None:
        self._console = ConsoleService("127.0.0.1:1")
        self._console.accounts.take("user/bench", USER.encode(User(name="bench", role="viewer")), 0)
        token = ApiToken(
            id="bench", name="bench", user="bench", permissions=["read"], digest=digest(_SECRET), created_us=1
        )  # fmt: skip
        self._console.accounts.take("token/bench", API_TOKEN.encode(token), 1)
        self._app = create_app(self._console)
        self._hub = self._console.hub
        self._hub.publish(Delta(topic_id=bytes(16)))
        self._number = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)

    def publish(self) -> None:
        self._hub.publish(Delta(alerts=[AlertRecord(0, self._number, str(self._number), _alert(self._number))]))
        self._number += 1

    def clients(self) -> int:
        return self._hub.clients


class _Raw:
    """A queue per client, and a coroutine that sends what comes: what most servers do."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[bytes]] = set()
        self._number = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while True:
                await send({"type": "http.response.body", "body": await queue.get(), "more_body": True})
        finally:
            self._queues.discard(queue)

    def publish(self) -> None:
        import msgspec

        event = b"id: %d\nevent: alert\ndata: %b\n\n" % (self._number, msgspec.json.encode(_alert(self._number)))
        self._number += 1
        for queue in self._queues:
            queue.put_nowait(event)

    def clients(self) -> int:
        return len(self._queues)


class _SseStarlette(_Raw):
    """The same under sse-starlette's EventSourceResponse."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from sse_starlette import EventSourceResponse

        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._queues.add(queue)

        async def events() -> Any:
            while True:
                yield await queue.get()

        try:
            await EventSourceResponse(events())(scope, receive, send)
        finally:
            self._queues.discard(queue)


_SERVERS: dict[str, type[Any]] = {"tidegate": _Ours, "raw ASGI": _Raw, "sse-starlette": _SseStarlette}


def _serve(name: str, pipe: Connection) -> None:
    """A server in a process of its own; `pipe` tells it what to do."""
    _pin(0)
    app = _SERVERS[name]()

    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        protocol: Any = ConsoleProtocol if name == "tidegate" else "h11"
        config = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off", http=protocol, ws="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        pipe.send(listener.getsockname()[1])
        loop = asyncio.get_running_loop()
        asked: asyncio.Queue[Any] = asyncio.Queue()
        loop.add_reader(pipe.fileno(), lambda: asked.put_nowait(pipe.recv()))
        while (order := await asked.get()) is not None:
            what, value = order
            if what == "clients":
                while app.clients() < value:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                pipe.send(_rss())
            else:
                cpu = time.process_time()
                await _publish_at(app, value, _seconds_of(what))
                pipe.send(time.process_time() - cpu)
        loop.remove_reader(pipe.fileno())
        server.should_exit = server.force_exit = True
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
    os._exit(0)  # thousands of open responses need no good-bye


def _seconds_of(what: str) -> float:
    return float(what.removeprefix("publish "))


async def _publish_at(app: Any, rate: float, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    for number in range(round(rate * seconds)):
        wait = begin + number / rate - loop.time()
        await asyncio.sleep(max(0.0, wait))
        app.publish()
    await asyncio.sleep(0.5)


class _Clients:
    """Sockets that follow the stream, read under epoll in a process of their own."""

    def __init__(self, port: int, count: int) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        request = (
            b"GET /api/v1/stream HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            b"authorization: Bearer tg_bench_%b\r\n\r\n" % _SECRET.encode()
        )
        for number in range(count):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.sendall(request)
            connection.setblocking(False)
            self._sockets[connection.fileno()] = connection
            self._poll.register(connection, select.EPOLLIN)
            if number % 500 == 499:
                self.read(0.05)

    def read(self, seconds: float) -> list[float]:
        """Read for a while; how long each alert that arrived was under way, in ms."""
        end = time.monotonic() + seconds
        delays: list[float] = []
        while (left := end - time.monotonic()) > 0:
            for number, _ in self._poll.poll(left, 2048):
                data = self._sockets[number].recv(262_144)
                now_us = time.time_ns() // 1000
                delays += [(now_us - int(at)) / 1000 for at in _AT.findall(data)]
        return delays

    def close(self) -> None:
        for connection in self._sockets.values():
            connection.close()


def _pin(core: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[core % len(cores)]})


def _rss() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@contextlib.contextmanager
def _running(name: str) -> Iterator[tuple[int, Connection]]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(name, there), daemon=True)
    process.start()
    there.close()
    try:
        yield here.recv(), here
        here.send(None)
        process.join(10)
    finally:
        process.kill()


def _best(name: str, rates: Sequence[int], seconds: float) -> tuple[float, float]:
    """Deliveries a second and 99th percentile in ms of the last step that counts; of the first one where none does."""
    best: tuple[float, float] | None = None
    with _running(name) as (port, pipe):
        clients = _Clients(port, CLIENTS)
        pipe.send(("clients", CLIENTS))
        pipe.recv()
        clients.read(0.5)
        for rate in rates:
            pipe.send((f"publish {seconds}", rate))
            delays = clients.read(seconds + 0.5)
            pipe.recv()
            late = clients.read(0.2)
            while late:  # what a step left behind does not fall to the next
                late = clients.read(0.5)
            due = round(rate * seconds) * CLIENTS
            found = (len(delays) / (seconds + 0.0), percentile(delays, 0.99) if delays else float("inf"))
            print(f"  {name}: {rate * CLIENTS:,} offered, {found[0]:,.0f}/s, p99 {found[1]:.0f} ms", file=sys.stderr)
            if len(delays) < _SHARE * due or found[1] > P99_MS:
                best = best or found
                break
            best = found
        clients.close()
    assert best is not None
    return best


def _idle(name: str, count: int) -> float:
    """Bytes of the server's memory per client that has nothing to take but the sign of life."""
    with _running(name) as (port, pipe):
        pipe.send(("clients", 0))
        before = pipe.recv()
        clients = _Clients(port, count)
        pipe.send(("clients", count))
        after: int = pipe.recv()
        clients.read(1.0)
        clients.close()
    return (after - before) / count


def measure(quick: bool) -> list[Row]:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cores = os.sched_getaffinity(0)
    _pin(1)
    seconds = 2.0 if quick else 6.0
    peers = ["raw ASGI"]
    with contextlib.suppress(ImportError):
        import sse_starlette  # type: ignore[import-not-found,unused-ignore]  # noqa: F401

        peers.append("sse-starlette")
    ours = _best("tidegate", (60, 120) if quick else _RATES, seconds)
    rows = []
    for peer in peers:
        theirs = _best(peer, (10, 20) if quick else _RATES, seconds)
        rows += [
            Row("sse/1000", "deliveries_per_s", ours[0], "1/s", peer, theirs[0]),
            Row("sse/1000", "p99_ms", ours[1], "ms", peer, theirs[1]),
        ]
    idle = min(IDLE, hard - 200)
    theirs_idle = _idle("raw ASGI", min(idle, 2_000))
    rows.append(Row(f"idle/{idle}", "bytes_per_client", _idle("tidegate", idle), "B", "raw ASGI", theirs_idle))
    os.sched_setaffinity(0, cores)
    return rows


if __name__ == "__main__":
    run("fanout", measure, packages=["uvicorn", "litestar", "sse-starlette"])
