"""Firmware packets: COBS framing, CRC-16, numbered scans, acknowledgements. The specification is docs/firmware.md.

On the wire::

    00 | COBS(packet) | 00          the leading 00 ends whatever noise came before

A packet, integers little-endian::

    u8  version = 1
    u8  type                        1 HELLO, 2 DATA, 3 ACK, 4 ASK
    u32 boot                        number of the device's start; a reboot takes another one
    …   body
    u16 CRC-16                      of all bytes before it; polynomial 0x1021, initial 0xFFFF, not reflected
                                    ("CRC-16/IBM-3740", often called CCITT-FALSE)

    HELLO  device → host   u8 length, device id (ASCII); schema as JSON, up to the CRC
    DATA   device → host   u32 seq of the first scan; u8 flags (bit 0: the times are the device's); u8 n, 1…255;
                           u64 base time (µs since 1970 UTC; 0 without bit 0); n scans
             a scan        u32 µs after the base time; presence bits, channel 0 lowest, ⌈channels/8⌉ bytes;
                           the present values in order: float64, int64 (8 bytes), bool (1 byte: 0 or 1)
    ACK    host → device   u32 next: every scan of this boot with a number below it is on the host's disk
    ASK    host → device   (empty, boot 0) say HELLO: the host does not know this device's schema

Scans are numbered from 0 at each boot, one by one; a device reboots its numbering before 2**32. It keeps a scan until
an ACK covers it and sends it again when none came, so the host sees some twice; (boot, seq) tells. The host answers a
HELLO with an ACK: of 0, or of what it holds already.

Limits, checked before anything is allocated: a packet has at most 16,384 bytes before COBS.
"""

from __future__ import annotations

import math
import struct
from binascii import crc_hqx
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from cobs import cobs

from ..errors import BadInput, Misuse
from ..ids import check_device_id
from ..scan import Scan, Value, check_ts_us
from ..schema import Schema

VERSION = 1
PACKET_MAX = 16_384
_ENCODED_MAX = PACKET_MAX + PACKET_MAX // 254 + 1
_HELLO, _DATA, _ACK, _ASK = 1, 2, 3, 4
_HEAD = struct.Struct("<BBI")
_CRC = struct.Struct("<H")
_DATA_HEAD = struct.Struct("<IBBQ")
_U32 = struct.Struct("<I")
_F64 = struct.Struct("<d")
_I64 = struct.Struct("<q")
_HAS_TIME = 1


@dataclass(frozen=True, slots=True)
class Hello:
    """A device says who it is and what its scans hold."""

    boot: int
    device: str
    schema: Schema


@dataclass(frozen=True, slots=True)
class Data:
    """n scans as bytes; what they mean is known to whoever has the boot's HELLO (see `packet_to_scans`)."""

    boot: int
    seq: int
    n: int
    base_us: int | None
    body: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """Every scan of this boot numbered below `next_seq` is durable."""

    boot: int
    next_seq: int


@dataclass(frozen=True, slots=True)
class Ask:
    """The host asks for a HELLO."""


Packet: TypeAlias = Hello | Data | Ack | Ask


def encode_packet(packet: Packet) -> bytes:
    """The packet as it goes on the wire, delimiters included. Raises Misuse when it is over the limits."""
    match packet:
        case Hello(boot, device, schema):
            name = check_device_id(device).encode()
            raw = _HEAD.pack(VERSION, _HELLO, boot) + bytes([len(name)]) + name + schema.canonical_json
        case Data(boot, seq, n, base_us, body):
            flags = 0 if base_us is None else _HAS_TIME
            raw = _HEAD.pack(VERSION, _DATA, boot) + _DATA_HEAD.pack(seq, flags, n, base_us or 0) + body
        case Ack(boot, next_seq):
            raw = _HEAD.pack(VERSION, _ACK, boot) + _U32.pack(next_seq)
        case Ask():
            raw = _HEAD.pack(VERSION, _ASK, 0)
    if len(raw) + _CRC.size > PACKET_MAX:
        raise Misuse(f"a packet of {len(raw) + _CRC.size} bytes; at most {PACKET_MAX} travel")
    encoded: bytes = cobs.encode(raw + _CRC.pack(crc_hqx(raw, 0xFFFF)))
    return b"\0" + encoded + b"\0"


