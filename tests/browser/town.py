"""An invented town by the sea, with vehicles that keep to its streets: what the pages are looked at with.

Everything follows from a seed. Streets are a grid that was bent a little, so that they look grown; a vehicle walks them
from crossing to crossing. Positions are WGS 84 degrees, times seconds of the walk.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tidegate_protocols.policies import Policy
from tidegate_protocols.registry import Device, Fence, Rule
from tidegate_protocols.schema import Channel, Schema

VEHICLE = Schema(
    "vehicle",
    (
        Channel("lat", unit="lat"), Channel("lon", unit="lon"), Channel("speed", unit="m/s"),
        Channel("heading", unit="deg"), Channel("accuracy", unit="m"), Channel("cargo_temperature", unit="Cel"),
        Channel("battery", unit="V"), Channel("door_open", "bool"),
    ),
)  # fmt: skip
CENTRE = (51.1955, 2.8625)
_COLUMNS, _ROWS, _BLOCK_M = 15, 10, 430.0
_M_PER_DEG = 111_320.0
CARGO_LIMIT = 7.0

Place = tuple[float, float]
Values = tuple[float, float, float, float, float, float, float, bool]


def at(east_m: float, north_m: float) -> Place:
    """(lat, lon) of a point given in metres from the town's centre."""
    lat, lon = CENTRE
    return lat + north_m / _M_PER_DEG, lon + east_m / (_M_PER_DEG * math.cos(math.radians(lat)))


def crossing(column: int, row: int) -> tuple[float, float]:
    """Metres east and north of the centre. The grid is turned to lie along the coast, and bent."""
    x, y = (column - _COLUMNS / 2) * _BLOCK_M, (row - _ROWS / 2) * _BLOCK_M
    x, y = x + 120 * math.sin(y / 900) + 60 * math.sin(x / 500), y + 150 * math.sin(x / 1400)
    turn = math.radians(33)
    return x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)


def _is_park(column: int, row: int) -> bool:
    return (column - 4) ** 2 + (row - 6) ** 2 < 3 or (column - 11) ** 2 + (row - 3) ** 2 < 2


def _neighbours(column: int, row: int) -> Iterator[tuple[int, int]]:
    for d_column, d_row in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        next_column, next_row = column + d_column, row + d_row
        inside = 0 <= next_column < _COLUMNS and 0 <= next_row < _ROWS
        # Some streets end, and nobody drives through a park.
        walled = (min(column, next_column) * 7 + min(row, next_row) * 5 + (d_row != 0)) % 9 == 0
        if inside and not walled and not _is_park(next_column, next_row):
            yield next_column, next_row


@dataclass
class Walker:
    """A vehicle on the streets: `step` moves it on."""

    rng: random.Random
    speed_mps: float
    here: tuple[int, int]
    there: tuple[int, int] = field(init=False)
    along_m: float = 0.0
    wait_s: float = 0.0

    def __post_init__(self) -> None:
        self.there = self._next((-1, -1))

    def _next(self, back: tuple[int, int]) -> tuple[int, int]:
        ways = list(_neighbours(*self.here)) or [back]
        ahead = (2 * self.here[0] - back[0], 2 * self.here[1] - back[1])
        if ahead in ways and self.rng.random() < 0.6:
            return ahead
        return self.rng.choice([way for way in ways if way != back] or ways)

    def step(self, seconds: float) -> tuple[Place, float, float]:
        """Where it is afterwards, its speed in m/s and its heading in degrees."""
        (x0, y0), (x1, y1) = crossing(*self.here), crossing(*self.there)
        length = math.hypot(x1 - x0, y1 - y0)
        heading = math.degrees(math.atan2(x1 - x0, y1 - y0)) % 360
        if self.wait_s > 0:
            self.wait_s -= seconds
            share = self.along_m / length
            return at(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share), 0.0, heading
        self.along_m += self.speed_mps * seconds
        if self.along_m >= length:
            self.along_m -= length
            back, self.here = self.here, self.there
            self.there = self._next(back)
            self.wait_s = self.rng.choice((0.0, 0.0, 0.0, 12.0, 25.0))
            return self.step(0.0)
        share = self.along_m / length
        return at(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share), self.speed_mps, heading


