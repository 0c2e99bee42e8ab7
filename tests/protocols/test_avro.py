"""Avro records: they come back as they went in, older versions stay readable, damage is bad input."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest
from fastavro.schema import fingerprint, to_parsing_canonical_form
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tidegate_protocols import avro
from tidegate_protocols.alerts import (
    ALERT,
    COMMAND,
    GROUP,
    NOTIFICATION,
    TRANSITION,
    Alert,
    Command,
    Group,
    Notification,
    Transition,
    alert_id,
    group_key,
    notification_id,
)
from tidegate_protocols.avro import AvroCodec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.events import EVENT, Event, event_id
from tidegate_protocols.policies import POLICY, SILENCE, Level, Matcher, Policy, Silence
from tidegate_protocols.registry import DEVICE, FEEDBACK, FENCE, RULE, Device, Feedback, Fence, Rule

TEXT = st.text(max_size=12)
NUMBER = st.floats(allow_nan=False)
I64 = st.integers(-(2**63), 2**63 - 1)
SEVERITY = st.sampled_from(["notice", "warning", "critical"])
COUNT = st.integers(0, 2**31 - 1)
TEXTS = st.dictionaries(TEXT, TEXT, max_size=3)
LIST = st.lists(TEXT, max_size=3)


def _events() -> st.SearchStrategy[Event]:
    return st.builds(
        Event, id=TEXT, device=TEXT, operator=TEXT, kind=TEXT, phase=st.sampled_from(["instant", "begin", "end"]),
        subject=TEXT, ts_us=I64, learnt_us=I64, lane=st.sampled_from(["authoritative", "provisional", "historical"]),
        epoch=I64, seq=I64, ordinal=COUNT, value=st.none() | NUMBER, limit=st.none() | NUMBER, unit=TEXT,
        lat=st.none() | NUMBER, lon=st.none() | NUMBER, attrs=st.dictionaries(TEXT, TEXT, max_size=3),
    )  # fmt: skip


def _alerts() -> st.SearchStrategy[Alert]:
    return st.builds(
        Alert, id=TEXT, device=TEXT, rule=TEXT, subject=TEXT,
        state=st.sampled_from(["open", "acknowledged", "snoozed", "resolved"]), severity=SEVERITY, kind=TEXT,
        title=TEXT, started_us=I64, opened_us=I64, changed_us=I64, ended_us=st.none() | I64, version=COUNT,
        event=TEXT, events=COUNT, value=st.none() | NUMBER, limit=st.none() | NUMBER, unit=TEXT,
        lat=st.none() | NUMBER, lon=st.none() | NUMBER, who=TEXT, why=TEXT, snoozed_until_us=st.none() | I64,
        lane=TEXT, policy_version=COUNT, event_kind=TEXT, attrs=TEXTS, device_group=TEXT, group=TEXT, muted=TEXT,
        flapping=st.booleans(),
    )  # fmt: skip


RECORDS: list[tuple[AvroCodec[Any], st.SearchStrategy[Any]]] = [
    (EVENT, _events()),
    (ALERT, _alerts()),
    (TRANSITION, st.builds(
        Transition, alert=TEXT, version=COUNT, device=TEXT, action=TEXT, from_state=TEXT, to_state=TEXT, ts_us=I64,
        who=TEXT, why=TEXT, cause=TEXT, rule=TEXT, title=TEXT, severity=TEXT, started_us=st.none() | I64, group=TEXT,
        count=COUNT, level=COUNT, tell=LIST,
    )),
    (GROUP, st.builds(
        Group, id=TEXT, key=TEXT, rule=TEXT, shared=TEXTS, state=st.sampled_from(["open", "resolved"]),
        severity=SEVERITY, kind=TEXT, title=TEXT, count=COUNT, unresolved=COUNT, first=TEXT, alerts=LIST,
        started_us=I64, opened_us=I64, newest_us=I64, changed_us=I64, ended_us=st.none() | I64, version=COUNT,
        who=TEXT, why=TEXT, snoozed_until_us=st.none() | I64, level=COUNT, told=LIST,
    )),
    (NOTIFICATION, st.builds(
        Notification, id=TEXT, alert=TEXT, device=TEXT, receiver=TEXT, channel=TEXT,
        state=st.sampled_from(["sending", "sent", "retrying", "failed"]), title=TEXT, asked_us=I64, ts_us=I64,
        attempts=COUNT, next_us=st.none() | I64, error=TEXT, level=COUNT,
    )),
    (POLICY, st.builds(
        Policy, id=TEXT, version=COUNT, operator=TEXT, opens=LIST, ends=LIST, when=TEXTS, auto_resolve=st.booleans(),
        hold_off_s=NUMBER, enabled=st.booleans(), groups=LIST, title=TEXT,
        tell=st.lists(st.builds(Level, after_s=NUMBER, to=LIST), max_size=2), group_by=LIST, group_min=COUNT,
        inhibits=LIST, flap_count=COUNT, flap_window_s=NUMBER,
    )),
    (SILENCE, st.builds(
        Silence, id=TEXT, version=COUNT, starts_us=I64, ends_us=st.none() | I64, days=LIST, from_time=TEXT,
        matchers=st.lists(st.builds(Matcher, name=TEXT, op=st.sampled_from(["=", "!~"]), value=TEXT), max_size=2),
        to_time=TEXT, time_zone=TEXT, who=TEXT, why=TEXT,
    )),
    (COMMAND, st.builds(
        Command, id=TEXT, device=TEXT, alert=TEXT, action=TEXT, who=TEXT, why=TEXT, until_us=st.none() | I64,
        seen_version=st.none() | COUNT, group=TEXT,
    )),
    (FENCE, st.builds(
        Fence, id=TEXT, name=TEXT, version=COUNT, geometry=TEXT, radius_m=st.none() | NUMBER, severity=SEVERITY,
        alert_on=st.just("none"), groups=st.lists(TEXT, max_size=3), distance_m=st.none() | NUMBER,
        enter_events=st.booleans(), exit_events=st.booleans(), dwell_s=st.none() | NUMBER,
        speed_limit_mps=st.none() | NUMBER, schedule=TEXT, time_zone=TEXT, schedule_mode=TEXT,
    )),
    (RULE, st.builds(
        Rule, id=TEXT, name=TEXT, version=COUNT, channel=TEXT, low=st.none() | NUMBER, high=st.none() | NUMBER,
        hysteresis=NUMBER, severity=SEVERITY, groups=st.lists(TEXT, max_size=3),
    )),
    (DEVICE, st.builds(
        Device, id=TEXT, name=TEXT, group=TEXT, type=TEXT, report_interval_s=st.none() | NUMBER, time_zone=TEXT,
    )),
    (FEEDBACK, st.builds(
        Feedback, id=TEXT, device=TEXT, operator=TEXT, subject=TEXT, ts_us=I64, who=TEXT, value=st.none() | NUMBER,
    )),
]  # fmt: skip
NAMED = pytest.mark.parametrize(("codec", "records"), RECORDS, ids=[codec.name for codec, _ in RECORDS])


@NAMED
@given(st.data())
@settings(max_examples=40)
def test_a_record_comes_back(codec: AvroCodec[Any], records: st.SearchStrategy[Any], data: st.DataObject) -> None:
    record = data.draw(records)
    encoded = codec.encode(record)
    assert encoded[:2] == b"\xc3\x01"
    assert codec.decode(encoded) == record


@NAMED
@given(st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_damage_is_bad_input_or_another_record(
    codec: AvroCodec[Any], records: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    encoded = bytearray(codec.encode(data.draw(records)))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(encoded)))
    try:
        assert isinstance(codec.decode(bytes(encoded[:cut])), codec.kind)
    except BadInput as error:
        assert codec.name in str(error)  # noqa: PT017


def test_a_byte_too_many_is_refused() -> None:
    encoded = DEVICE.encode(Device(id="bus-7"))
    with pytest.raises(BadInput, match="1 bytes after the record"):
        DEVICE.decode(encoded + b"\0")


def test_a_value_over_the_cap_is_refused_unread() -> None:
    with pytest.raises(BadInput, match="at most"):
        DEVICE.decode(bytes(avro.VALUE_MAX + 1))


def test_a_writer_with_an_unknown_schema_is_named() -> None:
    encoded = bytearray(DEVICE.encode(Device(id="bus-7")))
    encoded[2:10] = bytes(8)
    with pytest.raises(BadInput, match="unknown schema 0000000000000000"):
        DEVICE.decode(bytes(encoded))


def test_the_mark_is_avros_own_fingerprint_little_endian() -> None:
    """The fingerprint of "int" from Avro's specification, through the library whose bytes we put in front."""
    value = int.from_bytes(bytes.fromhex(fingerprint('"int"', "CRC-64-AVRO")), "little")
    assert value == 0x7275D51A3F395C8F


