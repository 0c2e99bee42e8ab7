"""Serial ports by pseudo-terminals: what devices say, damage, pulling and plugging, acknowledgements after the disk."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tidegate_edge.clock import SystemClock
from tidegate_edge.config import SerialSource as Settings
from tidegate_edge.intake import Intake
from tidegate_edge.sources.lines import LINE_MAX, LineReader
from tidegate_edge.sources.links import Cursors, PacketsLink, Taken
from tidegate_edge.sources.serial import SerialSource
from tidegate_edge.spool import Spool
from tidegate_edge.spool.reader import Reader
from tidegate_protocols.errors import BadInput
from tidegate_protocols.link.nmea import encode_gga, encode_rmc
from tidegate_protocols.link.packets import Ack, Ask, Hello, PacketReader, data_packet, encode_packet
from tidegate_protocols.schema import Channel, Schema

from tests.support.wait import until_async

SCHEMA = Schema("pump", (Channel("pressure", "float64", "kPa"), Channel("on", "bool")))
HELLO = Hello(7, "pump-1", SCHEMA)


class Line:
    """The device's end of a pseudo-terminal that shows up at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.master, slave = os.openpty()
        tty.setraw(slave)
        path.symlink_to(os.ttyname(slave))
        self._slave = slave
        os.set_blocking(self.master, False)
        self._reader = PacketReader()
        self.heard: list[Any] = []

    async def send(self, data: bytes) -> None:
        def written() -> bool:
            nonlocal data
            try:
                data = data[os.write(self.master, data) :]
            except BlockingIOError:
                pass
            return not data

        await until_async(written, what="the host to read")

    def packets(self) -> list[Any]:
        """Everything that the host has said so far."""
        try:
            self.heard += self._reader.feed(os.read(self.master, 65_536))
        except BlockingIOError:
            pass
        return self.heard

    def acknowledged(self) -> int:
        return max((each.next_seq for each in self.packets() if isinstance(each, Ack)), default=0)

    def pull(self) -> None:
        self.path.unlink()
        os.close(self._slave)
        os.close(self.master)


class Host:
    """A spool with serial sources on it."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.intake = Intake(spool, SystemClock())
        self.cursors = Cursors(self.intake)
        self.tasks: list[asyncio.Task[None]] = [asyncio.create_task(spool.run())]
        self.sources: list[SerialSource] = []

    def listen(self, path: Path, protocol: Any, device: str | None = None) -> SerialSource:
        settings = Settings(path=str(path), protocol=protocol, device=device, rescan_s=0.05, idle_ms=50)
        source = SerialSource(settings, self.intake, self.cursors)
        self.sources.append(source)
        self.tasks.append(asyncio.create_task(source.run()))
        return source

    async def scans(self) -> list[tuple[str, int, tuple[Any, ...]]]:
        """Everything durable: (device, number, values)."""
        reader, found = Reader(self.spool), []
        while chunks := await reader.read():
            for chunk in chunks:
                chunk.load()
                found += [(chunk.stream.device, chunk.seq + i, row) for i, row in enumerate(chunk.values)]
        return found

    async def line(self, path: Path) -> Line:
        """A device plugged in at `path`, once the agent has opened it: what is sent earlier is no one's."""
        line = Line(path)
        await until_async(lambda: any(str(path) in source.open_ports() for source in self.sources), timeout=6)
        return line

    async def until_accepted(self, scans: int) -> None:
        await until_async(lambda: self.spool.books.accepted >= scans, timeout=6, what=f"{scans} scans")

    async def close(self) -> None:
        for source in self.sources:
            source.stop()
            await source.close()
        await self.spool.close()
        await asyncio.gather(*self.tasks)


@pytest.fixture
async def open_host(tmp_path: Path) -> AsyncIterator[Callable[[], Any]]:
    hosts: list[Host] = []

    async def open_one() -> Host:
        for host in hosts:
            await host.close()
        hosts[:] = [Host(await Spool.open(tmp_path / "spool", SystemClock(), commit_s=0.01))]
        return hosts[0]

    yield open_one
    for host in hosts:
        await host.close()


