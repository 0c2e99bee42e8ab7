"""Sparkplug B's payload (specification 3.0, chapter 6; `sparkplug_b.proto`): a time, a sequence number and metrics.

Of a metric: name, alias, time, type, null and history flags, the value of scalar types, and from its properties the
engineering unit and range (`engUnit`, `engLow`, `engHigh`). Data sets, templates and bytes are known to be there and
not read.

Limits: 1 MiB a payload, 4,096 metrics.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import BadInput, Misuse
from . import protowire as wire

PAYLOAD_MAX = 1 << 20
METRICS_MAX = 4096

Scalar = float | int | bool | str | None


class DataType(enum.IntEnum):
    """Types of metrics (specification 6.4.16)."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT32 = 7
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13
    TEXT = 14
    UUID = 15


_BITS = {DataType.INT8: 8, DataType.INT16: 16, DataType.INT32: 32, DataType.INT64: 64}
_UNSIGNED_BITS = {
    DataType.UINT8: 8, DataType.UINT16: 16, DataType.UINT32: 32, DataType.UINT64: 64, DataType.DATETIME: 64,
}  # fmt: skip
INTEGERS = frozenset(_BITS) | frozenset(_UNSIGNED_BITS)
REALS = frozenset((DataType.FLOAT, DataType.DOUBLE))
TEXTS = frozenset((DataType.STRING, DataType.TEXT, DataType.UUID))

# Numbers of the fields that hold a metric's value.
_INT, _LONG, _FLOAT, _DOUBLE, _BOOLEAN, _STRING = 10, 11, 12, 13, 14, 15


@dataclass(slots=True)
class Metric:
    """One metric. `datatype` is 0 where the message does not say it (data messages may leave it to the birth).

    `raw` is (field number, value) of the value as it came; `value_as` reads it once the type is known.
    """

    name: str = ""
    alias: int | None = None
    timestamp_ms: int | None = None
    datatype: int = 0
    is_null: bool = False
    is_historical: bool = False
    raw: tuple[int, wire.FieldValue] | None = None
    unit: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(slots=True)
class Payload:
    """A whole message. NDEATH has no `seq`."""

    timestamp_ms: int | None = None
    seq: int | None = None
    metrics: list[Metric] = field(default_factory=list)


def value_as(metric: Metric, datatype: int) -> Scalar:
    """The metric's value as `datatype`; None for a null and for types that are not read. Raises BadInput."""
    if metric.is_null:
        return None
    if metric.raw is None:
        raise BadInput("has neither a value nor the null flag")
    number, value = metric.raw
    if datatype in INTEGERS and number in (_INT, _LONG):
        return _integer(wire.number(value), DataType(datatype))
    if datatype in REALS and number == _FLOAT:
        return wire.float32(value)
    if datatype in REALS and number == _DOUBLE:
        return wire.float64(value)
    if datatype == DataType.BOOLEAN and number == _BOOLEAN:
        return wire.number(value) != 0
    if datatype in TEXTS and number == _STRING:
        return wire.text(value)
    if datatype in INTEGERS or datatype in REALS or datatype in TEXTS or datatype == DataType.BOOLEAN:
        raise BadInput(f"is of type {DataType(datatype).name} and its value stands in field {number}")
    return None


def _integer(value: int, datatype: DataType) -> int:
    """Signed types travel as two's complement in an unsigned field; senders sign-extend to 32 or 64 bits, or do not."""
    if datatype in _BITS:
        bits = _BITS[datatype]
        value &= (1 << bits) - 1
        return value - (1 << bits) if value >> (bits - 1) else value
    if value >> _UNSIGNED_BITS[datatype]:
        raise BadInput(f"{value} is out of the range of {datatype.name}")
    return value


