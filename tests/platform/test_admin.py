"""Topics and the registry, through the commands that people use, against a real Kafka."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from hypothesis import given
from hypothesis import strategies as st
from tidegate_cli.main import tidegate
from tidegate_cloud.admin import registry as store
from tidegate_cloud.admin import topics as topic_admin
from tidegate_protocols.errors import BadInput
from tidegate_protocols.registry import FENCE, RULE
from tidegate_protocols.topics import BY_NAME, CATALOGUE, EVENTS, FENCES, Topic

from tests.support.kafka import KafkaNode, consume_all, newest_by_key, produce

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
BOW_TIE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}


def run(*arguments: str | Path, status: int = 0) -> Result:
    result = CliRunner().invoke(tidegate, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output + repr(result.exception)
    return result


def feature(fence_id: str, geometry: dict[str, Any] = SQUARE, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "id": fence_id, "geometry": geometry, "properties": properties}


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value) if not isinstance(value, str) else value, "utf-8")
    return path


def settings_of(kafka: KafkaNode, topic: str) -> dict[str, str]:
    client = kafka.admin()  # futures end with the client that made them
    (future,) = client.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]).values()
    return {name: entry.value for name, entry in future.result(10).items()}


def test_topics_are_as_the_catalogue_has_them(fresh_kafka: KafkaNode) -> None:
    shown = json.loads(run("topics", "show", "--json", "--bootstrap", fresh_kafka.bootstrap).stdout)
    assert {row["topic"] for row in shown} == set(BY_NAME)
    assert {row["action"] for row in shown} == {"leave"}
    for topic in CATALOGUE:
        assert topic.config().items() <= settings_of(fresh_kafka, topic.name).items()
        assert len(fresh_kafka.admin().list_topics(topic.name, timeout=10).topics[topic.name].partitions) == (
            topic.partitions
        )


def test_apply_corrects_what_differs_and_a_dry_run_does_not(fresh_kafka: KafkaNode) -> None:
    entry = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, EVENTS.name, incremental_configs=[entry])
    client = fresh_kafka.admin()
    for future in client.incremental_alter_configs([resource]).values():
        future.result(10)
    told = run("topics", "apply", "--dry-run", "--bootstrap", fresh_kafka.bootstrap).stdout
    assert f"fleet.events: correct: retention.ms: 1000 → {EVENTS.config()['retention.ms']}" in told
    assert settings_of(fresh_kafka, EVENTS.name)["retention.ms"] == "1000"
    assert "fleet.events: corrected" in run("topics", "apply", "--bootstrap", fresh_kafka.bootstrap).stdout
    assert settings_of(fresh_kafka, EVENTS.name)["retention.ms"] == EVENTS.config()["retention.ms"]
    again = run("topics", "apply", "--bootstrap", fresh_kafka.bootstrap).stdout
    assert again == f"{len(CATALOGUE)} of {len(CATALOGUE)} topics were as they should be\n"


def test_a_partition_count_is_reported_and_never_changed(fresh_kafka: KafkaNode) -> None:
    client = fresh_kafka.admin()
    odd = Topic("test.odd-count", "nothing", "device id", 7)
    client.create_topics([NewTopic(odd.name, 3, 1, config={})])[odd.name].result(10)
    try:
        (change,) = topic_admin.plan(client, [odd])
        assert (change.action, change.partitions) == ("wrong partitions", 3)
        topic_admin.apply(client, [change])
        (after,) = topic_admin.plan(client, [odd])
        assert (after.action, after.partitions, dict(after.settings)) == ("wrong partitions", 3, {})
    finally:
        client.delete_topics([odd.name])[odd.name].result(10)


def test_no_kafka_is_one_sentence() -> None:
    result = run("topics", "apply", "--wait", "0", "--bootstrap", "127.0.0.1:9", status=1)
    assert result.stderr == "Error: 127.0.0.1:9: no Kafka answers there (start one with tidegate broker)\n"
    waited = run("topics", "apply", "--wait", "1.5", "--bootstrap", "127.0.0.1:9", status=1)
    assert "Error: 127.0.0.1:9: no Kafka answers there" in waited.stderr


def test_a_missing_topic_is_named_with_what_makes_it(fresh_kafka: KafkaNode) -> None:
    with pytest.raises(BadInput, match=r"no-such: there is no such topic \(run tidegate topics apply\)"):
        topic_admin.need(fresh_kafka.admin(), Topic("no-such", "nothing", "none", None))
    topic_admin.need(fresh_kafka.admin(), EVENTS)


def test_fences_go_in_out_and_away(fresh_kafka: KafkaNode, tmp_path: Path) -> None:
    circle = {"type": "Point", "coordinates": [-97.7, 30.3]}
    file = write(
        tmp_path / "fences.geojson",
        {
            "type": "FeatureCollection",
            "features": [
                feature("yard", name="The yard", alert_on="exit", severity="critical"),
                feature("stop", circle, radius_m=150.0),
            ],
        },
    )
    at = ("--bootstrap", fresh_kafka.bootstrap)
    assert run("registry", "put", "fences", file, *at).stdout == "2 fences written\n"
    kept = newest_by_key(consume_all(fresh_kafka.bootstrap, FENCES.name))
    assert set(kept) == {b"yard", b"stop"}
    yard = FENCE.decode(kept[b"yard"])
    assert (yard.name, yard.alert_on, yard.severity, json.loads(yard.geometry)) == (
        "The yard", "exit", "critical", SQUARE,
    )  # fmt: skip
    listed = json.loads(run("registry", "ls", "fences", "--json", *at).stdout)
    assert [(row["id"], row["radius_m"]) for row in listed] == [("stop", 150.0), ("yard", None)]
    run("registry", "rm", "fences", "yard", *at)
    assert [row["id"] for row in json.loads(run("registry", "ls", "fences", "--json", *at).stdout)] == ["stop"]
    assert "no 'yard' in it" in run("registry", "rm", "fences", "stop", "yard", *at, status=1).stderr
    assert "stop" in run("registry", "ls", "fences", *at).stdout


def test_rules_and_devices_come_from_toml(fresh_kafka: KafkaNode, tmp_path: Path) -> None:
    file = write(
        tmp_path / "fleet.toml",
        '[[rules]]\nid = "hot"\nname = "Too hot"\nchannel = "temperature"\nhigh = 8\nhysteresis = 0.5\n'
        '[[devices]]\nid = "reefer-1"\nname = "Reefer 1"\ngroup = "cold"\n',
    )
    at = ("--bootstrap", fresh_kafka.bootstrap)
    run("registry", "put", "rules", file, *at)
    run("registry", "put", "devices", file, *at)
    (rule,) = store.read(fresh_kafka.bootstrap, store.KINDS["rules"])
    assert (rule.id, rule.high, rule.low) == ("hot", 8.0, None)
    (device,) = store.read(fresh_kafka.bootstrap, store.KINDS["devices"])
    assert (device.id, device.name, device.group) == ("reefer-1", "Reefer 1", "cold")


BAD_FILES = {
    "a shape that crosses itself": (
        "fences", "f.geojson", {"type": "FeatureCollection", "features": [feature("a"), feature("b", BOW_TIE)]},
        r"entry 2 \(b\), fence 'b'",
    ),
    "a fence twice": (
        "fences", "f.geojson", {"type": "FeatureCollection", "features": [feature("a"), feature("a")]},
        r"entry 2 \(a\): 'a' is there twice",
    ),
    "a fence without an id": (
        "fences", "f.geojson", {"type": "Feature", "geometry": SQUARE, "properties": {}},
        "feature 1: a fence needs an id",
    ),
    "alert_on that is no side": ("fences", "f.geojson", feature("a", alert_on="both"), r"alert_on is 'both'"),
    "a severity that is none": ("fences", "f.geojson", feature("a", severity="bad"), r"entry 1 \(a\): .*severity"),
    "a bare geometry": ("fences", "f.geojson", SQUARE, "feature 1: not a GeoJSON Feature"),
    "not JSON": ("rules", "r.json", '[{"id": \n oops', "r.json, line 2: not JSON"),
    "not TOML": ("rules", "r.toml", "[[rules]", "r.toml: not TOML"),
    "TOML of another kind": ("rules", "r.toml", "[[devices]]\nid='a'\n", r"no \[\[rules\]\] in it"),
    "a field that is not known": ("rules", "r.json", {"id": "r", "chanel": "x"}, r"unknown field 'chanel' .*channel"),
    "a number that is a text": (
        "rules", "r.json", {"id": "r", "name": "r", "channel": "x", "high": "8"}, r"entry 1 \(r\): .*high"
    ),
    "a rule without a limit": ("rules", "r.json", {"id": "r", "name": "r", "channel": "x"}, "neither low nor high"),
    "a device id with a blank": ("devices", "d.json", {"id": "bus 1"}, "'bus 1' is not a device id"),
    "nothing": ("devices", "d.json", [], "no devices in it"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_by_name_and_place(case: str, tmp_path: Path) -> None:
    kind, name, content, expected = BAD_FILES[case]
    with pytest.raises(BadInput, match=expected) as caught:
        store.load(store.KINDS[kind], write(tmp_path / name, content))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_a_shape_that_crosses_itself_is_offered_repaired(tmp_path: Path) -> None:
    broken = {"type": "FeatureCollection", "features": [feature("good"), feature("bad", BOW_TIE, dwell_s=60.0)]}
    file = write(tmp_path / "f.geojson", broken)
    result = run("registry", "repair", file)
    assert "fence 'bad': not a valid shape: self-intersection at [" in result.stderr
    assert "repaired as 2 polygons of 6 corners" in result.stderr
    better = json.loads(result.stdout)
    assert better["features"][0] == broken["features"][0]
    assert better["features"][1]["properties"] == broken["features"][1]["properties"]
    fences = store.load(store.KINDS["fences"], write(tmp_path / "better.geojson", better))
    assert [fence.id for fence in fences] == ["good", "bad"]
    assert fences[1].dwell_s == 60.0  # type: ignore[union-attr]


def test_what_cannot_be_repaired_is_named(tmp_path: Path) -> None:
    flat = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]}
    result = run("registry", "repair", write(tmp_path / "f.geojson", feature("line", flat)), status=1)
    assert "fence 'line': " in result.stderr
    assert "nothing with an inside is left" in result.stderr


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    result = run("registry", "put", "rules", tmp_path / "none.toml", status=1)
    assert result.stderr == f"Error: {tmp_path}/none.toml: No such file or directory\n"


def test_a_bad_file_writes_nothing(fresh_kafka: KafkaNode, tmp_path: Path) -> None:
    file = write(
        tmp_path / "f.geojson", {"type": "FeatureCollection", "features": [feature("good"), feature("bad", BOW_TIE)]}
    )
    run("registry", "put", "fences", file, "--bootstrap", fresh_kafka.bootstrap, status=1)
    assert consume_all(fresh_kafka.bootstrap, FENCES.name) == []


def test_a_damaged_record_is_named_with_its_place(fresh_kafka: KafkaNode) -> None:
    produce(fresh_kafka.bootstrap, FENCES.name, [("x", b"\xc3\x01rubbish")])
    result = run("registry", "ls", "fences", "--bootstrap", fresh_kafka.bootstrap, status=1)
    assert "registry.fences[0]@0, Fence" in result.stderr


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"id": st.text(min_size=1), "name": st.text(), "channel": st.text(min_size=1), "high": st.integers(-9, 9)}
        ),
        min_size=1,
        unique_by=lambda row: row["id"],
    )
)
def test_a_rule_survives_file_and_topic(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(tmp_path_factory.getbasetemp() / "rules.json", rows)
    records = store.load(store.KINDS["rules"], path)
    assert [RULE.decode(RULE.encode(record)) for record in records] == records  # type: ignore[arg-type]
    assert [(r.id, r.name, r.channel, r.high) for r in records] == [  # type: ignore[union-attr]
        (row["id"], row["name"], row["channel"], row["high"]) for row in rows
    ]
