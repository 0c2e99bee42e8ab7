"""A device whose messages differ keeps one schema, and no value is lost or moved."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tidegate_protocols.payload.senml import parse_senml
from tidegate_protocols.payload.steady import SteadySchemas
from tidegate_protocols.scan import Scan, Value, schema_of
from tidegate_protocols.schema import Channel


def scan(device: str = "van-1", unit: str = "", **values: Value) -> Scan:
    channels = tuple(Channel(name, "float64", unit) for name in sorted(values))
    return Scan(device, schema_of("senml", channels), None, tuple(values[channel.name] for channel in channels), 7, 1)


def row(item: Scan) -> dict[str, Value]:
    return {c.name: v for c, v in zip(item.schema.channels, item.values, strict=True)}


def test_what_a_message_leaves_out_is_null() -> None:
    steady = SteadySchemas()
    first, second, third = (steady.widen([s])[0] for s in (scan(lat=1.0), scan(heading=9.0, lat=2.0), scan(lat=3.0)))
    assert row(first) == {"lat": 1.0}
    assert row(second) == {"heading": 9.0, "lat": 2.0}
    assert row(third) == {"heading": None, "lat": 3.0}
    assert third.schema is second.schema
    assert (third.source_seq, third.source_boot) == (7, 1)


def test_devices_and_schema_names_are_apart() -> None:
    steady = SteadySchemas()
    steady.widen([scan("a", lat=1.0)])
    assert row(steady.widen([scan("b", lon=1.0)])[0]) == {"lon": 1.0}


def test_another_unit_begins_anew() -> None:
    steady = SteadySchemas()
    steady.widen([scan(x=1.0, unit="Cel"), scan(y=1.0, unit="Cel")])
    [changed] = steady.widen([scan(x=1.0, unit="K")])
    assert [(c.name, c.unit) for c in changed.schema.channels] == [("x", "K")]


def test_memory_is_bounded() -> None:
    steady = SteadySchemas(devices_max=2)
    for device in ("a", "b", "a", "c"):
        steady.widen([scan(device, x=1.0)])
    assert row(steady.widen([scan("a", y=1.0)])[0]) == {"x": None, "y": 1.0}
    assert row(steady.widen([scan("b", y=1.0)])[0]) == {"y": 1.0}


@given(st.lists(st.dictionaries(st.sampled_from("abcdef"), st.floats(-9, 9), min_size=1), max_size=30))
def test_every_value_keeps_its_channel_and_schemas_only_grow(messages: list[dict[str, Value]]) -> None:
    steady = SteadySchemas()
    seen: set[str] = set()
    for message in messages:
        [wide] = steady.widen([scan(**message)])
        seen |= set(message)
        assert {name: value for name, value in row(wide).items() if value is not None} == message
        assert [channel.name for channel in wide.schema.channels] == sorted(seen)


def test_it_goes_with_senml() -> None:
    steady = SteadySchemas()
    steady.widen(parse_senml(b'[{"bn":"van-1:","n":"a","v":1},{"n":"b","v":2}]'))
    [again] = steady.widen(parse_senml(b'[{"bn":"van-1:","n":"b","v":3}]'))
    assert row(again) == {"a": None, "b": 3.0}