def decode_payload(data: bytes) -> Payload:
    """Read a payload. Raises BadInput that names the metric."""
    if len(data) > PAYLOAD_MAX:
        raise BadInput(f"{len(data)} bytes; at most {PAYLOAD_MAX} are allowed", where="Sparkplug payload")
    payload = Payload()
    try:
        for number, _, value in wire.read_fields(data):
            if number == 1:
                payload.timestamp_ms = wire.number(value)
            elif number == 2:
                if len(payload.metrics) == METRICS_MAX:
                    raise BadInput(f"more than {METRICS_MAX} metrics")
                try:
                    payload.metrics.append(_metric(wire.message(value)))
                except BadInput as error:
                    raise error.at(f"metric {len(payload.metrics)}") from None
            elif number == 3:
                payload.seq = wire.number(value)
    except BadInput as error:
        raise error.at("Sparkplug payload") from None
    return payload


def _metric(data: bytes) -> Metric:
    metric = Metric()
    for number, _, value in wire.read_fields(data):
        if number == 1:
            metric.name = wire.text(value)
        elif number == 2:
            metric.alias = wire.number(value)
        elif number == 3:
            metric.timestamp_ms = wire.number(value)
        elif number == 4:
            metric.datatype = wire.number(value)
        elif number == 5:
            metric.is_historical = wire.number(value) != 0
        elif number == 7:
            metric.is_null = wire.number(value) != 0
        elif number == 9:
            _properties(wire.message(value), metric)
        elif number >= _INT:
            metric.raw = (number, value)
    return metric


def _properties(data: bytes, metric: Metric) -> None:
    keys: list[str] = []
    values: list[tuple[int, wire.FieldValue] | None] = []
    for number, _, value in wire.read_fields(data):
        if number == 1:
            keys.append(wire.text(value))
        elif number == 2:
            given = [(n, v) for n, _, v in wire.read_fields(wire.message(value)) if n >= 3]
            values.append(given[-1] if given else None)
    if len(keys) != len(values):
        raise BadInput(f"{len(keys)} property names for {len(values)} values")
    for key, found in zip(keys, values, strict=True):
        if found is None:
            continue
        kind, content = found
        if key == "engUnit" and kind == 8:
            metric.unit = wire.text(content)
        elif key in ("engLow", "engHigh") and kind in (5, 6):
            limit = wire.float32(content) if kind == 5 else wire.float64(content)
            if key == "engLow":
                metric.low = limit
            else:
                metric.high = limit


def metric_bytes(
    value: Scalar,
    datatype: DataType,
    *,
    name: str = "",
    alias: int | None = None,
    timestamp_ms: int | None = None,
    unit: str = "",
) -> bytes:
    """One metric as bytes. Raises Misuse when the value is not of the type."""
    out = b""
    if name:
        out += wire.put_bytes(1, name.encode())
    if alias is not None:
        out += wire.put_varint(2, alias)
    if timestamp_ms is not None:
        out += wire.put_varint(3, timestamp_ms)
    out += wire.put_varint(4, datatype)
    if unit:
        text = wire.put_varint(1, DataType.STRING) + wire.put_bytes(8, unit.encode())
        out += wire.put_bytes(9, wire.put_bytes(1, b"engUnit") + wire.put_bytes(2, text))
    if value is None:
        return out + wire.put_varint(7, 1)
    if datatype == DataType.BOOLEAN and isinstance(value, bool):
        return out + wire.put_varint(_BOOLEAN, value)
    if datatype in INTEGERS and isinstance(value, int):
        if datatype in (DataType.INT64, DataType.UINT64, DataType.DATETIME):
            return out + wire.put_varint(_LONG, value & (1 << 64) - 1)
        return out + wire.put_varint(_INT, value & (1 << 32) - 1)
    if datatype in REALS and isinstance(value, int | float):
        return out + (wire.put_float(_FLOAT, value) if datatype == DataType.FLOAT else wire.put_double(_DOUBLE, value))
    if datatype in TEXTS and isinstance(value, str):
        return out + wire.put_bytes(_STRING, value.encode())
    raise Misuse(f"{value!r} is not a value of {datatype.name}")


def payload_bytes(timestamp_ms: int | None, seq: int | None, metrics: Sequence[bytes]) -> bytes:
    """A payload of metrics made by `metric_bytes`."""
    out = b"" if timestamp_ms is None else wire.put_varint(1, timestamp_ms)
    out += b"".join(wire.put_bytes(2, metric) for metric in metrics)
    return out if seq is None else out + wire.put_varint(3, seq)
