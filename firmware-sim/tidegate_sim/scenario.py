"""A whole fleet: who drives and who stands where, what they speak, which fences and limits watch them.

Decided by the seed alone. The first conditions come soon: the first vehicle drives into a no-waiting zone, the first
reefer warms up and the first generator loses oil pressure within the first half minute.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from tidegate_protocols.errors import BadInput
from tidegate_protocols.registry import Device, Fence, Rule

from .faults import Fault
from .geo import Place
from .machine import GENERATOR, REEFER, Machine
from .roads import RoadGrid
from .vehicle import STEP_S, Vehicle

Protocol = Literal["nmea", "packets", "senml", "sparkplug"]
PROTOCOLS: tuple[Protocol, ...] = ("nmea", "packets", "senml", "sparkplug")
AUSTIN = Place(30.27, -97.74)
DEVICES_MAX = 9999
SPARKPLUG_GROUP, SPARKPLUG_NODE = "yard", "gateway-1"

# What speaks which protocol: prefix of its name, type, group. The prefix tells an agent's configuration what to expect.
_KINDS: dict[Protocol, tuple[str, str]] = {
    "nmea": ("bus", "buses"),
    "packets": ("reefer", "cold-chain"),
    "senml": ("van", "deliveries"),
    "sparkplug": ("generator", "power"),
}
_YARD = (-2400.0, -300.0)  # west of the streets, metres
_FIRST_FAULTS: dict[Protocol, Fault] = {
    "packets": Fault("over-limit", "temperature", 8.0, 608.0, -4.0),
    "sparkplug": Fault("over-limit", "oil_pressure", 14.0, 614.0, 130.0),
}

RULES = [
    Rule(id="reefer-warm", name="Load is warming up", channel="temperature", high=-10.0, hysteresis=1.0,
         severity="critical", groups=["cold-chain"]),
    Rule(id="reefer-battery", name="Reefer battery is low", channel="battery", low=11.8, hysteresis=0.2,
         severity="warning", groups=["cold-chain"]),
    Rule(id="reefer-vibration", name="Reefer vibrates", channel="vibration", high=7.0, hysteresis=0.5,
         severity="notice", groups=["cold-chain"]),
    Rule(id="generator-oil", name="Oil pressure is low", channel="oil_pressure", low=200.0, hysteresis=20.0,
         severity="critical", groups=["power"]),
    Rule(id="generator-hot", name="Coolant is hot", channel="coolant", high=105.0, hysteresis=3.0,
         severity="warning", groups=["power"]),
    Rule(id="generator-vibration", name="Generator vibrates", channel="vibration", high=11.0, hysteresis=0.5,
         severity="warning", groups=["power"]),
]  # fmt: skip


@dataclass(slots=True)
class SimDevice:
    """One device: `name` is what it is called on its link, `id` what the gateway will call it."""

    name: str
    id: str
    protocol: Protocol
    kind: str
    group: str
    model: Vehicle | Machine


@dataclass(slots=True)
class Scenario:
    """Devices with the fences and limits that watch them."""

    place: Place
    seed: int
    devices: list[SimDevice]
    fences: list[Fence]
    rules: list[Rule] = field(default_factory=lambda: list(RULES))

    def write(self, folder: Path, *, report_interval_s: float | None = None) -> list[Path]:
        """Write fences.geojson, rules.json and devices.json, as `tidegate registry put` reads them."""
        folder.mkdir(parents=True, exist_ok=True)
        features = [
            {
                "type": "Feature",
                "id": fence.id,
                "geometry": json.loads(fence.geometry),
                "properties": {
                    key: value
                    for key, value in msgspec.to_builtins(fence).items()
                    if key != "geometry" and value is not None
                },
            }
            for fence in self.fences
        ]
        devices = [
            Device(id=d.id, name=_title(d.name), group=d.group, type=d.kind, report_interval_s=report_interval_s)
            for d in self.devices
        ]
        contents: dict[str, Any] = {
            "fences.geojson": {"type": "FeatureCollection", "features": features},
            "rules.json": msgspec.to_builtins(self.rules),
            "devices.json": msgspec.to_builtins(devices),
        }
        paths = []
        for name, content in contents.items():
            path = folder / name
            path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
            paths.append(path)
        return paths


def make_scenario(
    devices: int = 12,
    seed: int = 1,
    *,
    mix: Mapping[str, float] | None = None,
    place: Place = AUSTIN,
    faults_per_hour: float = 6.0,
) -> Scenario:
    """A fleet of so many devices. `mix`: share per protocol, a quarter each unless said otherwise. Raises BadInput."""
    if not 1 <= devices <= DEVICES_MAX:
        raise BadInput(f"{devices} devices", where="--devices", hint=f"1 to {DEVICES_MAX}")
    grid = RoadGrid()
    built: list[SimDevice] = []
    for protocol, count in _counts(devices, mix or dict.fromkeys(PROTOCOLS, 1.0)).items():
        kind, group = _KINDS[protocol]
        for i in range(count):
            name = f"{kind}-{i + 1:03d}"
            key = (seed, PROTOCOLS.index(protocol), i)
            identity = f"{SPARKPLUG_GROUP}:{SPARKPLUG_NODE}:{name}" if protocol == "sparkplug" else name
            model: Vehicle | Machine
            if protocol in ("nmea", "senml"):
                # Every eighth vehicle has its break first: a parked one shows how a receiver's position creeps.
                model = Vehicle(grid, key, parked_s=900.0 if i % 8 == 7 else 0.0)
            else:
                first = _FIRST_FAULTS[protocol] if i == 0 and faults_per_hour > 0 else None
                quantities = REEFER if protocol == "packets" else GENERATOR
                x = _YARD[0] + (i % 12) * 14.0 - 77.0
                y = _YARD[1] + (i // 12) * 14.0 % 140 - 70.0 + (20.0 if protocol == "sparkplug" else 0.0)
                model = Machine(quantities, x, y, key, first_fault=first, faults_per_hour=faults_per_hour)
            built.append(SimDevice(name, identity, protocol, kind, group, model))
    return Scenario(place, seed, built, _fences(place, grid, seed, built))


def _counts(devices: int, mix: Mapping[str, float]) -> dict[Protocol, int]:
    """How many devices speak what: largest remainders."""
    unknown = set(mix) - set(PROTOCOLS)
    total = sum(mix.values())
    if unknown or not total > 0 or min(mix.values()) < 0:
        raise BadInput(f"{dict(mix)}", where="--mix", hint=f"shares of {', '.join(PROTOCOLS)}, such as nmea=1,senml=3")
    exact = {protocol: devices * mix.get(protocol, 0.0) / total for protocol in PROTOCOLS}
    counts = {protocol: int(share) for protocol, share in exact.items()}
    by_remainder = sorted(PROTOCOLS, key=lambda p: counts[p] - exact[p])
    for protocol in by_remainder[: devices - sum(counts.values())]:
        counts[protocol] += 1
    return counts


def _fences(place: Place, grid: RoadGrid, seed: int, devices: list[SimDevice]) -> list[Fence]:
    fences = []
    drivers = [i for i, device in enumerate(devices) if isinstance(device.model, Vehicle)]
    for n, (i, at_s) in enumerate(zip([drivers[0], drivers[-1]] if drivers else [], (24.0, 45.0), strict=False)):
        protocol = devices[i].protocol
        number = sum(d.protocol == protocol for d in devices[:i])
        x, y = _ahead(grid, (seed, PROTOCOLS.index(protocol), number), at_s)
        point = _point(place, x, y)
        fences.append(Fence(id=f"no-waiting-{n + 1}", name=f"No waiting, zone {n + 1}", geometry=point, radius_m=60.0,
                            severity="critical" if n == 0 else "warning", alert_on="enter"))  # fmt: skip
    yard = _ring(place, *_YARD, 110.0, 110.0)
    fences.append(Fence(id="yard", name="Yard", geometry=_polygon(yard), severity="critical", alert_on="exit",
                        groups=["cold-chain", "power"]))  # fmt: skip
    centre, park = _ring(place, 0.0, 0.0, 700.0, 600.0), _ring(place, 80.0, 60.0, 210.0, 180.0)[::-1]
    fences.append(
        Fence(id="centre", name="Centre, without the park", geometry=_polygon(centre, park), severity="notice")
    )
    rng = np.random.default_rng((seed, 99))
    for n in range(12):
        column, row = (int(v) for v in rng.integers(2, grid.blocks - 1, 2))
        point = _point(place, *grid.position((column, row)))
        fences.append(
            Fence(id=f"stop-{n + 1:02d}", name=f"Stop {n + 1}", geometry=point, radius_m=45.0, severity="notice")
        )
    return fences


def _ahead(grid: RoadGrid, key: tuple[int, ...], at_s: float) -> tuple[float, float]:
    """Where a vehicle will be when it has moved on far enough to have been outside before."""
    vehicle = Vehicle(grid, key)
    x0, y0 = vehicle.state.x_m, vehicle.state.y_m
    for step, state in enumerate(vehicle.advance(600.0)):
        if step * STEP_S >= at_s and (state.x_m - x0) ** 2 + (state.y_m - y0) ** 2 > 150.0**2:
            return state.x_m, state.y_m
    return vehicle.state.x_m, vehicle.state.y_m


def _point(place: Place, x: float, y: float) -> str:
    lat, lon = place.to_degrees(x, y)
    return json.dumps({"type": "Point", "coordinates": [lon, lat]})


def _ring(place: Place, x: float, y: float, half_width: float, half_height: float) -> list[list[float]]:
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
    degrees = [place.to_degrees(x + sx * half_width, y + sy * half_height) for sx, sy in corners]
    return [[lon, lat] for lat, lon in degrees]


def _polygon(*rings: list[list[float]]) -> str:
    return json.dumps({"type": "Polygon", "coordinates": rings})


def _title(name: str) -> str:
    kind, _, number = name.partition("-")
    return f"{kind.capitalize()} {int(number)}"
