"""How each kind of device tells its readings: what it says, in which words, and what became of it."""

from __future__ import annotations

import asyncio
from typing import Protocol

from tidegate_protocols.link.nmea import encode_gga, encode_rmc
from tidegate_protocols.link.packets import Hello
from tidegate_protocols.payload.senml import encode_senml
from tidegate_protocols.payload.sparkplug_node import MetricSpec, SparkplugNode
from tidegate_protocols.payload.sparkplug_wire import DataType, Scalar
from tidegate_protocols.scan import Scan
from tidegate_protocols.schema import Channel, Schema

from .geo import Place
from .machine import Machine, Quantity
from .mqtt import MqttClient
from .packet_device import PacketDevice
from .scenario import SPARKPLUG_GROUP, SPARKPLUG_NODE
from .serial_ports import SerialPort
from .vehicle import Vehicle

VAN_SCHEMA = Schema(
    "senml",
    (
        Channel("lat", unit="lat"), Channel("lon", unit="lon"), Channel("speed", unit="m/s"),
        Channel("heading", unit="deg"), Channel("accuracy", unit="m"),
    ),
)  # fmt: skip


class Speaker(Protocol):
    """Says what a device measures. `sent` scans were said, `acknowledged` is None where the protocol cannot tell."""

    sent: int

    @property
    def acknowledged(self) -> int | None: ...

    async def say(self, ts_us: int) -> None:
        """Tell the device's state, measured at `ts_us`; waits while the way is full."""


class NmeaSpeaker:
    """A receiver on a serial line: RMC and GGA for each fix."""

    acknowledged = None

    def __init__(self, vehicle: Vehicle, place: Place, port: SerialPort) -> None:
        self.sent = 0
        self._vehicle, self._place, self._port = vehicle, place, port

    async def say(self, ts_us: int) -> None:
        fix = self._vehicle.fix()
        lat, lon = self._place.to_degrees(fix.x_m, fix.y_m)
        rmc = encode_rmc(ts_us, lat, lon, speed=fix.speed_mps, heading=fix.heading_deg, talker="GN")
        gga = encode_gga(ts_us, lat, lon, satellites=fix.satellites, hdop=self._vehicle.receiver.hdop, talker="GN")
        await self._port.send(rmc + gga)
        self.sent += 1


class PacketSpeaker:
    """A controller on a serial line that numbers its scans and keeps them until they are acknowledged."""

    def __init__(self, name: str, machine: Machine, place: Place, port: SerialPort, *, boot: int) -> None:
        self.sent = 0
        self._machine, self._place, self._port = machine, place, port
        self.device = PacketDevice(Hello(boot, name, machine_schema("reefer", machine.quantities)))
        port.on_open = self.device.opened
        port.on_data = self._received

    @property
    def acknowledged(self) -> int:
        return self.device.acknowledged

    async def say(self, ts_us: int) -> None:
        lat, lon, accuracy = _where(self._machine, self._place)
        values = (lat, lon, accuracy, *(self._machine.values[q.name] for q in self._machine.quantities))
        self.device.record(ts_us, values)
        self.sent += 1
        self.pump()

    def pump(self) -> None:
        """Send what is due; to be called now and then, since retransmission is a matter of time."""
        if self._port.is_open and not self._port.held:
            self._port.put(self.device.to_send(asyncio.get_running_loop().time()))

    def _received(self, data: bytes) -> None:
        self.device.received(data, asyncio.get_running_loop().time())
        self.pump()


class SenmlSpeaker:
    """A tracker with a modem: one SenML pack for each fix, QoS 1."""

    def __init__(self, name: str, vehicle: Vehicle, place: Place, client: MqttClient) -> None:
        self.sent = 0
        self._name, self._vehicle, self._place, self._client = name, vehicle, place, client
        self._heading = 0.0

    @property
    def acknowledged(self) -> None:
        return None  # the client counts, over all devices

    async def say(self, ts_us: int) -> None:
        fix = self._vehicle.fix()
        lat, lon = self._place.to_degrees(fix.x_m, fix.y_m)
        if fix.heading_deg is not None:
            self._heading = fix.heading_deg  # while it stands, a tracker goes on telling the last one
        values = (lat, lon, round(fix.speed_mps, 2), round(self._heading, 1), round(fix.accuracy_m, 1))
        await self._client.publish(
            f"fleet/{self._name}/senml", encode_senml(Scan(self._name, VAN_SCHEMA, ts_us, values))
        )
        self.sent += 1


