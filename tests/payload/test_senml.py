"""SenML: the examples of RFC 8428 resolve as the RFC says, packs come back, and bad ones are refused whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_protocols.errors import BadInput, Misuse
from tidegate_protocols.payload.senml import encode_senml, parse_senml
from tidegate_protocols.scan import Scan
from tidegate_protocols.schema import Channel, Schema

NOW = 1_700_000_000_000_000


def rows(scans: list[Scan]) -> list[tuple[str | None, int | None, dict[str, object]]]:
    return [
        (scan.device, scan.ts_us, {c.name: v for c, v in zip(scan.schema.channels, scan.values, strict=True)})
        for scan in scans
    ]


def pack(*records: dict[str, object]) -> bytes:
    return json.dumps(list(records)).encode()


def test_single_data_point() -> None:  # RFC 8428, 5.1.1
    data = b'[{"n":"urn:dev:ow:10e2073a01080063","u":"Cel","v":23.1}]'
    assert rows(parse_senml(data, "probe")) == [("probe", None, {"_10e2073a01080063": 23.1})]


def test_multiple_data_points() -> None:  # 5.1.2
    data = b'[{"bn":"urn:dev:ow:10e2073a01080063:","n":"voltage","u":"V","v":120.1},{"n":"current","u":"A","v":1.2}]'
    [scan] = parse_senml(data)
    assert rows([scan]) == [("urn:dev:ow:10e2073a01080063", None, {"current": 1.2, "voltage": 120.1})]
    assert [channel.unit for channel in scan.schema.channels] == ["A", "V"]


def test_base_time_and_version() -> None:  # 5.1.2, second example
    data = b"""[
      {"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09, "bu":"A","bver":5, "n":"voltage","u":"V","v":120.1},
      {"n":"current","t":-5,"v":1.2}, {"n":"current","t":-4,"v":1.3}, {"n":"current","t":-3,"v":1.4},
      {"n":"current","t":-2,"v":1.5}, {"n":"current","t":-1,"v":1.6}, {"n":"current","v":1.7}]"""
    scans = parse_senml(data)
    base = 1_276_020_076_001_000
    assert [scan.ts_us for scan in scans] == [base - s * 1_000_000 for s in (5, 4, 3, 2, 1, 0)]
    assert [row["current"] for _, _, row in rows(scans)] == [1.2, 1.3, 1.4, 1.5, 1.6, 1.7]
    assert [row["voltage"] for _, _, row in rows(scans)] == [None, None, None, None, None, 120.1]


def test_several_measurements_under_one_base_name() -> None:  # 5.1.3
    data = b"""[
      {"bn":"urn:dev:ow:10e2073a01080063","bt":1.320067464e+09, "bu":"%RH","v":20},
      {"u":"lon","v":24.30621},{"u":"lat","v":60.07965},{"t":60,"v":20.3},
      {"u":"lon","t":60,"v":24.30622},{"u":"lat","t":60,"v":60.07965},{"t":120,"v":20.7}]"""
    scans = parse_senml(data)
    assert {scan.device for scan in scans} == {"urn:dev:ow"}
    assert [row["lat"] for _, _, row in rows(scans)] == [60.07965, 60.07965, None]
    assert [row["_10e2073a01080063"] for _, _, row in rows(scans)] == [20.0, 20.3, 20.7]
    assert scans[0].schema.is_position


def test_different_types_are_passed_over_where_they_are_no_numbers() -> None:  # 5.1.4 and 5.1.6
    data = b"""[
      {"bn":"urn:dev:ow:10e2073a01080063:","n":"temp","u":"Cel","v":23.1}, {"n":"label","vs":"Machine Room"},
      {"n":"open","vb":false}, {"n":"nfc-reader","vd":"aGkgCg"}]"""
    [(device, _, row)] = rows(parse_senml(data))
    assert (device, row) == ("urn:dev:ow:10e2073a01080063", {"open": False, "temp": 23.1})


def test_sums_are_channels_of_their_own() -> None:
    data = pack({"bn": "m:", "bs": 10.0, "n": "energy", "u": "J", "v": 1, "s": 2.5}, {"n": "water", "u": "m3", "s": 1})
    [(_, _, row)] = rows(parse_senml(data))
    assert row == {"energy": 1.0, "energy_sum": 12.5, "water_sum": 11.0}


def test_base_value_is_added() -> None:
    data = pack({"bn": "m:", "bv": 20.0, "n": "a", "v": 0.5}, {"n": "b"}, {"n": "c", "vb": True})
    [(_, _, row)] = rows(parse_senml(data))
    assert row == {"a": 20.5, "b": 20.0, "c": True}


def test_times_before_2_to_the_28_are_relative_to_now() -> None:
    data = pack({"bn": "m:", "n": "a", "v": 1, "t": -5}, {"n": "a", "v": 2}, {"n": "a", "v": 3, "t": 1.5})
    scans = parse_senml(data, now_us=NOW)
    assert [scan.ts_us for scan in scans] == [NOW - 5_000_000, NOW + 1_500_000, None]
    assert [scan.values for scan in scans] == [(1.0,), (3.0,), (2.0,)]
    with pytest.raises(BadInput, match="record 0: a time -5 s from now"):
        parse_senml(data)


def test_the_order_of_records_does_not_make_another_schema() -> None:
    a, b = {"bn": "m:", "n": "a", "v": 1}, {"bn": "m:", "n": "b", "v": 2}
    assert parse_senml(pack(a, b))[0].schema is parse_senml(pack(b, a))[0].schema


def test_a_pack_may_hold_several_devices_unless_the_source_is_of_one() -> None:
    data = pack({"n": "fleet/bus-1/temp", "v": 1}, {"n": "fleet/bus-2/temp", "v": 2})
    assert [scan.device for scan in parse_senml(data)] == ["fleet:bus-1", "fleet:bus-2"]
    with pytest.raises(BadInput, match="records of 2 devices"):
        parse_senml(data, "bus-1")


schema = Schema("senml", (Channel("door", "bool"), Channel("lat", "float64", "lat"), Channel("temp", "float64", "Cel")))
values = st.tuples(
    st.none() | st.booleans(), st.none() | st.floats(-90, 90), st.floats(allow_nan=False, allow_infinity=False)
)


@given(st.dictionaries(st.integers(2**28 * 10**6, 2**33 * 10**6), values, min_size=1, max_size=10))
def test_scans_come_back(by_time: dict[int, tuple[bool | None, float | None, float]]) -> None:
    # One scan with every channel, or the pack would not show that it has them.
    by_time[2**33 * 10**6 + 1] = (True, 1.0, 2.0)
    scans = [Scan("bus-12", schema, ts, by_time[ts]) for ts in sorted(by_time)]
    back = parse_senml(encode_senml(*scans))
    assert [scan.values for scan in back] == [scan.values for scan in scans]
    # A double holds microseconds to within one of these years.
    assert all(abs((a.ts_us or 0) - (b.ts_us or 0)) <= 1 for a, b in zip(back, scans, strict=True))
    assert back[0].schema == schema


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not JSON"),
        (b"{}", "not an array"),
        (b"[]", "not an array"),
        (b"[1]", "record 0: not an object"),
        (pack({"bn": "m:", "n": "a", "v": True}), "v is not a number"),
        (pack({"bn": "m:", "n": "a", "v": "1"}), "v is not a number"),
        (pack({"bn": "m:", "n": "a", "vb": 1}), "vb is neither true nor false"),
        (pack({"bn": "m:", "n": "a", "v": 1, "vb": True}), "more than one of"),
        (pack({"bn": 1, "n": "a", "v": 1}), "bn is not text"),
        (pack({"bn": "m:", "n": "a", "v": 1, "bver": 11}), "version 11"),
        (pack({"bn": "m:", "n": "a", "v": 1, "bver": 5}, {"n": "b", "v": 1, "bver": 6}), "version 6"),
        (pack({"bn": "m:", "n": "a", "v": 1, "must_": 1}), "'must_' must be understood"),
        (pack({"n": "a", "v": 1}), "no device part"),
        (pack({"bn": "m x:", "n": "a", "v": 1}), "is not a device id"),
        (pack({"bn": "m:", "n": "-", "v": 1}), "cannot name a channel"),
        (pack({"bn": "m:", "n": "a", "v": 1}, {"n": "a", "v": 2}), "two values at one time"),
        (pack({"bn": "m:", "n": "a", "v": 1}, {"n": "a", "vb": True, "t": 1e9}), "is float64 in '' and bool"),
        (pack({"bn": "m:", "n": "a", "u": "V", "v": 1}, {"n": "a", "u": "A", "v": 1, "t": 1e9}), "in 'V' and"),
        (pack({"bn": "m:", "n": "a", "vs": "text"}), "no record has a number or a flag"),
        (pack({"bn": "m:", "n": "a", "v": 1, "t": 1e300}), "out of range"),
        (pack({"bn": "m:", "n": "a", "v": 10**400}), "out of the range of a double|not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b" " * 300_000, "at most 262144"),
        (pack(*[{"n": "a", "v": 1}] * 8193), "1 to 8192 records"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse_senml(data)


json_values = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
fields = st.sampled_from(["bn", "bt", "bu", "bv", "bs", "bver", "n", "u", "v", "vb", "vs", "vd", "s", "t", "ut", "x_"])


@given(st.lists(st.dictionaries(fields, json_values, max_size=6), max_size=5))
def test_any_pack_is_read_or_refused(records: list[dict[str, object]]) -> None:
    for device in (None, "bus-1"):
        try:
            scans = parse_senml(json.dumps(records).encode(), device)
        except BadInput:
            continue
        assert scans


@given(st.binary(max_size=100))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        parse_senml(data)


def test_a_pack_is_of_one_device() -> None:
    a, b = (Scan(device, schema, NOW, (True, 1.0, 2.0)) for device in ("a", "b"))
    with pytest.raises(Misuse):
        encode_senml(a, b)
    with pytest.raises(Misuse):
        encode_senml(Scan("a", schema, NOW, (None, None, None)))


@pytest.mark.parametrize("field", ["v", "s", "bv", "bs", "t", "bt"])
def test_an_integer_that_no_double_can_hold_is_refused(field: str) -> None:
    record = {"bn": "d:", "n": "a", "v": 1} | {field: 10**400}
    with pytest.raises(BadInput, match="range"):
        parse_senml(json.dumps([{"bn": "d:", "bv": 1.5, "bs": 0.5, "n": "b", "v": 1}, record]).encode())
