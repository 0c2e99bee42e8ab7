"""What the demo's devices are: simulated ones, or recorded journeys; and the fences, rules and names that go with them.

The registry is written at the first start with given devices and left alone afterwards: what a person has changed since
stays changed.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tidegate_cloud.admin import registry
from tidegate_sim.records import Record, read_records
from tidegate_sim.scenario import SPARKPLUG_GROUP, make_scenario

_AGENT_SOURCES = """\
[[source]]
type = "serial"
path = "{serial}/bus-*"
protocol = "nmea"
device = "{{name}}"

[[source]]
type = "serial"
path = "{serial}/reefer-*"
protocol = "packets"

[[source]]
type = "mqtt"
host = "127.0.0.1"
port = {mqtt_port}
client_id = "tidegate-demo"

[[source.subscribe]]
filter = "fleet/+/senml"
payload = "senml"
device = "{{1}}"

[[source.subscribe]]
filter = "spBv1.0/{group}/#"
payload = "sparkplug"
"""

_CELL_M = 300.0
_METRES_PER_DEGREE = 111_320.0
_BUSIEST = 3


def agent_sources(serial: Path, mqtt_port: int) -> str:
    """The sources in the agent's configuration that hear any of these devices."""
    return _AGENT_SOURCES.format(serial=serial, mqtt_port=mqtt_port, group=SPARKPLUG_GROUP)


class Fleet(Protocol):
    """Devices of a demo. `ends`: whether they come to an end by themselves; `words`: what they are.

    `note`: what a person should know about their data, "" when nothing.
    """

    ends: bool
    words: str
    note: str

    def prepare(self, directory: Path) -> None:
        """Check what was asked for, before anything starts, and write the registry's files. Raises BadInput."""

    def key(self) -> str:
        """What tells these devices from others."""

    def command(self, directory: Path, mqtt_port: int) -> Sequence[object]:
        """The arguments of `tidegate` that run them."""


@dataclass(slots=True)
class Simulated:
    """A simulated fleet: vehicles that drive, machines that fail."""

    devices: int
    seed: int
    rate_hz: float
    ends: bool = False
    words: str = ""
    note: str = ""

    def prepare(self, directory: Path) -> None:
        scenario = make_scenario(self.devices, self.seed)
        scenario.write(directory / "registry", report_interval_s=1 / self.rate_hz)
        self.words = f"{self.devices} simulated: serial lines and MQTT"

    def key(self) -> str:
        return f"simulated {self.devices} {self.seed}"

    def command(self, directory: Path, mqtt_port: int) -> Sequence[object]:
        return (
            "sim", "fleet", "--devices", self.devices, "--seed", self.seed, "--rate", f"{self.rate_hz:g}",
            "--serial-dir", directory / "serial", "--mqtt", f"127.0.0.1:{mqtt_port}",
            "--truth", directory / "truth.jsonl",
        )  # fmt: skip


@dataclass(slots=True)
class Recording:
    """Recorded positions, half the vehicles over serial NMEA and half over MQTT."""

    data: Path
    speed: float
    fences: Path | None = None
    ends: bool = True
    words: str = ""
    note: str = ""

    def prepare(self, directory: Path) -> None:
        records = read_records(self.data)
        folder = directory / "registry"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("rules.json", "devices.json"):
            (folder / name).unlink(missing_ok=True)
        target = folder / "fences.geojson"
        if self.fences is not None:
            target.write_bytes(self.fences.read_bytes())
            registry.load(registry.KINDS["fences"], self.fences)
        else:
            target.write_text(json.dumps(busiest_places(records)), "utf-8")
        vehicles = len({record.vehicle for record in records})
        hours = (records[-1].ts_us - records[0].ts_us) / 3.6e9
        self.words = (
            f"{vehicles} recorded vehicles, {len(records):,} positions of {hours:.1f} h at {self.speed:g}x: "
            f"serial lines and MQTT"
        )
        if self.speed > 1:
            self.note = (
                "Replayed faster than life, recorded times reach now only when the replay ends: until then the page "
                f"says that data is old, at first {hours * (1 - 1 / self.speed):.1f} h."
            )

    def key(self) -> str:
        return f"recording {self.data} {self.fences}"

    def command(self, directory: Path, mqtt_port: int) -> Sequence[object]:
        return (
            "sim", "replay", "--data", self.data, "--speed", f"{self.speed:g}",
            "--serial-dir", directory / "serial", "--mqtt", f"127.0.0.1:{mqtt_port}",
        )  # fmt: skip


def busiest_places(records: Sequence[Record], count: int = _BUSIEST) -> dict[str, object]:
    """GeoJSON circles of 150 m round the places where the most vehicles were, as fences that alert on entry.

    A place is a cell of 300 m; its centre is the mean of the positions in it.
    """
    cells: dict[tuple[int, int], list[Record]] = defaultdict(list)
    for record in records:
        if record.lat or record.lon:  # receivers without a fix say 0, 0
            y = record.lat * _METRES_PER_DEGREE
            x = record.lon * _METRES_PER_DEGREE * math.cos(math.radians(records[0].lat))
            cells[round(x / _CELL_M), round(y / _CELL_M)].append(record)
    by_vehicles = sorted(cells.values(), key=lambda cell: len({record.vehicle for record in cell}), reverse=True)
    features = []
    for number, cell in enumerate(by_vehicles[:count], 1):
        lat = sum(record.lat for record in cell) / len(cell)
        lon = sum(record.lon for record in cell) / len(cell)
        properties = {"name": f"Busy place {number}", "radius_m": 150.0, "alert_on": "enter", "severity": "warning"}
        point = {"type": "Point", "coordinates": [round(lon, 6), round(lat, 6)]}
        features.append({"type": "Feature", "id": f"busy-{number}", "geometry": point, "properties": properties})
    return {"type": "FeatureCollection", "features": features}


def seed_registry(bootstrap: str, fleet: Fleet, directory: Path) -> None:
    """Write the registry's files to Kafka unless that was done before for these devices. Raises BadInput."""
    done = directory / "registry" / "seeded"
    if done.exists() and done.read_text("utf-8") == fleet.key():
        return
    for name, file in (("fences", "fences.geojson"), ("rules", "rules.json"), ("devices", "devices.json")):
        kind, path = registry.KINDS[name], directory / "registry" / file
        wanted = registry.load(kind, path) if path.exists() else []
        ids = {record.id for record in wanted}
        old = [record.id for record in registry.read(bootstrap, kind) if record.id not in ids]
        if old:
            registry.remove(bootstrap, kind, old)
        if wanted:
            registry.put(bootstrap, kind, wanted)
    done.write_text(fleet.key(), "utf-8")
