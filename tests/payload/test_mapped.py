"""JSON of any shape, by a mapping and flat."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_protocols.errors import BadInput
from tidegate_protocols.payload.mapped import Mapping, parse_json
from tidegate_protocols.scan import Scan
from tidegate_protocols.schema import Channel, Schema

TRACKER = Schema("tracker", (Channel("lat"), Channel("lon"), Channel("starts", "int64"), Channel("door", "bool")))
MAPPING = Mapping(
    TRACKER, ("/gps/lat", "/gps/lon", "/io/0/n", "/io/1/a~1b~0c"), device="/id", ts="/at", ts_unit="ms", records="/data"
)


def message(**record: object) -> bytes:
    return json.dumps({"data": [record]}).encode()


def test_pointers_reach_objects_and_arrays() -> None:
    data = message(id=17, at=1_700_000_000_123, gps={"lat": 1, "lon": 2.5}, io=[{"n": 3.0}, {"a/b~c": True}])
    assert parse_json(data, mapping=MAPPING) == [Scan("17", TRACKER, 1_700_000_000_123_000, (1.0, 2.5, 3, True))]


def test_what_is_missing_or_null_is_a_null() -> None:
    [scan] = parse_json(message(gps={"lat": None}, io=[]), "bus-1", MAPPING)
    assert scan == Scan("bus-1", TRACKER, None, (None, None, None, None))


@pytest.mark.parametrize(
    ("ts", "unit"),
    [
        (1_700_000_000.25, "s"), (1_700_000_000_250, "ms"), (1_700_000_000_250_000, "us"),
        ("2023-11-14T22:13:20.25Z", "rfc3339"), ("2023-11-14T16:13:20.250-06:00", "rfc3339"),
    ],
)  # fmt: skip
def test_times(ts: object, unit: str) -> None:
    mapping = Mapping(Schema("s", (Channel("v"),)), ("/v",), ts="/ts", ts_unit=unit)  # type: ignore[arg-type]
    [scan] = parse_json(json.dumps({"v": 1, "ts": ts}).encode(), "d", mapping)
    assert scan.ts_us == 1_700_000_000_250_000


def test_flat_messages_need_no_mapping() -> None:
    data = b'[{"device":"m-1","ts_s":1700000000,"b":1,"a":true,"note":"x","more":{"c":1}}, {"device":"m-2","b":2}]'
    first, second = parse_json(data)
    assert [channel.name for channel in first.schema.channels] == ["a", "b"]
    assert (first.device, first.ts_us, first.values) == ("m-1", 1_700_000_000_000_000, (True, 1.0))
    assert (second.device, second.ts_us, second.values) == ("m-2", None, (2.0,))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not JSON"),
        (b"3", "record 0: not an object"),
        (b"[]", "0 records"),
        (b'{"a":1}', "no device id"),
        (b'{"device":"a b","a":1}', "is not a device id"),
        (b'{"device":"m"}', "no number or flag"),
        (b'{"device":"m","a":1,"ts_s":"x"}', "not a number of s"),
        (b'{"device":"m","a":1,"ts":"2023-11-14T22:13:20"}', "no offset from UTC"),
        (b'{"device":"m","a":1,"ts":5}', "not RFC 3339"),
        (b'{"device":"m","a":1,"ts_s":-1}', "between the years"),
        (b'{"device":"m","a":1,"ts_s":1,"ts_ms":1}', "more than one time"),
        (b'{"device":"m","a b":1,"a-b":1}', "two keys are the channel 'a_b'"),
        (b" " * 300_000, "at most"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse_json(data)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"gps": {"lat": "1"}}, "'1' is not a value of type float64"),
        ({"io": [{"n": 1.5}]}, "not a value of type int64"),
        ({"io": [{"n": 2**63}]}, "not a value of type int64"),
        ({"io": [{}, {"a/b~c": 1}]}, "not a value of type bool"),
    ],
)
def test_values_of_another_type_are_refused(record: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse_json(message(**record), "d", MAPPING)


def test_a_bad_mapping_is_refused() -> None:
    with pytest.raises(BadInput, match="is not a JSON pointer"):
        Mapping(Schema("s", (Channel("v"),)), ("v",))
    with pytest.raises(BadInput, match="2 places for 1"):
        Mapping(Schema("s", (Channel("v"),)), ("/v", "/w"))


trees = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["data", "gps", "lat", "io", "ts"]), inner)
    ),
    max_leaves=12,
)


@given(trees)
def test_any_json_is_read_or_refused(tree: object) -> None:
    data = json.dumps(tree).encode()
    for mapping in (None, MAPPING):
        try:
            assert parse_json(data, "d", mapping)
        except BadInput:
            pass
