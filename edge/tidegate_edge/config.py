"""The agent's configuration: one TOML file, checked in full before anything starts (docs/agent.md).

Every problem is reported, each with its key and line; unknown keys are refused.
"""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta
from tidegate_protocols.errors import BadInput
from tidegate_protocols.payload.mapped import Mapping, TimeUnit
from tidegate_protocols.schema import Channel, ChannelType, Schema

from .framing import Codec
from .names import device_name
from .sources.topics import check_filter
from .spool.rows import PRIORITY
from .toml_lines import key_lines, line_of

if TYPE_CHECKING:
    from tidegate_protocols.link.modbus import Register

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Text = Annotated[str, Meta(min_length=1)]
Positive = Annotated[float, Meta(gt=0)]
Priority = Annotated[int, Meta(ge=0, le=9)]  # of a full spool the lowest leave first


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


_Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the file: the key's path in it and what about it."""

    path: _Path
    what: str
    hint: str = ""


class BadConfig(BadInput):
    """The configuration cannot be used. `problems` are all of them, a sentence each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def load(path: Path) -> Config:
    """Read and check a file. Raises BadConfig."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise BadConfig([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise BadConfig([f"{path}: is not UTF-8: byte {error.start}"]) from None
    return parse(text, str(path))


def parse(text: str, name: str = "config") -> Config:
    """Check a TOML text; `name` stands in the messages. Raises BadConfig."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfig([f"{name}: is not TOML: {error}"]) from None
    problems: list[Problem] = []
    _check(document, Config, (), problems)
    config = None
    if not problems:
        config = msgspec.convert(document, Config)
        _check_whole(config, problems)
    if config is None or problems:
        lines = key_lines(text)
        found = sorted(((line_of(lines, problem.path), problem) for problem in problems), key=lambda each: each[0] or 0)
        raise BadConfig([_sentence(problem, name, line) for line, problem in found])
    return config


def _sentence(problem: Problem, name: str, line: int | None) -> str:
    place = name if line is None else f"{name}, line {line}"
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"{place}: {key_text(problem.path)}: {problem.what}{hint}"


def key_text(path: _Path) -> str:
    """A path as people write it: ``source[1].subscribe[0].filter``. Elements are counted from 0."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the file"


def _check(value: Any, kind: Any, path: _Path, problems: list[Problem]) -> None:
    """Compare a value with the type that it should have, all the way down."""
    inner, optional = _plain(kind)
    if optional and value is None:
        return
    if typing.get_origin(inner) is list and isinstance(value, list):
        if not value and inner is not kind:
            problems.append(Problem(path, "is empty", "at least one is needed"))
        for i, item in enumerate(value):
            _check(item, typing.get_args(inner)[0], (*path, i), problems)
        return
    choices = {struct.__struct_config__.tag: struct for struct in _structs(inner)}
    if choices and not isinstance(value, dict):
        problems.append(Problem(path, f"should be a table, is {value!r}"))
    elif choices:
        keys = dict(value)
        if len(choices) > 1:
            tag = keys.pop("type", None)
            if tag not in choices:
                said = "is missing" if tag is None else f"{tag!r} is not known"
                problems.append(Problem((*path, "type"), said, " or ".join(map(str, choices))))
                return
        else:
            tag = next(iter(choices))
        _check_table(keys, choices[tag], path, problems)
    elif typing.get_origin(inner) is Literal and value not in typing.get_args(inner):
        problems.append(Problem(path, f"{value!r} is not known", ", ".join(typing.get_args(inner))))
    else:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            problems.append(Problem(path, _reworded(str(error), value)))


def _check_table(table: dict[str, Any], struct: type[msgspec.Struct], path: _Path, problems: list[Problem]) -> None:
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    for key in sorted(table.keys() - fields.keys()):
        close = difflib.get_close_matches(key, fields, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(sorted(fields))}"
        problems.append(Problem((*path, key), "is not a key", hint))
    for name, field in fields.items():
        if name in table:
            _check(table[name], field.type, (*path, name), problems)
        elif field.required:
            problems.append(Problem((*path, name), "is missing"))


