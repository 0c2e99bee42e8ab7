"""Modbus RTU: many devices on one serial line, each asked in turn, none waiting for a dead one.

The line carries one question at a time. A device that does not answer costs the others one time-out; after that it is
asked less and less often, up to a minute apart, and only when nobody else is due meanwhile, or after a minute anyway.
Once it answers it is asked as before. What comes late is thrown away before the next question.
"""

from __future__ import annotations

import asyncio
import logging
import os
import termios
from dataclasses import dataclass, field

import serial
from tidegate_protocols.link.modbus import (
    Answer,
    Block,
    Register,
    blocks_of,
    find_answer,
    request,
    schema_of,
    values_of,
)
from tidegate_protocols.scan import Scan
from tidegate_protocols.schema import Schema

from ..config import ModbusSlave
from ..config import ModbusSource as Settings
from ..intake import Intake
from ..names import device_name
from . import Device

log = logging.getLogger(__name__)

_BACK_OFF_S = 60.0
_PARITY = {"none": serial.PARITY_NONE, "even": serial.PARITY_EVEN, "odd": serial.PARITY_ODD}


@dataclass(slots=True, eq=False)
class _Slave:
    """One device. `due`: when it is asked next; `failures`: time-outs in a row; `trouble`: what is wrong, or "";
    `heard_us`, `good` and `bad` as in `Device`."""

    unit: int
    device: str
    registers: list[Register]
    schema: Schema
    every_s: float
    blocks: list[Block] = field(default_factory=list)
    due: float = 0.0
    failures: int = 0
    trouble: str = ""
    heard_us: int = 0
    good: int = 0
    bad: int = 0


class _Gone(Exception):
    """The port is not there any more."""