def walkers(count: int, seed: int = 7) -> list[Walker]:
    """Vehicles spread over the town."""
    rng = random.Random(seed)
    crossings = [
        (c, r) for c in range(_COLUMNS) for r in range(_ROWS) if not _is_park(c, r) and list(_neighbours(c, r))
    ]
    return [Walker(random.Random(rng.random()), rng.uniform(6, 13), rng.choice(crossings)) for _ in range(count)]


def values(place: Place, speed: float, heading: float, at_s: float, number: int, cargo: float | None = None) -> Values:
    """A scan of VEHICLE."""
    usual = 4.2 + 0.6 * math.sin(at_s / 400 + number)
    battery = 27.4 + 0.15 * math.sin(at_s / 90 + number)
    return (*place, speed, heading, 4.0, usual if cargo is None else cargo, battery, False)


def _block(column: float, row: float, width: float, height: float) -> str:
    """A polygon over blocks, its corners between crossings."""
    corners = [(column, row), (column + width, row), (column + width, row + height), (column, row + height)]
    ring = []
    for c, r in [*corners, corners[0]]:
        lat, lon = at(*_between(c, r))
        ring.append([lon, lat])
    return json.dumps({"type": "Polygon", "coordinates": [ring]})


def _between(column: float, row: float) -> tuple[float, float]:
    c, r = math.floor(column), math.floor(row)
    u, v = column - c, row - r
    (x00, y00), (x10, y10), (x01, y01) = crossing(c, r), crossing(c + 1, r), crossing(c, r + 1)
    return x00 + u * (x10 - x00) + v * (x01 - x00), y00 + u * (y10 - y00) + v * (y01 - y00)


# Fences that alert lie off the streets, so that only who is sent there sets them off.
YARD_AT = crossing(16, 3)
FENCES = (
    Fence(
        id="reefer-yard", name="Reefer Yard", severity="critical", alert_on="enter",
        geometry=_block(15.3, 2.2, 1.6, 1.6),
    ),
    Fence(id="quarry", name="Holm quarry", severity="warning", alert_on="enter", geometry=_block(6.2, -2.2, 2.2, 1.4)),
    Fence(id="quay-4", name="Quay 4", geometry=_block(1.5, 7.5, 3, 1)),
    Fence(id="market", name="Market", geometry=_block(6.5, 4.5, 2, 2)),
    Fence(id="depot-east", name="Depot East", geometry=_block(11.5, 5.5, 2, 1)),
    Fence(
        id="school", name="School", radius_m=260.0,
        geometry=json.dumps({"type": "Point", "coordinates": list(reversed(at(*crossing(3, 2))))}),
    ),
)  # fmt: skip
QUARRY_AT = _between(7.3, -1.5)
RULES = (
    Rule(
        id="cold-chain",
        name="Cold chain",
        channel="cargo_temperature",
        high=CARGO_LIMIT,
        hysteresis=0.5,
        severity="critical",
    ),
)
# A van that stops at a crossing is unusual to a streaming check, and beside the point here.
POLICIES = (Policy(id="anomaly", operator="anomaly", opens=["never"]),)


# Who the pictures of the docs are about.
ACTORS = (
    Device(id="TRK-118", name="TRK-118", group="Hazmat", type="truck", report_interval_s=60.0),
    Device(id="RF-2107", name="RF-2107", group="Cold chain", type="trailer", report_interval_s=60.0),
    Device(id="EXC-22", name="EXC-22", group="Quarry plant", type="excavator", report_interval_s=60.0),
    Device(id="TRK-204", name="TRK-204", group="Road tractors", type="truck", report_interval_s=60.0),
)


def devices(count: int) -> list[Device]:
    """Names for vehicles `van-001` and on."""
    groups = ("City vans", "Road tractors", "Cold chain")
    return [
        Device(id=f"van-{n:03}", name=f"VAN-{400 + 3 * n}", group=groups[n % 3], type="van", report_interval_s=2.0)
        for n in range(1, count + 1)
    ]
