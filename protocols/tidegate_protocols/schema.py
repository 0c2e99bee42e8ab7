"""A schema: the ordered channels that are sampled together, as an Avro record with ``ts`` first.

A schema is named by its fingerprint: the first 8 bytes of SHA-256 over the canonical JSON (RFC 8785) of the whole
Avro record, units included. Avro's own parsing canonical form strips attributes it does not know, so a channel in
degrees Celsius and one in Fahrenheit would collide there.

Limits: at most 1,024 channels, names of 1 to 64 characters, canonical JSON of at most 256 KiB.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import msgspec
import numpy as np
import rfc8785

from .errors import BadInput

CHANNELS_MAX = 1024
JSON_MAX = 256 * 1024
FINGERPRINT_SIZE = 8

ChannelType = Literal["float64", "int64", "bool"]

_AVRO_OF: dict[str, str] = {"float64": "double", "int64": "long", "bool": "boolean"}
_TYPE_OF: dict[str, ChannelType] = {"double": "float64", "long": "int64", "boolean": "bool"}
_DTYPE_OF: dict[str, np.dtype[Any]] = {
    "float64": np.dtype(np.float64),
    "int64": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_TS_FIELD = {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}}

# Channels whose meaning the cloud knows. A schema with float64 `lat` and `lon` carries positions (WGS 84).
LAT, LON = "lat", "lon"  # degrees
SPEED = "speed"  # m/s over ground
HEADING = "heading"  # degrees clockwise from true north
ACCURACY = "accuracy"  # metres, radius that holds 68 % of fixes


@dataclass(frozen=True, slots=True)
class Channel:
    """One measured quantity: its name, type, unit (SenML or UCUM symbol), resolution and range in that unit."""

    name: str
    type: ChannelType = "float64"
    unit: str = ""
    resolution: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        return _DTYPE_OF[self.type]


@dataclass(frozen=True)
class Schema:
    """The ordered channels of one kind of scan. Equal schemas have equal fingerprints and the reverse."""

    name: str
    channels: tuple[Channel, ...]

    def __post_init__(self) -> None:
        where = f"schema {self.name!r}"
        if _NAME.fullmatch(self.name) is None:
            raise BadInput("not a schema name", where=where, hint="a letter or _, then letters, digits or _, up to 64")
        if not 1 <= len(self.channels) <= CHANNELS_MAX:
            raise BadInput(f"{len(self.channels)} channels; 1 to {CHANNELS_MAX} are allowed", where=where)
        seen = {"ts"}
        for channel in self.channels:
            place = f"{where}, channel {channel.name!r}"
            if _NAME.fullmatch(channel.name) is None:
                raise BadInput("not a channel name", where=place, hint="a letter or _, then letters, digits or _")
            if channel.name in seen:
                raise BadInput("the name is taken twice", where=place)
            if channel.type not in _AVRO_OF:
                raise BadInput(f"unknown type {channel.type!r}", where=place, hint="float64, int64 or bool")
            if channel.low is not None and channel.high is not None and channel.low > channel.high:
                raise BadInput(f"the range is empty: {channel.low} > {channel.high}", where=place)
            seen.add(channel.name)
        if len(self.canonical_json) > JSON_MAX:
            raise BadInput(f"its JSON is over {JSON_MAX} bytes", where=where)

    @cached_property
    def index(self) -> dict[str, int]:
        """Channel name → its place in `channels`."""
        return {channel.name: i for i, channel in enumerate(self.channels)}

    @cached_property
    def canonical_json(self) -> bytes:
        """The Avro record as canonical JSON (RFC 8785): what is announced, registered and fingerprinted."""
        return rfc8785.dumps(self.to_avro())

    @cached_property
    def fingerprint(self) -> bytes:
        """The 8 bytes that name this schema in every frame."""
        return hashlib.sha256(self.canonical_json).digest()[:FINGERPRINT_SIZE]

    @property
    def is_position(self) -> bool:
        """Whether scans of this schema say where the device is: float64 channels `lat` and `lon`."""
        return all(name in self.index and self.channels[self.index[name]].type == "float64" for name in (LAT, LON))

    def to_avro(self) -> dict[str, Any]:
        """The Avro record schema as plain objects: ``ts`` first, then each channel as a nullable field."""
        fields: list[dict[str, Any]] = [dict(_TS_FIELD)]
        for channel in self.channels:
            field: dict[str, Any] = {
                "name": channel.name,
                "type": ["null", _AVRO_OF[channel.type]],
                "default": None,
            }
            if channel.unit:
                field["unit"] = channel.unit
            for key, value in (("resolution", channel.resolution), ("low", channel.low), ("high", channel.high)):
                if value is not None:
                    field[key] = value
            fields.append(field)
        return {"type": "record", "name": self.name, "namespace": "tidegate.telemetry", "fields": fields}

    @classmethod
    def from_json(cls, data: bytes | str) -> Schema:
        """Read an announced schema. Raises BadInput that names the field."""
        if len(data) > JSON_MAX:
            raise BadInput(f"schema JSON of {len(data)} bytes; at most {JSON_MAX} are allowed")
        try:
            record = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadInput(f"not JSON: {error}", where="schema") from None
        if not isinstance(record, dict) or record.get("type") != "record" or not isinstance(record.get("name"), str):
            raise BadInput("not an Avro record with a name", where="schema")
        fields = record.get("fields")
        if not isinstance(fields, list) or not fields or fields[0] != _TS_FIELD:
            raise BadInput("the first field is not ts (long, timestamp-micros)", where=f"schema {record['name']!r}")
        return cls(record["name"], tuple(_channel_of(field, record["name"]) for field in fields[1:]))


def _channel_of(field: Any, schema_name: str) -> Channel:
    name = field.get("name") if isinstance(field, dict) else None
    where = f"schema {schema_name!r}, field {name!r}"
    if not isinstance(name, str):
        raise BadInput("a field has no name", where=where)
    kind = field.get("type")
    if not (
        isinstance(kind, list) and len(kind) == 2 and kind[0] == "null" and kind[1] in ("double", "long", "boolean")
    ):
        raise BadInput(f"type {kind!r}", where=where, hint='["null", "double" | "long" | "boolean"] is expected')
    unit = field.get("unit", "")
    if not isinstance(unit, str):
        raise BadInput("unit is not text", where=where)
    numbers: dict[str, float | None] = {}
    for key in ("resolution", "low", "high"):
        value = field.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise BadInput(f"{key} is not a number", where=where)
        try:
            numbers[key] = None if value is None else float(value)
        except OverflowError:
            raise BadInput(f"{key} is out of the range of a double", where=where) from None
    return Channel(name, _TYPE_OF[kind[1]], unit, **numbers)
