"""WebSockets: the stream for programs (`/socket`), and where devices are for the map (`/positions`); docs/api.md."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated, Any

import msgspec
import numpy as np
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from msgspec import Meta, Struct
from tidegate_protocols.errors import BadInput

from . import tokens
from .hub import Full
from .positions import View
from .service import Console, ConsoleService
from .views import encode
from .wire import as_json

READ = {"needs": "read"}
LEFT, REFUSED, OVER, FULL = 1001, 4422, 4401, 4503
"""Close codes: the console ends; what was asked makes no sense; the session is over; too many clients."""
_SLOW_S = 1.0
_QUIET_S = 1.0

Socket = WebSocket[Any, Any, Any]


@websocket("/socket", opt=READ)
async def socket(socket: Socket, console: Console) -> None:
    """The stream's events, as JSON arrays of ``{"event", "id", "data"}``, one for whatever came together."""
    text = socket.query_params.get("from", "")
    try:
        token = tokens.parse(text) if text else None
    except BadInput as error:
        await socket.close(REFUSED, str(error))
        return
    await socket.accept()
    good = console.while_good(socket.scope)

    async def send(data: bytes) -> None:
        await socket.send_text(data.decode())

    async def serve() -> None:
        try:
            await console.hub.serve(token, send, as_json, b"", good)
        except Full:
            await socket.close(FULL, "there are too many readers of the stream")
            return
        await socket.close(LEFT if good() else OVER, "" if good() else "the session is over")

    await _until_gone(socket, serve, lambda text: None)


class Wanted(Struct, forbid_unknown_fields=True):
    """What a page asks for: a part of the world as [west, south, east, north], how often at most, and which devices it
    wants to know all of.
    """

    view: tuple[
        Annotated[float, Meta(ge=-180, le=180)],
        Annotated[float, Meta(ge=-90, le=90)],
        Annotated[float, Meta(ge=-180, le=180)],
        Annotated[float, Meta(ge=-90, le=90)],
    ] = (-180.0, -90.0, 180.0, 90.0)
    hz: Annotated[float, Meta(ge=0.1, le=4)] = 4.0
    watch: Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=50)] = []


class _Map:
    """One map: what it wants and what it has. Whatever moved while it was busy is in the next message, once."""

    def __init__(self, console: ConsoleService) -> None:
        self._console = console
        self._positions = console.picture.positions
        self._wanted = Wanted()
        self._fresh_view = True
        self._inside = np.zeros(0, np.bool_)
        self._seq = 0
        self._named = 0
        self._gone = 0
        self._watched_seq = -1
        self.every_s = 0.25

    def ask(self, text: str) -> None:
        """The page wants something else. Raises msgspec.ValidationError, DecodeError."""
        self._wanted = msgspec.json.decode(text, type=Wanted)
        self.every_s = 1 / self._wanted.hz
        self._fresh_view = True
        self._watched_seq = -1

    @property
    def is_void(self) -> bool:
        """Whether the console has begun anew, with other slots."""
        return self._positions is not self._console.picture.positions

    def owed(self) -> tuple[bytes, bytes]:
        """Words and positions that the page has not had; empty where there are none."""
        positions = self._positions
        words: dict[str, Any] = {}
        gone = self._console.picture.gone_slots
        if self._named < len(positions):
            words["names"] = {"from": self._named, "ids": positions.ids[self._named :]}
            self._named = len(positions)
        if self._gone < len(gone):
            words["gone"] = gone[self._gone :]
            self._gone = len(gone)
        picture = self._console.picture
        if self._wanted.watch and picture.seq > self._watched_seq:
            found = [picture.device(device, self._watched_seq) for device in self._wanted.watch]
            watched = [msgspec.Raw(json) for json in found if json is not None]
            self._watched_seq = picture.seq
            if watched:
                words["devices"] = watched
        message = b""
        if self._fresh_view or positions.seq > self._seq:
            inside = positions.inside(View(*self._wanted.view))
            before = np.zeros(len(inside), np.bool_)
            before[: len(self._inside)] = self._inside
            # Whoever has just left the view is told of once more: its mark would stay at the border.
            chosen = (positions.changed(self._seq) & (inside | before)) | (inside & ~before)
            self._inside, self._seq, self._fresh_view = inside, positions.seq, False
            if chosen.any():
                message = positions.message(chosen, self._console.clock.now_us())
        return (encode(words) if words else b""), message


@websocket("/positions", opt=READ)
async def positions(socket: Socket, console: Console) -> None:
    """Where devices are, as binary deltas for a view that the page names; see `positions.py` for the layout."""
    await socket.accept()
    map_, good = _Map(console), console.while_good(socket.scope)
    loop = asyncio.get_running_loop()

    async def serve() -> None:
        spoke_at = loop.time()
        while good():
            if map_.is_void:
                await socket.send_text(encode({"reload": "the console has begun anew"}).decode())
                await socket.close(LEFT)
                return
            words, message = map_.owed()
            began = loop.time()
            if words:
                await socket.send_text(words.decode())
            if message:
                await socket.send_bytes(message)
            took = loop.time() - began
            if words or message:
                spoke_at = began
            if took > _SLOW_S:  # it had old positions for so long, and is told with the new ones
                map_.every_s = max(map_.every_s, _SLOW_S)
                await socket.send_text(encode({"behind_ms": int(took * 1000)}).decode())
            elif began - spoke_at >= _QUIET_S:
                spoke_at = began
                await socket.send_text(encode({"server_us": console.clock.now_us()}).decode())
            await asyncio.sleep(map_.every_s)
        await socket.close(OVER, "the session is over")

    await _until_gone(socket, serve, map_.ask)


HANDLERS = (socket, positions)


async def _until_gone(socket: Socket, serve: Callable[[], Awaitable[None]], take: Callable[[str], None]) -> None:
    """Serve until the client goes; what it says goes to `take`, and nonsense closes the connection."""

    async def listen() -> None:
        with suppress(WebSocketDisconnect):
            while True:
                try:
                    take(await socket.receive_text())
                except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
                    await socket.close(REFUSED, str(error)[:100])
                    return

    async def speak() -> None:
        with suppress(WebSocketDisconnect):
            await serve()

    tasks = [asyncio.create_task(listen()), asyncio.create_task(speak())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