def test_values_written_under_an_earlier_schema_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version with one field fewer, kept as NAME.v1.avsc: its values get the new field's default."""
    current = {
        "type": "record", "name": "Thing",
        "fields": [{"name": "id", "type": "string"}, {"name": "group", "type": "string", "default": "none"}],
    }  # fmt: skip
    old = {**current, "fields": current["fields"][:1]}
    folder = tmp_path / "schemas"
    folder.mkdir()

    (folder / "Thing.avsc").write_text(json.dumps(current))
    (folder / "Thing.v1.avsc").write_text(json.dumps(old))
    monkeypatch.setattr(avro.resources, "files", lambda _: tmp_path)
    parsed = fastavro.parse_schema(old)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed, {"id": "bus-7"})
    mark = bytes.fromhex(fingerprint(to_parsing_canonical_form(parsed), "CRC-64-AVRO"))

    class Thing(msgspec.Struct):
        id: str
        group: str = "none"

    assert AvroCodec("Thing", Thing).decode(avro.MAGIC + mark + out.getvalue()) == Thing("bus-7", "none")


def test_a_fence_from_before_it_had_terms_is_read() -> None:
    """Bytes under Fence.v1: what was added since has its defaults."""
    folder = Path(avro.__file__).parent / "schemas"
    old = fastavro.parse_schema(json.loads((folder / "Fence.v1.avsc").read_text()))
    mark = bytes.fromhex(fingerprint(to_parsing_canonical_form(old), "CRC-64-AVRO"))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, old, {"id": "yard", "name": "Yard", "version": 3, "geometry": "{}"})
    fence = FENCE.decode(avro.MAGIC + mark + out.getvalue())
    assert fence == Fence(id="yard", name="Yard", version=3, geometry="{}")
    assert (fence.enter_events, fence.exit_events, fence.schedule, fence.dwell_s) == (True, True, "", None)