def fix(second: int, lat: float = 30.25) -> bytes:
    ts_us = 1_790_000_000_000_000 + second * 1_000_000
    return encode_rmc(ts_us, lat, -97.75, speed=10.0, heading=90.0) + encode_gga(ts_us, lat, -97.75)


async def test_positions_of_several_ports_take_their_names_from_the_ports(tmp_path: Path, open_host: Any) -> None:
    host = await open_host()
    host.listen(tmp_path / "tty-*", "nmea", "bus-{name}")
    first = await host.line(tmp_path / "tty-1")
    await first.send(fix(0) + fix(1))
    await host.until_accepted(2)
    second = await host.line(tmp_path / "tty-2")  # appears later
    await second.send(fix(2, 31.0)[:-20])
    await second.send(fix(2, 31.0)[-20:] + b"$GPRMC,garbage*00\r\n" + fix(3, 31.5))
    await host.until_accepted(4)
    found = await host.scans()
    assert [each[:2] for each in found] == [
        ("bus-tty-1", 0), ("bus-tty-1", 1), ("bus-tty-2", 0), ("bus-tty-2", 1),
    ]  # fmt: skip
    assert [row[0] for _, _, row in found] == [30.25, 30.25, 31.0, 31.5]
    (book,) = host.spool.books.sources.values()
    assert (book.received, book.rejected, book.accepted) == (5, 1, 4)


async def test_a_fix_whose_second_sentence_never_comes_is_taken_when_the_line_is_silent(
    tmp_path: Path, open_host: Any
) -> None:
    host = await open_host()
    host.listen(tmp_path / "gps", "nmea", "bus")
    await (await host.line(tmp_path / "gps")).send(encode_rmc(1_790_000_000_000_000, 30.0, -97.0))
    await host.until_accepted(1)


async def test_a_port_that_is_pulled_and_plugged_in_again_goes_on(tmp_path: Path, open_host: Any) -> None:
    host = await open_host()
    source = host.listen(tmp_path / "gps", "nmea", "bus")
    line = await host.line(tmp_path / "gps")
    for i in range(3):
        await line.send(fix(i))
        await host.until_accepted(i + 1)
        line.pull()
        await until_async(lambda: source.status == "no port yet")
        line = await host.line(tmp_path / "gps")
    await line.send(fix(9))
    await host.until_accepted(4)
    assert [seq for _, seq, _ in await host.scans()] == [0, 1, 2, 3]


async def test_a_device_that_is_pulled_while_either_end_writes_goes_on_where_it_was(
    tmp_path: Path, open_host: Any
) -> None:
    host = await open_host()
    source = host.listen(tmp_path / "tty", "packets")
    packets = [encode_packet(data_packet(HELLO, i, [(None, (float(i), None))])) for i in range(9)]
    for i in range(0, 9, 3):
        line = await host.line(tmp_path / "tty")
        await line.send(encode_packet(HELLO) + packets[i] + packets[i + 1])
        await host.until_accepted(i + 2)
        port = source._ports[str(tmp_path / "tty")]
        await line.send(packets[i + 2][:5])  # and no more of it
        line.pull()
        port.write(bytes(100))  # before the event loop has heard of it
        await until_async(lambda: source.status == "no port yet")
        assert source.devices == []
        line = await host.line(tmp_path / "tty")
        await line.send(encode_packet(HELLO) + b"".join(packets[: i + 3]))
        await until_async(lambda: line.acknowledged() == i + 3)  # noqa: B023
        line.pull()
        await until_async(lambda: source.status == "no port yet")
    assert [row[0] for _, _, row in await host.scans()] == list(range(9))
    assert host.spool.books.balance()


