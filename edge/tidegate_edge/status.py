"""`agent.sock` in the data folder: whoever may enter the folder asks a running agent how it is, one JSON a connection.

A Unix socket needs no port and no password: its folder's permissions say who may ask. Its path is opened through the
folder's descriptor, since the system takes no more than 107 characters of a path.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

NAME = "agent.sock"
_TIMEOUT_S = 5.0
_MARKS = {True: "well   ", False: "trouble", None: "waits  "}
_SHOWN = 20  # devices of a source


@contextmanager
def _short(directory: Path) -> Iterator[str]:
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{NAME}"
    finally:
        os.close(folder)


async def serve(directory: Path, status: Callable[[], dict[str, Any]]) -> asyncio.Server:
    """Answer in `directory`, which is this agent's alone. Raises OSError."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(msgspec.json.encode(status()))
            await writer.drain()
        writer.close()

    (directory / NAME).unlink(missing_ok=True)
    with _short(directory) as path:
        return await asyncio.start_unix_server(answer, path)


def ask(directory: Path) -> dict[str, Any] | None:
    """What a running agent says; None where none answers."""
    data = bytearray()
    try:
        with _short(directory) as path, socket.socket(socket.AF_UNIX) as to:
            to.settimeout(_TIMEOUT_S)
            to.connect(path)
            while part := to.recv(65_536):
                data += part
        found: dict[str, Any] = msgspec.json.decode(data)
    except (OSError, msgspec.DecodeError):
        return None
    return found


def is_well(status: dict[str, Any]) -> bool:
    """Whether nothing is in the agent's way."""
    spool = status["spool"]
    return (
        not spool["error"] and not spool["short_of_disk"] and all(part["well"] is not False for part in status["parts"])
    )


def in_words(status: dict[str, Any]) -> list[str]:
    """The same for people, a line each."""
    spool = status["spool"]
    lines = [f"agent {status['agent']}, epoch {status['epoch']}, {status['memory_bytes'] >> 20} MiB of memory"]
    for part in status["parts"]:
        mark = _MARKS[part["well"]]
        heard = f", last heard {_time(part['heard_us'])}" if part["heard_us"] else ""
        restarts = f", started again {part['restarts']} times" if part["restarts"] else ""
        lines.append(f"{mark}  {part['part']}: {part['status']}{heard}{restarts}")
        lines += _devices(part["devices"])
    share = 100 * spool["bytes"] / spool["max_bytes"]
    trouble = f"trouble  spool: {spool['error']}; " if spool["error"] else "well     spool: "
    if spool["short_of_disk"] and not spool["error"]:
        trouble = "trouble  spool: the disk runs short, so it grows no further (spool.keep_free_bytes); "
    lines.append(
        f"{trouble}accepted {spool['accepted']:,} = acknowledged {spool['acknowledged']:,} + evicted "
        f"{spool['evicted']:,} + pending {spool['pending']:,}; {spool['bytes']:,} bytes, {share:.1f} % of its quota"
    )
    config = status["config"]
    if config is not None:
        trial = ", on probation" if config["on_probation"] else ""
        lines.append(
            f"configuration {config['digest']} from {config['origin']} since {_time(config['since_us'])}{trial}"
        )
        lines += [f"  complaint: {complaint}" for complaint in config["complaints"]]
        refused = config["refused"]
        if refused is not None:
            lines.append(f"refused: {refused['digest']} from {refused['origin']}: {refused['why']}")
    return lines


def _devices(devices: list[dict[str, Any]]) -> list[str]:
    """A line for each device; of many, for those in trouble."""
    shown = devices if len(devices) <= _SHOWN else [device for device in devices if device["well"] is False]
    lines = []
    for device in shown[:_SHOWN]:
        heard = f", last heard {_time(device['heard_us'])}" if device["heard_us"] else ""
        counts = f", {device['good']:,} scans" + (f", {device['bad']:,} bad" if device["bad"] else "")
        lines.append(f"  {_MARKS[device['well']]}  {device['name']}: {device['status']}{heard}{counts}")
    left = len(devices) - len(lines)
    return lines + ([f"  … and {left} more (--json shows all)"] if left else [])


def _time(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