class SparkplugYard:
    """One Sparkplug node and the machines behind it: births at each connection, then what changed."""

    def __init__(self, client: MqttClient, *, first_bd_seq: int, clock_ms: int) -> None:
        self.client = client
        self.node: SparkplugNode | None = None
        self.lost = 0
        self.now_ms = clock_ms
        self._next_bd_seq = first_bd_seq
        self._waiting: SparkplugNode | None = None
        self._machines: dict[str, tuple[list[MetricSpec], dict[str, Scalar]]] = {}
        client.next_will = self._will
        client.on_connect = self._connected
        client.on_message = self._command

    def tell(self, name: str, metrics: list[MetricSpec], values: dict[str, Scalar], ts_ms: int) -> bool:
        """Say what changed of a machine since the last time; the first time, its birth."""
        self.now_ms = max(self.now_ms, ts_ms)
        known = self._machines.get(name)
        self._machines[name] = (metrics, values)
        if self.node is None:
            return False  # the birth at the next connection will tell the state
        if known is None:
            return self.client.publish_once(*self.node.device_birth(name, ts_ms, metrics, values))
        changed = {key: value for key, value in values.items() if known[1].get(key) != value}
        if not changed:
            return True
        return self.client.publish_once(*self.node.device_data(name, ts_ms, changed))

    def _will(self) -> tuple[str, bytes]:
        # Runs in paho's thread before each connection; `_connected` takes the node over.
        self._waiting = SparkplugNode(SPARKPLUG_GROUP, SPARKPLUG_NODE, bd_seq=self._next_bd_seq)
        self._next_bd_seq = (self._next_bd_seq + 1) % 256
        return self._waiting.death()

    def _connected(self) -> None:
        self.node = self._waiting
        if self.node is not None:
            self.client.subscribe(self.node.command_topic)
            self._births()

    def _command(self, topic: str, payload: bytes) -> None:
        if self.node is not None and topic == self.node.command_topic and self.node.is_rebirth(payload):
            self._births()

    def _births(self) -> None:
        assert self.node is not None
        self.client.publish_once(*self.node.birth(self.now_ms))
        for name, (metrics, values) in self._machines.items():
            self.client.publish_once(*self.node.device_birth(name, self.now_ms, metrics, values))


class SparkplugSpeaker:
    """A machine behind a Sparkplug node. QoS 0: what was sent without a connection is lost, and counted."""

    acknowledged = None

    def __init__(self, name: str, machine: Machine, place: Place, yard: SparkplugYard) -> None:
        self.sent = 0
        self._name, self._machine, self._place, self._yard = name, machine, place, yard
        positions = [MetricSpec("lat", DataType.DOUBLE, "deg"), MetricSpec("lon", DataType.DOUBLE, "deg"),
                     MetricSpec("accuracy", DataType.DOUBLE, "m")]  # fmt: skip
        self._metrics = positions + [MetricSpec(q.name, DataType.DOUBLE, q.unit) for q in machine.quantities]

    async def say(self, ts_us: int) -> None:
        lat, lon, accuracy = _where(self._machine, self._place)
        values: dict[str, Scalar] = {"lat": lat, "lon": lon, "accuracy": accuracy, **self._machine.values}
        if self._yard.tell(self._name, self._metrics, values, ts_us // 1000):
            self.sent += 1
        else:
            self._yard.lost += 1


def machine_schema(name: str, quantities: tuple[Quantity, ...]) -> Schema:
    """What a controller's scans hold: where it stands, and its quantities."""
    where = (Channel("lat", unit="deg"), Channel("lon", unit="deg"), Channel("accuracy", unit="m"))
    return Schema(name, where + tuple(Channel(q.name, "float64", q.unit, q.resolution) for q in quantities))


def _where(machine: Machine, place: Place) -> tuple[float, float, float]:
    x, y, accuracy = machine.position()
    return *place.to_degrees(x, y), round(accuracy, 1)