async def test_each_device_is_told_by_itself_and_one_of_which_nothing_can_be_read(
    tmp_path: Path, open_host: Any
) -> None:
    host = await open_host()
    source = host.listen(tmp_path / "tty-*", "packets")
    pump = await host.line(tmp_path / "tty-1")
    await host.line(tmp_path / "tty-2")
    wrong = await host.line(tmp_path / "tty-3")
    rows = [(None, (float(i), True)) for i in range(5)]
    await pump.send(encode_packet(HELLO) + encode_packet(data_packet(HELLO, 0, rows)))
    await host.until_accepted(5)
    assert source.well
    for _ in range(30):
        await wrong.send(b"\xfe\x81\x99garbage\x00")
    await until_async(lambda: not source.well)
    found = {device.name: device for device in source.devices}
    assert set(found) == {"pump-1", str(tmp_path / "tty-2"), str(tmp_path / "tty-3")}
    assert (found["pump-1"].well, found["pump-1"].good, found["pump-1"].bad) == (True, 5, 0)
    assert found["pump-1"].heard_us == source.heard_us > 0
    assert found[str(tmp_path / "tty-2")].status == "open, not heard yet"
    assert "are baud and protocol right?" in found[str(tmp_path / "tty-3")].status
    assert found[str(tmp_path / "tty-3")].bad >= 20
    await until_async(lambda: "are baud and protocol right?" in source.status)


async def test_a_path_that_is_no_serial_port_is_said_and_harms_no_other(tmp_path: Path, open_host: Any) -> None:
    host = await open_host()
    (tmp_path / "tty-a").write_text("a file")
    source = host.listen(tmp_path / "tty-*", "nmea", "bus-{name}")
    await (await host.line(tmp_path / "tty-b")).send(fix(0) + fix(1))
    await host.until_accepted(2)
    await until_async(lambda: "tty-a cannot be opened" in source.status)


async def test_packets_are_acknowledged_when_they_are_durable(tmp_path: Path, open_host: Any) -> None:
    host = await open_host()
    host.listen(tmp_path / "tty", "packets")
    line = await host.line(tmp_path / "tty")
    await line.send(encode_packet(HELLO))
    await until_async(lambda: Ack(7, 0) in line.packets())
    rows = [(1_790_000_000_000_000 + i, (float(i), True)) for i in range(300)]
    for start in range(0, 300, 30):
        await line.send(encode_packet(data_packet(HELLO, start, rows[start : start + 30])))
        assert line.acknowledged() <= host.spool.books.accepted
    await until_async(lambda: line.acknowledged() == 300)
    assert host.spool.books.accepted == 300
    assert [(seq, row[0]) for _, seq, row in await host.scans()] == [(i, float(i)) for i in range(300)]


