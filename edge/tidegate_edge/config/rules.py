"""What one key of a file says of another."""

from __future__ import annotations

from tidegate_protocols.errors import BadInput
from tidegate_protocols.schema import Channel, Schema

from ..names import device_name
from ..sources.topics import check_filter
from .problems import Path, Problem
from .sources import JsonMapping, ModbusSource, MqttSource, SerialSource
from .tables import Config, WindowSettings


def check_whole(config: Config, problems: list[Problem]) -> None:
    """What one key says of another."""
    for i, rule in enumerate(config.window):
        _check_window(rule, ("window", i), problems)
    labels: dict[str, int] = {}
    for i, source in enumerate(config.source):
        at: Path = ("source", i)
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
            below: Path = (*at, "subscribe", j)
            _check_json(subscription.json, subscription.payload, below, problems)
            try:
                check_filter(subscription.filter)
            except BadInput as error:
                problems.append(Problem((*below, "filter"), str(error)))
            wildcards = sum(level in ("+", "#") for level in subscription.filter.split("/"))
            _check_device(subscription.device, [str(n + 1) for n in range(wildcards)], below, problems)
            if subscription.device is not None and subscription.payload == "sparkplug":
                problems.append(Problem((*below, "device"), "is not for sparkplug", "its topics name the device"))


def _check_modbus(source: ModbusSource, at: Path, problems: list[Problem]) -> None:
    taken: set[int] = set()
    for i, slave in enumerate(source.slave):
        below: Path = (*at, "slave", i)
        _check_device(slave.device, ["unit"], below, problems)
        if len(slave.units) > 1 and "{unit}" not in slave.device:
            problems.append(Problem((*below, "device"), "names several units alike", "put {unit} into it"))
        twice = sorted(taken.intersection(slave.units) | {each for each in slave.units if slave.units.count(each) > 1})
        if twice:
            problems.append(Problem((*below, "units"), f"{twice[0]} is on this line twice"))
        taken.update(slave.units)
        for j, register in enumerate(slave.register):
            if (register.type == "bool") != (register.kind in ("coil", "discrete")):
                place: Path = (*below, "register", j, "type")
                problems.append(
                    Problem(place, f"{register.type!r} is not for {register.kind}", "bits are of type bool")
                )
        try:
            Schema(slave.schema, tuple(Channel(each.name, unit=each.unit) for each in slave.register))
        except BadInput as error:
            problems.append(Problem((*below, "register"), str(error)))


def _check_mqtt(source: MqttSource, at: Path, problems: list[Problem]) -> None:
    tls = source.tls
    if tls is not None and (tls.cert is None) != (tls.key is None):
        missing = "key" if tls.key is None else "cert"
        problems.append(Problem((*at, "tls", missing), "is missing", "a certificate and its key go together"))
    if source.password is not None and source.username is None:
        problems.append(Problem((*at, "username"), "is missing", "there is a password"))
    topic = source.status_topic
    if topic is not None and ("+" in topic or "#" in topic or "\0" in topic):
        problems.append(Problem((*at, "status_topic"), f"{topic!r} is not a topic", "no wildcards"))


def _check_window(rule: WindowSettings, at: Path, problems: list[Problem]) -> None:
    if rule.mode == "deadband" and rule.band is None:
        problems.append(Problem((*at, "band"), "is missing", "smaller changes pass unseen; 0: repetitions alone"))
    if rule.mode == "aggregate" and rule.every_s is None:
        problems.append(Problem((*at, "every_s"), "is missing", "the length of an aggregate's windows"))
    if rule.every_s is not None and rule.late_s > 100 * rule.every_s:
        problems.append(Problem((*at, "late_s"), "is more than 100 windows long", "fewer may be open at a time"))
    if len(set(rule.stats)) < len(rule.stats):
        problems.append(Problem((*at, "stats"), "names one twice"))


def _check_device(template: str | None, fields: list[str], at: Path, problems: list[Problem]) -> None:
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


def _check_json(mapping: JsonMapping | None, kind: str, at: Path, problems: list[Problem]) -> None:
    if mapping is None:
        return
    if kind != "json":
        problems.append(Problem((*at, "json"), f"is not for {kind}"))
    try:
        mapping.mapping()
    except BadInput as error:
        problems.append(Problem((*at, "json"), str(error)))
