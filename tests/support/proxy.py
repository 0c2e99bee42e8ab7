"""A TCP proxy that misbehaves on demand: it delays, throttles, swallows and cuts.

It stands between a client and a real server on 127.0.0.1 and needs neither root nor network namespaces. It runs in a
thread of its own, so that synchronous and asynchronous tests can use it; its methods return once they have taken
effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from tidegate_cloud.broker.ports import free_port

T = TypeVar("T")

_CHUNK = 16_384


class Proxy:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`upstream`. Use as a context manager.

    `delay_s` holds every piece of data back for so long, in both directions; `bytes_per_s` is what a connection carries
    in each direction, None for as much as it can. Both may be changed at any time.
    """

    def __init__(self, upstream: int, port: int = 0) -> None:
        self.upstream = upstream
        self.port = port or free_port()
        self.delay_s = 0.0
        self.bytes_per_s: float | None = None
        self.accepted = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections of clients are open."""
        return len(self._writers) // 2

    def cut(self) -> None:
        """Break every connection and refuse new ones, as when the server is gone."""
        self._call(self._cut())

    def restore(self) -> None:
        """Accept and forward again."""
        self._call(self._restore())

    def break_connections(self) -> None:
        """Break every connection; new ones are accepted."""
        self._call(self._break())

    def blackhole(self) -> None:
        """Swallow everything in silence, as a dead link does: connections stay open and nothing comes through.

        What was on the way is not lost: TCP would send it again, and so it comes through after `restore`.
        """
        self._call(self._set_flowing(False))

    def __enter__(self) -> Proxy:
        self._thread.start()
        self.restore()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _restore(self) -> None:
        self._flowing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, reuse_address=True)

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._break()

    async def _break(self) -> None:
        for writer in list(self._writers):
            # Without lingering, what the peer sees is a reset, as from a machine that has lost the connection.
            with contextlib.suppress(OSError):  # the peer may have closed it already
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _set_flowing(self, flowing: bool) -> None:
        if flowing:
            self._flowing.set()
        else:
            self._flowing.clear()

    async def _close(self) -> None:
        await self._cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        self._writers.add(writer)
        far_writer: asyncio.StreamWriter | None = None
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
            self._writers.add(far_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer))
                group.create_task(self._pump(far_reader, writer))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass  # one side is gone, or the test broke the connection
        finally:
            for each in (writer, far_writer):
                if each is not None:
                    each.close()
                    self._writers.discard(each)
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Copy one direction, each piece no earlier than `delay_s` after it came."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

        async def read() -> None:
            while data := await reader.read(_CHUNK):
                await pieces.put((loop.time(), data))
            await pieces.put((loop.time(), b""))

        reading = asyncio.create_task(read())
        try:
            while True:
                came, data = await pieces.get()
                await asyncio.sleep(max(0.0, came + self.delay_s - loop.time()))
                await self._flowing.wait()
                if not data:
                    with contextlib.suppress(OSError):
                        writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()
                if self.bytes_per_s:
                    await asyncio.sleep(len(data) / self.bytes_per_s)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
