"""SenML in JSON (RFC 8428): packs of records become scans.

Resolution is section 4 of the RFC: base name, time, unit, value and sum carry on to the records after them; a resolved
time below 2**28 seconds is relative to now; a pack of a version over 10, or a record with an unknown field whose name
ends in ``_``, is refused whole.

How records become scans:

- A resolved name is cut at its last ``/`` or ``:``: device before, channel after. In a device id ``/`` becomes ``:``;
  in a channel every other character than letters, digits and ``_`` becomes ``_``. Where the source's configuration
  names the device, all of a pack's records must be of one device, and names need no device part.
- Records of one device at one time make one scan. A device's scans in a pack have one schema, its channels in
  alphabetical order, so that records in another order are the same schema. Not every channel need be there each time.
- ``v`` is float64 and ``vb`` bool; a sum is a channel of its own, named ``…_sum``. Strings, data and update times are
  not telemetry and are passed over.
- A channel in the unit ``lat`` or ``lon`` (degrees of latitude, longitude) is named so: it is the position.

Limits: 256 KiB and 8,192 records a pack.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from ..errors import BadInput, Misuse
from ..ids import check_device_id
from ..scan import Scan, Value, check_ts_us, schema_of
from ..schema import LAT, LON, Channel, ChannelType
from .names import channel_name

PACK_MAX = 256 * 1024
RECORDS_MAX = 8192
VERSION_MAX = 10
_ABSOLUTE_US = 2**28 * 1_000_000
_FIELDS = (
    dict.fromkeys(("bt", "bv", "bs", "bver", "v", "s", "t", "ut"), "number")
    | dict.fromkeys(("bn", "bu", "n", "u", "vs", "vd"), "text")
    | {"vb": "flag"}
)
_VALUES = frozenset(("v", "vb", "vs", "vd"))


class _Resolved(NamedTuple):
    """One number or flag of a record, with everything that it inherits."""

    device: str
    channel: Channel
    value: Value
    ts_us: int | None


def parse_senml(
    data: bytes, device: str | None = None, *, now_us: int | None = None, schema_name: str = "senml"
) -> list[Scan]:
    """The scans of a pack, each device's in the order of time.

    `device` overrides the names in the pack; `now_us` is when the pack came, needed for times relative to now other
    than 0. A scan whose time is now has ``ts_us`` None. Raises BadInput that names the record.
    """
    if len(data) > PACK_MAX:
        raise BadInput(f"{len(data)} bytes; at most {PACK_MAX} are allowed", where="SenML pack")
    try:
        records = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"not JSON: {error}", where="SenML pack") from None
    if not isinstance(records, list) or not 1 <= len(records) <= RECORDS_MAX:
        raise BadInput(f"not an array of 1 to {RECORDS_MAX} records", where="SenML pack")
    resolved: list[_Resolved] = []
    base: dict[str, Any] = {}
    for i, record in enumerate(records):
        try:
            _check(record, base)
            resolved += _resolve(record, base, device, now_us)
        except BadInput as error:
            raise error.at(f"SenML record {i}") from None
    if not resolved:
        raise BadInput("no record has a number or a flag", where="SenML pack")
    by_device: dict[str, list[_Resolved]] = {}
    for item in resolved:
        by_device.setdefault(item.device, []).append(item)
    if device is not None and len(by_device) > 1:
        raise BadInput(
            f"records of {len(by_device)} devices ({', '.join(sorted(by_device)[:3])} …), from a source of {device!r}",
            where="SenML pack",
            hint="leave `device` out of the source's configuration and the names decide",
        )
    return [scan for name, items in by_device.items() for scan in _scans(device or name, items, schema_name)]


# JSON's integers have no end; beyond this one they cannot become a double.
_INT_MAX = 2**1023


def _check(record: Any, base: dict[str, Any]) -> None:
    """Whether the fields of a record are of the types that the RFC gives them; then take in its base fields."""
    if not isinstance(record, dict):
        raise BadInput("not an object")
    values = 0
    for key, value in record.items():
        kind = _FIELDS.get(key)
        if kind == "number":
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise BadInput(f"{key} is not a number")
            if isinstance(value, int) and abs(value) > _INT_MAX:
                raise BadInput(f"{key} is out of the range of a double")
        elif kind == "text":
            if not isinstance(value, str):
                raise BadInput(f"{key} is not text")
        elif kind == "flag":
            if not isinstance(value, bool):
                raise BadInput("vb is neither true nor false")
        elif key.endswith("_"):
            raise BadInput(f"field {key!r} must be understood and is not")
        values += key in _VALUES
        if key[0:1] == "b":
            if key == "bver" and (value > VERSION_MAX or value != base.get("bver", value)):
                raise BadInput(f"SenML version {value}", hint=f"one version, at most {VERSION_MAX}, is read")
            base[key] = value
    if values > 1:
        raise BadInput("more than one of v, vb, vs and vd")


def _resolve(record: dict[str, Any], base: dict[str, Any], device: str | None, now_us: int | None) -> list[_Resolved]:
    values: list[tuple[str, ChannelType, Value]] = []
    if "v" in record or ("bv" in base and "n" in record and not record.keys() & {"vb", "vs", "vd", "s"}):
        values.append(("", "float64", _real(record.get("v", 0) + base.get("bv", 0), "v")))
    elif "vb" in record:
        values.append(("", "bool", record["vb"]))
    if "s" in record or ("bs" in base and record.keys() & {"v", "n"}):
        values.append(("_sum", "float64", _real(record.get("s", 0) + base.get("bs", 0), "s")))
    if not values:
        return []
    name, unit = base.get("bn", "") + record.get("n", ""), record.get("u", base.get("bu", ""))
    ts_us = _time(_micros(base.get("bt", 0)) + _micros(record.get("t", 0)), now_us)
    resolved = []
    for suffix, kind, value in values:
        owner, channel = _names(name, unit, suffix, kind)
        if device is None:
            _check_owner(owner, name)
        resolved.append(_Resolved(owner, channel, value, ts_us))
    return resolved


@lru_cache(maxsize=8192)
def _names(name: str, unit: str, suffix: str, kind: ChannelType) -> tuple[str, Channel]:
    """Device and channel of a resolved name."""
    cut = max(name.rfind("/"), name.rfind(":"))
    owner = name[: max(cut, 0)].replace("/", ":").strip(":")
    channel = unit if unit in (LAT, LON) else channel_name(name[cut + 1 :])
    return owner, Channel(channel + suffix, kind, unit)


@lru_cache(maxsize=8192)
def _check_owner(owner: str, name: str) -> None:
    if not owner:
        raise BadInput(
            f"name {name[:80]!r} has no device part",
            hint="send a base name such as 'bus-12:', or name the device in the source's configuration",
        )
    check_device_id(owner)


def _real(value: float | int, field: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadInput(f"{field} is out of the range of a double")
    return number


def _micros(seconds: float) -> int:
    if not abs(seconds) < 1e12:
        raise BadInput(f"time {seconds} s is out of range")
    return round(seconds * 1_000_000)


def _time(ts_us: int, now_us: int | None) -> int | None:
    if ts_us >= _ABSOLUTE_US:
        return check_ts_us(ts_us)
    if ts_us == 0:
        return None
    if now_us is None:
        raise BadInput(f"a time {ts_us / 1e6:g} s from now, and when now is was not told")
    return check_ts_us(now_us + ts_us)


def _scans(device: str, items: list[_Resolved], schema_name: str) -> list[Scan]:
    channels: dict[str, Channel] = {}
    rows: dict[int | None, dict[str, Value]] = {}
    for _, channel, value, ts_us in items:
        known = channels.setdefault(channel.name, channel)
        if known is not channel and known != channel:
            raise BadInput(
                f"channel {channel.name!r} is {known.type} in {known.unit!r} and {channel.type} in {channel.unit!r}",
                where=f"SenML pack of {device}",
            )
        row = rows.setdefault(ts_us, {})
        if channel.name in row:
            raise BadInput(f"channel {channel.name!r} has two values at one time", where=f"SenML pack of {device}")
        row[channel.name] = value
    names = sorted(channels)
    schema = schema_of(schema_name, tuple(channels[name] for name in names))
    times: list[int | None] = [*sorted(ts for ts in rows if ts is not None), *([None] if None in rows else [])]
    return [Scan(device, schema, ts, tuple(map(rows[ts].get, names))) for ts in times]


def encode_senml(scan: Scan, *more: Scan) -> bytes:
    """Scans of one device as a pack. Nulls are left out; int64 values become plain numbers. Raises Misuse."""
    if scan.device is None or any(other.device != scan.device for other in more):
        raise Misuse("a pack is of one device")
    records: list[dict[str, Any]] = []
    for each in (scan, *more):
        for channel, value in zip(each.schema.channels, each.values, strict=True):
            if value is None:
                continue
            record: dict[str, Any] = {"n": channel.name}
            if not records:
                record = (
                    {"bn": f"{scan.device}:"} | ({} if scan.ts_us is None else {"bt": _seconds(scan.ts_us)}) | record
                )
            if channel.unit:
                record["u"] = channel.unit
            record["vb" if channel.type == "bool" else "v"] = value
            if each.ts_us != scan.ts_us:
                if each.ts_us is None or scan.ts_us is None:
                    raise Misuse("either all scans of a pack have a time or none has")
                record["t"] = _seconds(each.ts_us - scan.ts_us)
            records.append(record)
    if not records:
        raise Misuse("a pack without a value")
    return msgspec.json.encode(records)


def _seconds(micros: int) -> float | int:
    return micros // 1_000_000 if micros % 1_000_000 == 0 else micros / 1_000_000
