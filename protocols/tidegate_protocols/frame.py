"""The frame: a batch as bytes, as it travels on `telemetry.frames`. The whole format is specified in docs/frame.md.

Layout (integers little-endian; varints are LEB128):

    0      2   magic "TG"
    2      1   bits 0-3 version (1), bits 4-7 codec (0 plain, 1 bitpack, 2 range)
    3      1   flags: bits 0-1 lane (0 live, 1 backlog, 2 preview), bit 2 the times are an estimate,
               bit 3 the times are the agent's, bit 4 priors are named, bits 5-7 zero
    4      8   fingerprint of the schema
    12     1   length L of the device id, 1 to 64
    13     L   device id, ASCII
           …   varint epoch, 0 to 2**32 - 1
           …   varint sequence number of the first scan
           …   varint n, number of scans, 1 to 65,536
           …   varint time of the first scan, zigzag, microseconds since 1970 UTC
           4   name of the priors, only with bit 4 of the flags
           …   columns, as the codec writes them
    end-4  4   CRC-32C over everything before

Invariants: a frame decodes alone, given its schema; every length and count is checked before it is used or allocated
for; n x (channels + 1) is at most 2**20.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from crc32c import crc32c

from .batch import EPOCH_MAX, SCANS_MAX, SEQ_MAX, Batch, Lane
from .codec import backend, plain, reference
from .codec.limits import CELLS_MAX, FRAME_MAX
from .codec.priors import PRIORS_NAME_SIZE, Priors
from .codec.varint import put_varint, take_varint, unzigzag, zigzag
from .errors import BadInput, Misuse
from .ids import DEVICE_ID_MAX, check_device_id
from .schema import FINGERPRINT_SIZE, Schema

MAGIC = b"TG"
VERSION = 1
CRC_SIZE = 4
_FIXED = 13  # magic to the length of the device id
_LANE = 0x03
_TIME_ESTIMATED = 0x04
_TIME_FROM_AGENT = 0x08

_PRIORS = 0x10

# Plain takes several times the time of the others: `auto` tries it on small batches that no model fits.
_AUTO_PLAIN_CELLS = 1 << 16
_AUTO_PLAIN_BITS = 24

CodecName = Literal["plain", "bitpack", "range"]
_CODECS: tuple[CodecName, ...] = ("plain", "bitpack", "range")


class NotYetReadable(BadInput):
    """A sound frame that names what is not at hand: it can be read once that has been announced."""


class UnknownSchema(NotYetReadable):
    """A frame whose schema has not been announced yet. `fingerprint` names it."""

    def __init__(self, fingerprint: bytes) -> None:
        super().__init__(
            f"schema {fingerprint.hex()} has not been announced", where="byte 4", hint="device.schemas announces it"
        )
        self.fingerprint = fingerprint


class UnknownPriors(NotYetReadable):
    """A frame whose priors have not been announced yet. `name` is theirs."""

    def __init__(self, name: bytes) -> None:
        super().__init__(
            f"priors {name.hex()} have not been announced", where="header", hint="device.priors announces them"
        )
        self.name = name


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What a frame says of itself before its columns. `body` is where they begin, `end` where the CRC does.

    `priors` is the name of the priors that the columns build on, or empty.
    """

    device: str
    fingerprint: bytes
    epoch: int
    seq: int
    n: int
    base_ts_us: int
    lane: Lane
    time_estimated: bool
    time_from_agent: bool
    codec: CodecName
    priors: bytes
    body: int
    end: int


def encode_frame(batch: Batch, *, codec: CodecName | Literal["auto"] = "plain", priors: Priors | None = None) -> bytes:
    """`batch` as a frame. Raises BadInput where it is larger than a frame may be.

    `auto` takes the smaller of the compiled codecs once they are ready and plain until then, and sees to it that they
    become ready; where both need many bits a value, plain is tried too, which finds values that come again in the
    same order. `bitpack` and `range` wait for the compiler where they must. `priors`, trained for the batch's
    schema, serve the range coder; other codecs do without.
    """
    cells = len(batch) * (len(batch.schema.channels) + 1)
    if cells > CELLS_MAX:
        raise BadInput(
            f"{cells} cells; a frame holds at most {CELLS_MAX}", where=f"batch of {batch.device}", hint="slice it"
        )
    if priors is not None and priors.fingerprint != batch.schema.fingerprint:
        raise Misuse("the priors were trained for another schema")
    if codec == "auto":
        if backend.ready():
            found = [encode_frame(batch, codec="range", priors=priors), encode_frame(batch, codec="bitpack")]
            if priors is not None:  # their name has 4 bytes, which a frame of few readings may not win back
                found.append(encode_frame(batch, codec="range"))
            if cells <= _AUTO_PLAIN_CELLS and 8 * min(map(len, found)) > _AUTO_PLAIN_BITS * cells:
                found.append(encode_frame(batch, codec="plain"))
            return min(found, key=len)
        backend.prepare()
        codec = "plain"
    named = priors if codec == "range" else None
    out = bytearray(MAGIC)
    out.append(VERSION | _CODECS.index(codec) << 4)
    out.append(
        batch.lane
        | _TIME_ESTIMATED * batch.time_estimated
        | _TIME_FROM_AGENT * batch.time_from_agent
        | _PRIORS * (named is not None)
    )
    out += batch.schema.fingerprint
    out.append(len(batch.device))
    out += batch.device.encode("ascii")
    put_varint(out, batch.epoch)
    put_varint(out, batch.seq)
    put_varint(out, len(batch))
    put_varint(out, zigzag(int(batch.ts_us[0])))
    if named is not None:
        out += named.name
    if codec == "plain":
        out += plain.encode_columns(batch)
    else:
        backend.load()
        from .codec import compiled

        out += compiled.encode_columns(batch, codec, compiled.NO_PRIORS if named is None else named.arrays)
    out += crc32c(out).to_bytes(CRC_SIZE, "little")
    return bytes(out)