class ModbusSource:
    """One line. `status` says which devices are in trouble, and how many answer."""

    def __init__(self, settings: Settings, intake: Intake) -> None:
        self.status = "no port yet"
        self._settings = settings
        self._intake = intake
        self._stopped = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._port: serial.Serial | None = None
        self._gone = False
        self._data = bytearray()
        self._came = asyncio.Event()
        self.asked = 0
        self.slaves = [
            _slave(table, unit, device_name(table.device, {"unit": str(unit)}))
            for table in settings.slave
            for unit in table.units
        ]
        # Silence between two frames: 3.5 characters of 11 bits, 1.75 ms from 19,200 baud on.
        self._silence_s = max(0.00175, 3.5 * 11 / settings.baud)

    @property
    def well(self) -> bool | None:
        """Whether every device that has answered goes on answering; None without a port."""
        if self._port is None:
            return None
        return not any(slave.trouble for slave in self.slaves) and any(slave.heard_us for slave in self.slaves)

    @property
    def heard_us(self) -> int:
        """When a device last answered."""
        return max(slave.heard_us for slave in self.slaves)

    @property
    def devices(self) -> list[Device]:
        """Every device of the line."""
        gone = self._port is None
        return [
            Device(
                slave.device,
                None if gone or not (slave.heard_us or slave.trouble) else not slave.trouble,
                "no port" if gone else slave.trouble or ("answers" if slave.heard_us else "not asked yet"),
                slave.heard_us, slave.good, slave.bad,
            )
            for slave in self.slaves
        ]  # fmt: skip

    async def run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._open()
                await self._poll()
            except (OSError, ValueError, _Gone, termios.error) as error:
                missing = not os.path.exists(self._settings.path)  # noqa: ASYNC240
                words = "no port yet" if missing else f"{self._settings.path}: {error}"
                if self.status != words:
                    log.warning("%s: %s", self._settings.label, words)
                self.status = words
            finally:
                self._close()
            await self._wait(self._stopped, self._settings.rescan_s)

    def stop(self) -> None:
        self._stopped.set()
        self._came.set()

    async def close(self) -> None:
        self._close()

    # ---- the port

    def _open(self) -> None:
        settings = self._settings
        self._port = serial.Serial(
            settings.path, settings.baud, parity=_PARITY[settings.parity], stopbits=settings.stop_bits,
            timeout=0, write_timeout=0, exclusive=True,
        )  # fmt: skip
        self._gone = False
        self._loop.add_reader(self._port.fileno(), self._readable, self._port.fileno())
        log.info("%s is open", settings.path)

    def _close(self) -> None:
        if self._port is None:
            return
        self._loop.remove_reader(self._port.fileno())
        try:
            self._port.close()
        except OSError:  # it was pulled
            pass
        self._port = None

    def _readable(self, fd: int) -> None:
        try:
            data = os.read(fd, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._gone = True
            self._loop.remove_reader(fd)
        self._data += data
        self._came.set()

    # ---- the devices

    async def _poll(self) -> None:
        """Ask whoever is due, until the port is gone or the source stops."""
        while not self._stopped.is_set():
            now = self._loop.time()
            if self._intake.spool.congested:
                await self._wait(self._stopped, 0.1)
                continue
            slave = self._next(now)
            if slave is None:
                soonest = min(each.due for each in self.slaves)
                self._came.clear()
                await self._wait(self._came, max(0.001, min(soonest - now, 1.0)))
                if self._gone:
                    raise _Gone("it was pulled")
                continue
            await self._ask(slave)
            self._say()

    def _next(self, now: float) -> _Slave | None:
        """The device that has been due for longest; one that is silent only where it keeps no other waiting."""
        due = [slave for slave in self.slaves if slave.due <= now]
        alive = [slave for slave in due if not slave.failures]
        if alive:
            overdue = [slave for slave in due if slave.failures and now - slave.due > _BACK_OFF_S]
            return min(overdue or alive, key=lambda slave: slave.due)
        soon = now + self._settings.timeout_s
        keeps_waiting = any(not slave.failures and slave.due < soon for slave in self.slaves)
        silent = [slave for slave in due if not keeps_waiting or now - slave.due > _BACK_OFF_S]
        return min(silent, key=lambda slave: slave.due) if silent else None

    async def _ask(self, slave: _Slave) -> None:
        """Read a device's blocks, and hand on a scan where at least one came."""
        answers: dict[Block, Answer] = {}
        begun = self._loop.time()
        errors = []
        for block in slave.blocks:
            answer = await self._exchange(slave.unit, block)
            if answer is None:  # whoever is silent once is not asked for the rest
                errors.append("does not answer")
                break
            answers[block] = answer
            if answer.error:
                errors.append(f"{block.kind} {block.start}: {answer.error}")
        now = self._loop.time()
        slave.trouble = "; ".join(errors)
        slave.bad += bool(errors)
        if not answers:
            slave.failures += 1
            slave.due = now + min(_BACK_OFF_S, slave.every_s * 2.0 ** min(slave.failures, 16))
            return
        slave.failures, slave.heard_us = 0, self._intake.clock.wall_us()
        # On the beat, and not faster after a pause.
        slave.due = slave.due + slave.every_s if now - slave.due < slave.every_s else begun + slave.every_s
        values = values_of(slave.registers, answers)
        if any(value is not None for value in values):
            slave.good += 1
            self._intake.take(self._settings.label, [Scan(slave.device, slave.schema, None, values)])

    async def _exchange(self, unit: int, block: Block) -> Answer | None:
        """One question and its answer; None when none came in time."""
        await asyncio.sleep(self._silence_s)
        if self._port is None:  # closed meanwhile
            return None
        self._port.reset_input_buffer()
        self._data.clear()
        self.asked += 1
        os.write(self._port.fileno(), request(unit, block))
        until = self._loop.time() + self._settings.timeout_s
        while not self._stopped.is_set():
            self._came.clear()
            if self._gone:
                raise _Gone("it was pulled")
            answer = find_answer(bytes(self._data), unit, block)
            left = until - self._loop.time()
            if answer is not None or left <= 0:
                return answer
            await self._wait(self._came, left)
        return None

    def _say(self) -> None:
        troubled = [f"{slave.device}: {slave.trouble}" for slave in self.slaves if slave.trouble]
        answering = sum(slave.heard_us > 0 and not slave.failures for slave in self.slaves)
        words = f"{answering} of {len(self.slaves)} answer" + "".join(f"; {each}" for each in troubled)
        if words != self.status:
            log.log(logging.WARNING if troubled else logging.INFO, "%s: %s", self._settings.label, words)
        self.status = words

    @staticmethod
    async def _wait(event: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass


def _slave(table: ModbusSlave, unit: int, device: str) -> _Slave:
    registers = table.registers()
    return _Slave(unit, device, registers, schema_of(table.schema, registers), table.every_s, blocks_of(registers))
