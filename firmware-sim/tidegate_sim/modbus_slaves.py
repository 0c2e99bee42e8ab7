"""Modbus RTU devices that do not exist, on one simulated serial line: they answer, are silent, late or noisy.

Each unit holds registers that wander a little, so that a reader sees change: holding register i of unit u is
u · 100 + i, plus the number of answers that the unit has given, modulo 10; input registers the same; coils and discrete
inputs are the parity of their address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU, ExceptionResponse, ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsResponse, ReadDiscreteInputsResponse
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse, ReadInputRegistersResponse

from .serial_ports import SerialPort

REGISTERS = 200
_REQUEST_SIZE = 8


@dataclass(slots=True)
class Unit:
    """One device. `silent`: it answers nothing; `late_s`: how long it takes; `noise`: what it says before an answer."""

    number: int
    silent: bool = False
    late_s: float = 0.0
    noise: bytes = b""
    asked: int = 0
    answered: int = 0

    def register(self, at: int) -> int:
        return self.number * 100 + at + self.answered % 10


class ModbusLine:
    """The units of one line; `attach` it to a port."""

    def __init__(self, units: Iterable[int]) -> None:
        self.units = {number: Unit(number) for number in units}
        self._framer = FramerRTU(DecodePDU(True))
        self._data = bytearray()
        self._port: SerialPort | None = None

    def attach(self, port: SerialPort) -> None:
        """Answer what is asked on this port."""
        self._port = port
        port.on_data = self.feed

    def feed(self, data: bytes) -> None:
        """Take the bytes of questions; requests that read have eight, so they are found by their checksum."""
        self._data += data
        while len(self._data) >= _REQUEST_SIZE:
            frame = bytes(self._data[:_REQUEST_SIZE])
            if not FramerRTU.check_CRC(frame[:-2], int.from_bytes(frame[-2:], "big")):
                del self._data[0]
                continue
            del self._data[:_REQUEST_SIZE]
            _, request = self._framer.handleFrame(frame, 0, 0)
            if request is not None and request.dev_id in self.units:
                self._answer(self.units[request.dev_id], request)

    def _answer(self, unit: Unit, request: ModbusPDU) -> None:
        unit.asked += 1
        if unit.silent:
            return
        response = self._response(unit, request)
        response.dev_id = unit.number
        unit.answered += 1
        message = unit.noise + self._framer.buildFrame(response)
        if unit.late_s:
            asyncio.get_running_loop().call_later(unit.late_s, self._say, message)
        else:
            self._say(message)

    def _say(self, message: bytes) -> None:
        if self._port is not None:
            self._port.put(message)

    @staticmethod
    def _response(unit: Unit, request: ModbusPDU) -> ModbusPDU:
        places = range(request.address, request.address + request.count)
        if places.stop > REGISTERS:
            return ExceptionResponse(request.function_code, 2)
        if request.function_code in (1, 2):
            bits = [at % 2 == 1 for at in places]
            return ReadCoilsResponse(bits=bits) if request.function_code == 1 else ReadDiscreteInputsResponse(bits=bits)
        words = [unit.register(at) & 0xFFFF for at in places]
        if request.function_code == 3:
            return ReadHoldingRegistersResponse(registers=words)
        if request.function_code == 4:
            return ReadInputRegistersResponse(registers=words)
        return ExceptionResponse(request.function_code, 1)
