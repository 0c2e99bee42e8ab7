"""The console as an ASGI application: the interface, the stream, the pages."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from litestar import Litestar, Router, asgi, get
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException, NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.response import File
from litestar.types import ASGIApp, Receive, Scope, Send

from . import api
from .guard import Guard
from .service import ConsoleService
from .stream import serve as serve_stream

STATIC = Path(__file__).resolve().parent / "static"
# Said here, and not guessed from the system's table, which differs from one machine to the next.
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

    @asgi("/stream")
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await serve_stream(console.hub, scope, receive, send)

    def provide() -> ConsoleService:
        return console

    routes = Router("/api/v1", route_handlers=[*api.HANDLERS, stream])
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
            path="/schema",
            render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        ),
        signature_namespace={"ConsoleService": ConsoleService},
        state=State(),
    )
    return Guard(app, names)


def _page_handler(static: Path) -> HTTPRouteHandler:
    """Files as they are; any other path is one of the pages' own addresses, which index.html reads."""

    @get(["/", "/{path:path}"], include_in_schema=False, sync_to_thread=False)
    def page(path: str = "/") -> File:
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
            wanted = static / "index.html"
        return File(
            wanted,
            media_type=_TYPES.get(wanted.suffix, "application/octet-stream"),
            content_disposition_type="inline",
            headers={"cache-control": "no-cache"},
        )

    return page
