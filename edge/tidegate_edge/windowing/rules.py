"""Which channel is treated how: the configuration's ``[[window]]`` tables, compiled for a device and a schema.

Of the tables that match a channel, the first counts; a channel that none matches is raw. Position (`lat` and `lon`) is
one quantity: under a deadband both are kept or neither, and it is never aggregated, since a mean of places is no place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from tidegate_protocols.scan import schema_of
from tidegate_protocols.schema import LAT, LON, Channel, Schema

from ..config import WindowSettings


@dataclass(frozen=True, slots=True)
class Band:
    """A deadband over some channels, by their places in the schema; kept all together or not at all."""

    places: tuple[int, ...]
    band: float
    silence_us: int


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Channels that go into windows of one length: their places, and the schema of what comes out."""

    places: tuple[int, ...]
    stats: tuple[tuple[str, ...], ...]
    every_us: int
    late_us: int
    schema: Schema


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of a scan. `own`: places of the channels that stay in the scan itself (raw or deadband)."""

    schema: Schema
    own: frozenset[int]
    bands: tuple[Band, ...]
    aggregates: tuple[Aggregate, ...]


def plan_of(rules: Sequence[WindowSettings], device: str, schema: Schema) -> Plan | None:
    """The plan of a device's schema; None where every channel is raw."""
    chosen: list[WindowSettings | None] = []
    for channel in schema.channels:
        position = schema.is_position and channel.name in (LAT, LON)
        matching = (
            rule
            for rule in rules
            if fnmatchcase(device, rule.device)
            and fnmatchcase(channel.name, rule.channel)
            and not (position and rule.mode == "aggregate")
        )
        chosen.append(next(matching, None))
    if all(rule is None or rule.mode == "raw" for rule in chosen):
        return None
    own = frozenset(i for i, rule in enumerate(chosen) if rule is None or rule.mode != "aggregate")
    return Plan(schema, own, _bands(schema, chosen), _aggregates(schema, chosen))


def _bands(schema: Schema, chosen: Sequence[WindowSettings | None]) -> tuple[Band, ...]:
    bands = []
    position: list[int] = []
    for i, rule in enumerate(chosen):
        if rule is None or rule.mode != "deadband" or rule.band is None:
            continue
        if schema.is_position and schema.channels[i].name in (LAT, LON):
            position.append(i)
            if len(position) == 2:
                bands.append(Band(tuple(position), rule.band, int(rule.max_silence_s * 1e6)))
        else:
            bands.append(Band((i,), rule.band, int(rule.max_silence_s * 1e6)))
    return tuple(bands)


def _aggregates(schema: Schema, chosen: Sequence[WindowSettings | None]) -> tuple[Aggregate, ...]:
    by_length: dict[tuple[float, float], list[int]] = {}
    for i, rule in enumerate(chosen):
        if rule is not None and rule.mode == "aggregate" and rule.every_s is not None:
            by_length.setdefault((rule.every_s, rule.late_s), []).append(i)
    out = []
    for (every_s, late_s), places in by_length.items():
        stats = [tuple(rule.stats) for rule in (chosen[i] for i in places) if rule is not None]
        out.append(aggregate_of(schema, places, stats, int(every_s * 1e6), int(late_s * 1e6)))
    return tuple(out)


def aggregate_of(
    schema: Schema, places: Sequence[int], stats: Sequence[Sequence[str]], every_us: int, late_us: int
) -> Aggregate:
    """Windows over these channels of a schema. Raises BadInput where the names of what comes out collide."""
    channels = [_channel(schema.channels[i], stat) for i, own in zip(places, stats, strict=True) for stat in own]
    name = f"{schema.name[:48]}_{every_us / 1e6:g}s".replace(".", "_").replace("-", "_").replace("+", "")
    made = schema_of(name, tuple(channels))
    return Aggregate(tuple(places), tuple(tuple(own) for own in stats), every_us, late_us, made)


def _channel(channel: Channel, stat: str) -> Channel:
    """What a statistic of a channel is called, and of what type and unit it is."""
    name = f"{channel.name[: 63 - len(stat)]}_{stat}"
    if stat == "count":
        return Channel(name, "int64")
    if stat == "std":
        return Channel(name, "float64", channel.unit)
    if stat == "mean":
        return replace(channel, name=name, type="float64", resolution=None)
    return replace(channel, name=name)
