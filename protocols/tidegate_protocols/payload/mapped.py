"""JSON of any shape: a mapping says where in the object the device, the time and each channel stand.

Places are JSON pointers (RFC 6901): "/gps/lat", "/readings/0/value". A message is one object or, under `records`, an
array of them. Without a mapping the message is flat: every number or flag at the top is a channel in alphabetical
order, numbers float64; ``device`` is the device; ``ts_us``, ``ts_ms``, ``ts_s`` or an RFC 3339 text ``ts`` the time.

Limits: 256 KiB a message, 8,192 records.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from ..errors import BadInput
from ..ids import check_device_id
from ..scan import Scan, as_value, check_ts_us, schema_of
from ..schema import Channel, Schema
from .names import channel_name

MESSAGE_MAX = 256 * 1024
RECORDS_MAX = 8192

TimeUnit = Literal["s", "ms", "us", "rfc3339"]
_MICROS: dict[str, int] = {"s": 1_000_000, "ms": 1000, "us": 1}
_FLAT_TIMES: dict[str, TimeUnit] = {"ts_us": "us", "ts_ms": "ms", "ts_s": "s", "ts": "rfc3339"}
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Mapping:
    """Where things stand in a message: JSON pointers.

    schema   what the scans are
    places   one pointer per channel of `schema`; nothing there, or a JSON null, is a null
    device   pointer to the device id, or None where the source's configuration names it
    ts       pointer to the time in `ts_unit`, or None where the message has none
    records  pointer to an array of records, in which the other pointers start; None = the message is one record
    """

    schema: Schema
    places: tuple[str, ...]
    device: str | None = None
    ts: str | None = None
    ts_unit: TimeUnit = "ms"
    records: str | None = None

    def __post_init__(self) -> None:
        if len(self.places) != len(self.schema.channels):
            raise BadInput(f"{len(self.places)} places for {len(self.schema.channels)} channels", where="mapping")
        for pointer in (*self.places, self.device, self.ts, self.records):
            if pointer is not None and pointer and not pointer.startswith("/"):
                raise BadInput(f"{pointer!r} is not a JSON pointer", where="mapping", hint="it starts with /")


def parse_json(
    data: bytes, device: str | None = None, mapping: Mapping | None = None, *, schema_name: str = "json"
) -> list[Scan]:
    """The scans of a message, in its order. `device` overrides what the message says. Raises BadInput."""
    if len(data) > MESSAGE_MAX:
        raise BadInput(f"{len(data)} bytes; at most {MESSAGE_MAX} are allowed", where="JSON message")
    try:
        message = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"not JSON: {error}", where="JSON message") from None
    records = message
    if mapping is not None and mapping.records is not None:
        records = _at(message, mapping.records)
        if not isinstance(records, list):
            raise BadInput(f"no array at {mapping.records!r}", where="JSON message")
    several = records if isinstance(records, list) else [records]
    if not 1 <= len(several) <= RECORDS_MAX:
        raise BadInput(f"{len(several)} records; 1 to {RECORDS_MAX} are read", where="JSON message")
    scans = []
    for i, record in enumerate(several):
        try:
            if not isinstance(record, dict):
                raise BadInput("not an object")
            if mapping is None:
                scans.append(_flat(record, device, schema_name))
            else:
                scans.append(_mapped(record, device, mapping))
        except BadInput as error:
            raise error.at(f"JSON record {i}") from None
    return scans


def _mapped(record: dict[str, Any], device: str | None, mapping: Mapping) -> Scan:
    if device is None:
        found = _at(record, mapping.device) if mapping.device is not None else _MISSING
        if isinstance(found, int) and not isinstance(found, bool):
            found = str(found)
        if not isinstance(found, str):
            raise BadInput(f"no device id at {mapping.device!r}")
        device = check_device_id(found)
    values = []
    for channel, place in zip(mapping.schema.channels, mapping.places, strict=True):
        found = _at(record, place)
        values.append(None if found is _MISSING else as_value(channel, found))
    at = _MISSING if mapping.ts is None else _at(record, mapping.ts)
    return Scan(device, mapping.schema, None if at is _MISSING else _time(at, mapping.ts_unit), tuple(values))


def _flat(record: dict[str, Any], device: str | None, schema_name: str) -> Scan:
    if device is None:
        if not isinstance(record.get("device"), str):
            raise BadInput("no device id", hint="send it as `device`, or name it in the source's configuration")
        device = check_device_id(record["device"])
    channels: dict[str, tuple[Channel, Any]] = {}
    for key, value in record.items():
        if key in _FLAT_TIMES or not isinstance(value, bool | int | float):
            continue
        name = channel_name(key)
        if name in channels:
            raise BadInput(f"two keys are the channel {name!r}")
        channels[name] = (Channel(name, "bool" if isinstance(value, bool) else "float64"), value)
    if not channels:
        raise BadInput("no number or flag at the top of the object", hint="a mapping says where they stand")
    times = [key for key in _FLAT_TIMES if key in record]
    if len(times) > 1:
        raise BadInput(f"more than one time: {', '.join(times)}")
    ordered = [channels[name] for name in sorted(channels)]
    return Scan(
        device,
        schema_of(schema_name, tuple(channel for channel, _ in ordered)),
        _time(record[times[0]], _FLAT_TIMES[times[0]]) if times else None,
        tuple(as_value(channel, value) for channel, value in ordered),
    )


def _time(found: Any, unit: TimeUnit) -> int | None:
    if found is None:
        return None
    if unit == "rfc3339":
        try:
            moment = datetime.fromisoformat(found)
        except (TypeError, ValueError):
            raise BadInput(f"time {found!r} is not RFC 3339") from None
        if moment.tzinfo is None:
            raise BadInput(f"time {found!r} has no offset from UTC", hint="end it in Z or +hh:mm")
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
        return check_ts_us((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)
    if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < 1e18:
        raise BadInput(f"time {found!r} is not a number of {unit}")
    return check_ts_us(round(found * _MICROS[unit]))


def _at(document: Any, pointer: str) -> Any:
    """What stands at a JSON pointer, or `_MISSING`."""
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict):
            document = document.get(key, _MISSING)
        elif isinstance(document, list) and key.isascii() and key.isdigit() and len(key) < 9:
            document = document[int(key)] if int(key) < len(document) else _MISSING
        else:
            return _MISSING
    return document
