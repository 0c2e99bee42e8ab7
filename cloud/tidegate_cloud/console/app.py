"""The console as an ASGI application: the interface, the stream, the pages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from litestar import Litestar, Request, Response, Router, asgi, get
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException, NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.params import FromPath
from litestar.response import Redirect
from litestar.routes import WebSocketRoute
from litestar.types import ASGIApp, Receive, Scope, Send

from . import api, editing, rollout_routes, sockets
from .graph import controller
from .guard import Guard
from .pages import Page, Pages, takes_gzip
from .security import routes as security_routes
from .security.gate import NOBODY, Gate, identity, permit
from .service import ConsoleService
from .stream import serve as serve_stream
from .views import Problem

_BODY_MAX = 4 * 2**20  # a fence of many vertices is the largest thing that anyone sends
_REFUSALS = {
    400: ResponseSpec(Problem, description="It cannot be read"),
    401: ResponseSpec(Problem, description="Log in first; or the token is not good"),
    403: ResponseSpec(Problem, description="Not allowed"),
    404: ResponseSpec(Problem, description="There is no such thing"),
    409: ResponseSpec(Problem, description="As things stand it makes no sense"),
    413: ResponseSpec(Problem, description="Too large"),
    422: ResponseSpec(Problem, description="Something in the request is not as it must be"),
    429: ResponseSpec(Problem, description="Too many tries"),
    503: ResponseSpec(Problem, description="What is needed for it does not answer"),
}
_NO_STORE = {"cache-control": "no-store"}
STATIC = Path(__file__).resolve().parent / "static"


def create_app(console: ConsoleService, *, names: Iterable[str] = (), static: Path = STATIC) -> ASGIApp:
    """The application of a console that has been started. `names`: hosts under which it is reached (`Guard`)."""

    @asgi("/stream", opt=api.READ, copy_scope=False)
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await serve_stream(console.hub, scope, receive, send, console.while_good(scope))

    def provide() -> ConsoleService:
        return console

    handlers = [
        *api.HANDLERS,
        *security_routes.HANDLERS,
        *editing.handlers(),
        *rollout_routes.HANDLERS,
        *sockets.HANDLERS,
    ]
    for handler in (*handlers, api.healthz):
        if isinstance(handler, HTTPRouteHandler):
            handler.responses = {**_REFUSALS, **(handler.responses or {})}
    routes = Router("/api/v1", route_handlers=[*handlers, stream, controller(console)])
    app = Litestar(
        [routes, api.healthz, _page_handler(static)],
        dependencies={"console": Provide(provide, sync_to_thread=False)},
        exception_handlers={
            HTTPException: api.problem,
            # What msgspec lets through of bodies that nobody can mean.
            RecursionError: api.unreadable,
            UnicodeError: api.unreadable,
            OverflowError: api.unreadable,
        },
        openapi_config=OpenAPIConfig(
            title="Tidegate console",
            version="1",
            openapi_router=Router("/schema", route_handlers=[], opt=api.READ, include_in_schema=False),
            render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        ),
        signature_namespace={"ConsoleService": ConsoleService},
        state=State(),
        guards=[permit],
        request_max_body_size=_BODY_MAX,
    )
    return Guard(Gate(app, console.accounts, console.audit, console.clock), names)


def routes_of(app: ASGIApp) -> list[tuple[str, str, str]]:
    """(method, path, what it needs) of every route of an application that `create_app` made."""
    while not isinstance(app, Litestar):
        app = app.app  # type: ignore[attr-defined]
    found = []
    for route in app.routes:
        for handler in [*getattr(route, "route_handlers", ()), *filter(None, [getattr(route, "route_handler", None)])]:
            other = {"WEBSOCKET"} if isinstance(route, WebSocketRoute) else {"GET"}
            methods = getattr(handler, "http_methods", other) - {"OPTIONS"}  # Litestar's own, and shut
            found += [(str(method), route.path, handler.opt.get("needs", "")) for method in methods]
    return sorted(found)


def _page_handler(static: Path) -> HTTPRouteHandler:
    """Files as they are; any other path is one of the pages' own addresses, which index.html reads."""
    pages = Pages(static)

    @get(["/", "/{path:path}"], opt={"needs": NOBODY}, include_in_schema=False)
    async def page(request: Request[Any, Any, Any], path: FromPath[str] = "/") -> Response[Any]:
        found = await asyncio.to_thread(pages.get, path)
        if found is None:
            # Ids of devices may hold dots, names of files do; nothing else here does.
            is_file = "." in Path(path).name and not path.startswith(
                ("/devices/", "/alerts/", "/fences/", "/rollouts/")
            )
            if path.startswith(("/api/", "/schema")) or is_file:
                raise NotFoundException(f"there is nothing at {path}")
            if path != "/login" and identity(request.scope) is None:
                return Redirect("/login?" + urlencode({"next": path}), status_code=303, headers=_NO_STORE)
            found = await asyncio.to_thread(pages.get, "/login.html" if path == "/login" else "/index.html")
            if found is None:
                raise NotFoundException("the pages are not installed")
        return _answer(found, request)

    return page


def _answer(page: Page, request: Request[Any, Any, Any]) -> Response[bytes]:
    squeezed = bool(page.squeezed) and takes_gzip(request.headers.get("accept-encoding", ""))
    etag = page.etag[:-1] + '-gz"' if squeezed else page.etag
    # Under its own content's name a file never changes; under any other it is asked for again, which costs a 304.
    for_ever = request.query_params.get("v", "") == page.etag.strip('"')
    headers = {
        "etag": etag, "vary": "accept-encoding",
        "cache-control": "public, max-age=31536000, immutable" if for_ever else "no-cache",
    }  # fmt: skip
    if etag in (each.strip() for each in request.headers.get("if-none-match", "").split(",")):
        return Response(b"", status_code=304, headers=headers, media_type=page.media_type)
    if squeezed:
        headers["content-encoding"] = "gzip"
    return Response(page.squeezed if squeezed else page.plain, media_type=page.media_type, headers=headers)
