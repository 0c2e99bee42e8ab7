"""The fleet as a gateway hears it: every protocol over real lines and a real broker, against the truth file."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import serial
from paho.mqtt.enums import CallbackAPIVersion
from tidegate_protocols.errors import BadInput
from tidegate_protocols.link.nmea import NmeaReader
from tidegate_protocols.link.packets import Ack, Data, Hello, PacketReader, encode_packet, packet_to_scans
from tidegate_protocols.payload.senml import parse_senml
from tidegate_protocols.payload.sparkplug import SparkplugReader
from tidegate_protocols.scan import Scan
from tidegate_sim.clock import Clock
from tidegate_sim.fleet import Fleet
from tidegate_sim.scenario import Scenario, make_scenario

from tests.support.mqtt import MqttBroker
from tests.support.wait import until, until_async

START_US = 1_700_000_000_000_000


class Gateway:
    """What hears the fleet, as simply as that can be done: lines by pyserial, MQTT by paho."""

    def __init__(self, broker: MqttBroker) -> None:
        self.scans: list[Scan] = []
        self.refused: list[BadInput] = []
        self._sparkplug = SparkplugReader()
        self._lines: list[serial.Serial] = []
        self._hello: dict[str, Hello] = {}
        self._next: dict[str, int] = {}
        ready: list[bool] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="test-gateway")
        self._client.on_message = self._message
        self._client.on_subscribe = lambda *_: ready.append(True)
        self._client.connect(broker.host, broker.port)
        self._client.subscribe([("fleet/+/senml", 1), ("spBv1.0/#", 0)])
        self._client.loop_start()
        until(lambda: ready, what="the subscription")

    def listen(self, folder: Path) -> None:
        loop = asyncio.get_running_loop()
        for link in sorted(folder.iterdir()):
            line = serial.Serial(str(link), timeout=0)
            self._lines.append(line)
            reader = NmeaReader(link.name) if link.name.startswith("bus") else PacketReader()
            loop.add_reader(line.fd, self._line, line, link.name, reader)

    def close(self) -> None:
        for line in self._lines:
            asyncio.get_running_loop().remove_reader(line.fd)
            line.close()

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _line(self, line: serial.Serial, name: str, reader: NmeaReader | PacketReader) -> None:
        with contextlib.suppress(OSError):
            for item in reader.feed(os.read(line.fd, 4096)):
                if isinstance(item, BadInput):
                    self.refused.append(item)
                elif isinstance(item, Scan):
                    self.scans.append(item)
                elif isinstance(item, Hello):
                    self._hello[name] = item
                    line.write(encode_packet(Ack(item.boot, self._next.get(name, 0))))
                elif isinstance(item, Data) and item.seq <= self._next.get(name, 0):
                    scans = packet_to_scans(item, self._hello[name])
                    self.scans += scans[self._next.get(name, 0) - item.seq :]
                    self._next[name] = max(self._next.get(name, 0), item.seq + item.n)
                    line.write(encode_packet(Ack(item.boot, self._next[name])))

    def _message(self, client: paho.Client, _user: object, message: paho.MQTTMessage) -> None:
        if message.topic.startswith("spBv1.0"):
            with contextlib.suppress(BadInput):
                self.scans += self._sparkplug.feed(message.topic, message.payload)
            for topic, payload in self._sparkplug.take_rebirths():
                client.publish(topic, payload)
        else:
            self.scans += parse_senml(message.payload)


@pytest.fixture
def gateway(mqtt_broker: MqttBroker) -> Iterator[Gateway]:
    heard = Gateway(mqtt_broker)
    yield heard
    heard.stop()


async def run_fleet(
    scenario: Scenario, folder: Path, broker: MqttBroker, gateway: Gateway, *, seconds: float
) -> tuple[Fleet, list[dict[str, Any]]]:
    fleet = Fleet(
        scenario, serial_dir=folder / "lines", mqtt=(broker.host, broker.port), truth=folder / "truth",
        clock=Clock(20.0), start_us=START_US,
    )  # fmt: skip
    async with fleet:
        gateway.listen(folder / "lines")
        await fleet.run(seconds)
        await fleet.drain()
        sent = sum(row["sent"] or 0 for row in fleet.report().values())
        await until_async(lambda: len(gateway.scans) >= sent, what=f"{sent} scans")
        gateway.close()
    return fleet, [json.loads(line) for line in (folder / "truth").read_text().splitlines()]


async def test_every_reading_of_every_protocol_is_heard(
    tmp_path: Path, mqtt_broker: MqttBroker, gateway: Gateway
) -> None:
    scenario = make_scenario(12, 1)
    fleet, truth = await run_fleet(scenario, tmp_path, mqtt_broker, gateway, seconds=60)
    report = fleet.report()
    assert set(report) == {"nmea", "packets", "senml", "sparkplug"}
    assert all(row["lost"] == 0 and row["devices"] == 3 for row in report.values())
    assert report["packets"]["acknowledged"] == report["packets"]["sent"]
    assert report["senml"]["acknowledged"] == report["senml"]["sent"]
    assert report["nmea"]["acknowledged"] is None
    assert gateway.refused == []

    heard = {device.id: {s.ts_us: s for s in gateway.scans if s.device == device.id} for device in scenario.devices}
    for device in scenario.devices:
        times = sorted(ts for ts in heard[device.id] if ts is not None)
        assert 59 <= len(times) <= 60
        assert {b - a for a, b in itertools.pairwise(times)} <= {800_000, 1_000_000, 1_200_000}
    # The conditions that a demonstration waits for, seen through what was heard alone.
    assert max(s.values[s.schema.index["temperature"]] or -99 for s in heard["reefer-001"].values()) > -10
    oil = [s.values[s.schema.index["oil_pressure"]] for s in heard["yard:gateway-1:generator-001"].values()]
    assert min(value for value in oil if value is not None) < 200
    kinds = [line["type"] for line in truth]
    assert kinds.count("fault") >= 2
    assert {line["device"] for line in truth if line["type"] == "fault"} <= {device.id for device in scenario.devices}


async def test_what_is_heard_agrees_with_the_truth(tmp_path: Path, mqtt_broker: MqttBroker, gateway: Gateway) -> None:
    scenario = make_scenario(6, 3, mix={"nmea": 1, "senml": 1})
    _, truth = await run_fleet(scenario, tmp_path, mqtt_broker, gateway, seconds=120)
    crossings = [line for line in truth if line["type"] == "crossing"]
    assert crossings
    for crossing in crossings:
        near = min(
            (s for s in gateway.scans if s.device == crossing["device"] and s.ts_us is not None),
            key=lambda s: abs((s.ts_us or 0) - crossing["ts_us"]),
        )
        x0, y0 = scenario.place.to_metres(crossing["lat"], crossing["lon"])
        place = {c.name: v for c, v in zip(near.schema.channels, near.values, strict=True)}
        x1, y1 = scenario.place.to_metres(float(place["lat"] or 0), float(place["lon"] or 0))
        assert math.hypot(x1 - x0, y1 - y0) < 40


def test_links_that_are_missing_are_named() -> None:
    with pytest.raises(BadInput, match="--serial-dir"):
        Fleet(make_scenario(4), mqtt=("127.0.0.1", 1))
    with pytest.raises(BadInput, match="--mqtt"):
        Fleet(make_scenario(4), serial_dir=Path("x"))
    with pytest.raises(BadInput, match="--rate"):
        Fleet(make_scenario(4), rate_hz=50)


async def test_sparkplug_is_born_again_after_the_broker_was_away(
    tmp_path: Path, mqtt_broker: MqttBroker, gateway: Gateway
) -> None:
    scenario = make_scenario(2, 1, mix={"sparkplug": 1})
    fleet = Fleet(scenario, rate_hz=5.0, mqtt=(mqtt_broker.host, mqtt_broker.port))
    async with fleet:
        running = asyncio.create_task(fleet.run())
        await until_async(lambda: len(gateway.scans) > 10)
        await asyncio.to_thread(mqtt_broker.restart)
        before = len(gateway.scans)
        # The test's own client has to subscribe again: its session was a clean one.
        gateway._client.on_connect = lambda c, *_: c.subscribe("spBv1.0/#", 0)
        await until_async(lambda: len(gateway.scans) > before + 10, what="scans after the restart")
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert fleet.report()["sparkplug"]["sent"]
