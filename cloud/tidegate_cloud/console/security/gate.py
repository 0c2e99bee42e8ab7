"""The gate: finds out who asks, before anything else looks at a request, and puts what was asked on the audit log.

- A browser shows a cookie, a program ``Authorization: Bearer tg_…``. A bearer that is not good is refused, also where
  nobody need be logged in.
- A request under a cookie that could change something must say the session's own word in ``x-csrf-token``.
- What a request needs stands at its route (``opt={"needs": …}``); `permit` compares. A route that says nothing is shut.
"""

from __future__ import annotations

import hmac
from typing import Any, cast

from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from litestar.handlers.base import BaseRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from tidegate_protocols.accounts import AuditLine

from tidegate_cloud.clock import Clock

from .accounts import Accounts, Identity
from .audit import Audit

COOKIE, CSRF_HEADER = "tidegate", b"x-csrf-token"
NOBODY = "nobody"
_WHO = "tidegate.who"
_NOTE = "tidegate.note"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Gate:
    """See the module's docstring."""

    def __init__(self, app: ASGIApp, accounts: Accounts, audit: Audit, clock: Clock) -> None:
        self.app = app
        self._accounts = accounts
        self._audit = audit
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in (ScopeType.HTTP, ScopeType.WEBSOCKET):
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        who, refusal = self._who(scope, headers)
        extra = cast(dict[str, Any], scope)
        extra[_WHO] = who
        method = str(scope.get("method", "GET"))
        if method in _SAFE and not refusal:
            await self.app(scope, receive, send)
            return
        if not refusal and who is not None and who.via == "session":
            said = headers.get(CSRF_HEADER, b"").decode("latin-1")
            if not hmac.compare_digest(said.encode(), who.csrf.encode()):
                refusal = (403, "x-csrf-token is missing or not this session's")
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        try:
            if refusal:
                await _refuse(scope, receive, noted, *refusal)
            else:
                await self.app(scope, receive, noted)
        finally:
            # What nobody asks changes nothing but a session; and who is told to wait may not fill the log.
            if who is not None or (scope["path"].endswith("/session") and status != 429):
                self._note(scope, who, method, status)

    def _who(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[Identity | None, tuple[int, str] | None]:
        bearer = headers.get(b"authorization")
        if bearer is not None:
            scheme, _, text = bearer.decode("latin-1").partition(" ")
            found = self._accounts.by_bearer(text.strip()) if scheme.lower() == "bearer" else None
            return found, None if found is not None else (401, "the token is not known, or no longer good")
        cookie = cookie_in(scope)
        return (self._accounts.by_cookie(cookie) if cookie else None), None

    def _note(self, scope: Scope, who: Identity | None, method: str, status: int) -> None:
        detail = str(cast(dict[str, Any], scope).get(_NOTE, ""))
        self._audit.note(
            AuditLine(
                ts_us=self._clock.now_us(), who=who.user if who else "", via=who.via if who else "",
                address=address_of(scope), action=f"{method} {scope['path']}"[:300], status=status, detail=detail[:300],
            )
        )  # fmt: skip


def permit(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A Litestar guard: let through whoever may. Raises NotAuthorizedException, PermissionDeniedException."""
    needs = handler.opt.get("needs")
    if needs == NOBODY:
        return
    who = identity(connection.scope)
    if who is None:
        raise NotAuthorizedException("log in first", headers={"www-authenticate": 'Bearer realm="tidegate"'})
    if needs is None or needs not in who.permissions:
        raise PermissionDeniedException(f"this needs the permission {needs!r}, which {who.via} of {who.user} has not")


def identity(scope: Any) -> Identity | None:
    """Who asks; None where nobody is logged in."""
    found: Identity | None = scope.get(_WHO)
    return found


def note(scope: Any, detail: str) -> None:
    """Say more of this request on the audit log."""
    scope[_NOTE] = detail


def address_of(scope: Any) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""


def cookie_name(scope: Any) -> str:
    """Cookies know hosts and no ports: two consoles on one machine would log each other out."""
    if scope["scheme"] in ("https", "wss"):
        return f"__Host-{COOKIE}"
    host = next((value for name, value in scope["headers"] if name.lower() == b"host"), b"").decode("latin-1")
    port = host.rpartition(":")[2]
    return f"{COOKIE}-{port}" if port.isdigit() and port.isascii() else COOKIE


def cookie_in(scope: Any) -> str:
    """The session's cookie of a request; empty without one."""
    wanted = cookie_name(scope)
    for name, value in scope["headers"]:
        if name.lower() == b"cookie":
            for pair in value.decode("latin-1").split(";"):
                key, _, text = pair.strip().partition("=")
                if key == wanted:
                    return str(text)
    return ""


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, detail: str) -> None:
    from ..stream import plain

    if scope["type"] == ScopeType.WEBSOCKET:
        await receive()
        await send({"type": "websocket.close", "code": 4401, "reason": detail})
    else:
        await plain(send, status, detail)