async def test_while_the_disk_is_in_the_way_nothing_is_acknowledged(tmp_path: Path, open_host: Any) -> None:
    host = await open_host()
    host.listen(tmp_path / "tty", "packets")
    line = await host.line(tmp_path / "tty")
    await line.send(encode_packet(HELLO))
    await until_async(lambda: Ack(7, 0) in line.packets())
    pages = await host.spool.database.run(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    await host.spool.database.run(lambda c: c.execute(f"PRAGMA max_page_count={pages}").fetchone())
    for i in range(100):
        await line.send(encode_packet(data_packet(HELLO, i * 20, [(None, (float(j), None)) for j in range(20)])))
    await until_async(lambda: bool(host.spool.error))
    durable = host.spool.books.accepted
    assert line.acknowledged() <= durable < 2000
    await host.spool.database.run(lambda c: c.execute("PRAGMA max_page_count=1000000").fetchone())
    await until_async(lambda: line.acknowledged() == 2000)


async def test_garbage_between_packets_costs_nothing_but_what_it_hits(tmp_path: Path, open_host: Any) -> None:
    host = await open_host()
    host.listen(tmp_path / "tty", "packets")
    line = await host.line(tmp_path / "tty")
    await line.send(b"\xff boot loader \x01\x02" + encode_packet(HELLO))
    packets = [encode_packet(data_packet(HELLO, i, [(None, (float(i), None))])) for i in range(6)]
    await line.send(packets[0] + b"\x13\x37 noise" + packets[1])
    await line.send(packets[2][:-4] + b"?" + packets[2][-3:])  # damaged: 3 to 5 are behind a hole
    await line.send(b"".join(packets[3:]))
    await until_async(lambda: line.acknowledged() == 2)
    await line.send(
        packets[2][:-4] + b"?" + packets[2][-3:]
    )  # damaged a second time: still no hole of the device's own
    await line.send(b"".join(packets[3:]))
    await line.send(b"".join(packets[2:]))
    await until_async(lambda: line.acknowledged() == 6)
    assert [row[0] for _, _, row in await host.scans()] == [0, 1, 2, 3, 4, 5]
    book = host.spool.books.sources[str(tmp_path / "tty")]
    assert book.duplicate == 6
    assert book.rejected == 4
    assert book.balances()


async def test_what_comes_again_after_a_restart_of_the_agent_is_known(tmp_path: Path, open_host: Any) -> None:
    host = await open_host()
    host.listen(tmp_path / "tty", "packets")
    line = await host.line(tmp_path / "tty")
    packets = [encode_packet(data_packet(HELLO, i * 10, [(None, (float(j), None)) for j in range(10)])) for i in (0, 1)]
    await line.send(encode_packet(HELLO) + packets[0])
    await host.until_accepted(10)
    host = await open_host()
    line.pull()
    host.listen(tmp_path / "tty", "packets")
    line = await host.line(tmp_path / "tty")
    await until_async(lambda: Ask() in line.packets())
    line.heard.clear()
    await line.send(encode_packet(HELLO))
    await until_async(lambda: Ack(7, 10) in line.packets())
    overlap = data_packet(HELLO, 5, [(None, (100.0 + j, None)) for j in range(10)])
    await line.send(packets[0] + encode_packet(overlap))
    await until_async(lambda: line.acknowledged() == 15)
    assert [row[0] for _, _, row in await host.scans()][10:] == [105.0, 106.0, 107.0, 108.0, 109.0]
    assert host.spool.books.sources[str(tmp_path / "tty")].duplicate == 15


async def test_a_device_that_lost_its_oldest_scans_is_followed_and_one_that_rebooted(
    tmp_path: Path, open_host: Any
) -> None:
    host = await open_host()
    said: list[Any] = []
    reader = PacketReader()
    link = PacketsLink(Taken(host.intake, "s"), host.cursors, lambda data: said.extend(reader.feed(data)))
    link.feed(encode_packet(HELLO))
    burst = b"".join(encode_packet(data_packet(HELLO, seq, [(None, (float(seq), None))])) for seq in (40, 41, 42))
    link.feed(burst)
    await host.spool.commit()
    assert host.spool.books.accepted == 0
    link.feed(burst)
    await host.spool.commit()
    assert host.spool.books.accepted == 3
    assert said[-1] == Ack(7, 43)

    again = Hello(8, "pump-1", SCHEMA)
    link.feed(encode_packet(data_packet(again, 0, [(None, (1.0, None))])))
    assert said[-1] == Ask()
    link.feed(encode_packet(again))
    assert said[-1] == Ack(8, 0)
    link.feed(encode_packet(data_packet(again, 0, [(None, (1.0, None))])))
    await host.spool.commit()
    assert said[-1] == Ack(8, 1)
    assert host.spool.books.balance()


async def test_lines_of_json_and_senml_are_read_and_bad_ones_kept_for_inspection(
    tmp_path: Path, open_host: Any
) -> None:
    host = await open_host()
    host.listen(tmp_path / "json", "json", "meter-{name}")
    host.listen(tmp_path / "senml", "senml")
    await (await host.line(tmp_path / "json")).send(b'{"t": 20.5, "on": true}\n{"t": 21.5}\r\n{oops}\n')
    await (await host.line(tmp_path / "senml")).send(b'[{"bn": "van-1:", "n": "rpm", "v": 900}]\n')
    await host.until_accepted(3)
    await until_async(lambda: host.spool.books.sources[str(tmp_path / "json")].rejected == 1)
    found = {(device, seq): row for device, seq, row in await host.scans()}
    assert found == {("meter-json", 0): (True, 20.5), ("meter-json", 1): (None, 21.5), ("van-1", 0): (900.0,)}
    (reject,) = await host.spool.database.run(lambda c: c.execute("SELECT source, payload FROM reject").fetchall())
    assert reject == (str(tmp_path / "json"), b"{oops}")


def test_a_line_without_end_is_dropped_whole_and_the_next_is_read() -> None:
    reader = LineReader()
    found = reader.feed(b"a\n\n" + b"x" * (LINE_MAX + 1))
    assert found[0] == b"a"
    assert isinstance(found[1], BadInput)
    assert reader.feed(b"xxx") == []
    assert reader.feed(b"xxx\nb\nc") == [b"b"]
    assert reader.feed(b"\n") == [b"c"]
