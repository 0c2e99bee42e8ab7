"""uvicorn's HTTP protocol, which also hands each request its connection, so that the stream can write to it itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

TRANSPORT = "tidegate.transport"
"""The name under which an ASGI scope's ``extensions`` hold the connection's transport."""


class ConsoleProtocol(H11Protocol):
    """See the module's docstring."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        app = self.app

        def with_transport(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
            scope.setdefault("extensions", {})[TRANSPORT] = transport
            answer: Awaitable[None] = app(scope, receive, send)
            return answer

        self.app = with_transport
