"""Modbus RTU on pseudo-terminals: many devices on a line, dead ones, noise, late answers, a port that is pulled."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse
from tidegate_edge import config
from tidegate_edge.clock import SystemClock
from tidegate_edge.config import ModbusRegister, ModbusSlave
from tidegate_edge.config import ModbusSource as Settings
from tidegate_edge.intake import Intake
from tidegate_edge.sources.modbus import ModbusSource
from tidegate_edge.spool import Spool
from tidegate_edge.spool.reader import Reader
from tidegate_protocols.link.modbus import Answer, Block, Register, blocks_of, find_answer, request, values_of
from tidegate_sim.modbus_slaves import ModbusLine
from tidegate_sim.serial_ports import SerialPorts

from tests.support.wait import until_async

_server = FramerRTU(DecodePDU(True))


# ---- without a line


def test_a_request_is_what_the_specification_shows() -> None:
    assert request(0x11, Block("holding", 0x6B, 3)).hex() == "1103006b00037687"


@given(
    st.binary(max_size=40), st.integers(1, 247), st.lists(st.integers(0, 65_535), min_size=1, max_size=125), st.binary()
)
def test_an_answer_is_found_whole_behind_any_noise_and_not_before(
    noise: bytes, unit: int, words: list[int], rest: bytes
) -> None:
    block = Block("holding", 0, len(words))
    frame = _server.buildFrame(ReadHoldingRegistersResponse(registers=words, dev_id=unit))
    assert find_answer(noise + frame + rest, unit, block) == Answer(tuple(words))
    assert find_answer(frame[:-1], unit, block) is None
    assert find_answer(frame, unit % 247 + 1, block) is None


def test_a_refusal_is_told_in_words() -> None:
    frame = _server.encode(bytes((0x83, 2)), 9, 0)
    assert find_answer(b"\x00" + frame, 9, Block("holding", 0, 1)) == Answer(error="illegal data address")


@pytest.mark.parametrize(
    ("kind", "form", "value"),
    [
        ("uint16", ">H", 65_535), ("int16", ">h", -5), ("uint32", ">I", 2**32 - 1), ("int32", ">i", -(2**31)),
        ("uint64", ">Q", 2**53), ("int64", ">q", -(2**63)), ("float32", ">f", 1.5), ("float64", ">d", 0.1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("swapped", [False, True])
def test_values_of_every_type_in_either_order_of_words(kind: Any, form: str, value: float, swapped: bool) -> None:
    data = struct.pack(form, value)
    words = struct.unpack(f">{len(data) // 2}H", data)
    register = Register("x", 10, type=kind, swapped=swapped)
    answers = {Block("holding", 9, 8): Answer((0, *(words[::-1] if swapped else words), *[0] * 6))}
    assert values_of([register], answers) == (value,)
    assert values_of([register], {Block("input", 9, 8): Answer((0,) * 8)}) == (None,)


@given(st.lists(st.tuples(st.sampled_from(["holding", "input"]), st.integers(0, 60_000)), min_size=1, max_size=60))
def test_blocks_hold_every_register_and_fit_into_requests(places: list[tuple[Any, int]]) -> None:
    registers = [Register(f"r{i}", at, kind, "float32") for i, (kind, at) in enumerate(places)]
    blocks = blocks_of(registers)
    assert all(1 <= block.count <= 125 for block in blocks)
    for register in registers:
        assert any(
            block.kind == register.kind and block.start <= register.at and register.at + 2 <= block.start + block.count
            for block in blocks
        )


# ---- on a line


class Host:
    def __init__(self, spool: Spool, ports: SerialPorts) -> None:
        self.spool, self.ports = spool, ports
        self.intake = Intake(spool, SystemClock())
        self.committer = asyncio.create_task(spool.run())
        self.running: list[tuple[ModbusSource, asyncio.Task[None]]] = []

    def line(self, units: range) -> ModbusLine:
        line = ModbusLine(units)
        line.attach(self.ports.open("line"))
        return line

    def listen(self, units: range, registers: list[ModbusRegister] | None = None, **options: Any) -> ModbusSource:
        found = registers or [ModbusRegister(name="a", at=0), ModbusRegister(name="b", at=5, kind="input", scale=0.5)]
        slave = ModbusSlave(units=list(units), device="meter-{unit}", register=found, every_s=0.05)
        settings = Settings(
            path=str(self.ports.folder / "line"), slave=[slave], baud=115_200, rescan_s=0.05,
            **{"timeout_s": 0.2, **options},
        )  # fmt: skip
        source = ModbusSource(settings, self.intake)
        self.running.append((source, asyncio.create_task(source.run())))
        return source

    async def scans(self) -> dict[str, list[tuple[Any, ...]]]:
        await self.spool.commit()
        reader, found = Reader(self.spool), dict[str, list[tuple[Any, ...]]]()
        while chunks := await reader.read():
            for chunk in chunks:
                found.setdefault(chunk.stream.device, []).extend(chunk.values)
        return found

    async def close(self) -> None:
        for source, task in self.running:
            source.stop()
            await source.close()
            await task
        await self.spool.close()
        await self.committer


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with SerialPorts(tmp_path / "lines") as ports:
        made = Host(await Spool.open(tmp_path / "spool", SystemClock()), ports)
        yield made
        await made.close()


async def test_every_device_of_a_line_is_read(host: Host) -> None:
    host.line(range(1, 5))
    source = host.listen(range(1, 5))
    await until_async(lambda: host.spool.books.accepted >= 12)
    found = await host.scans()
    assert set(found) == {"meter-1", "meter-2", "meter-3", "meter-4"}
    for device, rows in found.items():
        unit = int(device.removeprefix("meter-"))
        for a, b in rows:
            assert unit * 100 <= a < unit * 100 + 10
            assert (b * 2 - 5) % 100 < 10
    assert source.well
    assert source.status == "4 of 4 answer"


async def test_a_dead_device_costs_the_others_nothing_but_its_first_time_out(host: Host) -> None:
    line = host.line(range(1, 9))
    line.units[3].silent = True
    source = host.listen(range(1, 9))
    living = [unit for unit in line.units.values() if not unit.silent]
    await until_async(lambda: min(unit.answered for unit in living) >= 60, what=source.status)
    assert line.units[3].asked <= 8, "it is asked less and less often"
    assert max(unit.answered for unit in living) <= 2 * min(unit.answered for unit in living)
    assert source.status == "7 of 8 answer; meter-3: does not answer"
    dead, other = source.devices[2], source.devices[3]
    assert (dead.name, dead.well, dead.status, dead.good) == ("meter-3", False, "does not answer", 0)
    assert (other.well, other.status, other.bad) == (True, "answers", 0)
    assert other.good >= 25
    line.units[3].silent = False
    source.slaves[2].due = 0.0  # its minute is over
    await until_async(lambda: source.status == "8 of 8 answer")
    asked = line.units[3].asked
    await until_async(lambda: line.units[3].asked > asked + 20)


async def test_noise_and_answers_that_come_late_do_no_harm(host: Host) -> None:
    line = host.line(range(1, 4))
    line.units[1].noise = b"\x01\x03\xff\x00garbage"
    line.units[2].late_s = 0.25  # after its time: it must not pass for an answer of another
    host.listen(range(1, 4), timeout_s=0.15)
    await until_async(lambda: line.units[1].answered > 30 and line.units[3].answered > 30)
    for device, rows in (await host.scans()).items():
        unit = int(device.removeprefix("meter-"))
        assert all(a is None or a // 100 == unit for a, _ in rows)


async def test_what_a_device_refuses_is_null_and_said(host: Host) -> None:
    host.line(range(1, 2))
    source = host.listen(range(1, 2), [ModbusRegister(name="a", at=0), ModbusRegister(name="far", at=900)])
    await until_async(lambda: host.spool.books.accepted >= 3)
    assert all(far is None and a is not None for a, far in (await host.scans())["meter-1"])
    assert source.status == "1 of 1 answer; meter-1: holding 900: illegal data address"


async def test_a_line_that_is_pulled_and_plugged_in_again_goes_on(host: Host) -> None:
    line = host.line(range(1, 3))
    source = host.listen(range(1, 3))
    for n in range(1, 4):
        await until_async(lambda: host.spool.books.accepted >= 4 * n, what=source.status)  # noqa: B023
        port = host.ports.ports.pop("line")
        host.ports._poll.unregister(port.master)
        del host.ports._by_fd[port.master]
        port.close()
        await until_async(lambda: source.status == "no port yet", what=source.status)
        line.attach(host.ports.open("line"))
    await until_async(lambda: host.spool.books.accepted >= 20)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("meter-{unit}", "meter", "source[0].slave[0].device: names several units alike"),
        ("units = [1, 2]", "units = [1, 1]", "source[0].slave[0].units: 1 is on this line twice"),
        ("units = [1, 2]", "units = [0]", "source[0].slave[0].units[0]: expected `int` >= 1"),
        ("at = 0", "at = 0\nkind = 'coil'", "source[0].slave[0].register[0].type: 'uint16' is not for coil"),
        ("name = 'v'", "name = 'a b'", "source[0].slave[0].register: schema 'modbus', channel 'a b'"),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused(old: str, new: str, expected: str) -> None:
    text = (
        "[agent]\nname = 'a'\ndata_dir = '/d'\n[kafka]\nbootstrap = 'k:1'\n[[source]]\ntype = 'modbus'\npath = '/p'\n"
        "[[source.slave]]\nunits = [1, 2]\ndevice = 'meter-{unit}'\n[[source.slave.register]]\nname = 'v'\nat = 0\n"
    )
    config.parse(text)
    with pytest.raises(config.BadConfig) as caught:
        config.parse(text.replace(old, new))
    assert expected in str(caught.value)
