"""Schemas: one name for one meaning, and a way back from what was announced."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_protocols.errors import BadInput
from tidegate_protocols.schema import CHANNELS_MAX, JSON_MAX, Channel, Schema

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,63}", fullmatch=True).filter(lambda name: name != "ts")
NUMBERS = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))
CHANNELS = st.builds(
    lambda name, kind, unit, resolution, ends: Channel(name, kind, unit, resolution, *ends),
    NAMES,
    st.sampled_from(["float64", "int64", "bool"]),
    st.text(max_size=8).filter(lambda text: text.isprintable()),
    NUMBERS,
    st.tuples(NUMBERS, NUMBERS).filter(lambda ends: None in ends or ends[0] <= ends[1]),
)
SCHEMAS = st.builds(
    lambda name, channels: Schema(name, tuple(channels)),
    NAMES,
    st.lists(CHANNELS, min_size=1, max_size=6, unique_by=lambda channel: channel.name),
)


@given(SCHEMAS)
def test_an_announced_schema_reads_back_as_itself(schema: Schema) -> None:
    again = Schema.from_json(schema.canonical_json)
    assert again.fingerprint == schema.fingerprint
    assert again.canonical_json == schema.canonical_json
    assert again == schema


@given(SCHEMAS, SCHEMAS)
def test_equal_schemas_have_equal_fingerprints_and_the_reverse(a: Schema, b: Schema) -> None:
    assert (a == b) == (a.fingerprint == b.fingerprint)


def test_the_fingerprint_is_sha_256_of_the_canonical_json_cut_to_eight_bytes() -> None:
    schema = Schema("engine", (Channel("temp", unit="Cel"), Channel("on", "bool")))
    canonical = (
        b'{"fields":[{"name":"ts","type":{"logicalType":"timestamp-micros","type":"long"}},'
        b'{"default":null,"name":"temp","type":["null","double"],"unit":"Cel"},'
        b'{"default":null,"name":"on","type":["null","boolean"]}],'
        b'"name":"engine","namespace":"tidegate.telemetry","type":"record"}'
    )
    assert schema.canonical_json == canonical
    assert schema.fingerprint == hashlib.sha256(canonical).digest()[:8]


def test_a_unit_changes_the_fingerprint() -> None:
    celsius = Schema("engine", (Channel("temp", unit="Cel"),))
    fahrenheit = Schema("engine", (Channel("temp", unit="[degF]"),))
    assert celsius.fingerprint != fahrenheit.fingerprint


def test_order_of_keys_and_blanks_in_the_json_do_not_matter() -> None:
    schema = Schema("engine", (Channel("temp", unit="Cel", low=-40.0, high=125.0),))
    text = json.dumps(json.loads(schema.canonical_json), indent=3, sort_keys=False)
    assert Schema.from_json(text).fingerprint == schema.fingerprint


def test_a_schema_of_positions_is_one_with_float_lat_and_lon() -> None:
    assert Schema("p", (Channel("lat"), Channel("lon"))).is_position
    assert not Schema("p", (Channel("lat"),)).is_position
    assert not Schema("p", (Channel("lat", "int64"), Channel("lon", "int64"))).is_position


@pytest.mark.parametrize(
    ("name", "channels", "match"),
    [
        ("", (Channel("a"),), "not a schema name"),
        ("1x", (Channel("a"),), "not a schema name"),
        ("x" * 65, (Channel("a"),), "not a schema name"),
        ("x", (), "0 channels"),
        ("x", tuple(Channel(f"c{i}") for i in range(CHANNELS_MAX + 1)), "1025 channels"),
        ("x", (Channel("a b"),), "not a channel name"),
        ("x", (Channel("ts"),), "taken twice"),
        ("x", (Channel("a"), Channel("a")), "taken twice"),
        ("x", (Channel("a", "float32"),), "unknown type"),  # type: ignore[arg-type]
        ("x", (Channel("a", low=2.0, high=1.0),), "range is empty"),
        ("x", (Channel("a", unit="u" * JSON_MAX),), "over"),
    ],
)
def test_what_cannot_be_a_schema_is_refused(name: str, channels: tuple[Channel, ...], match: str) -> None:
    with pytest.raises(BadInput, match=match):
        Schema(name, channels)


def announced(**changes: Any) -> str:
    record = json.loads(Schema("x", (Channel("a"),)).canonical_json)
    record.update(changes)
    return json.dumps(record)


TS = {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not an Avro record"),
        (announced(type="enum"), "not an Avro record"),
        (announced(name=3), "not an Avro record"),
        (announced(fields=[]), "first field is not ts"),
        (announced(fields=[{"name": "ts", "type": "long"}]), "first field is not ts"),
        (announced(fields=[TS]), "0 channels"),
        (announced(fields=[TS, 7]), "no name"),
        (announced(fields=[TS, {"name": "a", "type": "double"}]), "'double'"),
        (announced(fields=[TS, {"name": "a", "type": ["null", "string"]}]), "string"),
        (announced(fields=[TS, {"name": "a", "type": ["null", "double"], "unit": 3}]), "unit is not text"),
        (announced(fields=[TS, {"name": "a", "type": ["null", "double"], "low": True}]), "low is not a number"),
        (" " * (JSON_MAX + 1), "bytes"),
    ],
)
def test_an_announcement_that_is_no_schema_is_refused(text: str, match: str) -> None:
    with pytest.raises(BadInput, match=match):
        Schema.from_json(text)


@given(st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(
        st.sampled_from(["type", "name", "fields", "unit", "low"]), inner, max_size=5)),
    max_leaves=12,
))  # fmt: skip
def test_any_json_is_a_schema_or_bad_input(value: Any) -> None:
    text = announced(fields=[TS, value]) if not isinstance(value, dict) else json.dumps(value)
    try:
        assert Schema.from_json(text).channels
    except BadInput:
        pass
