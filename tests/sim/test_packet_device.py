"""The packet link holds whatever a line does: every scan arrives, numbered, and is kept until it is acknowledged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tidegate_protocols.errors import BadInput
from tidegate_protocols.link.packets import (
    Ack,
    Ask,
    Data,
    Hello,
    PacketReader,
    encode_packet,
    packet_to_scans,
)  # fmt: skip
from tidegate_protocols.schema import Channel, Schema
from tidegate_sim.packet_device import HELLO_S, RETRY_S, WINDOW, PacketDevice

HELLO = Hello(9, "reefer-1", Schema("reefer", (Channel("temperature"),)))
T0 = 1_700_000_000_000_000


class Host:
    """A gateway that writes down scans and acknowledges what it has; it may forget the HELLO, as after a restart."""

    def __init__(self) -> None:
        self.reader = PacketReader()
        self.hello: Hello | None = None
        self.scans: dict[int, float] = {}
        self.repeated = 0

    def take(self, data: bytes) -> bytes:
        out = b""
        for packet in self.reader.feed(data):
            if isinstance(packet, BadInput):
                continue
            if isinstance(packet, Hello):
                self.hello = packet
            elif isinstance(packet, Data) and self.hello is None:
                out += encode_packet(Ask())
                continue
            elif isinstance(packet, Data) and self.hello is not None:
                if packet.seq > self.next:
                    continue  # a hole: what is missing comes again first
                for scan in packet_to_scans(packet, self.hello):
                    assert scan.source_seq is not None
                    self.repeated += scan.source_seq in self.scans
                    self.scans[scan.source_seq] = float(scan.values[0] or 0.0)
            out += encode_packet(Ack(9, self.next))
        return out

    @property
    def next(self) -> int:
        return len(self.scans)


def test_nothing_is_sent_before_the_hello_is_acknowledged() -> None:
    device = PacketDevice(HELLO)
    device.record(T0, (1.0,))
    assert PacketReader().feed(device.to_send(0.0)) == [HELLO]
    assert device.to_send(HELLO_S / 2) == b""
    assert PacketReader().feed(device.to_send(HELLO_S)) == [HELLO]
    device.received(encode_packet(Ack(8, 0)), HELLO_S)  # of another boot
    assert device.to_send(HELLO_S + 0.1) == b""
    device.received(encode_packet(Ack(9, 0)), HELLO_S)
    [data] = PacketReader().feed(device.to_send(HELLO_S))
    assert isinstance(data, Data)
    assert device.unacknowledged == 1
    device.received(encode_packet(Ack(9, 1)), HELLO_S)
    assert (device.unacknowledged, device.acknowledged) == (0, 1)


def linked() -> PacketDevice:
    device = PacketDevice(HELLO)
    device.to_send(0.0)
    device.received(encode_packet(Ack(9, 0)), 0.0)
    return device


def test_without_an_acknowledgement_everything_goes_again_and_the_wait_doubles() -> None:
    device = linked()
    device.record(T0, (1.0,))
    first = device.to_send(0.0)
    times = [t / 10 for t in range(1, 160) if device.to_send(t / 10) == first]
    assert times == [RETRY_S, 3 * RETRY_S, 7 * RETRY_S, 15 * RETRY_S]
    assert device.retransmitted == 4


def test_no_more_than_a_window_is_on_the_way() -> None:
    device = linked()
    for i in range(3 * WINDOW):
        device.record(T0 + i, (float(i),))
    sent = [p for p in PacketReader().feed(device.to_send(0.0)) if isinstance(p, Data)]
    assert sum(packet.n for packet in sent) == WINDOW
    device.received(encode_packet(Ack(9, 10)), 0.1)
    [more] = [p for p in PacketReader().feed(device.to_send(0.1)) if isinstance(p, Data)]
    assert (more.seq, more.n) == (WINDOW, 10)


def test_an_ask_brings_the_hello_and_then_all_that_is_unacknowledged() -> None:
    device = linked()
    device.record(T0, (1.0,))
    device.to_send(0.0)
    device.received(encode_packet(Ask()), 0.1)
    assert PacketReader().feed(device.to_send(0.1)) == [HELLO]
    device.received(encode_packet(Ack(9, 0)), 0.2)
    [data] = PacketReader().feed(device.to_send(0.2))
    assert isinstance(data, Data)
    assert data.seq == 0


def test_a_full_memory_overwrites_the_oldest_and_counts_it() -> None:
    device = PacketDevice(HELLO, memory=10)
    for i in range(15):
        device.record(T0 + i, (float(i),))
    assert (device.recorded, device.unacknowledged, device.overwritten) == (15, 10, 5)


def test_an_acknowledgement_of_what_was_never_recorded_is_not_believed() -> None:
    device = linked()
    device.record(T0, (1.0,))
    device.received(encode_packet(Ack(9, 5)), 0.0)
    assert device.unacknowledged == 1


def test_times_that_go_back_or_are_missing_travel_in_packets_of_their_own() -> None:
    device = linked()
    for ts in (T0, T0 + 1, T0 - 5, None, None, T0 + 10**9):
        device.record(ts, (0.0,))
    packets = [p for p in PacketReader().feed(device.to_send(0.0)) if isinstance(p, Data)]
    assert [(p.seq, p.n, p.base_us) for p in packets] == [(0, 2, T0), (2, 1, T0 - 5), (3, 2, None), (5, 1, T0 + 10**9)]


@given(
    st.lists(st.sampled_from(["record", "lose", "damage", "deaf", "restart", "wait", "pass"]), max_size=60), st.data()
)
def test_every_scan_arrives_over_any_line(steps: list[str], data: st.DataObject) -> None:
    device, host = PacketDevice(HELLO), Host()
    now, recorded = 0.0, 0

    def exchange(step: str) -> None:
        down = device.to_send(now)
        if step == "lose":
            down = b""
        elif step == "damage" and down:
            hurt = bytearray(down)
            hurt[data.draw(st.integers(0, len(hurt) - 1))] ^= data.draw(st.integers(1, 255))
            down = bytes(hurt)
        up = host.take(down)
        if step != "deaf":
            device.received(up, now)

    for step in steps:
        if step == "record":
            device.record(T0 + recorded, (float(recorded),))
            recorded += 1
        elif step == "restart":
            host.hello = None
            device.opened()
        elif step == "wait":
            now += data.draw(st.floats(0, 3))
        exchange(step)
        now += 0.05
    for _ in range(2000):
        if not device.unacknowledged:
            break
        now += 0.05
        exchange("pass")
    assert host.scans == {i: float(i) for i in range(recorded)}
    assert device.acknowledged == recorded
