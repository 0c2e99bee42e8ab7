"""The console as an ASGI application: the interface, the stream, the pages."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from litestar import Litestar, Request, Router, asgi, get
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException, NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.response import File, Redirect
from litestar.types import ASGIApp, Receive, Scope, Send

from . import api, editing
from .guard import Guard
from .security import routes as security_routes
from .security.gate import NOBODY, Gate, identity, permit
from .service import ConsoleService
from .stream import serve as serve_stream

_BODY_MAX = 4 * 2**20  # a fence of many vertices is the largest thing that anyone sends
STATIC = Path(__file__).resolve().parent / "static"
# Said here, and not guessed from the system's table, which differs from one machine to the next.
_NO_STORE = {"cache-control": "no-store"}
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}


def create_app(console: ConsoleService, *, names: Iterable[str] = (), static: Path = STATIC) -> ASGIApp:
    """The application of a console that has been started. `names`: hosts under which it is reached (`Guard`)."""

    @asgi("/stream", opt=api.READ)
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await serve_stream(console.hub, scope, receive, send, console.while_good(scope))

    def provide() -> ConsoleService:
        return console

    routes = Router("/api/v1", route_handlers=[*api.HANDLERS, *security_routes.HANDLERS, *editing.handlers(), stream])
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
            openapi_router=Router("/schema", route_handlers=[], opt=api.READ),
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
            methods = getattr(handler, "http_methods", {"GET"}) - {"OPTIONS"}  # Litestar's own, and shut
            found += [(str(method), route.path, handler.opt.get("needs", "")) for method in methods]
    return sorted(found)


def _page_handler(static: Path) -> HTTPRouteHandler:
    """Files as they are; any other path is one of the pages' own addresses, which index.html reads."""

    @get(["/", "/{path:path}"], opt={"needs": NOBODY}, include_in_schema=False, sync_to_thread=False)
    def page(request: Request[Any, Any, Any], path: str = "/") -> File | Redirect:
        try:
            wanted = (static / path.lstrip("/")).resolve()
            found = wanted.is_relative_to(static) and wanted.is_file()
        except (ValueError, OSError):  # no file can have such a name
            found = False
        if not found:
            # Ids of devices may hold dots, names of files do; nothing else here does.
            is_file = "." in Path(path).name and not path.startswith(("/devices/", "/alerts/"))
            if path.startswith(("/api/", "/schema")) or is_file:
                raise NotFoundException(f"there is nothing at {path}")
            if path == "/login":
                wanted = static / "login.html"
            elif identity(request.scope) is None:
                return Redirect("/login?" + urlencode({"next": path}), status_code=303, headers=_NO_STORE)
            else:
                wanted = static / "index.html"
        return File(
            wanted,
            media_type=_TYPES.get(wanted.suffix, "application/octet-stream"),
            content_disposition_type="inline",
            headers={"cache-control": "no-cache"},
        )

    return page
