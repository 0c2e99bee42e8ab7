"""Recorded journeys: read, shifted, split and sent, every position once, over real serial lines and a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import gzip
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
import serial
from paho.mqtt.enums import CallbackAPIVersion
from tidegate_protocols.errors import BadInput
from tidegate_protocols.link.nmea import NmeaReader
from tidegate_protocols.payload.senml import parse_senml
from tidegate_protocols.scan import Scan
from tidegate_sim.records import Record, read_records
from tidegate_sim.replay import Replay, split_vehicles

from tests.support.data import need
from tests.support.mqtt import MqttBroker
from tests.support.wait import until, until_async

HEADER = "vehicle_id,timestamp,speed,route_id,trip_id,latitude,longitude,trip_headsign\n"
GOOD = "7,2016-03-22T19:26:01-05:00,5,1,2,30.1,-97.1,x\n"

Row = tuple[str | None, int | None, float, float]


def row(scan: Scan) -> Row:
    lat, lon = scan.values[scan.schema.index["lat"]], scan.values[scan.schema.index["lon"]]
    assert isinstance(lat, float)
    assert isinstance(lon, float)
    return scan.device, scan.ts_us, lat, lon


class SerialListener:
    """A gateway's serial side: opens every line of a folder and reads NMEA."""

    def __init__(self, folder: Path) -> None:
        self.rows: list[Row] = []
        self._loop = asyncio.get_running_loop()
        self._lines = []
        for link in sorted(folder.iterdir()):
            line = serial.Serial(str(link), timeout=0)
            self._lines.append(line)
            self._loop.add_reader(line.fd, self._read, line, NmeaReader(link.name))

    def _read(self, line: serial.Serial, reader: NmeaReader) -> None:
        with contextlib.suppress(OSError):
            for item in reader.feed(os.read(line.fd, 4096)):
                assert isinstance(item, Scan), item
                self.rows.append(row(item))

    def close(self) -> None:
        for line in self._lines:
            self._loop.remove_reader(line.fd)
            line.close()


@pytest.fixture
def subscriber(mqtt_broker: MqttBroker) -> Iterator[list[Row]]:
    """Every scan that is published as SenML."""
    rows: list[Row] = []
    ready: list[bool] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="test-subscriber")
    client.on_message = lambda _c, _u, m: rows.extend(
        row(scan) for scan in parse_senml(m.payload, m.topic.split("/")[1])
    )
    client.on_subscribe = lambda *_: ready.append(True)
    client.connect(mqtt_broker.host, mqtt_broker.port)
    client.subscribe("fleet/+/senml", 1)
    client.loop_start()
    until(lambda: ready, what="the subscription")
    yield rows
    client.disconnect()
    client.loop_stop()


def address(broker: MqttBroker) -> tuple[str, int]:
    return broker.host, broker.port


def expected(path: Path, minutes: float) -> set[tuple[str, int, float, float]]:
    """What a slice holds, read without the code under test: unique by vehicle and timestamp."""
    from datetime import datetime

    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    stamps = [int(datetime.fromisoformat(r["timestamp"]).timestamp()) for r in rows]
    end = min(stamps) + minutes * 60
    return {
        ("bus-" + r["vehicle_id"], ts, float(r["latitude"]), float(r["longitude"]))
        for r, ts in zip(rows, stamps, strict=True)
        if ts < end
    }


async def test_half_over_serial_half_over_mqtt_every_position_once(
    tmp_path: Path, mqtt_broker: MqttBroker, subscriber: list[Row]
) -> None:
    data = need("capmetrics/2016-03-22.csv.gz")
    records = read_records(data, limit_minutes=15)
    replay = Replay(
        records, speed=math.inf, serial_dir=tmp_path / "lines", mqtt=address(mqtt_broker),
        split={"serial": 0.5, "mqtt": 0.5}, manifest=tmp_path / "manifest",
    )  # fmt: skip
    async with replay:
        listener = SerialListener(tmp_path / "lines")
        report = await replay.run()
        await replay.drain()
        await until_async(lambda: len(listener.rows) + len(subscriber) >= len(records), what="every position")
        listener.close()
    assert report.serial_sent == len(listener.rows)
    assert report.mqtt_sent == report.mqtt_acknowledged == len(subscriber)
    assert abs(report.serial_sent - report.mqtt_sent) < 0.2 * len(records)
    shift_us = report.shift_s * 1_000_000
    want = {(device, ts * 1_000_000 + shift_us, lat, lon) for device, ts, lat, lon in expected(data, 15)}
    got = listener.rows + subscriber
    assert len(got) == len(set(got)) == len(want)
    assert set(got) == want
    manifest = [json.loads(line) for line in (tmp_path / "manifest").read_text().splitlines()]
    assert {(m["device"], m["ts_us"], m["lat"], m["lon"]) for m in manifest} == want
    assert [m["ts_us"] for m in manifest] == sorted(m["ts_us"] for m in manifest)


