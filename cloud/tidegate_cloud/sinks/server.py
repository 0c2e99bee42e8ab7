"""Asks a history store over HTTP: for consoles, which pass on what people may see. JSON; times in microseconds.

    GET /v1/series?device=&channel=&from_us=&to_us=&max_points=
    GET /v1/channels?device=
    GET /v1/events?device=&from_us=&to_us=&limit=
    GET /v1/status

It is no interface for people: it listens on loopback unless told otherwise, answers no browser (a request with an
Origin, or under a foreign Host, is refused), and wants a token where it was given one.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

from litestar import Litestar, Request, Response, get
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.params import Parameter
from msgspec import Struct
from tidegate_protocols.events import Event

from .store import HistoryStore, Series

POINTS_MAX = 20_000


class ChannelView(Struct):
    """A channel of a device of which anything is kept."""

    name: str
    unit: str


@get("/v1/series")
async def series(
    store: HistoryStore,
    device: str,
    channel: str,
    from_us: int,
    to_us: int,
    max_points: Annotated[int, Parameter(ge=10, le=POINTS_MAX)] = 2_000,
) -> Series:
    """See `HistoryStore.series`."""
    if not -(2**62) < from_us <= to_us < 2**62:
        raise HTTPException("from_us is after to_us, or one of them is no time", status_code=422)
    found = await asyncio.to_thread(store.series, device, channel, from_us, to_us, max_points)
    if found is None:
        raise HTTPException(f"nothing is kept of channel {channel!r} of device {device!r}", status_code=404)
    return found


@get("/v1/channels")
async def channels(store: HistoryStore, device: str) -> list[ChannelView]:
    """What is kept of a device."""
    return [ChannelView(name, unit) for name, unit in await asyncio.to_thread(store.channels, device)]


@get("/v1/events")
async def events(
    store: HistoryStore,
    from_us: int,
    to_us: int,
    device: str = "",
    limit: Annotated[int, Parameter(ge=1, le=5000)] = 500,
) -> list[Event]:
    """The newest events, the newest first."""
    if not -(2**62) < from_us <= to_us < 2**62:
        raise HTTPException("from_us is after to_us, or one of them is no time", status_code=422)
    return await asyncio.to_thread(store.events, device, from_us, to_us, limit)


@get("/v1/status", sync_to_thread=False)
def status(figures: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What has been kept since the service started."""
    return figures()


def create_app(store: HistoryStore, figures: Callable[[], dict[str, Any]], token: str = "") -> Litestar:
    """The application of a store. `figures` gives what ``/v1/status`` says."""

    def check(request: Request[Any, Any, Any]) -> Response[dict[str, str]] | None:
        given = request.headers.get("authorization", "")
        if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return Response({"detail": "the token is missing or wrong"}, status_code=401)
        if "origin" in request.headers or not _is_plain(request.headers.get("host", "")):
            return Response({"detail": "this is not for browsers: ask a console"}, status_code=403)
        return None

    return Litestar(
        [series, channels, events, status],
        dependencies={
            "store": Provide(lambda: store, sync_to_thread=False),
            "figures": Provide(lambda: figures, sync_to_thread=False),
        },
        signature_namespace={"HistoryStore": HistoryStore},
        before_request=check,
        openapi_config=None,
    )


def _is_plain(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or bool(ipaddress.ip_address(name))
    except ValueError:
        return False