def _plain(kind: Any) -> tuple[Any, bool]:
    """A type without its annotations and without None, and whether it had None."""
    if typing.get_origin(kind) is Annotated:
        return _plain(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        members = [each for each in typing.get_args(kind) if each is not type(None)]
        if len(members) < len(typing.get_args(kind)):
            return (_plain(members[0])[0] if len(members) == 1 else kind), True
    return kind, False


def _structs(kind: Any) -> list[type[msgspec.Struct]]:
    members = typing.get_args(kind) if typing.get_origin(kind) in (types.UnionType, typing.Union) else (kind,)
    return [each for each in members if isinstance(each, type) and issubclass(each, msgspec.Struct)]


def _reworded(text: str, value: Any) -> str:
    return f"{text.split(' - at ')[0][0].lower()}{text.split(' - at ')[0][1:]}, is {value!r}"


def _check_whole(config: Config, problems: list[Problem]) -> None:
    """What one key says of another."""
    for i, rule in enumerate(config.window):
        _check_window(rule, ("window", i), problems)
    labels: dict[str, int] = {}
    for i, source in enumerate(config.source):
        at: _Path = ("source", i)
        if source.label in labels:
            problems.append(
                Problem(at, f"source[{labels[source.label]}] is called {source.label!r} too", "give one a `name`")
            )
        labels[source.label] = i
        if isinstance(source, SerialSource):
            _check_json(source.json, source.protocol, at, problems)
            if source.device is None and source.protocol == "nmea":
                problems.append(Problem((*at, "device"), "is missing", "NMEA does not say whose position it is"))
            _check_device(source.device, ["name"], at, problems)
            if source.device is not None and source.protocol == "packets":
                problems.append(Problem((*at, "device"), "is not for packets", "their HELLO names the device"))
            continue
        if isinstance(source, ModbusSource):
            _check_modbus(source, at, problems)
            continue
        _check_mqtt(source, at, problems)
        for j, subscription in enumerate(source.subscribe):
            below: _Path = (*at, "subscribe", j)
            _check_json(subscription.json, subscription.payload, below, problems)
            try:
                check_filter(subscription.filter)
            except BadInput as error:
                problems.append(Problem((*below, "filter"), str(error)))
            wildcards = sum(level in ("+", "#") for level in subscription.filter.split("/"))
            _check_device(subscription.device, [str(n + 1) for n in range(wildcards)], below, problems)
            if subscription.device is not None and subscription.payload == "sparkplug":
                problems.append(Problem((*below, "device"), "is not for sparkplug", "its topics name the device"))


def _check_modbus(source: ModbusSource, at: _Path, problems: list[Problem]) -> None:
    taken: set[int] = set()
    for i, slave in enumerate(source.slave):
        below: _Path = (*at, "slave", i)
        _check_device(slave.device, ["unit"], below, problems)
        if len(slave.units) > 1 and "{unit}" not in slave.device:
            problems.append(Problem((*below, "device"), "names several units alike", "put {unit} into it"))
        twice = sorted(taken.intersection(slave.units) | {each for each in slave.units if slave.units.count(each) > 1})
        if twice:
            problems.append(Problem((*below, "units"), f"{twice[0]} is on this line twice"))
        taken.update(slave.units)
        for j, register in enumerate(slave.register):
            if (register.type == "bool") != (register.kind in ("coil", "discrete")):
                place: _Path = (*below, "register", j, "type")
                problems.append(
                    Problem(place, f"{register.type!r} is not for {register.kind}", "bits are of type bool")
                )
        try:
            Schema(slave.schema, tuple(Channel(each.name, unit=each.unit) for each in slave.register))
        except BadInput as error:
            problems.append(Problem((*below, "register"), str(error)))


def _check_mqtt(source: MqttSource, at: _Path, problems: list[Problem]) -> None:
    tls = source.tls
    if tls is not None and (tls.cert is None) != (tls.key is None):
        missing = "key" if tls.key is None else "cert"
        problems.append(Problem((*at, "tls", missing), "is missing", "a certificate and its key go together"))
    if source.password is not None and source.username is None:
        problems.append(Problem((*at, "username"), "is missing", "there is a password"))
    topic = source.status_topic
    if topic is not None and ("+" in topic or "#" in topic or "\0" in topic):
        problems.append(Problem((*at, "status_topic"), f"{topic!r} is not a topic", "no wildcards"))


def _check_window(rule: WindowSettings, at: _Path, problems: list[Problem]) -> None:
    if rule.mode == "deadband" and rule.band is None:
        problems.append(Problem((*at, "band"), "is missing", "smaller changes pass unseen; 0: repetitions alone"))
    if rule.mode == "aggregate" and rule.every_s is None:
        problems.append(Problem((*at, "every_s"), "is missing", "the length of an aggregate's windows"))
    if rule.every_s is not None and rule.late_s > 100 * rule.every_s:
        problems.append(Problem((*at, "late_s"), "is more than 100 windows long", "fewer may be open at a time"))
    if len(set(rule.stats)) < len(rule.stats):
        problems.append(Problem((*at, "stats"), "names one twice"))


def _check_device(template: str | None, fields: list[str], at: _Path, problems: list[Problem]) -> None:
    if template is None:
        return
    try:
        device_name(template, dict.fromkeys(fields, "x"))
    except BadInput:
        known = "".join(f" and {{{field}}}" for field in fields)
        problem = Problem(
            (*at, "device"), f"{template!r} cannot become a device id", f"letters, digits, . _ : -{known}"
        )
        problems.append(problem)


def _check_json(mapping: JsonMapping | None, kind: str, at: _Path, problems: list[Problem]) -> None:
    if mapping is None:
        return
    if kind != "json":
        problems.append(Problem((*at, "json"), f"is not for {kind}"))
    try:
        mapping.mapping()
    except BadInput as error:
        problems.append(Problem((*at, "json"), str(error)))
