"""systemd's notifications, over its datagram socket as sd_notify(3) describes it; without systemd nothing happens."""

from __future__ import annotations

import asyncio
import os
import socket


def notify(*lines: str) -> bool:
    """Tell the service manager, as ``READY=1``. Returns whether there is one that was told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
        try:
            to.sendto("\n".join(lines).encode(), "\0" + address[1:] if address[0] == "@" else address)
        except OSError:
            return False
    return True


def watchdog_s() -> float | None:
    """How often the service manager wants a sign of life, twice as often to be safe; None where it wants none."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or (pid.isdecimal() and int(pid) != os.getpid()):
        return None
    return int(usec) / 2e6


async def keep_watchdog() -> None:
    """Give signs of life for as long as the event loop runs."""
    every = watchdog_s()
    while every is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(every)