SCHEMAS = Path(avro.__file__).parent / "schemas"
EARLIER = sorted(SCHEMAS.glob("*.v*.avsc"))


@pytest.mark.parametrize("path", EARLIER, ids=lambda path: path.stem)
def test_what_earlier_programs_wrote_is_read_with_defaults_for_what_is_new(path: Path) -> None:
    """Values of every schema that ever was on a topic, under the current one."""
    codec = next((codec for codec, _ in RECORDS if codec.name == path.stem.split(".")[0]), None)
    assert codec is not None, "the record is not among RECORDS"
    plain = avro._plain(json.loads(path.read_text()))
    parsed = fastavro.parse_schema(plain)
    mark = bytes.fromhex(fingerprint(to_parsing_canonical_form(parsed), "CRC-64-AVRO"))
    old = {field["name"]: field.get("default", _something(field["type"])) for field in plain["fields"]}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed, old)
    found = msgspec.to_builtins(codec.decode(avro.MAGIC + mark + out.getvalue()))
    assert {name: found[name] for name in old} == old


def _something(kind: Any) -> Any:
    """A value of an Avro type; of an enumeration and of a union the first."""
    if isinstance(kind, list):
        return _something(kind[0])
    if isinstance(kind, dict) and kind["type"] == "enum":
        return kind["symbols"][0]
    if isinstance(kind, dict) and kind["type"] in ("array", "map"):
        return [] if kind["type"] == "array" else {}
    name = kind["type"] if isinstance(kind, dict) else kind
    return {"string": "", "long": 3, "int": 3, "double": 0.5, "boolean": True, "null": None}[name]


def test_groups_and_messages_have_names_of_their_own() -> None:
    assert group_key("r", {"subject": "yard"}) != group_key("r", {"subject": "quay"})
    assert group_key("r", {"a": "b", "c": "d"}) == group_key("r", {"c": "d", "a": "b"})
    line = Transition(
        alert="a", version=1, device="d", action="told", from_state="open", to_state="open", ts_us=1, who="system",
        why="", cause="1.1",
    )  # fmt: skip
    again = msgspec.structs.replace(line, ts_us=2, version=3, why="appended once more")
    assert notification_id(line, "desk/0") == notification_id(again, "desk/0")
    others = [notification_id(msgspec.structs.replace(line, **change), "desk/0")
              for change in ({"alert": "b"}, {"cause": "1.2"}, {"to_state": "resolved"})]  # fmt: skip
    assert len({notification_id(line, "desk/0"), notification_id(line, "desk/1"), *others}) == 5


def test_ids_of_events_and_alerts_depend_on_all_that_they_are_made_of() -> None:
    made = {
        event_id("d", "o", "k", "s", provisional=p, epoch=e, seq=q, ordinal=n)
        for p in (False, True) for e in (1, 2) for q in (1, 2) for n in (0, 1)
    }  # fmt: skip
    assert len(made) == 16
    assert event_id("a", "bc", "k", "s", provisional=False, epoch=1, seq=1, ordinal=0) != event_id(
        "ab", "c", "k", "s", provisional=False, epoch=1, seq=1, ordinal=0
    )
    assert alert_id("d", "r", "s", "e") != alert_id("d", "r", "se", "")
    assert len(alert_id("d", "r", "s", "e")) == 32
