"""Serial lines: no byte is lost, whenever the reader comes, however slow it is, whichever way it opens."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import serial
from tidegate_sim.serial_ports import SerialPort, SerialPorts

from tests.support.wait import until_async

MESSAGES = [f"$message {i:06d}\r\n".encode() for i in range(12_000)]  # 200 kB: more than kernel and queue hold


@pytest.fixture
async def ports(tmp_path: Path) -> AsyncIterator[SerialPorts]:
    async with SerialPorts(tmp_path / "lines") as opened:
        yield opened


async def send_all(port: SerialPort) -> None:
    for message in MESSAGES:
        await port.send(message)


async def read(line: serial.Serial, size: int) -> bytes:
    got = bytearray()

    def more() -> bool:
        got.extend(line.read(4096))
        return len(got) >= size

    await until_async(more, what=f"{size} bytes from the line")
    return bytes(got)


async def test_what_was_sent_before_anybody_listened_arrives(ports: SerialPorts) -> None:
    port = ports.open("bus-1")
    sending = asyncio.create_task(send_all(port))
    await until_async(lambda: port.held > 60_000, what="the queue to fill")
    assert port.written == 0
    with serial.Serial(str(port.link), timeout=0) as line:
        assert await read(line, sum(map(len, MESSAGES))) == b"".join(MESSAGES)
        await sending
        await ports.drain()
    assert port.held == 0


async def test_a_slow_reader_loses_nothing_and_slows_the_sender(ports: SerialPorts) -> None:
    port = ports.open("bus-1")
    with serial.Serial(str(port.link), timeout=0) as line:
        await until_async(lambda: port.is_open)
        sending = asyncio.create_task(send_all(port))
        await until_async(lambda: port.held > 60_000 and (port.unread() or 0) > 0, what="kernel and queue to fill")
        assert not sending.done()
        got = bytearray()
        while len(got) < sum(map(len, MESSAGES)):
            got += line.read(100)
            await asyncio.sleep(0)
        assert bytes(got) == b"".join(MESSAGES)
        await sending


async def test_a_reader_that_configures_nothing_gets_the_bytes_as_they_are(
    ports: SerialPorts,
) -> None:
    port = ports.open("bus-1")
    port.put(b"\x03\x04\r\n\x00\x11\x13abc")  # what a terminal would act upon
    fd = os.open(port.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    got = bytearray()

    def whole() -> bool:
        try:
            got.extend(os.read(fd, 100))
        except BlockingIOError:
            pass
        return len(got) == 10

    try:
        await until_async(whole)
        assert bytes(got) == b"\x03\x04\r\n\x00\x11\x13abc"
    finally:
        os.close(fd)


async def test_bytes_from_the_reader_come_back(ports: SerialPorts) -> None:
    port = ports.open("reefer-1")
    got = bytearray()
    port.on_data = got.extend
    with serial.Serial(str(port.link), timeout=0) as line:
        await until_async(lambda: port.is_open)
        line.write(bytes(range(256)))
        await until_async(lambda: len(got) == 256)
    assert bytes(got) == bytes(range(256))


async def test_a_reader_may_go_and_come_again(ports: SerialPorts) -> None:
    port = ports.open("reefer-1")
    opened = []
    port.on_open = lambda: opened.append(True)
    for turn in range(1, 4):
        with serial.Serial(str(port.link), timeout=0) as line:
            await until_async(lambda turn=turn: len(opened) == turn)
            port.put(b"turn %d" % turn)
            assert await read(line, 6) == b"turn %d" % turn
        await until_async(lambda: not port.is_open)
    port.put(b"while nobody listens")
    with serial.Serial(str(port.link), timeout=0) as line:
        assert await read(line, 20) == b"while nobody listens"


async def test_many_lines_at_once(ports: SerialPorts) -> None:
    lines = {}
    for i in range(150):
        port = ports.open(f"bus-{i:03d}")
        port.put(b"I am %03d" % i)
    try:
        for i in range(150):
            lines[i] = os.open(ports.ports[f"bus-{i:03d}"].path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            tty.setraw(lines[i])
        await until_async(lambda: all(port.held == 0 for port in ports.ports.values()))
        assert [os.read(lines[i], 100) for i in range(150)] == [b"I am %03d" % i for i in range(150)]
    finally:
        for fd in lines.values():
            os.close(fd)


async def test_links_are_there_while_the_lines_are(tmp_path: Path) -> None:
    async with SerialPorts(tmp_path) as ports:
        port = ports.open("bus-1")
        assert os.readlink(tmp_path / "bus-1") == port.path
    assert not os.listdir(tmp_path)
