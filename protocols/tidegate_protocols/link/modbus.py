"""Modbus RTU without I/O: which requests read a device's registers, and what its answers say.

Application Protocol 1.1b3 and Serial Line 1.02 of modbus.org. Messages and checksums are pymodbus's; what is added here
is an answer's search in noise: since request and answer alternate, an answer is known by unit, function and length, and
so is found behind any garbage, while pymodbus's framer throws away what it cannot read at once.

Addresses are those of the wire, from 0. Registers are big-endian; a value of several has its high word first unless
`swapped`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from ..scan import Value, as_value
from ..schema import Channel, Schema

Kind = Literal["holding", "input", "coil", "discrete"]
RegisterType = Literal["uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64", "bool"]

_FORMATS: dict[str, str] = {
    "uint16": ">H", "int16": ">h", "uint32": ">I", "int32": ">i", "uint64": ">Q", "int64": ">q",
    "float32": ">f", "float64": ">d",
}  # fmt: skip
_REQUESTS: dict[Kind, type[ModbusPDU]] = {
    "coil": ReadCoilsRequest,
    "discrete": ReadDiscreteInputsRequest,
    "holding": ReadHoldingRegistersRequest,
    "input": ReadInputRegistersRequest,
}
_COUNT_MAX = {"coil": 2000, "discrete": 2000, "holding": 125, "input": 125}
_EXCEPTIONS = {
    1: "illegal function", 2: "illegal data address", 3: "illegal data value", 4: "device failure", 5: "acknowledge",
    6: "device busy", 8: "memory parity error", 10: "gateway path unavailable", 11: "gateway target does not answer",
}  # fmt: skip
_framer = FramerRTU(DecodePDU(False))


@dataclass(frozen=True, slots=True)
class Register:
    """One quantity: where it stands, how it is coded, and value = raw · scale + offset."""

    name: str
    at: int
    kind: Kind = "holding"
    type: RegisterType = "uint16"
    scale: float = 1.0
    offset: float = 0.0
    unit: str = ""
    swapped: bool = False

    @property
    def size(self) -> int:
        """How many addresses it takes."""
        return 1 if self.type == "bool" else struct.calcsize(_FORMATS[self.type]) // 2

    @property
    def channel(self) -> Channel:
        """A whole number stays one only while it is not scaled; uint64 does not fit."""
        if self.type == "bool":
            return Channel(self.name, "bool", self.unit)
        whole = "int" in self.type and self.type != "uint64" and self.scale == 1.0 and self.offset == 0.0
        return Channel(self.name, "int64" if whole else "float64", self.unit)


@dataclass(frozen=True, slots=True)
class Block:
    """What one request reads: `count` addresses of a kind from `start` on."""

    kind: Kind
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a device said: the words (or bits) of the block, or why not."""

    words: tuple[int, ...] = ()
    error: str = ""


def blocks_of(registers: Sequence[Register], gap: int = 8) -> list[Block]:
    """The fewest requests that read all registers; up to `gap` addresses between two are read along."""
    blocks: list[Block] = []
    for register in sorted(registers, key=lambda each: (each.kind, each.at, each.size)):
        stop = register.at + register.size
        last = blocks[-1] if blocks else None
        if last is not None and last.kind == register.kind and register.at <= last.start + last.count + gap:
            count = max(last.start + last.count, stop) - last.start
            if count <= _COUNT_MAX[register.kind]:
                blocks[-1] = Block(last.kind, last.start, count)
                continue
        blocks.append(Block(register.kind, register.at, register.size))
    return blocks


def request(unit: int, block: Block) -> bytes:
    """The bytes that ask a unit (1 to 247) for a block."""
    return _framer.buildFrame(_REQUESTS[block.kind](dev_id=unit, address=block.start, count=block.count))


def find_answer(data: bytes, unit: int, block: Block) -> Answer | None:
    """The answer to ``request(unit, block)`` in what came since, wherever it begins; None while it is not there."""
    function = _REQUESTS[block.kind].function_code
    bits = block.kind in ("coil", "discrete")
    size = (block.count + 7) // 8 if bits else 2 * block.count
    head = bytes((unit, function, size))
    for at in range(len(data) - 4):
        if data[at : at + 3] == head and _is_sound(data, at, size + 5):
            body = data[at + 3 : at + 3 + size]
            if bits:
                return Answer(tuple(body[i // 8] >> (i % 8) & 1 for i in range(block.count)))
            return Answer(struct.unpack(f">{block.count}H", body))
        if data[at] == unit and data[at + 1] == function | 0x80 and _is_sound(data, at, 5):
            code = data[at + 2]
            return Answer(error=_EXCEPTIONS.get(code, f"exception {code}"))
    return None


def _is_sound(data: bytes, at: int, size: int) -> bool:
    frame = data[at : at + size]
    return len(frame) == size and FramerRTU.check_CRC(frame[:-2], int.from_bytes(frame[-2:], "big"))


def schema_of(name: str, registers: Sequence[Register]) -> Schema:
    """The schema of a device's scans. Raises BadInput."""
    return Schema(name, tuple(register.channel for register in registers))


def values_of(registers: Sequence[Register], answers: Mapping[Block, Answer]) -> tuple[Value, ...]:
    """The registers' values in their order; None where the answer is missing or no number."""
    return tuple(_value(register, answers) for register in registers)


def _value(register: Register, answers: Mapping[Block, Answer]) -> Value:
    for block, answer in answers.items():
        inside = block.start <= register.at and register.at + register.size <= block.start + block.count
        if block.kind == register.kind and inside and answer.words:
            words = answer.words[register.at - block.start :][: register.size]
            if register.type == "bool":
                return bool(words[0])
            if register.swapped:
                words = words[::-1]
            (raw,) = struct.unpack(_FORMATS[register.type], struct.pack(f">{len(words)}H", *words))
            if register.scale != 1.0 or register.offset != 0.0:
                raw = raw * register.scale + register.offset
            return as_value(register.channel, raw)
    return None
