"""The tables of the file, but for those of the sources, and the whole."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ..framing import Codec
from .sources import ModbusSource, MqttSource, SerialSource
from .values import Name, Positive, Text


class Agent(msgspec.Struct, kw_only=True):
    """`grace_s`: how long the agent goes on sending once it was told to end."""

    name: Name
    data_dir: Text
    grace_s: Annotated[float, Meta(ge=0)] = 5.0


class Kafka(msgspec.Struct, kw_only=True):
    """`options` go to librdkafka as they are: TLS, SASL."""

    bootstrap: Text
    options: dict[str, str | int | float | bool] = {}


class BatchSettings(msgspec.Struct, kw_only=True):
    """A frame is sent once it has `max_scans`, or its oldest scan has been durable for `max_age_ms`.

    `codec`: how its columns are written; "auto" is the smallest that this machine can write. `priors`: files of what
    was learnt about schemas (`tidegate frame train`), for frames that are smaller still.
    """

    max_scans: Annotated[int, Meta(ge=1, le=65_536)] = 256
    max_age_ms: Annotated[int, Meta(ge=0, le=60_000)] = 100
    codec: Codec = "auto"
    priors: list[Text] = []


class BacklogSettings(msgspec.Struct, kw_only=True):
    """How what waited is sent beside what is new.

    `link_share`: of the link's time that a backlog may take; it goes at least twice as fast as what comes in.
    `spread_s`: after a reconnection it waits for up to so long, by chance: a fleet does not send all at once.
    """

    link_share: Annotated[float, Meta(ge=0.05, le=1)] = 0.8
    spread_s: Annotated[float, Meta(ge=0, le=3600)] = 2.0


class SpoolSettings(msgspec.Struct, kw_only=True):
    """`commit_ms`: how long a scan may wait for others before the disk is written, while nobody waits for it.

    `keep_free_bytes`: where less of the disk is free, the spool grows no further, as if its quota were reached.
    """

    max_bytes: Annotated[int, Meta(ge=1 << 20)] = 256 << 20
    keep_free_bytes: Annotated[int, Meta(ge=0)] = 64 << 20
    commit_ms: Annotated[int, Meta(ge=1, le=10_000)] = 100


class TimeSettings(msgspec.Struct, kw_only=True):
    """A device's time is kept where it lies between these bounds of the agent's.

    `hold_s`: how long from the start scans with the agent's time wait for the clock to be synchronised; then they leave
    flagged as estimates.
    """

    max_past_s: Positive = 30 * 86_400.0
    max_future_s: Positive = 300.0
    hold_s: Annotated[float, Meta(ge=0, le=86_400)] = 60.0


Stat = Literal["min", "max", "mean", "last", "count", "first", "std"]


class WindowSettings(msgspec.Struct, kw_only=True):
    """What becomes of the channels whose device and name match, ``*`` and ``?`` as in file names; the first one counts.

    `band`: what a deadband lets pass unseen. `every_s`: length of the windows of an aggregate. `late_s`: how long a
    window waits for scans that are late.
    """

    mode: Literal["raw", "deadband", "aggregate"]
    device: Text = "*"
    channel: Text = "*"
    band: Annotated[float, Meta(ge=0)] | None = None
    max_silence_s: Positive = 300.0
    every_s: Annotated[float, Meta(ge=0.1, le=86_400)] | None = None
    stats: Annotated[list[Stat], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["min", "max", "mean", "last", "count"]
    )
    late_s: Annotated[float, Meta(ge=0, le=3600)] = 2.0


class MetricsSettings(msgspec.Struct, kw_only=True):
    """`port` 0 takes a free one; without a port there are no metrics over HTTP."""

    port: Annotated[int, Meta(ge=0, le=65_535)] | None = None


class ReloadSettings(msgspec.Struct, kw_only=True):
    """`watch`: take a changed file by itself. `probation_s`: how long a new configuration must do well to stay."""

    watch: bool = True
    probation_s: Annotated[float, Meta(ge=0, le=86_400)] = 30.0


class OtaSettings(msgspec.Struct, kw_only=True):
    """Take configurations over the air. `root`: the root metadata that says whom to trust, installed with the agent.

    `max_bytes`: of files that are kept. `heartbeat_s`: how often the agent says how it is when nothing changes.
    """

    root: Text
    max_bytes: Annotated[int, Meta(ge=1 << 16)] = 32 << 20
    heartbeat_s: Annotated[float, Meta(ge=1, le=86_400)] = 300.0


class LimitSettings(msgspec.Struct, kw_only=True):
    """`memory_bytes`: with more resident memory a new configuration is gone back from, and else the agent ends in
    order, for its service manager to start it anew."""

    memory_bytes: Annotated[int, Meta(ge=64 << 20)] = 384 << 20


class Config(msgspec.Struct, kw_only=True):
    """The whole file."""

    agent: Agent
    kafka: Kafka
    source: Annotated[list[SerialSource | MqttSource | ModbusSource], Meta(min_length=1)]
    batch: BatchSettings = msgspec.field(default_factory=BatchSettings)
    backlog: BacklogSettings = msgspec.field(default_factory=BacklogSettings)
    spool: SpoolSettings = msgspec.field(default_factory=SpoolSettings)
    time: TimeSettings = msgspec.field(default_factory=TimeSettings)
    window: list[WindowSettings] = []
    metrics: MetricsSettings = msgspec.field(default_factory=MetricsSettings)
    reload: ReloadSettings = msgspec.field(default_factory=ReloadSettings)
    limits: LimitSettings = msgspec.field(default_factory=LimitSettings)
    ota: OtaSettings | None = None
