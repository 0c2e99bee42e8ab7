"""Sparkplug B: the wire format against protobuf itself, births, aliases, numbering, deaths, rebirths."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st
from tidegate_protocols.errors import BadInput, Misuse
from tidegate_protocols.payload import protowire
from tidegate_protocols.payload.sparkplug import SparkplugReader
from tidegate_protocols.payload.sparkplug_node import MetricSpec, SparkplugNode
from tidegate_protocols.payload.sparkplug_wire import (
    DataType,
    Scalar,
    decode_payload,
    metric_bytes,
    payload_bytes,
    value_as,
)  # fmt: skip
from tidegate_protocols.scan import Scan

T0 = 1_700_000_000_000
TRUCK = [
    MetricSpec("Engine/Oil Pressure", DataType.FLOAT, "kPa"), MetricSpec("lat", DataType.DOUBLE, "deg"),
    MetricSpec("lon", DataType.DOUBLE, "deg"), MetricSpec("gear", DataType.INT8),
    MetricSpec("ignition", DataType.BOOLEAN), MetricSpec("vin", DataType.STRING),
]  # fmt: skip
STATE: dict[str, Scalar] = {
    "Engine/Oil Pressure": 412.5, "lat": 30.25, "lon": -97.75, "gear": -1, "ignition": True, "vin": "5YJ",
}  # fmt: skip


def protobuf_payload() -> Any:
    """The parts of the specification's sparkplug_b.proto that we read, as protobuf's own classes."""
    file = descriptor_pb2.FileDescriptorProto(name="sparkplug_b.proto", package="org.eclipse.tahu.protobuf")
    kinds = descriptor_pb2.FieldDescriptorProto

    def message(name: str, *fields: tuple[int, str, int, int, str]) -> None:
        described = file.message_type.add(name=name)
        for number, field, kind, label, type_name in fields:
            described.field.add(number=number, name=field, type=kind, label=label, type_name=type_name or None)  # type: ignore[arg-type]

    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    package = ".org.eclipse.tahu.protobuf."
    message(
        "PropertyValue", (1, "type", kinds.TYPE_UINT32, one, ""), (2, "is_null", kinds.TYPE_BOOL, one, ""),
        (5, "float_value", kinds.TYPE_FLOAT, one, ""), (6, "double_value", kinds.TYPE_DOUBLE, one, ""),
        (8, "string_value", kinds.TYPE_STRING, one, ""),
    )  # fmt: skip
    message(
        "PropertySet", (1, "keys", kinds.TYPE_STRING, many, ""),
        (2, "values", kinds.TYPE_MESSAGE, many, package + "PropertyValue"),
    )  # fmt: skip
    message(
        "Metric", (1, "name", kinds.TYPE_STRING, one, ""), (2, "alias", kinds.TYPE_UINT64, one, ""),
        (3, "timestamp", kinds.TYPE_UINT64, one, ""), (4, "datatype", kinds.TYPE_UINT32, one, ""),
        (5, "is_historical", kinds.TYPE_BOOL, one, ""), (6, "is_transient", kinds.TYPE_BOOL, one, ""),
        (7, "is_null", kinds.TYPE_BOOL, one, ""), (9, "properties", kinds.TYPE_MESSAGE, one, package + "PropertySet"),
        (10, "int_value", kinds.TYPE_UINT32, one, ""), (11, "long_value", kinds.TYPE_UINT64, one, ""),
        (12, "float_value", kinds.TYPE_FLOAT, one, ""), (13, "double_value", kinds.TYPE_DOUBLE, one, ""),
        (14, "boolean_value", kinds.TYPE_BOOL, one, ""), (15, "string_value", kinds.TYPE_STRING, one, ""),
        (16, "bytes_value", kinds.TYPE_BYTES, one, ""),
    )  # fmt: skip
    message(
        "Payload", (1, "timestamp", kinds.TYPE_UINT64, one, ""),
        (2, "metrics", kinds.TYPE_MESSAGE, many, package + "Metric"), (3, "seq", kinds.TYPE_UINT64, one, ""),
        (4, "uuid", kinds.TYPE_STRING, one, ""), (5, "body", kinds.TYPE_BYTES, one, ""),
    )  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("org.eclipse.tahu.protobuf.Payload"))


Protobuf = protobuf_payload()

numbers = {
    DataType.INT8: st.integers(-128, 127), DataType.INT32: st.integers(-(2**31), 2**31 - 1),
    DataType.INT64: st.integers(-(2**63), 2**63 - 1), DataType.UINT32: st.integers(0, 2**32 - 1),
    DataType.UINT64: st.integers(0, 2**64 - 1), DataType.FLOAT: st.floats(width=32, allow_nan=False),
    DataType.DOUBLE: st.floats(allow_nan=False), DataType.BOOLEAN: st.booleans(), DataType.STRING: st.text(max_size=9),
}  # fmt: skip
typed = st.sampled_from(list(numbers)).flatmap(lambda kind: st.tuples(st.just(kind), st.none() | numbers[kind]))


@given(st.lists(st.tuples(st.text(max_size=9), st.none() | st.integers(0, 2**64 - 1), typed, st.text(max_size=5))))
def test_what_we_write_protobuf_reads(metrics: list[tuple[str, int | None, tuple[DataType, Any], str]]) -> None:
    data = payload_bytes(
        T0, 7, [metric_bytes(v, kind, name=n, alias=a, timestamp_ms=T0 + 1, unit=u) for n, a, (kind, v), u in metrics]
    )
    theirs = Protobuf.FromString(data)
    assert (theirs.timestamp, theirs.seq, len(theirs.metrics)) == (T0, 7, len(metrics))
    for read, (name, alias, (kind, value), unit) in zip(theirs.metrics, metrics, strict=True):
        assert (read.name, read.timestamp, read.datatype, read.is_null) == (name, T0 + 1, kind, value is None)
        assert (read.alias if read.HasField("alias") else None) == alias
        assert [v.string_value for v in read.properties.values] == ([unit] if unit else [])
    ours = decode_payload(data)
    assert [value_as(metric, metric.datatype) for metric in ours.metrics] == [v for _, _, (_, v), _ in metrics]
    assert [metric.unit for metric in ours.metrics] == [unit for _, _, _, unit in metrics]


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "name": st.text(max_size=9), "alias": st.integers(0, 2**64 - 1), "datatype": st.integers(0, 2**32 - 1),
                "is_null": st.booleans(), "is_historical": st.booleans(), "is_transient": st.booleans(),
                "long_value": st.integers(0, 2**64 - 1), "bytes_value": st.binary(max_size=9),
            },
        )
    )
)  # fmt: skip
def test_what_protobuf_writes_we_read(metrics: list[dict[str, Any]]) -> None:
    theirs = Protobuf(timestamp=T0, seq=255, metrics=metrics, uuid="u", body=b"b")
    ours = decode_payload(theirs.SerializeToString())
    assert (ours.timestamp_ms, ours.seq, len(ours.metrics)) == (T0, 255, len(metrics))
    for read, given_ in zip(ours.metrics, metrics, strict=True):
        assert read.name == given_.get("name", "")
        assert read.alias == given_.get("alias")
        assert (read.is_null, read.is_historical) == (given_.get("is_null", False), given_.get("is_historical", False))


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_read_and_never_raises(data: bytes) -> None:
    try:
        decode_payload(data)
    except BadInput:
        return
    Protobuf.FromString(data)  # what we read, protobuf reads as well


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("08", "ends inside a number"),
        ("08ffffffffffffffffffff01", "more than 10 bytes"),
        ("08ffffffffffffffffff02", "more than 64 bits"),
        ("12 7f 00", "wants 127 bytes, 1 are left"),
        ("00 00", "field number 0"),
        ("0b", "wire type 3"),
        ("0a 00", "not of the wire type of numbers"),
        ("12 03 0a 01 ff", "metric 0: text is not UTF-8|metric 0.*not UTF-8"),
    ],
)
def test_damage_is_named(data: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        decode_payload(bytes.fromhex(data))


def test_fields_are_cut_without_trusting_their_length() -> None:
    with pytest.raises(BadInput, match="wants"):
        list(protowire.read_fields(b"\x12" + b"\xff" * 9 + b"\x01"))


@pytest.mark.parametrize("sent", [0xFF, 0xFFFFFFFF])
def test_negative_numbers_may_be_sign_extended_or_not(sent: int) -> None:
    data = Protobuf(metrics=[{"datatype": int(DataType.INT8), "int_value": sent}]).SerializeToString()
    [metric] = decode_payload(data).metrics
    assert value_as(metric, DataType.INT8) == -1


class Link:
    """A node and a reader, with the messages that a test lets through."""

    def __init__(self) -> None:
        self.node = SparkplugNode("fleet", "yard 1", bd_seq=3)
        self.reader = SparkplugReader()

    def send(self, message: tuple[str, bytes]) -> list[Scan]:
        return self.reader.feed(*message)

    def born(self) -> Link:
        assert self.send(self.node.birth(T0)) == []
        assert len(self.send(self.node.device_birth("truck-9", T0, TRUCK, STATE))) == 1
        return self


def row(scan: Scan) -> dict[str, object]:
    return {c.name: v for c, v in zip(scan.schema.channels, scan.values, strict=True)}


def test_a_birth_fixes_the_schema_and_is_a_reading() -> None:
    link = Link()
    link.send(link.node.birth(T0))
    [scan] = link.send(link.node.device_birth("truck-9", T0, TRUCK, STATE))
    assert scan.device == "fleet:yard_1:truck-9"
    assert [(c.name, c.type, c.unit) for c in scan.schema.channels] == [
        ("Engine_Oil_Pressure", "float64", "kPa"), ("gear", "int64", ""), ("ignition", "bool", ""),
        ("lat", "float64", "deg"), ("lon", "float64", "deg"),
    ]  # fmt: skip
    assert (scan.ts_us, scan.values) == (T0 * 1000, (412.5, -1, True, 30.25, -97.75))


def test_data_hold_what_changed_by_alias() -> None:
    link = Link().born()
    [scan] = link.send(link.node.device_data("truck-9", T0 + 500, {"gear": 3, "ignition": False}))
    assert (scan.ts_us, row(scan)) == (
        (T0 + 500) * 1000,
        {"Engine_Oil_Pressure": None, "gear": 3, "ignition": False, "lat": None, "lon": None},
    )


def test_half_a_position_takes_the_other_half_from_before() -> None:
    link = Link().born()
    [scan] = link.send(link.node.device_data("truck-9", T0 + 500, {"lat": 30.5}))
    assert (row(scan)["lat"], row(scan)["lon"]) == (30.5, -97.75)
    [scan] = link.send(link.node.device_data("truck-9", T0 + 900, {"lon": -97.5}))
    assert (row(scan)["lat"], row(scan)["lon"]) == (30.5, -97.5)


def test_metrics_of_different_times_are_different_scans() -> None:
    link = Link().born()
    metrics = [
        metric_bytes(2, DataType.INT8, name="gear", timestamp_ms=T0 + 20),
        metric_bytes(1, DataType.INT8, name="gear", timestamp_ms=T0 + 10),
        metric_bytes(True, DataType.BOOLEAN, name="ignition"),
    ]
    scans = link.reader.feed("spBv1.0/fleet/DDATA/yard 1/truck-9", payload_bytes(T0 + 20, 2, metrics))
    assert [(s.ts_us, row(s)["gear"], row(s)["ignition"]) for s in scans] == [
        ((T0 + 10) * 1000, 1, None),
        ((T0 + 20) * 1000, 2, True),
    ]


def test_data_before_the_birth_are_refused_and_a_rebirth_is_asked_for() -> None:
    link = Link()
    link.node.birth(T0)
    link.node.device_birth("truck-9", T0, TRUCK, STATE)
    asked = []
    for i in range(8):
        with pytest.raises(BadInput, match="before the node's birth"):
            link.send(link.node.device_data("truck-9", T0 + i, {"gear": 1}))
        asked.append(len(link.reader.take_rebirths()))
    assert asked == [1, 1, 0, 1, 0, 0, 0, 1]
    link.born()
    assert link.reader.is_alive("fleet", "yard 1")


def test_a_rebirth_command_is_understood_by_the_node() -> None:
    link = Link()
    with pytest.raises(BadInput):
        link.reader.feed("spBv1.0/fleet/NDATA/yard 1", payload_bytes(T0, 4, []))
    [(topic, payload)] = link.reader.take_rebirths()
    assert topic == link.node.command_topic
    assert link.node.is_rebirth(payload)
    assert not link.node.is_rebirth(b"\xff")


def test_numbers_go_around_at_255() -> None:
    link = Link().born()
    for i in range(600):
        assert len(link.send(link.node.device_data("truck-9", T0 + i, {"gear": i % 5}))) == 1
    assert link.reader.holes == 0


def test_after_a_hole_aliases_are_not_believed_until_the_next_birth() -> None:
    link = Link().born()
    link.node.device_data("truck-9", T0, {"gear": 1})  # lost on the way
    with pytest.raises(BadInput, match="hole"):
        link.send(link.node.device_data("truck-9", T0 + 1, {"gear": 2}))
    assert link.reader.holes == 1
    assert len(link.reader.take_rebirths()) >= 1
    by_name = payload_bytes(T0 + 2, 4, [metric_bytes(3, DataType.INT8, name="gear")])
    assert row(link.reader.feed("spBv1.0/fleet/DDATA/yard 1/truck-9", by_name)[0])["gear"] == 3
    link.born()
    assert row(link.send(link.node.device_data("truck-9", T0 + 3, {"gear": 4}))[0])["gear"] == 4


def test_a_death_counts_only_with_the_bd_seq_of_the_birth() -> None:
    link = Link().born()
    link.send(SparkplugNode("fleet", "yard 1", bd_seq=2).death())
    assert link.reader.is_alive("fleet", "yard 1")
    link.send(link.node.death())
    assert not link.reader.is_alive("fleet", "yard 1")
    with pytest.raises(BadInput, match="before the node's birth"):
        link.send(link.node.device_data("truck-9", T0, {"gear": 1}))


def test_a_dead_device_needs_a_birth() -> None:
    link = Link().born()
    link.send(link.node.device_death("truck-9", T0))
    with pytest.raises(BadInput, match="no birth has named"):
        link.send(link.node.device_data("truck-9", T0, {"gear": 1}))


def test_two_devices_of_a_node_keep_their_aliases_apart() -> None:
    link = Link().born()
    link.send(link.node.device_birth("truck-10", T0, TRUCK, STATE))
    [scan] = link.send(link.node.device_data("truck-10", T0, {"gear": 5}))
    assert (scan.device, row(scan)["gear"]) == ("fleet:yard_1:truck-10", 5)


@pytest.mark.parametrize(
    "topic", ["spAv1.0/g/NBIRTH/n", "spBv1.0/g/NBIRTH", "spBv1.0/g/XDATA/n", "spBv1.0/g/DDATA/n", "spBv1.0/g/NDATA/n/d"]
)
def test_a_topic_that_is_none_of_sparkplugs(topic: str) -> None:
    with pytest.raises(BadInput, match="GROUP/TYPE/NODE"):
        SparkplugReader().feed(topic, b"")


@pytest.mark.parametrize("topic", ["spBv1.0/STATE/host", "spBv1.0/g/NCMD/n", "spBv1.0/g/DCMD/n/d"])
def test_what_others_say_to_each_other_is_passed_over(topic: str) -> None:
    assert SparkplugReader().feed(topic, b"{}") == []


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ([metric_bytes(1, DataType.INT8, alias=1)], "has no name"),
        ([metric_bytes(1, DataType.INT8, name=n, alias=1) for n in "ab"], "alias 1 is 'a' and 'b'"),
        ([metric_bytes(1, DataType.INT8, name=n) for n in ("a b", "a-b")], "the name is taken twice"),
        ([protowire.put_bytes(1, b"a") + protowire.put_varint(4, 3)], "metric 'a': has neither a value"),
        ([protowire.put_bytes(1, b"a") + protowire.put_varint(4, 3) + protowire.put_float(12, 1.0)], "INT32 and its"),
        ([protowire.put_bytes(1, b"a") + protowire.put_varint(4, 8) + protowire.put_varint(11, 2**64 - 1)], "int64"),
    ],
)
def test_a_birth_that_cannot_be_is_refused_whole(metrics: list[bytes], said: str) -> None:
    link = Link()
    link.send(link.node.birth(T0))
    with pytest.raises(BadInput, match=said):
        link.reader.feed("spBv1.0/fleet/DBIRTH/yard 1/x", payload_bytes(T0, 1, metrics))
    with pytest.raises(BadInput, match="no birth has named"):
        link.reader.feed("spBv1.0/fleet/DDATA/yard 1/x", payload_bytes(T0, 2, []))


@given(st.lists(st.tuples(st.sampled_from(["NBIRTH", "DBIRTH", "NDATA", "DDATA", "NDEATH"]), st.binary(max_size=60))))
def test_any_messages_are_read_or_refused(messages: list[tuple[str, bytes]]) -> None:
    link = Link().born()
    for kind, data in messages:
        try:
            link.reader.feed(f"spBv1.0/fleet/{kind}/yard 1" + ("/truck-9" if kind[0] == "D" else ""), data)
        except BadInput:
            pass


def test_a_metric_that_was_not_born_is_misuse() -> None:
    with pytest.raises(Misuse):
        SparkplugNode("g", "n").device_data("d", T0, {"x": 1})
    with pytest.raises(Misuse):
        metric_bytes("text", DataType.INT8)
