"""A scan: one row of one device, as a link parser gives it and before the agent has named it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from .errors import BadInput
from .schema import Channel, Schema

Value: TypeAlias = float | int | bool | None

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
# Year 9999 in microseconds: what a calendar can still name.
TS_MAX_US = 253_402_300_800_000_000


@dataclass(frozen=True, slots=True)
class Scan:
    """One row: a time and a value or null per channel of `schema`.

    device       device id, or None where only the source's configuration knows it
    ts_us        the device's own time, microseconds since 1970-01-01 UTC, or None when it gave none
    values       in the order of ``schema.channels``: float, int or bool by the channel's type; None = no reading
    source_seq   the device's own number of the scan, where the link has one; with `source_boot` it names the scan,
                 so a repeated transmission can be told from new data
    source_boot  the number of the device's start that `source_seq` counts from
    """

    device: str | None
    schema: Schema
    ts_us: int | None
    values: tuple[Value, ...]
    source_seq: int | None = None
    source_boot: int | None = None


@lru_cache(maxsize=4096)
def schema_of(name: str, channels: tuple[Channel, ...]) -> Schema:
    """The schema of these channels; the same object each time, so its JSON and fingerprint are worked out once."""
    return Schema(name, channels)


def as_value(channel: Channel, value: object) -> Value:
    """`value` as the channel's type. None stays None; a float that is not finite is no reading and becomes None.

    Whole numbers are accepted for float64, and floats without a fraction for int64. Raises BadInput for anything else.
    """
    if value is None:
        return None
    if channel.type == "bool":
        if isinstance(value, bool):
            return value
    elif not isinstance(value, bool) and isinstance(value, int | float):
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if channel.type == "float64":
            try:
                return float(value)
            except OverflowError:
                raise BadInput("out of the range of a double", where=f"channel {channel.name!r}") from None
        if (isinstance(value, int) or value.is_integer()) and INT64_MIN <= value <= INT64_MAX:
            return int(value)
    raise BadInput(f"{str(value)[:40]!r} is not a value of type {channel.type}", where=f"channel {channel.name!r}")


def as_values(schema: Schema, values: Sequence[object]) -> tuple[Value, ...]:
    """`values` in the order of the schema's channels, each as its channel's type. Raises BadInput."""
    if len(values) != len(schema.channels):
        raise BadInput(f"{len(values)} values for the {len(schema.channels)} channels of {schema.name!r}")
    return tuple(as_value(channel, value) for channel, value in zip(schema.channels, values, strict=True))


def check_ts_us(ts_us: int) -> int:
    """Return `ts_us` if it lies between 1970 and 9999. Raises BadInput otherwise."""
    if not 0 <= ts_us <= TS_MAX_US:
        raise BadInput(f"time {ts_us} µs is not between the years 1970 and 9999")
    return ts_us
