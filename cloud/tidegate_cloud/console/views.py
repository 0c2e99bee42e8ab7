"""What the HTTP interface gives and takes. Times are microseconds since 1970 UTC, positions WGS 84 degrees."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from tidegate_protocols.alerts import Alert, Group, Transition
from tidegate_protocols.rollouts import RolloutState
from tidegate_protocols.scan import INT64_MAX, TS_MAX_US


class Reading(Struct):
    """The newest value of a channel."""

    value: float | int | bool | None
    unit: str


class DeviceView(Struct, kw_only=True):
    """A device as it was last heard. Fields are null where nothing is known; `heard_us` is when Kafka had its frame."""

    id: str
    name: str = ""
    group: str = ""
    type: str = ""
    report_interval_s: float | None = None
    lat: float | None = None
    lon: float | None = None
    speed: float | None = None
    heading: float | None = None
    accuracy: float | None = None
    ts_us: int | None = None
    heard_us: int | None = None
    readings: dict[str, Reading] = {}


class Stage(Struct):
    """How far a stage is behind what waits for it. `behind_ms` is null while it cannot be told."""

    name: str
    behind_ms: int | None


class Health(Struct, kw_only=True):
    """How far behind what is shown is: `behind_ms` is 0 when everything on Kafka has been read."""

    server_us: int
    behind_ms: int
    kafka: Literal["up", "away"]
    frames_per_s: float
    readings_per_s: float
    devices: int
    stages: list[Stage]


class RuleView(Struct):
    """A limit on a channel, or an expression over channels."""

    id: str
    name: str
    version: int
    channel: str
    low: float | None
    high: float | None
    hysteresis: float
    severity: str
    groups: list[str]
    expression: str = ""


Stand = Literal[
    "waiting", "told", "applying", "took", "refused", "rolled-back", "unwell", "silent", "away", "going-back", "back",
    "moved-on",
]  # fmt: skip
"""How an agent stands to a rollout: as the server judges it; or on its way back or back on what it ran before; or
told something newer since."""


class WaveView(Struct):
    """A wave: how many agents it has, by how they stand."""

    name: str
    size: int
    manual: bool
    state: Literal["done", "now", "later"]
    counts: dict[Stand, int]


class RolloutView(Struct, kw_only=True):
    """A rollout as it stands. `reached`: agents that were told; `actions`: what may be asked of it as it stands."""

    id: str
    version: int
    state: RolloutState
    layer: str
    title: str
    who: str
    why: str
    reason: str
    created_us: int
    changed_us: int
    wave: int
    agents: int
    reached: int
    waves: list[WaveView]
    actions: list[str]


class Snapshot(Struct):
    """Everything that a page needs to begin. `resume` is where the stream goes on."""

    server_us: int
    resume: str
    devices: list[DeviceView]
    alerts: list[Alert]
    alert_counts: dict[str, dict[str, int]]
    alerts_complete: bool
    fences: dict[str, Any]
    rules: list[RuleView]
    groups: list[Group]
    rollouts: list[RolloutView]
    health: Health


class AlertPage(Struct):
    """Some alerts; `next` is `after` of the page that follows, "" where there is none. `counts` are of all alerts, by
    state and severity; `total` is how many the filters let through.
    """

    alerts: list[Alert]
    next: str
    total: int
    counts: dict[str, dict[str, int]]


class AlertDetail(Alert, frozen=True, kw_only=True):
    """An alert with what happened to it. `transitions_complete`: the console remembers all of them."""

    transitions: list[Transition]
    transitions_complete: bool


class SeriesView(Struct):
    """One channel over time, thinned to `max_points`. `since_us`: the oldest scan that the console remembers."""

    device: str
    channel: str
    unit: str
    ts_us: list[int]
    values: list[float | None]
    since_us: int | None
    source: Literal["memory", "history"] = "memory"
    resolution_s: float = 0.0
    low: list[float] | None = None
    high: list[float] | None = None
    missing: str = ""


class ChannelView(Struct):
    """A channel and its unit."""

    name: str
    unit: str


class Status(Struct, kw_only=True):
    """The console about itself."""

    server_us: int
    health: Health
    clients: int
    alerts: dict[str, int]
    history_bytes: int
    history_budget_bytes: int
    unreadable_frames: int


Time = Annotated[int, Meta(ge=-TS_MAX_US, le=TS_MAX_US, description="Microseconds since 1970 UTC")]
Why = Annotated[str, Meta(max_length=500)]
Key = Annotated[
    str, Meta(pattern="^[A-Za-z0-9._:-]{1,64}$", description="Idempotency key: a second command with it does nothing")
]


class CommandBody(Struct, forbid_unknown_fields=True):
    """What a person asks of an alert. `snooze` needs `until_us`."""

    action: Literal["acknowledge", "resolve", "snooze", "comment", "reopen", "false-alarm"]
    id: Key
    why: Why = ""
    until_us: Annotated[int, Meta(ge=0, le=TS_MAX_US)] | None = None
    seen_version: (
        Annotated[int, Meta(ge=0, le=INT64_MAX, description="The alert's version that the person was looking at")]
        | None
    ) = None


class Accepted(Struct):
    """The command is on Kafka; what became of it is on the stream."""

    id: str


class Problem(Struct):
    """Why not, in a sentence."""

    detail: str


encode = msgspec.json.Encoder().encode
