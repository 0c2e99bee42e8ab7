"""Firmware packets: golden wire bytes read whole, byte by byte and written back; noise costs no packet but its own."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_protocols.errors import BadInput, Misuse
from tidegate_protocols.link.packets import (
    PACKET_MAX,
    Ack,
    Ask,
    Data,
    Hello,
    Packet,
    PacketReader,
    data_packet,
    decode_packet,
    encode_packet,
    packet_to_scans,
)  # fmt: skip
from tidegate_protocols.scan import Scan
from tidegate_protocols.schema import Channel, Schema

from tests.link.feeding import bad, byte_by_byte, cut_at, good, whole

MACHINE = Schema(
    "machine",
    (Channel("temperature", "float64", "Cel"), Channel("starts", "int64"), Channel("running", "bool")),
)
BOOT = 0x01020304
HELLO = Hello(BOOT, "reefer-7", MACHINE)
NOON = 1_700_000_000_000_000
SCANS = struct.pack("<IBdBIBqB", 0, 0b101, 4.25, 1, 1_000_000, 0b110, -2, 0)

# (packet, what it is before CRC and COBS, what is on the wire)
GOLDEN: list[tuple[Packet, bytes, str]] = [
    (
        Data(BOOT, 0, 2, NOON, SCANS),
        b"\x01\x02\x04\x03\x02\x01" + struct.pack("<IBBQ", 0, 1, 2, NOON) + SCANS,
        "000701020403020101010103010207401e18240a0601010101020501010101010711400140420f0a06feffffffffffffff03347a00",
    ),
    (
        Data(BOOT, 2, 1, None, bytes(5)),
        b"\x01\x02\x04\x03\x02\x01" + struct.pack("<IBBQ", 2, 0, 1, 0) + bytes(5),
        "00080102040302010201010102010101010101010101010101010316c600",
    ),
    (Ack(BOOT, 2), b"\x01\x03\x04\x03\x02\x01\x02\x00\x00\x00", "000801030403020102010103aeb800"),
    (Ask(), b"\x01\x04\x00\x00\x00\x00", "0003010401010103b6c200"),
]


def crc16(data: bytes) -> int:
    """CRC-16/IBM-3740, a bit at a time."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
            crc &= 0xFFFF
    return crc


def sealed(raw: bytes) -> bytes:
    return raw + struct.pack("<H", crc16(raw))


def test_crc_check_value() -> None:
    assert crc16(b"123456789") == 0x29B1


@pytest.mark.parametrize(("packet", "raw", "wire"), GOLDEN)
def test_golden(packet: Packet, raw: bytes, wire: str) -> None:
    data = bytes.fromhex(wire)
    assert encode_packet(packet) == data
    assert decode_packet(sealed(raw)) == packet
    assert whole(PacketReader().feed, data) == [packet]
    assert byte_by_byte(PacketReader().feed, data) == [packet]


def test_hello_is_the_schema_as_it_is_announced() -> None:
    raw = b"\x01\x01\x04\x03\x02\x01" + b"\x08reefer-7" + MACHINE.canonical_json
    assert decode_packet(sealed(raw)) == HELLO
    assert byte_by_byte(PacketReader().feed, encode_packet(HELLO)) == [HELLO]


def test_scans_are_named_by_boot_and_number() -> None:
    data = GOLDEN[0][0]
    assert isinstance(data, Data)
    assert packet_to_scans(data, HELLO) == [
        Scan("reefer-7", MACHINE, NOON, (4.25, None, True), 0, BOOT),
        Scan("reefer-7", MACHINE, NOON + 1_000_000, (None, -2, False), 1, BOOT),
    ]


def test_scans_without_a_clock_have_no_time() -> None:
    data = GOLDEN[1][0]
    assert isinstance(data, Data)
    assert packet_to_scans(data, HELLO) == [Scan("reefer-7", MACHINE, None, (None, None, None), 2, BOOT)]


values = st.tuples(
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.booleans(),
)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), values), min_size=1, max_size=20), st.booleans())
def test_any_rows_come_back(rows: list[tuple[int, tuple[float | int | bool | None, ...]]], clock: bool) -> None:
    timed = [(NOON + (0 if i == 0 else offset) if clock else None, row) for i, (offset, row) in enumerate(rows)]
    packet = data_packet(HELLO, 41, timed)
    [read] = PacketReader().feed(encode_packet(packet))
    assert read == packet
    scans = packet_to_scans(packet, HELLO)
    assert [(scan.ts_us, scan.values) for scan in scans] == timed
    assert [scan.source_seq for scan in scans] == list(range(41, 41 + len(rows)))


