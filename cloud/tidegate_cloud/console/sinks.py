"""Where the hub puts what a client is owed. A sink never makes the hub wait: it says how much it still holds.

`StreamSink` writes to a connection itself. An ASGI server's own way costs a task's turn, two coroutines and a chunk's
framing for every client and event; here the same bytes go to a thousand sockets as they are. `QueueSink` is for every
other way of sending: a coroutine takes from it.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Protocol

from .wire import Format, as_sse

# How much the kernel may hold for a client that it has not sent: more would only be older when it arrives.
_UNSENT_MAX = 32 * 1024


class Sink(Protocol):
    """See the module's docstring. `format`: what `write` is given."""

    @property
    def format(self) -> Format: ...

    def write(self, data: Any) -> None:
        """Pass this on as soon as may be."""

    def waiting(self) -> int:
        """How much was written and has not been passed on; 0 when the client can take more."""

    def end(self) -> None:
        """Close once everything that was written has been passed on."""

    def abort(self) -> None:
        """Close at once."""


class StreamSink:
    """The body of a response that ends when the connection does, straight to its transport."""

    __slots__ = ("_head", "_transport")
    format: Format = staticmethod(as_sse)

    def __init__(self, transport: asyncio.Transport, head: bytes) -> None:
        self._transport = transport
        self._head = head  # goes out with what is written first
        connection = transport.get_extra_info("socket")
        if connection is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_MAX)

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        self._transport.write(data)

    def waiting(self) -> int:
        return self._transport.get_write_buffer_size()

    def end(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


class QueueSink:
    """Holds one piece at a time until a coroutine has taken it and is done with it."""

    __slots__ = ("_ended", "_held", "_owner", "_taking", "_wake", "format")

    def __init__(self, format: Format, owner: asyncio.Task[Any] | None = None) -> None:
        self.format = format
        self._owner = owner
        self._held: list[Any] = []
        self._taking = False
        self._ended = False
        self._wake = asyncio.Event()

    def write(self, data: Any) -> None:
        self._held.append(data)
        self._wake.set()

    def waiting(self) -> int:
        return len(self._held) + self._taking

    def end(self) -> None:
        self._ended = True
        self._wake.set()

    def abort(self) -> None:
        if self._owner is not None:
            self._owner.cancel()

    async def take(self) -> Any:
        """The next piece, None once there is none left; asking for it says that the one before has been passed on."""
        self._taking = False
        while not self._held:
            if self._ended:
                return None
            self._wake.clear()
            await self._wake.wait()
        self._taking = True
        return self._held.pop(0)
