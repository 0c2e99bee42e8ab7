"""What is spoken over one serial port, from bytes to the intake. A link lives as long as its port is open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import msgspec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.link.nmea import NmeaReader
from tidegate_protocols.link.packets import Ack, Ask, Data, Hello, PacketReader, encode_packet, packet_to_scans
from tidegate_protocols.payload.mapped import Mapping, parse_json
from tidegate_protocols.payload.senml import parse_senml
from tidegate_protocols.scan import Scan

from ..intake import Intake
from .lines import LineReader


class Link(Protocol):
    """One protocol on one port."""

    def feed(self, data: bytes) -> None:
        """Take the bytes that came."""

    def idle(self) -> None:
        """The line has been silent for a moment."""


class NmeaLink:
    """NMEA 0183. A receiver does not wait for acknowledgements: what it said while the agent was away is gone."""

    def __init__(self, intake: Intake, source: str, device: str) -> None:
        self._intake = intake
        self._source = source
        self._reader = NmeaReader(device)

    def feed(self, data: bytes) -> None:
        found = self._reader.feed(data)
        if found:
            self._intake.take(self._source, found)

    def idle(self) -> None:
        found = self._reader.flush()
        if found:
            self._intake.take(self._source, found)


class LinesLink:
    """A JSON object, or a SenML pack, per line."""

    def __init__(
        self, intake: Intake, source: str, device: str | None, protocol: str, mapping: Mapping | None = None
    ) -> None:
        self._intake = intake
        self._source = source
        self._device = device
        self._senml = protocol == "senml"
        self._mapping = mapping
        self._reader = LineReader()

    def feed(self, data: bytes) -> None:
        for line in self._reader.feed(data):
            if isinstance(line, BadInput):
                self._intake.refuse(self._source, self._device or "", line, b"")
                continue
            try:
                scans = self._read(line)
            except BadInput as error:
                self._intake.refuse(self._source, self._device or "", error, line)
            else:
                self._intake.take(self._source, scans)

    def _read(self, line: bytes) -> list[Scan]:
        if self._mapping is not None:
            return parse_json(line, self._device, self._mapping)
        if self._senml:
            scans = parse_senml(line, self._device, now_us=self._intake.clock.wall_us())
        else:
            scans = parse_json(line, self._device)
        return self._intake.steady.widen(scans)

    def idle(self) -> None:
        pass


@dataclass(slots=True)
class Cursor:
    """How far a device's scans have been taken: the next number of a boot, and the number up to which it is durable.

    `gap` is the number at which the device began to send again behind a hole, if it did.
    """

    boot: int
    next: int = 0
    durable: int = 0
    gap: int | None = None


class Cursors:
    """The cursors of all devices that speak packets, kept in the spool with the scans that moved them."""

    def __init__(self, intake: Intake) -> None:
        self._spool = intake.spool
        self._by_device: dict[str, Cursor] = {}
        for key, value in self._spool.state.items():
            if key.startswith("packets/"):
                boot, next_seq = msgspec.msgpack.decode(value, type=tuple[int, int])
                self._by_device[key.removeprefix("packets/")] = Cursor(boot, next_seq, next_seq)

    def of(self, device: str, boot: int) -> Cursor:
        """The device's cursor; a new boot begins a new one."""
        cursor = self._by_device.get(device)
        if cursor is None or cursor.boot != boot:
            cursor = self._by_device[device] = Cursor(boot)
        return cursor

    def keep(self, device: str, cursor: Cursor) -> None:
        """The next commit stores the cursor."""
        self._spool.keep(f"packets/{device}", lambda: msgspec.msgpack.encode((cursor.boot, cursor.next)))


@dataclass(slots=True)
class _Pending:
    """What the commit of a group makes durable of one device."""

    group: int
    cursor: Cursor
    next: int


class PacketsLink:
    """Firmware packets. A DATA packet is acknowledged when its scans are durable.

    Scans are taken in the order of their numbers. After a hole the packet is dropped, and what is durable is
    acknowledged again, so that the device goes back. When it goes back, and twice begins behind the same hole, it has
    nothing older: the hole is the device's own, and its scans are taken from there. A beginning that damage on the
    line may have cut off does not count.
    """

    def __init__(self, intake: Intake, source: str, cursors: Cursors, write: Callable[[bytes], None]) -> None:
        self._intake = intake
        self._source = source
        self._cursors = cursors
        self._write = write
        self._reader = PacketReader()
        self._hello: Hello | None = None
        self._pending: _Pending | None = None
        self._damaged = False  # since the last good packet
        self._expected: int | None = None  # the number that continues the last DATA packet

    def feed(self, data: bytes) -> None:
        for packet in self._reader.feed(data):
            if isinstance(packet, BadInput):
                self._damaged = True
                self._intake.refuse(self._source, "", packet, b"")
            elif isinstance(packet, Hello):
                self._hello, self._expected = packet, None
                self._write(encode_packet(Ack(packet.boot, self._cursors.of(packet.device, packet.boot).durable)))
            elif isinstance(packet, Data):
                self._take(packet)
                self._damaged = False

    def idle(self) -> None:
        if self._hello is None:
            self._write(encode_packet(Ask()))

    def _take(self, data: Data) -> None:
        hello = self._hello
        if hello is None or hello.boot != data.boot:
            self._write(encode_packet(Ask()))
            return
        cursor = self._cursors.of(hello.device, hello.boot)
        stop = data.seq + data.n
        begins = not self._damaged and (self._expected is None or data.seq < self._expected)
        self._expected = stop
        if data.seq > cursor.next and not (begins and data.seq == cursor.gap):
            if begins:
                cursor.gap = data.seq
            self._repeat(cursor, data.n)
            return
        if stop <= cursor.next:
            self._repeat(cursor, data.n)
            return
        try:
            scans = packet_to_scans(data, hello)
        except BadInput as error:
            # The checksum was right, so it would come the same again: it is refused once and acknowledged.
            self._intake.refuse(self._source, hello.device, error, data.body)
            scans = []
        known = max(0, cursor.next - data.seq) if scans else 0
        if known:
            self._intake.repeated(self._source, known)
        if scans:
            self._intake.take(self._source, scans[known:])
        cursor.next, cursor.gap = stop, None
        self._cursors.keep(hello.device, cursor)
        self._acknowledge_later(cursor)

    def _repeat(self, cursor: Cursor, scans: int) -> None:
        """Drop scans that were taken before or will come again, and say once more what is durable."""
        self._intake.repeated(self._source, scans)
        if cursor.durable == cursor.next:
            self._write(encode_packet(Ack(cursor.boot, cursor.durable)))

    def _acknowledge_later(self, cursor: Cursor) -> None:
        """Acknowledge once what was taken so far is durable: one ACK per commit."""
        spool = self._intake.spool
        pending = self._pending
        if pending is not None and pending.group == spool.group and pending.cursor is cursor:
            pending.next = cursor.next
            return
        self._pending = pending = _Pending(spool.group, cursor, cursor.next)
        spool.then(partial(self._durable, pending))

    def _durable(self, pending: _Pending) -> None:
        cursor = pending.cursor
        cursor.durable = max(cursor.durable, pending.next)
        self._write(encode_packet(Ack(cursor.boot, cursor.durable)))