def test_a_float_that_is_not_finite_is_no_reading() -> None:
    packet = data_packet(HELLO, 0, [(None, (math.nan, 1, True)), (None, (math.inf, 1, True))])
    assert [scan.values[0] for scan in packet_to_scans(packet, HELLO)] == [None, None]


packets = st.sampled_from([packet for packet, _, _ in GOLDEN] + [HELLO])


@given(st.lists(st.tuples(st.binary(max_size=40), packets), max_size=8), st.lists(st.integers(0, 2000), max_size=8))
def test_noise_between_packets_costs_no_packet(sent: list[tuple[bytes, Packet]], cuts: list[int]) -> None:
    stream = b"".join(noise + encode_packet(packet) for noise, packet in sent)
    items = cut_at(PacketReader().feed, stream, cuts)
    assert good(items) == [packet for _, packet in sent]


@given(st.lists(packets, min_size=2, max_size=6), st.data())
def test_damage_to_one_packet_costs_only_that_one(sent: list[Packet], data: st.DataObject) -> None:
    hurt = data.draw(st.integers(0, len(sent) - 1))
    wire = [encode_packet(packet) for packet in sent]
    inner = bytearray(wire[hurt][1:-1])
    inner[data.draw(st.integers(0, len(inner) - 1))] ^= data.draw(st.integers(1, 255))
    stream = b"".join([*wire[:hurt], b"\0" + inner + b"\0", *wire[hurt + 1 :]])
    items = byte_by_byte(PacketReader().feed, stream)
    assert good(items) == sent[:hurt] + sent[hurt + 1 :]
    assert bad(items)


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_never_raises(noise: bytes) -> None:
    assert good(PacketReader().feed(b"\0" + noise + b"\0")) == []


def test_an_endless_packet_is_given_up_and_the_next_one_read() -> None:
    reader = PacketReader()
    items = [item for _ in range(20) for item in reader.feed(b"\x55" * 5000)]
    assert len(bad(items)) == 1
    assert good(items) == []
    assert whole(reader.feed, encode_packet(Ack(1, 2))) == [Ack(1, 2)]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"\x02\x03\x04\x03\x02\x01\x02\x00\x00\x00", "packet version 2"),
        (b"\x01\x09\x04\x03\x02\x01", "packet type 9"),
        (b"\x01\x03\x04\x03\x02\x01\x02\x00\x00", "packet type 3 with a body of 3 bytes"),
        (b"\x01\x01\x04\x03\x02\x01\x09reefer-7", "ends inside the device id"),
        (b"\x01\x01\x04\x03\x02\x01\x03a b" + MACHINE.canonical_json, "not a device id"),
        (b"\x01\x01\x04\x03\x02\x01\x01a{}", "not an Avro record"),
        (b"\x01\x02\x04\x03\x02\x01\x00", "ends inside its head"),
        (b"\x01\x02\x04\x03\x02\x01" + struct.pack("<IBBQ", 0, 1, 0, NOON), "0 scans"),
        (b"\x01\x02\x04\x03\x02\x01" + struct.pack("<IBBQ", 0, 1, 1, 2**63), "between the years"),
        (b"\x01\x02\x04\x03\x02\x01" + struct.pack("<IBBQ", 2**32 - 1, 1, 1, NOON), "seq 4294967295"),
    ],
)
def test_what_is_wrong_is_said(raw: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        decode_packet(sealed(raw))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (SCANS[:-1], "ends inside channel 'running'"),
        (SCANS[:15], "ends after 1 of 2"),
        (SCANS + b"x", "1 bytes after the last scan"),
        (struct.pack("<IB", 0, 0b1000) * 2, "channel 3 is present"),
        (struct.pack("<IBB", 0, 0b100, 2) * 2, "neither 0 nor 1"),
    ],
)
def test_data_that_does_not_fit_its_schema(body: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        packet_to_scans(Data(BOOT, 0, 2, NOON, body), HELLO)


def test_our_own_mistakes_are_misuse() -> None:
    wide = Schema("wide", tuple(Channel(f"c{i}") for i in range(1000)))
    with pytest.raises(Misuse, match=f"at most {PACKET_MAX}"):
        encode_packet(Hello(1, "x", wide))
    with pytest.raises(Misuse, match="all with a time"):
        data_packet(HELLO, 0, [(NOON, (None, None, None)), (None, (None, None, None))])
    with pytest.raises(Misuse, match="after the first"):
        data_packet(HELLO, 0, [(NOON, (None, None, None)), (NOON - 1, (None, None, None))])
    with pytest.raises(Misuse, match="boot"):
        packet_to_scans(Data(1, 0, 1, None, bytes(5)), HELLO)
