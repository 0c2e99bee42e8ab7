"""Serial ports: found by path or wildcard, opened when they appear, given up when they are pulled, found again.

Reading is by the event loop; nothing here blocks but the opening of a port. Each port has a link of its own, which
ends with it, so damage to one device's stream never reaches another's.
"""

from __future__ import annotations

import asyncio
import glob
import logging
import os
from collections.abc import Callable
from pathlib import Path

import serial
from tidegate_protocols.errors import BadInput

from ..config import SerialSource as Settings
from ..intake import Intake
from ..names import device_name
from . import Device
from .links import Cursors, LinesLink, Link, NmeaLink, PacketsLink, Taken

log = logging.getLogger(__name__)

_READ_BYTES = 65_536
_RESUME_S = 0.1
_GARBAGE = 20  # so much in a row that nobody can read is no noise


class _Port:
    """One open port."""

    def __init__(
        self, settings: Settings, path: str, intake: Intake, make_link: Callable[[Callable[[bytes], None]], Link]
    ) -> None:
        self.path = path
        self.closed = False
        self._intake = intake
        self._serial = serial.Serial(path, settings.baud, timeout=0, write_timeout=0, exclusive=True)
        self._fd = self._serial.fileno()
        self._idle_s = settings.idle_ms / 1000
        self._idle: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.link = make_link(self.write)
        self._loop.add_reader(self._fd, self._readable)
        self._wait_idle()

    def write(self, data: bytes) -> None:
        """Write what the port takes at once. Acknowledgements are repeated, so none of them is worth waiting for."""
        if self.closed:
            return
        try:
            os.write(self._fd, data)
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    @property
    def device(self) -> Device:
        """How the device on it is."""
        taken = self.link.taken
        name = self.link.device or self.path
        garbage = taken.bad_in_a_row >= _GARBAGE
        status = f"open, {self.path}" if self.link.device else "open"
        if garbage:
            status = f"nothing that comes on {self.path} can be read: are baud and protocol right?"
        elif not taken.heard_us:
            status += ", not heard yet"
        return Device(name, not garbage, status, taken.heard_us, taken.good, taken.bad)

    def pause(self) -> None:
        if not self.closed:
            self._loop.remove_reader(self._fd)

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._idle is not None:
            self._idle.cancel()
        self._loop.remove_reader(self._fd)
        try:
            self._serial.close()
        except OSError:  # it was pulled: there is nothing to restore
            pass

    def _readable(self) -> None:
        if self._intake.spool.congested:
            self.pause()
            self._loop.call_later(_RESUME_S, self._resume)
            return
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("%s is gone: %s", self.path, error.strerror)
            self.close()
            return
        if not data:
            log.warning("%s is gone", self.path)
            self.close()
            return
        self.link.feed(data)
        self._wait_idle()

    def _resume(self) -> None:
        if not self.closed:
            self._loop.add_reader(self._fd, self._readable)

    def _wait_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        if not self.closed:
            self._idle = self._loop.call_later(self._idle_s, self.link.idle)


class SerialSource:
    """All ports of one ``[[source]]``. `status` is how many are open, or why one that is there is not."""

    def __init__(self, settings: Settings, intake: Intake, cursors: Cursors) -> None:
        self.status = "no port yet"
        self._settings = settings
        self._intake = intake
        self._cursors = cursors
        self._ports: dict[str, _Port] = {}
        self._complained: dict[str, str] = {}
        self._troubled: dict[str, str] = {}
        self._stopped = asyncio.Event()

    @property
    def well(self) -> bool | None:
        """Whether its ports are open and what comes can be read; None while there is none to open."""
        devices = self.devices
        return all(device.well for device in devices) if devices else None

    @property
    def heard_us(self) -> int:
        """When a device was last heard on a port that is open."""
        return max((device.heard_us for device in self.devices), default=0)

    @property
    def devices(self) -> list[Device]:
        """The device on each port that is open, and each port that is there and cannot be opened."""
        found = [port.device for port in list(self._ports.values()) if not port.closed]
        return found + [Device(path, False, why) for path, why in list(self._troubled.items())]

    async def run(self) -> None:
        while not self._stopped.is_set():
            self._rescan()
            try:
                async with asyncio.timeout(self._settings.rescan_s):
                    await self._stopped.wait()
            except TimeoutError:
                pass

    def stop(self) -> None:
        self._stopped.set()
        for port in self._ports.values():
            port.pause()

    async def close(self) -> None:
        for port in self._ports.values():
            port.close()

    def open_ports(self) -> list[str]:
        """Paths of the ports that are open."""
        return [path for path, port in self._ports.items() if not port.closed]

    def _rescan(self) -> None:
        there = glob.glob(self._settings.path)
        for path in sorted(there):
            port = self._ports.get(path)
            if port is None or port.closed:
                self._open(path)
        for path in [path for path, port in self._ports.items() if port.closed]:
            del self._ports[path]
        self._troubled = {path: why for path, why in self._complained.items() if path in there}
        troubles = [device.status for device in self.devices if not device.well]
        self.status = troubles[0] if troubles else f"{len(self._ports)} open" if self._ports else "no port yet"

    def _open(self, path: str) -> None:
        try:
            self._ports[path] = _Port(self._settings, path, self._intake, lambda write: self._link(path, write))
        except (OSError, ValueError) as error:  # pyserial's own error is an OSError
            why = f"{path} cannot be opened: {error}"
            if self._complained.get(path) != why:
                log.warning("%s", why)
            self._complained[path] = why
        else:
            self._complained.pop(path, None)
            log.info("%s is open", path)

    def _link(self, path: str, write: Callable[[bytes], None]) -> Link:
        settings = self._settings
        taken = Taken(self._intake, settings.label)
        if settings.protocol == "packets":
            return PacketsLink(taken, self._cursors, write)
        try:
            device = device_name(settings.device, {"name": Path(path).name}) if settings.device else None
        except BadInput as error:
            raise ValueError(str(error)) from None
        if settings.protocol == "nmea":
            return NmeaLink(taken, device or "")
        mapping = settings.json.mapping() if settings.json else None
        return LinesLink(taken, device, settings.protocol, mapping)
