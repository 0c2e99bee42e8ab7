"""The fleet as it runs: every device in its own task, its readings on its own link, the truth in a file."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tidegate_protocols.errors import BadInput

from .clock import Clock
from .machine import Machine
from .mqtt import MqttClient
from .scenario import PROTOCOLS, Scenario, SimDevice
from .serial_ports import SerialPorts
from .speakers import NmeaSpeaker, PacketSpeaker, SenmlSpeaker, SparkplugSpeaker, SparkplugYard, Speaker
from .truth import Truth
from .vehicle import STEP_S, Vehicle

RATE_MAX_HZ = 1 / STEP_S
_PUMP_S = 0.05
SERIAL, MQTT = ("nmea", "packets"), ("senml", "sparkplug")


class Fleet:
    """A running scenario. Use as an async context manager: entering opens the links, leaving drains and closes them.

    rate_hz     readings a second of each device, up to 5
    serial_dir  where the links to pseudo-terminals go; needed when a device speaks NMEA or packets
    mqtt        (host, port) of the broker; needed when a device speaks SenML or Sparkplug
    truth       file to write what truly happened to, or None
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        rate_hz: float = 1.0,
        serial_dir: Path | None = None,
        mqtt: tuple[str, int] | None = None,
        truth: Path | None = None,
        clock: Clock | None = None,
        start_us: int | None = None,
    ) -> None:
        if not 0 < rate_hz <= RATE_MAX_HZ:
            raise BadInput(
                f"{rate_hz:g} readings a second", where="--rate", hint=f"more than 0, at most {RATE_MAX_HZ:g}"
            )
        for needed, given, option in ((SERIAL, serial_dir, "--serial-dir"), (MQTT, mqtt, "--mqtt")):
            if given is None and any(device.protocol in needed for device in scenario.devices):
                raise BadInput(
                    f"devices that speak {' or '.join(needed)} need {option}", hint="or leave them out of --mix"
                )
        self.scenario = scenario
        self.rate_hz = rate_hz
        self.speakers: dict[str, Speaker] = {}
        self.clock = clock or Clock()
        self._start_us = start_us
        self._serial_dir, self._mqtt, self._truth_path = serial_dir, mqtt, truth
        self._stack = contextlib.AsyncExitStack()
        self._ports: SerialPorts | None = None
        self._senml: MqttClient | None = None
        self._yard: SparkplugYard | None = None
        self._truth: Truth | None = None

    async def __aenter__(self) -> Fleet:
        async with contextlib.AsyncExitStack() as stack:
            # A whole 0.2 s, so that fix times are round as those of receivers are.
            self.start_us = self._start_us if self._start_us is not None else time.time_ns() // 200_000_000 * 200_000
            out = None
            if self._truth_path is not None:
                self._truth_path.parent.mkdir(parents=True, exist_ok=True)
                out = stack.enter_context(self._truth_path.open("w", encoding="utf-8"))
            self._truth = Truth(self.scenario.place, self.scenario.fences, out)
            if self._serial_dir is not None:
                self._ports = await stack.enter_async_context(SerialPorts(self._serial_dir))
            if self._mqtt is not None:
                await self._connect(stack, self._mqtt)
            for device in self.scenario.devices:
                self.speakers[device.id] = self._speaker(device)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def run(self, seconds: float | None = None, on_scan: Callable[[], None] | None = None) -> None:
        """Drive for so many simulated seconds, or until cancelled."""
        self.clock.start()
        async with asyncio.TaskGroup() as group:
            pump = group.create_task(self._pump())
            drives = [
                group.create_task(self._drive(i, device, seconds, on_scan))
                for i, device in enumerate(self.scenario.devices)
            ]
            await asyncio.wait(drives)
            pump.cancel()

    async def drain(self) -> None:
        """Wait until everything said has been taken: acknowledged where the protocol can tell, read where it cannot."""
        packets = [s for s in self.speakers.values() if isinstance(s, PacketSpeaker)]
        while any(speaker.device.unacknowledged for speaker in packets):
            for speaker in packets:
                speaker.pump()
            await asyncio.sleep(_PUMP_S)
        if self._senml is not None:
            await self._senml.drain()
        if self._ports is not None:
            await self._ports.drain()

    def report(self) -> dict[str, dict[str, int | None]]:
        """Per protocol: devices, scans sent, acknowledged (None where nobody does), and what was lost."""
        out: dict[str, dict[str, int | None]] = {}
        for protocol in PROTOCOLS:
            speakers = [self.speakers[d.id] for d in self.scenario.devices if d.protocol == protocol]
            if not speakers:
                continue
            acknowledged: int | None = None
            if protocol == "packets":
                acknowledged = sum(speaker.acknowledged or 0 for speaker in speakers)
            elif protocol == "senml" and self._senml is not None:
                acknowledged = self._senml.acknowledged
            lost = self._yard.lost if protocol == "sparkplug" and self._yard is not None else 0
            sent = sum(speaker.sent for speaker in speakers)
            out[protocol] = {"devices": len(speakers), "sent": sent, "acknowledged": acknowledged, "lost": lost}
        return out

    @property
    def truth(self) -> Truth:
        """What truly happened so far."""
        assert self._truth is not None
        return self._truth

    async def _connect(self, stack: contextlib.AsyncExitStack, address: tuple[str, int]) -> None:
        protocols = {device.protocol for device in self.scenario.devices}
        tag = f"{self.scenario.seed}-{self.start_us // 1_000_000:x}"
        if "senml" in protocols:
            self._senml = await stack.enter_async_context(MqttClient(address, f"sim-fleet-{tag}"))
        if "sparkplug" in protocols:
            client = MqttClient(address, f"sim-yard-{tag}")
            start_s = self.start_us // 1_000_000
            self._yard = SparkplugYard(client, first_bd_seq=start_s % 256, clock_ms=start_s * 1000)
            await stack.enter_async_context(client)

    def _speaker(self, device: SimDevice) -> Speaker:
        place, model = self.scenario.place, device.model
        if isinstance(model, Vehicle):
            if device.protocol == "nmea":
                assert self._ports is not None
                return NmeaSpeaker(model, place, self._ports.open(device.name))
            assert self._senml is not None
            return SenmlSpeaker(device.name, model, place, self._senml)
        if device.protocol == "packets":
            assert self._ports is not None
            boot = self.start_us // 1_000_000 & 0xFFFF_FFFF
            return PacketSpeaker(device.name, model, place, self._ports.open(device.name), boot=boot)
        assert self._yard is not None
        return SparkplugSpeaker(device.name, model, place, self._yard)

    async def _drive(
        self, index: int, device: SimDevice, seconds: float | None, on_scan: Callable[[], None] | None
    ) -> None:
        assert self._truth is not None
        speaker, model, truth = self.speakers[device.id], device.model, self._truth
        midnight_s = self.start_us / 1_000_000 % 86_400
        # Devices do not speak all at once; by golden section they are spread evenly, however many there are.
        phase_s = round(index * 0.618 % 1 / self.rate_hz / STEP_S) * STEP_S
        tick = 0
        if isinstance(model, Vehicle):
            truth.at(device.id, self.start_us, model.state.x_m, model.state.y_m)
        while True:
            tick += 1
            elapsed_s = round((phase_s + tick / self.rate_hz) / STEP_S) * STEP_S
            if seconds is not None and elapsed_s > seconds:
                return
            await self.clock.until(elapsed_s)
            if isinstance(model, Vehicle):
                for state in model.advance(elapsed_s):
                    truth.at(device.id, self.start_us + round(model.elapsed_s * 1e6), state.x_m, state.y_m)
            else:
                self._advance(device, model, elapsed_s, midnight_s)
            await speaker.say(self.start_us + round(elapsed_s * 1e6))
            if on_scan is not None:
                on_scan()

    def _advance(self, device: SimDevice, machine: Machine, elapsed_s: float, midnight_s: float) -> None:
        units = {quantity.name: quantity.unit for quantity in machine.quantities}
        for fault in machine.advance(elapsed_s, midnight_s):
            self.truth.fault(device.id, self.start_us, fault, units[fault.channel])

    async def _pump(self) -> None:
        packets = [s for s in self.speakers.values() if isinstance(s, PacketSpeaker)]
        while True:
            for speaker in packets:
                speaker.pump()
            await asyncio.sleep(_PUMP_S)
