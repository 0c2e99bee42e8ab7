"""What is spoken over one serial port, from bytes to the intake. A link lives as long as its port is open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """One protocol on one port.

    `device` is who speaks, "" while nobody has said. `taken` counts what it brought.
    """

    device: str
    taken: Taken

    def feed(self, data: bytes) -> None:
        """Take the bytes that came."""

    def idle(self) -> None:
        """The line has been silent for a moment."""


@dataclass(slots=True)
class Taken:
    """What one port has brought to the intake: scans that were good, what was bad, and what was in a row since."""

    intake: Intake
    source: str
    good: int = 0
    bad: int = 0
    bad_in_a_row: int = 0
    heard_us: int = 0

    def take(self, found: Sequence[Scan | BadInput]) -> None:
        """Hand on what was read."""
        if not found:
            return
        self.intake.take(self.source, found)
        bad = sum(isinstance(each, BadInput) for each in found)
        self._count(len(found) - bad, bad)

    def refuse(self, place: str, error: BadInput, payload: bytes) -> None:
        """Count a message of which nothing can be read."""
        self.intake.refuse(self.source, place, error, payload)
        self._count(0, 1)

    def repeated(self, scans: int) -> None:
        """Count scans that came again: they were understood."""
        self.intake.repeated(self.source, scans)
        self._count(0, 0)

    def _count(self, good: int, bad: int) -> None:
        self.good += good
        self.bad += bad
        if bad and not good:
            self.bad_in_a_row += bad
        else:
            self.bad_in_a_row = 0
            self.heard_us = self.intake.clock.wall_us()


class NmeaLink:
    """NMEA 0183. A receiver does not wait for acknowledgements: what it said while the agent was away is gone."""

    def __init__(self, taken: Taken, device: str) -> None:
        self.device = device
        self.taken = taken
        self._reader = NmeaReader(device)

    def feed(self, data: bytes) -> None:
        self.taken.take(self._reader.feed(data))

    def idle(self) -> None:
        self.taken.take(self._reader.flush())


class LinesLink:
    """A JSON object, or a SenML pack, per line."""

    def __init__(self, taken: Taken, device: str | None, protocol: str, mapping: Mapping | None = None) -> None:
        self.device = device or ""
        self.taken = taken
        self._device = device
        self._senml = protocol == "senml"
        self._mapping = mapping
        self._reader = LineReader()

    def feed(self, data: bytes) -> None:
        for line in self._reader.feed(data):
            if isinstance(line, BadInput):
                self.taken.refuse(self.device, line, b"")
                continue
            try:
                scans = self._read(line)
            except BadInput as error:
                self.taken.refuse(self.device, error, line)
            else:
                self.taken.take(scans)

    def _read(self, line: bytes) -> list[Scan]:
        intake = self.taken.intake
        if self._mapping is not None:
            return parse_json(line, self._device, self._mapping)
        if self._senml:
            scans = parse_senml(line, self._device, now_us=intake.clock.wall_us())
        else:
            scans = parse_json(line, self._device)
        return intake.steady.widen(scans)

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

    def __init__(self, taken: Taken, cursors: Cursors, write: Callable[[bytes], None]) -> None:
        self.device = ""
        self.taken = taken
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
                self.taken.refuse(self.device, packet, b"")
            elif isinstance(packet, Hello):
                self._hello, self._expected, self.device = packet, None, packet.device
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
            self.taken.refuse(hello.device, error, data.body)
            scans = []
        known = max(0, cursor.next - data.seq) if scans else 0
        if known:
            self.taken.repeated(known)
        if scans:
            self.taken.take(scans[known:])
        cursor.next, cursor.gap = stop, None
        self._cursors.keep(hello.device, cursor)
        self._acknowledge_later(cursor)

    def _repeat(self, cursor: Cursor, scans: int) -> None:
        """Drop scans that were taken before or will come again, and say once more what is durable."""
        self.taken.repeated(scans)
        if cursor.durable == cursor.next:
            self._write(encode_packet(Ack(cursor.boot, cursor.durable)))

    def _acknowledge_later(self, cursor: Cursor) -> None:
        """Acknowledge once what was taken so far is durable: one ACK per commit."""
        spool = self.taken.intake.spool
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
