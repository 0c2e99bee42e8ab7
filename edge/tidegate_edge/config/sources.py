"""The `[[source]]` tables: serial ports, MQTT brokers, Modbus lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta
from tidegate_protocols.payload.mapped import Mapping, TimeUnit
from tidegate_protocols.schema import Channel, ChannelType, Schema

from ..spool.rows import PRIORITY
from .values import Name, Port, Positive, Priority, Text

if TYPE_CHECKING:
    from tidegate_protocols.link.modbus import Register


class JsonChannel(msgspec.Struct, kw_only=True):
    """A channel and the JSON pointer to its value."""

    name: Text
    at: Text
    type: ChannelType = "float64"
    unit: str = ""


class JsonMapping(msgspec.Struct, kw_only=True):
    """Where things stand in a JSON message, as JSON pointers (RFC 6901)."""

    channel: Annotated[list[JsonChannel], Meta(min_length=1)]
    schema: Name = "json"
    device: str | None = None
    ts: str | None = None
    ts_unit: TimeUnit = "ms"
    records: str | None = None

    def mapping(self) -> Mapping:
        """As the parser wants it. Raises BadInput."""
        channels = tuple(Channel(each.name, each.type, each.unit) for each in self.channel)
        places = tuple(each.at for each in self.channel)
        return Mapping(Schema(self.schema, channels), places, self.device, self.ts, self.ts_unit, self.records)


class SerialSource(msgspec.Struct, kw_only=True, tag="serial"):
    """Serial ports. `path` may have wildcards; ports may come and go. In `device`, ``{name}`` is the port's file name.

    `idle_ms`: after so much silence, what waits for its second half (an NMEA sentence) is taken as complete.
    """

    path: Text
    protocol: Literal["nmea", "packets", "json", "senml"]
    baud: Annotated[int, Meta(ge=50, le=4_000_000)] = 115_200
    device: Text | None = None
    name: Text | None = None
    priority: Priority = PRIORITY
    rescan_s: Positive = 1.0
    idle_ms: Annotated[int, Meta(ge=1)] = 250
    json: JsonMapping | None = None

    @property
    def label(self) -> str:
        return self.name or self.path


class Subscription(msgspec.Struct, kw_only=True):
    """Topics, and what their messages are. In `device`, ``{1}`` is what the first wildcard of `filter` stands for."""

    filter: Text
    payload: Literal["senml", "sparkplug", "json"]
    device: Text | None = None
    json: JsonMapping | None = None


class TlsSettings(msgspec.Struct, kw_only=True):
    """Files in PEM. Without `ca` the system's authorities count; `cert` and `key` are the agent's own."""

    ca: Text | None = None
    cert: Text | None = None
    key: Text | None = None


class MqttSource(msgspec.Struct, kw_only=True, tag="mqtt"):
    """An MQTT broker. `window`: how many messages it sends without an acknowledgement (Mosquitto: 20).

    `status_topic`: where the agent says, retained, that it is online; the broker says there when it is not.
    """

    host: Text
    subscribe: Annotated[list[Subscription], Meta(min_length=1)]
    port: Port = 1883
    client_id: Annotated[str, Meta(min_length=1, max_length=65_535)] | None = None
    username: str | None = None
    password: str | None = None
    tls: TlsSettings | None = None
    status_topic: Text | None = None
    max_payload_bytes: Annotated[int, Meta(ge=1024, le=64 << 20)] = 1 << 20
    keepalive_s: Annotated[int, Meta(ge=5, le=65_535)] = 30
    window: Annotated[int, Meta(ge=1, le=65_535)] = 20
    name: Text | None = None
    priority: Priority = PRIORITY

    @property
    def label(self) -> str:
        return self.name or f"{self.host}:{self.port}"


class ModbusRegister(msgspec.Struct, kw_only=True):
    """A quantity in a device's registers; `at` counts from 0, as on the wire. value = raw · scale + offset."""

    name: Text
    at: Annotated[int, Meta(ge=0, le=65_535)]
    kind: Literal["holding", "input", "coil", "discrete"] = "holding"
    type: Literal["uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64", "bool"] = "uint16"
    scale: float = 1.0
    offset: float = 0.0
    unit: str = ""
    swapped: bool = False


class ModbusSlave(msgspec.Struct, kw_only=True):
    """Devices of one kind: their addresses on the line, and what they hold. In `device`, ``{unit}`` is the address."""

    units: Annotated[list[Annotated[int, Meta(ge=1, le=247)]], Meta(min_length=1)]
    device: Text
    register: Annotated[list[ModbusRegister], Meta(min_length=1)]
    schema: Name = "modbus"
    every_s: Annotated[float, Meta(ge=0.05, le=86_400)] = 1.0

    def registers(self) -> list[Register]:
        """As the protocol wants them."""
        from tidegate_protocols.link.modbus import Register  # pymodbus is loaded where it is spoken

        return [Register(**msgspec.structs.asdict(each)) for each in self.register]


class ModbusSource(msgspec.Struct, kw_only=True, tag="modbus"):
    """A Modbus RTU line. `timeout_s`: how long an answer may take."""

    path: Text
    slave: Annotated[list[ModbusSlave], Meta(min_length=1)]
    baud: Annotated[int, Meta(ge=50, le=4_000_000)] = 9600
    parity: Literal["none", "even", "odd"] = "even"
    stop_bits: Literal[1, 2] = 1
    timeout_s: Annotated[float, Meta(ge=0.01, le=10)] = 0.3
    rescan_s: Positive = 1.0
    name: Text | None = None
    priority: Priority = PRIORITY

    @property
    def label(self) -> str:
        return self.name or self.path


SourceSettings: TypeAlias = SerialSource | MqttSource | ModbusSource