def data_packet(hello: Hello, seq: int, rows: Sequence[tuple[int | None, Sequence[Value]]]) -> Data:
    """Pack rows ``(ts_us, values in channel order)`` numbered from `seq`.

    Either every row has a time, not before the first row's and within 71 minutes of it, or none has. Raises Misuse.
    """
    base = rows[0][0] if 1 <= len(rows) <= 255 else None
    if not 1 <= len(rows) <= 255 or any((ts is None) != (base is None) for ts, _ in rows):
        raise Misuse(f"{len(rows)} rows; 1 to 255 travel together, all with a time or all without")
    channels = hello.schema.channels
    body = bytearray()
    for ts, values in rows:
        offset = 0 if ts is None or base is None else ts - base
        if not 0 <= offset <= 0xFFFF_FFFF or len(values) != len(channels):
            raise Misuse(f"a row {offset} µs after the first, of {len(values)} values for {len(channels)} channels")
        body += _U32.pack(offset)
        present = sum(1 << i for i, value in enumerate(values) if value is not None)
        body += present.to_bytes((len(channels) + 7) // 8, "little")
        for channel, value in zip(channels, values, strict=True):
            if value is None:
                continue
            if channel.type == "float64":
                body += _F64.pack(value)
            elif channel.type == "int64":
                body += _I64.pack(value)
            else:
                body.append(bool(value))
    return Data(hello.boot, seq, len(rows), base, bytes(body))


def packet_to_scans(data: Data, hello: Hello) -> list[Scan]:
    """The scans of a DATA packet, by the HELLO of the same boot. Raises BadInput if they do not fit the schema."""
    if data.boot != hello.boot:
        raise Misuse(f"data of boot {data.boot} read with the HELLO of boot {hello.boot}")
    channels = hello.schema.channels
    mask_size = (len(channels) + 7) // 8
    body, at = data.body, 0
    scans: list[Scan] = []
    for i in range(data.n):
        where = f"scan {i} of the packet {data.boot}/{data.seq} from {hello.device}"
        if len(body) - at < 4 + mask_size:
            raise BadInput(f"ends after {i} of {data.n} scans", where=where)
        (offset,) = _U32.unpack_from(body, at)
        present = int.from_bytes(body[at + 4 : at + 4 + mask_size], "little")
        at += 4 + mask_size
        if present >> len(channels):
            raise BadInput(f"says that channel {present.bit_length() - 1} is present, of {len(channels)}", where=where)
        values: list[Value] = []
        for j, channel in enumerate(channels):
            if not present >> j & 1:
                values.append(None)
                continue
            size = 1 if channel.type == "bool" else 8
            if len(body) - at < size:
                raise BadInput(f"ends inside channel {channel.name!r}", where=where)
            if channel.type == "float64":
                (real,) = _F64.unpack_from(body, at)
                values.append(real if math.isfinite(real) else None)
            elif channel.type == "int64":
                values.append(_I64.unpack_from(body, at)[0])
            else:
                if body[at] > 1:
                    raise BadInput(f"channel {channel.name!r} is {body[at]}, neither 0 nor 1", where=where)
                values.append(body[at] == 1)
            at += size
        ts_us = None if data.base_us is None else data.base_us + offset
        scans.append(Scan(hello.device, hello.schema, ts_us, tuple(values), data.seq + i, data.boot))
    if at != len(body):
        raise BadInput(f"{len(body) - at} bytes after the last scan", where=f"packet {data.boot}/{data.seq}")
    return scans


def decode_packet(raw: bytes) -> Packet:
    """Read one packet, COBS already taken off. Raises BadInput."""
    if not _HEAD.size + _CRC.size <= len(raw) <= PACKET_MAX:
        raise BadInput(f"a packet of {len(raw)} bytes")
    (crc,) = _CRC.unpack_from(raw, len(raw) - _CRC.size)
    actual = crc_hqx(raw[: -_CRC.size], 0xFFFF)
    if crc != actual:
        raise BadInput(f"CRC-16 {crc:04x} in the packet, {actual:04x} of its bytes")
    version, kind, boot = _HEAD.unpack_from(raw)
    if version != VERSION:
        raise BadInput(f"packet version {version}", hint=f"this side speaks version {VERSION}")
    body = raw[_HEAD.size : -_CRC.size]
    if kind == _HELLO:
        size = body[0] if body else 0
        if len(body) < 1 + size:
            raise BadInput("HELLO ends inside the device id")
        device = check_device_id(body[1 : 1 + size].decode("ascii", "replace"))
        return Hello(boot, device, Schema.from_json(body[1 + size :]))
    if kind == _DATA:
        if len(body) < _DATA_HEAD.size:
            raise BadInput("DATA ends inside its head")
        seq, flags, n, base_us = _DATA_HEAD.unpack_from(body)
        if flags & ~_HAS_TIME or n == 0 or seq + n > 0xFFFF_FFFF or (base_us and not flags):
            raise BadInput(f"DATA with flags {flags:#04x}, seq {seq}, {n} scans, base time {base_us}")
        if flags:
            check_ts_us(base_us)
        return Data(boot, seq, n, base_us if flags else None, bytes(body[_DATA_HEAD.size :]))
    if kind == _ACK and len(body) == _U32.size:
        return Ack(boot, _U32.unpack(body)[0])
    if kind == _ASK and not body and boot == 0:
        return Ask()
    raise BadInput(f"packet type {kind} with a body of {len(body)} bytes")


class PacketReader:
    """Bytes in, packets out. After damage the next whole packet is read again."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._dropping = False
        self._position = 0

    def feed(self, data: bytes) -> list[Packet | BadInput]:
        """Take the bytes that came and return what they completed, in order; BadInput stands for a damaged packet."""
        out: list[Packet | BadInput] = []
        start = 0
        while (end := data.find(0, start)) >= 0:
            self._take(data[start:end], out)
            self._end(out)
            start = end + 1
        self._take(data[start:], out)
        self._position += len(data)
        return out

    def _take(self, piece: bytes, out: list[Packet | BadInput]) -> None:
        if self._dropping:
            return
        self._buffer += piece
        if len(self._buffer) > _ENCODED_MAX:
            out.append(BadInput(f"no end of packet within {_ENCODED_MAX} bytes", where=self._where()))
            self._buffer.clear()
            self._dropping = True

    def _end(self, out: list[Packet | BadInput]) -> None:
        self._dropping = False
        if not self._buffer:
            return
        encoded = bytes(self._buffer)
        self._buffer.clear()
        try:
            out.append(decode_packet(cobs.decode(encoded)))
        except cobs.DecodeError as error:
            out.append(BadInput(f"not COBS: {error}", where=self._where()))
        except BadInput as error:
            out.append(error.at(self._where()))

    def _where(self) -> str:
        return f"serial stream, after byte {self._position}"
