"""Serial lines that are pseudo-terminals: `DIR/<name>` is a link to the end that a gateway opens.

A real device without a listener sends into the void. These wait instead, so that what was sent and what arrived can be
compared to the row:

- Nothing is written until somebody has opened the line. pyserial, like most programs, throws away what is in the input
  buffer when it opens a port; packet mode (ioctl_tty(2), TIOCPKT) tells us of that, and we begin after it, or half a
  second after the opening when nothing was thrown away.
- A reader that is slow fills the kernel's buffer (EAGAIN); the rest waits here, and whoever sends waits with it.
- When the reader closes, the kernel drops what it had not read, as a UART does: up to some kilobytes. Protocols with
  acknowledgements send it again, NMEA loses it. A message cut by the closing goes out again whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import select
import struct
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from tidegate_protocols.errors import BadInput

_POLL_S = 0.05
_SETTLE_S = 0.5
_AFTER_FLUSH_S = 0.03
_HELD_MAX = 64 * 1024
_UNTOLD_S = 1.0  # a reader that has the line for itself is believed to have read what it got so long ago
_TIOCPKT_FLUSHREAD = 1


class SerialPort:
    """One line. Made and driven by `SerialPorts`; all methods belong to its event loop."""

    def __init__(self, name: str, link: Path) -> None:
        self.name = name
        self.link = link
        self.on_data: Callable[[bytes], None] | None = None
        self.on_open: Callable[[], None] | None = None
        self.is_open = False
        self.written = 0
        self._held: deque[bytes] = deque()
        self._held_size = 0
        self._cut = 0  # how much of the first held message is with the kernel already
        self._room = asyncio.Event()
        self._room.set()
        self._opened_at: float | None = None
        self._flushed_at: float | None = None
        self._writing = False
        self._written_at = float("-inf")
        self._loop = asyncio.get_running_loop()
        self.master, slave = os.openpty()
        self.path = os.ttyname(slave)
        os.close(slave)  # so that the line hangs up whenever no reader has it open
        os.set_blocking(self.master, False)
        fcntl.ioctl(self.master, termios.TIOCPKT, struct.pack("i", 1))
        link.unlink(missing_ok=True)
        link.symlink_to(self.path)

    @property
    def held(self) -> int:
        """Bytes that wait here, not yet with the kernel."""
        return self._held_size

    async def send(self, message: bytes) -> None:
        """Queue a whole message; waits while too much is queued."""
        while not self._room.is_set():
            await self._room.wait()
        self.put(message)

    def put(self, message: bytes) -> None:
        """Queue a whole message, however much is queued."""
        if not message:
            return
        self._held.append(message)
        self._held_size += len(message)
        if self._held_size > _HELD_MAX:
            self._room.clear()
        self._flush()

    def poll(self, hung_up: bool) -> None:
        """Look whether a reader has come or gone, and go on with what waits."""
        now = time.monotonic()
        if hung_up:
            self._hang_up()
        elif self._opened_at is None:
            self._opened_at, self._flushed_at = now, None
            # A line nobody has configured echoes and edits; a reader that cares sets it raw itself.
            with contextlib.suppress(OSError, termios.error):
                tty.setraw(self.master, termios.TCSANOW)
            self._loop.add_reader(self.master, self._readable)
        elif not self.is_open:
            settled = now - self._opened_at >= _SETTLE_S
            if settled or (self._flushed_at is not None and now - self._flushed_at >= _AFTER_FLUSH_S):
                self.is_open = True
                if self.on_open is not None:
                    self.on_open()
        self._flush()

    def unread(self) -> int | None:
        """Bytes that the reader has not taken yet; None when it has the line to itself and we cannot ask."""
        if self._opened_at is None:
            return 0
        try:
            slave = os.open(self.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            waiting: int = struct.unpack("i", fcntl.ioctl(slave, termios.FIONREAD, bytes(4)))[0]
            return waiting
        finally:
            os.close(slave)

    def busy(self) -> bool:
        """Whether something that was sent may still be on its way to the reader."""
        unread = self.unread()
        if unread is None:
            return self.held > 0 or time.monotonic() - self._written_at < _UNTOLD_S
        return self.held > 0 or unread > 0

    def close(self) -> None:
        """Take the line away, as if it were unplugged."""
        self._hang_up()
        os.close(self.master)
        if self.link.is_symlink() and os.readlink(self.link) == self.path:
            self.link.unlink()

    def _readable(self) -> None:
        try:
            data = os.read(self.master, 4096)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._hang_up()
            return
        if data[0]:
            if data[0] & _TIOCPKT_FLUSHREAD:
                self._flushed_at = time.monotonic()
        elif self.on_data is not None and len(data) > 1:
            self.on_data(data[1:])

    def _flush(self) -> None:
        while self.is_open and self._held:
            message = self._held[0]
            try:
                self._cut += os.write(self.master, message[self._cut :])
                self._written_at = time.monotonic()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                self._hang_up()
                return
            if self._cut == len(message):
                self._held.popleft()
                self._held_size -= len(message)
                self.written += len(message)
                self._cut = 0
        if self._held_size <= _HELD_MAX:
            self._room.set()
        if self.is_open and bool(self._held) != self._writing:
            self._writing = bool(self._held)
            if self._writing:
                self._loop.add_writer(self.master, self._flush)
            else:
                self._loop.remove_writer(self.master)

    def _hang_up(self) -> None:
        if self._opened_at is None:
            return
        self._loop.remove_reader(self.master)
        self._loop.remove_writer(self.master)
        self._opened_at = None
        self.is_open = self._writing = False
        self._cut = 0


class SerialPorts:
    """All lines of a process, under one folder. Use as an async context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports: dict[str, SerialPort] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._poll = select.poll()
        self._by_fd: dict[int, SerialPort] = {}

    async def __aenter__(self) -> SerialPorts:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        for port in self.ports.values():
            port.close()

    def open(self, name: str) -> SerialPort:
        """Make the line `name`. Raises BadInput when its link cannot be made or the system has no lines left."""
        try:
            port = SerialPort(name, self.folder / name)
        except OSError as error:
            raise BadInput(
                f"no pseudo-terminal for {name!r}: {error.strerror}",
                where=str(self.folder),
                hint="fewer devices, or raise kernel.pty.max and the limit of open files",
            ) from None
        self.ports[name] = port
        self._by_fd[port.master] = port
        self._poll.register(port.master, select.POLLHUP)
        return port

    async def drain(self, names: Iterable[str] | None = None) -> None:
        """Wait until readers have taken everything that was sent."""
        ports = [self.ports[name] for name in (self.ports if names is None else names)]
        quiet = 0
        while quiet < 4:  # the kernel moves bytes between two buffers: it must stay empty for a moment
            busy = any(port.busy() for port in ports)
            quiet = 0 if busy else quiet + 1
            await asyncio.sleep(_POLL_S)

    async def _watch(self) -> None:
        while True:
            hung_up = {fd for fd, events in self._poll.poll(0) if events & (select.POLLHUP | select.POLLERR)}
            for fd, port in self._by_fd.items():
                port.poll(fd in hung_up)
            await asyncio.sleep(_POLL_S)
