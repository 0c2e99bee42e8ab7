"""Recorded positions sent again as if now: part of the vehicles over serial NMEA, part over MQTT SenML.

Times are shifted by whole seconds, their spacing kept: shift = (start + D/N) − last, for a recording that lasts D sent
N times as fast as life. At N = 1 the first record is of now; after a fast replay the last one is. No record is ever of
the future when it is sent.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from tidegate_protocols.errors import BadInput
from tidegate_protocols.ids import check_device_id
from tidegate_protocols.link.nmea import encode_gga, encode_rmc
from tidegate_protocols.payload.senml import encode_senml
from tidegate_protocols.scan import Scan
from tidegate_protocols.schema import Channel, Schema

from .clock import Clock
from .mqtt import MqttClient
from .records import Record
from .serial_ports import SerialPorts

REPLAY_SCHEMA = Schema("senml", (Channel("lat", unit="lat"), Channel("lon", unit="lon"), Channel("speed", unit="m/s")))


@dataclass(slots=True)
class ReplayReport:
    """What was sent, and what of it the broker has acknowledged (after `drain`); NMEA has no acknowledgements."""

    records: int = 0
    vehicles: int = 0
    shift_s: int = 0
    serial_sent: int = 0
    mqtt_sent: int = 0
    mqtt_acknowledged: int = 0
    seconds: float = 0.0

    def as_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))


def split_vehicles(vehicles: Sequence[str], split: Mapping[str, float]) -> dict[str, str]:
    """vehicle → "serial" or "mqtt", in these shares, spread evenly over the sorted ids. Raises BadInput."""
    total = sum(split.values())
    if set(split) - {"serial", "mqtt"} or not total > 0 or min(split.values()) < 0:
        raise BadInput(f"{dict(split)}", where="--split", hint="shares such as serial=0.5,mqtt=0.5")
    share = split.get("serial", 0.0) / total
    return {
        vehicle: "serial" if math.floor((i + 1) * share) > math.floor(i * share) else "mqtt"
        for i, vehicle in enumerate(sorted(vehicles))
    }


class Replay:
    """A replay of `records` (in the order of time). Use as an async context manager: entering opens the links.

    speed       times as fast as life; math.inf sends as fast as it is taken
    serial_dir  folder of the links ``bus-<vehicle>`` to pseudo-terminals
    mqtt        (host, port); topics ``fleet/bus-<vehicle>/senml``
    split       shares of the vehicles: {"serial": 0.5, "mqtt": 0.5}
    shift_s     seconds to add to recorded times, instead of what brings them to now
    manifest    file for one JSON line per record as sent: device, ts_us, lat, lon
    prefix      put before a vehicle's id to make the device id
    """

    def __init__(
        self,
        records: Sequence[Record],
        *,
        speed: float = 1.0,
        serial_dir: Path | None = None,
        mqtt: tuple[str, int] | None = None,
        split: Mapping[str, float] | None = None,
        shift_s: int | None = None,
        manifest: Path | None = None,
        prefix: str = "bus-",
    ) -> None:
        if not speed > 0:
            raise BadInput(f"speed {speed:g}", where="--speed", hint="more than 0; `inf` does not wait at all")
        self.records = records
        self.speed = speed
        vehicles = sorted({record.vehicle for record in records})
        both = {"serial": float(serial_dir is not None), "mqtt": float(mqtt is not None)}
        self.ways = split_vehicles(vehicles, split or both)
        for way, given, option in (("serial", serial_dir, "--serial-dir"), ("mqtt", mqtt, "--mqtt")):
            if given is None and way in self.ways.values():
                raise BadInput(f"part of the vehicles is to speak over {way}, and no {option} is given")
        self.devices = {vehicle: check_device_id(prefix + vehicle) for vehicle in vehicles}
        self.report = ReplayReport(vehicles=len(vehicles))
        self._serial_dir, self._mqtt, self._manifest_path, self._shift_s = serial_dir, mqtt, manifest, shift_s
        self._stack = contextlib.AsyncExitStack()
        self._ports: SerialPorts | None = None
        self._client: MqttClient | None = None

    async def __aenter__(self) -> Replay:
        async with contextlib.AsyncExitStack() as stack:
            if self._serial_dir is not None and "serial" in self.ways.values():
                self._ports = await stack.enter_async_context(SerialPorts(self._serial_dir))
                for vehicle, way in self.ways.items():
                    if way == "serial":
                        self._ports.open(self.devices[vehicle])
            if self._mqtt is not None and "mqtt" in self.ways.values():
                client = MqttClient(self._mqtt, f"sim-replay-{time.time_ns() // 1_000_000:x}")
                self._client = await stack.enter_async_context(client)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def run(self, on_sent: Callable[[], None] | None = None) -> ReplayReport:
        """Send everything at its time. `drain` then waits until it was taken."""
        first, last = self.records[0].ts_us, self.records[-1].ts_us
        shift_s = self._shift_s
        if shift_s is None:
            # D/N, and 0 at an infinite speed.
            shift_s = math.floor(time.time() + (last - first) / 1e6 / self.speed - last / 1e6)
        self.report.shift_s = shift_s
        began = time.monotonic()
        clock = Clock(self.speed)
        clock.start()
        with contextlib.ExitStack() as stack:
            manifest = None
            if self._manifest_path is not None:
                self._manifest_path.parent.mkdir(parents=True, exist_ok=True)
                manifest = stack.enter_context(self._manifest_path.open("w", encoding="utf-8"))
            for record in self.records:
                await clock.until((record.ts_us - first) / 1e6)
                ts_us = record.ts_us + shift_s * 1_000_000
                await self._send(record, ts_us)
                if manifest is not None:
                    line = {
                        "device": self.devices[record.vehicle],
                        "ts_us": ts_us,
                        "lat": record.lat,
                        "lon": record.lon,
                    }
                    manifest.write(json.dumps(line) + "\n")
                if on_sent is not None:
                    on_sent()
        self.report.seconds = round(time.monotonic() - began, 3)
        return self.report

    async def drain(self) -> None:
        """Wait until everything sent was taken: acknowledged by the broker, read from the lines."""
        try:
            if self._client is not None:
                await self._client.drain()
            if self._ports is not None:
                await self._ports.drain()
        finally:
            if self._client is not None:
                self.report.mqtt_acknowledged = self._client.acknowledged

    async def _send(self, record: Record, ts_us: int) -> None:
        device = self.devices[record.vehicle]
        if self.ways[record.vehicle] == "serial":
            assert self._ports is not None
            # Nothing is known of satellites and dilution, but a GGA completes the fix at once.
            rmc = encode_rmc(ts_us, record.lat, record.lon, speed=record.speed)
            await self._ports.ports[device].send(
                rmc + encode_gga(ts_us, record.lat, record.lon, satellites=None, hdop=None)
            )
            self.report.serial_sent += 1
        else:
            assert self._client is not None
            scan = Scan(device, REPLAY_SCHEMA, ts_us, (record.lat, record.lon, record.speed))
            await self._client.publish(f"fleet/{device}/senml", encode_senml(scan))
            self.report.mqtt_sent += 1
        self.report.records += 1