def peek_header(data: bytes) -> FrameHeader:
    """Read and check the header, and the checksum of the whole frame. Raises BadInput that says where."""
    if len(data) > FRAME_MAX:
        raise BadInput(f"{len(data)} bytes; a frame has at most {FRAME_MAX}", where="frame")
    if data[:2] != MAGIC:
        raise BadInput(f"starts with {bytes(data[:2]).hex(' ') or 'nothing'}, not with {MAGIC!r}", where="byte 0")
    if len(data) < _FIXED + CRC_SIZE:
        raise BadInput(f"{len(data)} bytes are too few for a frame", where="frame")
    version, codec = data[2] & 0x0F, data[2] >> 4
    if version != VERSION:
        raise BadInput(f"version {version}", where="byte 2", hint=f"this program reads version {VERSION}: upgrade it")
    end = len(data) - CRC_SIZE
    if crc32c(memoryview(data)[:end]) != int.from_bytes(data[end:], "little"):
        raise BadInput("the checksum does not fit: the frame is damaged or cut short", where=f"byte {end}")
    if codec >= len(_CODECS):
        raise BadInput(f"codec {codec}", where="byte 2", hint="written by a newer program: upgrade this one")
    flags = data[3]
    known = _LANE | _TIME_ESTIMATED | _TIME_FROM_AGENT | (_PRIORS if _CODECS[codec] == "range" else 0)
    if flags & ~known or flags & _LANE == _LANE:
        raise BadInput(f"flags {flags:#04x}", where="byte 3", hint="written by a newer program: upgrade this one")
    length = data[12]
    if not 1 <= length <= min(DEVICE_ID_MAX, end - _FIXED):
        raise BadInput(f"a device id of {length} bytes", where="byte 12")
    pos = _FIXED + length
    try:
        device = check_device_id(str(data[_FIXED:pos], "latin-1"))
    except BadInput as error:
        raise error.at(f"byte {_FIXED}") from None
    epoch, pos = take_varint(data, pos, end, "epoch")
    seq, pos = take_varint(data, pos, end, "sequence number")
    n, pos = take_varint(data, pos, end, "number of scans")
    base, pos = take_varint(data, pos, end, "first time")
    if not 1 <= n <= SCANS_MAX:
        raise BadInput(f"{n} scans; 1 to {SCANS_MAX} are allowed", where="header")
    if epoch > EPOCH_MAX or seq > SEQ_MAX - n:
        raise BadInput(f"name ({epoch}, {seq}) is out of range", where="header")
    priors = b""
    if flags & _PRIORS:
        if end - pos < PRIORS_NAME_SIZE:
            raise BadInput("name of the priors is cut short", where=f"byte {pos}")
        priors = bytes(data[pos : pos + PRIORS_NAME_SIZE])
        pos += PRIORS_NAME_SIZE
    return FrameHeader(
        device, bytes(data[4 : 4 + FINGERPRINT_SIZE]), epoch, seq, n, unzigzag(base), Lane(flags & _LANE),
        bool(flags & _TIME_ESTIMATED), bool(flags & _TIME_FROM_AGENT), _CODECS[codec], priors, pos, end,
    )  # fmt: skip


def decode_frame(data: bytes, schemas: Mapping[bytes, Schema], priors: Mapping[bytes, Priors] | None = None) -> Batch:
    """Read a frame. `schemas` are those known, by fingerprint; `priors` those at hand, by name.

    Values under nulls are zero. Raises UnknownSchema or UnknownPriors where the frame names what is not known,
    BadInput that says where for anything damaged. Frames of the compiled codecs are read by the plain-Python decoder
    until `backend.ready`.
    """
    header = peek_header(data)
    schema = schemas.get(header.fingerprint)
    if schema is None:
        raise UnknownSchema(header.fingerprint)
    cells = header.n * (len(schema.channels) + 1)
    if cells > CELLS_MAX:
        raise BadInput(f"{cells} cells; a frame holds at most {CELLS_MAX}", where="header")
    named = None
    if header.priors:
        named = (priors or {}).get(header.priors)
        if named is None or named.fingerprint != header.fingerprint:
            raise UnknownPriors(header.priors)
    body = memoryview(data)[header.body : header.end]
    if header.codec == "plain":
        ts_us, columns, valid = plain.decode_columns(body, schema, header.n, header.base_ts_us)
    elif backend.ready():
        from .codec import compiled

        ts_us, columns, valid = compiled.decode_columns(
            body, schema, header.n, header.base_ts_us, header.codec,
            compiled.NO_PRIORS if named is None else named.arrays,
        )  # fmt: skip
    else:
        backend.prepare()
        ts_us, columns, valid = reference.decode_columns(
            body, schema, header.n, header.base_ts_us, header.codec, None if named is None else named.rows
        )
    return Batch(
        header.device, schema, header.epoch, header.seq, ts_us, columns, valid,
        header.lane, header.time_estimated, header.time_from_agent,
    )  # fmt: skip
