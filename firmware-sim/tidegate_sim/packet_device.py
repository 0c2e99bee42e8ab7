"""The firmware's side of the packet link, without I/O: HELLO, numbered scans, sending again until acknowledged.

    start ──HELLO each second──▶ ACK(boot) ──▶ linked: DATA in order, at most `WINDOW` scans ahead of the last ACK
    linked ── no ACK for `RETRY_S` ──▶ everything unacknowledged again, from the oldest, the wait doubling to 8 s
    linked ── ASK, or the port opened anew ──▶ start

Scans are kept until acknowledged. Like the flash of a real device the memory is a ring: when it is full the oldest
scan is overwritten, which `overwritten` counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from tidegate_protocols.link.packets import Ack, Ask, Hello, PacketReader, data_packet, encode_packet
from tidegate_protocols.scan import Value

HELLO_S = 1.0
RETRY_S = 1.0
_RETRY_MAX_S = 8.0
WINDOW = 256
PER_PACKET = 32
_SPAN_US = 60_000_000
Row = tuple[int | None, Sequence[Value]]


class PacketDevice:
    """One device on one link. Times are seconds of any clock that only goes forward."""

    def __init__(self, hello: Hello, *, memory: int = 100_000) -> None:
        self.hello = hello
        self.overwritten = 0
        self.retransmitted = 0
        self._memory = memory
        self._reader = PacketReader()
        self._rows: deque[Row] = deque()
        self._oldest = 0  # number of the first row in `_rows`
        self._sent = 0  # number after the last one sent since the last retry
        self._highest = 0  # number after the last one ever sent
        self._linked = False
        self._hello_at = float("-inf")
        self._heard_at = 0.0
        self._retry_s = RETRY_S

    @property
    def recorded(self) -> int:
        """How many scans were recorded."""
        return self._oldest + len(self._rows)

    @property
    def acknowledged(self) -> int:
        """How many scans the host has on its disk."""
        return self._oldest - self.overwritten

    @property
    def unacknowledged(self) -> int:
        """How many scans the device still keeps."""
        return len(self._rows)

    def record(self, ts_us: int | None, values: Sequence[Value]) -> None:
        """Take a scan; it is numbered in this order."""
        if len(self._rows) == self._memory:
            self._rows.popleft()
            self._oldest += 1
            self.overwritten += 1
            self._sent = max(self._sent, self._oldest)
        self._rows.append((ts_us, values))

    def opened(self) -> None:
        """Somebody has opened the other end: introduce yourself."""
        self._linked = False
        self._hello_at = float("-inf")
        self._reader = PacketReader()

    def received(self, data: bytes, now_s: float) -> None:
        """Take bytes from the host."""
        for packet in self._reader.feed(data):
            if isinstance(packet, Ask):
                self.opened()
            elif isinstance(packet, Ack) and packet.boot == self.hello.boot:
                self._acknowledge(packet.next_seq, now_s)

    def to_send(self, now_s: float) -> bytes:
        """The bytes that should go out now, if any."""
        if not self._linked:
            if now_s - self._hello_at < HELLO_S:
                return b""
            self._hello_at = now_s
            return encode_packet(self.hello)
        if self._sent > self._oldest and now_s - self._heard_at >= self._retry_s:
            self._sent = self._oldest
            self._heard_at = now_s
            self._retry_s = min(2 * self._retry_s, _RETRY_MAX_S)
        out = bytearray()
        end = min(self._oldest + len(self._rows), self._oldest + WINDOW)
        while self._sent < end:
            rows = self._packet_rows(min(end - self._sent, PER_PACKET))
            if self._sent == self._oldest:
                self._heard_at = max(self._heard_at, now_s)  # the wait for an ACK begins with the first one sent
            out += encode_packet(data_packet(self.hello, self._sent, rows))
            self.retransmitted += max(min(self._highest, self._sent + len(rows)) - self._sent, 0)
            self._sent += len(rows)
            self._highest = max(self._highest, self._sent)
        return bytes(out)

    def _packet_rows(self, count: int) -> list[Row]:
        """The next rows that may travel in one packet: times that go forward within a minute, or none at all."""
        at = self._sent - self._oldest
        rows = [self._rows[at + i] for i in range(count)]
        base = rows[0][0]
        for i, (ts_us, _) in enumerate(rows):
            if (ts_us is None) != (base is None) or (
                ts_us is not None and base is not None and not 0 <= ts_us - base <= _SPAN_US
            ):
                return rows[:i]
        return rows

    def _acknowledge(self, next_seq: int, now_s: float) -> None:
        if not self._linked:
            self._linked = True
            self._sent = self._oldest
            self._retry_s = RETRY_S
        if next_seq > self._oldest + len(self._rows):
            return  # of scans never recorded: an ACK for somebody else's numbering
        while self._oldest < next_seq:
            self._rows.popleft()
            self._oldest += 1
            self._retry_s = RETRY_S
        self._sent = max(self._sent, self._oldest)
        self._heard_at = now_s
