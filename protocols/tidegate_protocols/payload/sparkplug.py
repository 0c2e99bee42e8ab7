"""Sparkplug B (specification 3.0): births say what metrics there are, data messages what changed.

Topics are ``spBv1.0/GROUP/TYPE/NODE[/DEVICE]``. The device id is ``group:node:device``, or ``group:node`` for metrics
of the node itself; characters that a device id cannot have become ``_``.

- A birth (NBIRTH, DBIRTH) fixes the schema: its integer, real and boolean metrics in alphabetical order, with
  `engUnit`, `engLow` and `engHigh`. Texts, data sets, `bdSeq`, `Node Control/…` and `Device Control/…` are not
  telemetry.
  Its values are readings like those of a data message.
- A data message holds what changed. Metrics that it leaves out are null in the scan, but for the position: when one of
  `lat` and `lon` came, the other stands at its last value. Metrics of different times make different scans.
- Every message of a node is numbered 0 to 255 and around, NBIRTH with 0. Data are refused before the birth, and after
  a hole until the next birth where they go by alias, since the birth that changed the aliases may be what was lost.
- An NDEATH ends the node's session when its `bdSeq` is that of the birth; the will of an earlier session does nothing.
- What is missing is asked for: `take_rebirths` gives the "Node Control/Rebirth" commands to publish. A node that does
  not answer is asked again at its 1st, 2nd, 4th, 8th … message that cannot be used.

Sparkplug is QoS 0: a message that did not arrive is gone.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from ..errors import BadInput
from ..ids import check_device_id
from ..scan import Scan, Value, as_value, check_ts_us, schema_of
from ..schema import LAT, LON, Channel, ChannelType, Schema
from .names import channel_name
from .sparkplug_wire import (
    INTEGERS,
    REALS,
    DataType,
    Metric,
    Payload,
    decode_payload,
    metric_bytes,
    payload_bytes,
    value_as,
)

NAMESPACE = "spBv1.0"
NODES_MAX = 65_536
_CONTROL = re.compile(r"bdSeq|(?:Node|Device) (?:Control|Info)/.*|Properties/.*", re.DOTALL)
_ID = re.compile(r"[^A-Za-z0-9._\-]")
_TYPES = ("NBIRTH", "NDEATH", "DBIRTH", "DDEATH", "NDATA", "DDATA", "NCMD", "DCMD")


@dataclass(slots=True)
class _Device:
    """What a birth said: the names of all metrics, the schema, and of its metrics the channel and the type."""

    id: str
    names: frozenset[str]
    schema: Schema | None
    types: dict[str, tuple[str, int]]
    last: dict[str, Value] = field(default_factory=dict)


@dataclass(slots=True)
class _Node:
    bd_seq: int | None = None
    alive: bool = False
    seq: int = 0
    hole: bool = False
    unusable: int = 0
    aliases: dict[int, tuple[str, str]] = field(default_factory=dict)
    devices: dict[str, _Device] = field(default_factory=dict)


class SparkplugReader:
    """Messages in, scans out, for any number of nodes.

    `holes` counts gaps in the nodes' numbering; each is at least one lost message.
    """

    def __init__(self, *, schema_name: str = "sparkplug") -> None:
        self.holes = 0
        self._schema_name = schema_name
        self._nodes: dict[tuple[str, str], _Node] = {}
        self._rebirths: list[tuple[str, bytes]] = []

    def feed(self, topic: str, data: bytes) -> list[Scan]:
        """The scans of one message. Raises BadInput, and then no reading of it was taken."""
        parts = topic.split("/")
        if parts[0] != NAMESPACE or (len(parts) < 4 and parts[1:2] != ["STATE"]):
            raise BadInput(f"topic {topic!r} is not {NAMESPACE}/GROUP/TYPE/NODE[/DEVICE]")
        if parts[1] == "STATE":
            return []
        group, kind, name, device = parts[1], parts[2], parts[3], "/".join(parts[4:])
        if kind not in _TYPES or not group or not name or (kind[0] == "D") != bool(device):
            raise BadInput(f"topic {topic!r} is not {NAMESPACE}/GROUP/TYPE/NODE[/DEVICE]")
        if kind.endswith("CMD"):
            return []
        try:
            return self._take(group, kind, name, device, decode_payload(data))
        except BadInput as error:
            raise error.at(topic) from None

    def take_rebirths(self) -> list[tuple[str, bytes]]:
        """The commands (topic, payload) to publish, each once."""
        out, self._rebirths = self._rebirths, []
        return out

    def is_alive(self, group: str, node: str) -> bool:
        """Whether the node's last birth has not been followed by its death."""
        found = self._nodes.get((group, node))
        return found is not None and found.alive

    def _take(self, group: str, kind: str, name: str, device: str, payload: Payload) -> list[Scan]:
        node = self._nodes.get((group, name))
        if kind == "NBIRTH":
            return self._node_birth(group, name, payload)
        if kind == "NDEATH":
            if node is not None and _bd_seq(payload) == node.bd_seq:
                node.alive = False
            return []
        if node is None:
            if len(self._nodes) >= NODES_MAX:
                raise BadInput(f"more than {NODES_MAX} nodes")
            node = self._nodes[group, name] = _Node()
        if not node.alive:
            self._ask(group, name, node)
            raise BadInput(f"{kind} before the node's birth", hint="a rebirth is asked for")
        if payload.seq is None or payload.seq > 255:
            raise BadInput(f"seq {payload.seq} is not 0 to 255")
        if payload.seq != (node.seq + 1) % 256:
            self.holes += 1
            if not node.hole:
                node.hole = True
                self._ask(group, name, node)
        node.seq = payload.seq
        if kind == "DBIRTH":
            return self._birth(group, name, device, node, payload)
        if kind == "DDEATH":
            node.devices.pop(device, None)
            return []
        return self._data(group, name, device, node, payload)

    def _node_birth(self, group: str, name: str, payload: Payload) -> list[Scan]:
        if payload.seq != 0:
            raise BadInput(f"NBIRTH with seq {payload.seq}, not 0")
        if (group, name) not in self._nodes and len(self._nodes) >= NODES_MAX:
            raise BadInput(f"more than {NODES_MAX} nodes")
        node = _Node(bd_seq=_bd_seq(payload), alive=True)
        scans = self._birth(group, name, "", node, payload)
        self._nodes[group, name] = node
        return scans

    def _birth(self, group: str, name: str, device: str, node: _Node, payload: Payload) -> list[Scan]:
        channels: list[Channel] = []
        types: dict[str, tuple[str, int]] = {}
        aliases: dict[int, tuple[str, str]] = {}
        for metric in payload.metrics:
            if not metric.name:
                raise BadInput("a birth with a metric that has no name")
            if metric.alias is not None:
                taken = aliases.get(metric.alias) or node.aliases.get(metric.alias)
                if taken is not None and taken != (device, metric.name):
                    raise BadInput(f"alias {metric.alias} is {taken[1]!r} and {metric.name!r}")
                aliases[metric.alias] = (device, metric.name)
            kind = _channel_type(metric.datatype)
            if _CONTROL.fullmatch(metric.name) or kind is None:
                continue
            channel = channel_name(metric.name)
            types[metric.name] = (channel, metric.datatype)
            channels.append(Channel(channel, kind, metric.unit, **_range(metric)))
        schema = schema_of(self._schema_name, tuple(sorted(channels, key=lambda c: c.name))) if channels else None
        names = frozenset(metric.name for metric in payload.metrics)
        known = _Device(_device_id(group, name, device), names, schema, types)
        scans = _scans(known, [(metric, metric.name) for metric in payload.metrics], payload)
        node.aliases.update(aliases)
        node.devices[device] = known
        return scans

    def _data(self, group: str, name: str, device: str, node: _Node, payload: Payload) -> list[Scan]:
        known = node.devices.get(device)
        named: list[tuple[Metric, str]] = []
        for metric in payload.metrics:
            if metric.name:
                named.append((metric, metric.name))
                continue
            owner, metric_name = node.aliases.get(-1 if metric.alias is None else metric.alias, (None, ""))
            if owner != device or node.hole:
                known = None
                break
            named.append((metric, metric_name))
        if known is None or any(metric_name not in known.names for _, metric_name in named):
            self._ask(group, name, node)
            raise BadInput(
                "data of metrics that no birth has named since the last hole in the numbering",
                hint="a rebirth is asked for",
            )
        return _scans(known, named, payload)

    def _ask(self, group: str, name: str, node: _Node) -> None:
        node.unusable += 1
        if node.unusable & (node.unusable - 1) == 0:
            command = metric_bytes(True, DataType.BOOLEAN, name="Node Control/Rebirth")
            self._rebirths.append((f"{NAMESPACE}/{group}/NCMD/{name}", payload_bytes(None, None, [command])))


