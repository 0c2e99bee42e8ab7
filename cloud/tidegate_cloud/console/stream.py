"""`GET /api/v1/stream`: server-sent events (docs/api.md). Goes on after ``?from=``, else after Last-Event-ID."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from litestar import Request
from litestar.datastructures import State
from litestar.types import Receive, Scope, Send
from tidegate_protocols.errors import BadInput

from . import tokens
from .guard import HEADERS
from .hub import HELLO, Full, Hub
from .protocol import TRANSPORT
from .sinks import StreamSink
from .tokens import Token
from .views import encode

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_HEAD = (
    b"HTTP/1.1 200 OK\r\nconnection: close\r\n"
    + b"".join(b"%b: %b\r\n" % pair for pair in (*_HEADERS, *HEADERS))
    + b"\r\n"
    + HELLO
)


async def serve(hub: Hub, scope: Scope, receive: Receive, send: Send, good: Callable[[], bool] = lambda: True) -> None:
    """One client of the stream, from its request until it goes or is closed."""
    request: Request[object, object, State] = Request(scope, receive, send)
    if request.method != "GET":
        await plain(send, 405, "the stream is read with GET")
        return
    text = request.query_params.get("from") or request.headers.get("last-event-id")
    try:
        token = tokens.parse(text) if text else None
    except BadInput as error:
        await plain(send, 422, str(error))
        return
    devices = request.query_params.get("devices", "all")
    if devices not in ("all", "names"):
        await plain(send, 422, "devices: all or names")
        return
    brief = devices == "names"
    transport: Any = (scope.get("extensions") or {}).get(TRANSPORT)
    try:
        if transport is not None:
            await _direct(hub, token, transport, receive, good, brief)
        else:
            await _through(hub, token, receive, send, good, brief)
    except Full:
        await plain(send, 503, "there are too many readers of the stream; try again later")


async def _direct(
    hub: Hub, token: Token | None, transport: asyncio.Transport, receive: Receive, good: Callable[[], bool], brief: bool
) -> None:
    """Straight to the connection. The response has no length: it ends when the connection does."""
    sink = StreamSink(transport, _HEAD)
    client = hub.join(token, sink, good, brief)
    sink.write(b"")  # the head, if nothing has been owed yet
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        hub.leave(client)


async def _through(
    hub: Hub, token: Token | None, receive: Receive, send: Send, good: Callable[[], bool], brief: bool
) -> None:
    """By the server's own `send`."""
    started = False

    async def write(data: bytes) -> None:
        nonlocal started
        if not started:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            started = True
        await send({"type": "http.response.body", "body": data, "more_body": True})

    async def until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.create_task(until_gone())
    served = asyncio.create_task(hub.serve(token, write, good=good, brief=brief))
    try:
        await asyncio.wait({gone, served}, return_when=asyncio.FIRST_COMPLETED)
        if served.done() and not served.cancelled():
            served.result()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        for task in (gone, served):
            task.cancel()
        await asyncio.gather(gone, served, return_exceptions=True)


async def plain(send: Send, status: int, detail: str) -> None:
    """A refusal, as every other."""
    body = encode({"detail": detail})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
