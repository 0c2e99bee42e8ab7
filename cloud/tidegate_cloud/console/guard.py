"""Who may talk to the console, and what its pages may load: an ASGI layer around everything else.

- The Host header must be an address, ``localhost``, or a name that was allowed: a page from elsewhere cannot rebind its
  own name to this machine and read along.
- A request that could change something must come from the console's own pages, or from a program: when the browser
  says where it is from (Origin, Sec-Fetch-Site), that must be here.
- Every answer carries a content security policy under which nothing is loaded from elsewhere and no inline script runs.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self' blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Guard:
    """See the module's docstring. `names`: host names besides ``localhost`` under which the console is reached."""

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()) -> None:
        self.app = app
        self._names = {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in (ScopeType.HTTP, ScopeType.WEBSOCKET):
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        # The same-origin policy does not hold for WebSockets: any page may open one, with the cookies of this host.
        method = "WEBSOCKET" if scope["type"] == ScopeType.WEBSOCKET else str(scope["method"])
        reason = self._refusal(method, headers)
        if reason and scope["type"] == ScopeType.WEBSOCKET:
            await receive()
            await send({"type": "websocket.close", "code": 4403, "reason": reason})
        elif reason:
            await _forbid(guarded, reason)
        else:
            await self.app(scope, receive, guarded)

    def _refusal(self, method: str, headers: dict[bytes, str]) -> str:
        host = headers.get(b"host", "")
        if not self._is_ours(host):
            return f"the host {host[:80]!r} is not one of this console's; --allow-host adds a name"
        if method in _SAFE:
            return ""
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "a page of another origin may not ask for this"
        if headers.get(b"sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "a page of another site may not ask for this"
        return ""

    def _is_ours(self, host: str) -> bool:
        if "@" in host:  # a user's name before it, which no browser sends
            return False
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


async def _forbid(send: Send, reason: str) -> None:
    body = msgspec.json.encode({"detail": reason})
    await send(
        {
            "type": "http.response.start",
            "status": 403,
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})