def _bd_seq(payload: Payload) -> int:
    for metric in payload.metrics:
        if metric.name == "bdSeq":
            value = value_as(metric, metric.datatype or DataType.INT64)
            if isinstance(value, int):
                return value
    raise BadInput("no metric bdSeq")


def _device_id(*parts: str) -> str:
    return check_device_id(":".join(_ID.sub("_", part) for part in parts if part))


def _channel_type(datatype: int) -> ChannelType | None:
    if datatype in INTEGERS:
        return "int64"
    if datatype in REALS:
        return "float64"
    return "bool" if datatype == DataType.BOOLEAN else None


def _range(metric: Metric) -> dict[str, float]:
    """The engineering range where it is one; engLow = engHigh is what senders leave when nobody filled it in."""
    limits = {"low": metric.low, "high": metric.high}
    given = {key: limit for key, limit in limits.items() if limit is not None and math.isfinite(limit)}
    return {} if len(given) == 2 and given["low"] >= given["high"] else given


def _scans(device: _Device, metrics: list[tuple[Metric, str]], payload: Payload) -> list[Scan]:
    """One scan per time among the metrics, in the order of time. Takes the position's last value when all is well."""
    schema = device.schema
    if schema is None:
        return []
    rows: dict[int | None, dict[str, Value]] = {}
    for metric, name in metrics:
        if name not in device.types:
            continue
        channel, datatype = device.types[name]
        try:
            value = as_value(schema.channels[schema.index[channel]], value_as(metric, datatype))
        except BadInput as error:
            raise error.at(f"metric {name!r}") from None
        at = payload.timestamp_ms if metric.timestamp_ms is None else metric.timestamp_ms
        ts_us = None if at is None else check_ts_us(at * 1000)
        rows.setdefault(ts_us, {})[channel] = value
    last = dict(device.last)
    scans = []
    for ts_us in sorted(rows, key=lambda ts: -1 if ts is None else ts):
        row = rows[ts_us]
        if schema.is_position and (LAT in row) != (LON in row):
            row = {LAT: last.get(LAT), LON: last.get(LON)} | row
        last.update((name, row[name]) for name in (LAT, LON) if name in row)
        scans.append(Scan(device.id, schema, ts_us, tuple(row.get(channel.name) for channel in schema.channels)))
    device.last = last
    return scans