def records_of(*seconds: float) -> list[Record]:
    return [Record("7", 1_400_000_000_000_000 + round(s * 1e6), 30.25, -97.75, 5.0) for s in seconds]


@pytest.mark.parametrize("speed", [10.0, 50.0, math.inf])
async def test_the_last_record_of_a_fast_replay_is_of_now(
    tmp_path: Path, mqtt_broker: MqttBroker, subscriber: list[Row], speed: float
) -> None:
    before = time.time()
    async with Replay(records_of(0, 1, 20), speed=speed, mqtt=address(mqtt_broker)) as replay:
        await replay.run()
        await replay.drain()
    await until_async(lambda: len(subscriber) == 3)
    times = [ts / 1e6 for _, ts, _, _ in subscriber if ts is not None]
    assert [t - times[0] for t in times] == [0, 1, 20]
    planned = before + (20 / speed if math.isfinite(speed) else 0)
    # Whole seconds, rounded down so that no record is of the future; and connecting took a moment.
    assert planned - 1 <= times[-1] <= time.time()


async def test_a_shift_may_be_given(mqtt_broker: MqttBroker, subscriber: list[Row]) -> None:
    async with Replay(records_of(0), mqtt=address(mqtt_broker), shift_s=100) as replay:
        await replay.run()
    await until_async(lambda: len(subscriber) == 1)
    assert subscriber[0][1] == 1_400_000_100_000_000


def test_vehicles_are_shared_out() -> None:
    vehicles = [str(i) for i in range(195)]
    ways = split_vehicles(vehicles, {"serial": 0.5, "mqtt": 0.5})
    assert sum(way == "serial" for way in ways.values()) == 97
    assert set(split_vehicles(vehicles, {"serial": 1.0}).values()) == {"serial"}
    assert set(split_vehicles(vehicles, {"serial": 0.0, "mqtt": 1.0}).values()) == {"mqtt"}
    with pytest.raises(BadInput, match="--split"):
        split_vehicles(vehicles, {"pigeon": 1.0})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: no column vehicle_id"),
        (HEADER, "no record"),
        (HEADER + "7,2016-03-22T19:26:01,5,1,2,30.1,-97.1,x\n", "line 2: timestamp .* has no offset"),
        (
            HEADER + GOOD + "7,never,5,1,2,30.1,-97.1,x\n",
            "line 3: Invalid iso",
        ),
        (HEADER + "7,2016-03-22T19:26:01-05:00,5,1,2,130.1,-97.1,x\n", "line 2: 130.1, -97.1 is no place"),
        (HEADER + "7,2016-03-22T19:26:01-05:00\n", "line 2: "),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "data.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=said):
        read_records(path)


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read_records(tmp_path / "none.csv")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(HEADER.encode() * 1000)[:40])
    with pytest.raises(BadInput, match="cannot be read"):
        read_records(tmp_path / "cut.csv.gz")


def test_slices_are_counted_from_the_first_record(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    rows = [f"7,2016-03-22T19:{minute:02d}:00-05:00,,1,2,30.1,-97.1,x\n" for minute in (20, 25, 30, 35)]
    path.write_text(HEADER + "".join(rows) + rows[1])
    assert len(read_records(path)) == 4
    minutes = [(r.ts_us // 60_000_000) % 60 for r in read_records(path, skip_minutes=5, limit_minutes=10)]
    assert minutes == [25, 30]
    with pytest.raises(BadInput, match="slice"):
        read_records(path, skip_minutes=60)


def test_a_link_is_needed_for_every_share() -> None:
    with pytest.raises(BadInput, match="--serial-dir"):
        Replay(records_of(0), split={"serial": 1.0}, mqtt=("127.0.0.1", 1))


async def test_nobody_at_the_brokers_address_is_one_sentence() -> None:
    with pytest.raises(BadInput, match=r"no MQTT broker at 127\.0\.0\.1:9"):
        async with Replay(records_of(0), mqtt=("127.0.0.1", 9)):
            pass
