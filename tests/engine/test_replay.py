"""`tidegate replay` over what a processor committed, on a real Kafka; and its parts by themselves."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tidegate_cloud.engine import Record
from tidegate_cloud.engine import again as again_module
from tidegate_cloud.engine.again import cut
from tidegate_cloud.engine.changes import changes
from tidegate_cloud.engine.comparing import compare
from tidegate_cloud.engine.marks import Mark
from tidegate_cloud.engine.replay_cli import replay
from tidegate_protocols.batch import Lane
from tidegate_protocols.events import EVENT, Event, EventLane
from tidegate_protocols.frame import encode_frame
from tidegate_protocols.registry import RULE, Rule
from tidegate_protocols.topics import EVENTS, FRAMES, RULES, SCHEMAS

from tests.engine.frames import SPEED, announcement, batch
from tests.engine.processes import read
from tests.support.kafka import KafkaNode, produce
from tests.support.service import services
from tests.support.wait import until

DEVICES = [f"bus-{number}" for number in range(4)]


def set_limit(kafka: KafkaNode, high: float) -> None:
    rule = Rule(id="fast", name="Too fast", channel="speed", high=high)
    produce(kafka.bootstrap, RULES.name, [(b"fast", RULE.encode(rule))])


def drive(kafka: KafkaNode, seq: int) -> None:
    """A frame of every device: faster than 20, and than 40."""
    frames = [(device.encode(), encode_frame(batch(device, [10, 30, 10, 50, 10], seq=seq))) for device in DEVICES]
    produce(kafka.bootstrap, FRAMES.name, [*frames, (b"bus-1", b"noise")])


def replayed(kafka: KafkaNode, *arguments: str, status: int = 0) -> Any:
    ran = CliRunner().invoke(replay, ["--bootstrap", kafka.bootstrap, "--json", *arguments])
    assert ran.exit_code == status, ran.output + repr(ran.exception)
    return json.loads(ran.stdout or "null")


def kinds(events: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(event["device"], event["kind"]) for event in events}


def test_a_replay_finds_what_the_processor_found_and_shows_what_another_limit_would_have(
    fresh_kafka: KafkaNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootstrap = fresh_kafka.bootstrap
    produce(bootstrap, SCHEMAS.name, [(record.key, record.value) for record in announcement(SPEED)])
    set_limit(fresh_kafka, 20)

    def found() -> int:
        return len(read(fresh_kafka, EVENTS.name))

    with services(tmp_path) as group:
        processor = group.add("processor", "processor", "--bootstrap", bootstrap).start()
        drive(fresh_kafka, 0)
        until(lambda: found() == 16, what="two times over the limit, of four devices")
        set_limit(fresh_kafka, 40)
        until(lambda: len(read(fresh_kafka, "engine.marks")) >= 2, what="the edit to take effect")
        drive(fresh_kafka, 5)
        until(lambda: found() == 24, what="once over the new limit, of four devices")
        assert processor.stop() == 0

    # As it was: each record under the limit of its time.
    alike = replayed(fresh_kafka, "--as", "alike", "--compare")
    assert alike["compare"] == {"same": 24, "added": [], "missing": [], "changed": []}
    assert alike["counts"]["dead_letters"] == 2
    assert {(r.key, r.value) for r in read(fresh_kafka, "fleet.events.replay.alike")} == {
        (r.key, r.value) for r in read(fresh_kafka, EVENTS.name)
    }
    # Again under the same name: nothing is given out twice.
    again = replayed(fresh_kafka, "--as", "alike", "--compare")
    assert again["skipped"] == again["records"] == alike["records"]
    assert len(read(fresh_kafka, "fleet.events.replay.alike")) == 24
    other = CliRunner().invoke(replay, ["--bootstrap", bootstrap, "--as", "alike", "--edits", "now"])
    assert other.exit_code == 1
    assert "begun with other options" in other.stderr

    # Killed in the middle, it goes on: what was given out before comes once.
    commit, left = again_module.Replay._commit, [3]

    def dying(*arguments: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise SystemError("killed")
        commit(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(again_module, "_COUNT", 1)
        patched.setattr(again_module.Replay, "_commit", dying)
        replayed(fresh_kafka, "--as", "killed", status=1)
    assert 0 < len(read(fresh_kafka, "fleet.events.replay.killed")) < 24
    assert 0 < replayed(fresh_kafka, "--as", "killed", "--compare")["skipped"] < alike["records"]
    assert len(read(fresh_kafka, "fleet.events.replay.killed")) == 24

    # As it would have been: under today's limit the first 30 is none.
    now = replayed(fresh_kafka, "--as", "now", "--edits", "now", "--compare", status=1)["compare"]
    assert now["same"] >= 8
    assert {device for device, _ in kinds(now["missing"])} == set(DEVICES)
    set_limit(fresh_kafka, 5)
    strict = replayed(fresh_kafka, "--as", "strict", "--edits", "now", "--operators", "limit", "--compare", status=1)
    assert kinds(strict["compare"]["added"])

    # From an offset on: only what comes after it, and the devices' first scans are all that is known.
    later = replayed(fresh_kafka, "--as", "later", "--from", "1")
    assert len(read(fresh_kafka, "fleet.events.replay.later")) == later["counts"]["events"] == 8


def test_previews_and_what_was_learnt_before_the_start_are_replayed_too(fresh_kafka: KafkaNode, tmp_path: Path) -> None:
    bootstrap = fresh_kafka.bootstrap
    produce(bootstrap, SCHEMAS.name, [(record.key, record.value) for record in announcement(SPEED)])
    set_limit(fresh_kafka, 20)

    def send(seq: int, values: list[float], lane: Lane = Lane.LIVE) -> None:
        frames = [(name.encode(), encode_frame(batch(name, values, seq=seq, lane=lane))) for name in DEVICES]
        produce(bootstrap, FRAMES.name, frames)

    def found() -> list[tuple[str, str]]:
        events = [EVENT.decode(record.value or b"") for record in read(fresh_kafka, EVENTS.name)]
        return [(event.kind, event.lane) for event in events if event.device == DEVICES[0]]

    with services(tmp_path) as group:
        processor = group.add("processor", "processor", "--bootstrap", bootstrap).start()
        send(0, [10, 30, 30])
        send(20, [30, 10], Lane.PREVIEW)  # it has been away, and is over the limit no longer
        until(lambda: ("within", "provisional") in found(), what="the present")
        # While the preview is open: what it told stands.
        shown = replayed(fresh_kafka, "--as", "shown", "--compare")
        assert shown["compare"] == {"same": 2 * len(DEVICES), "added": [], "missing": [], "changed": []}
        send(3, [30, 10, 30, 10] * 4 + [30], Lane.BACKLOG)
        send(20, [30, 10], Lane.BACKLOG)
        until(lambda: any(kind == "joined" for kind, _ in found()), what="the full record")
        send(22, [10, 30, 10])
        until(lambda: found()[-1] == ("within", "authoritative"), what="what came then")
        assert processor.stop() == 0

    whole = replayed(fresh_kafka, "--as", "whole", "--compare")["compare"]
    assert (whole["added"], whole["missing"], whole["changed"]) == ([], [], [])
    again = {(r.key, r.value) for r in read(fresh_kafka, "fleet.events.replay.whole")}
    assert again == {(r.key, r.value) for r in read(fresh_kafka, EVENTS.name)}
    # From the middle: who is over the limit already is known only to a replay that has run through what was before.
    appended = sorted(record.append_us for record in read(fresh_kafka, FRAMES.name))
    middle = datetime.fromtimestamp(appended[2 * len(DEVICES)] / 1e6, UTC).isoformat()
    cold = replayed(fresh_kafka, "--as", "cold", "--from", middle, "--compare", status=1)["compare"]
    assert cold["missing"] or cold["added"]
    warm = replayed(fresh_kafka, "--as", "warm", "--from", middle, "--warm", "1h", "--compare")["compare"]
    assert (warm["added"], warm["missing"], warm["changed"]) == ([], [], [])
    assert 0 < warm["same"] < whole["same"]


def test_records_are_cut_where_something_took_effect() -> None:
    records = [Record(FRAMES.name, 0, offset, 0, None, None) for offset in (3, 4, 7, 8)]
    pieces = cut(records, [2, 3, 4, 5, 7, 9])
    assert [[record.offset for record in piece] for piece in pieces] == [[3], [4], [7, 8]]


def test_what_was_in_force_follows_from_marks_and_is_todays_where_there_are_none() -> None:
    def edit(offset: int, key: bytes, value: bytes | None) -> Mark:
        return Mark(group="g", kind="edit", offsets={0: offset}, topic=RULES.name, key=key, value=value)

    marks = [edit(0, b"a", b"1"), edit(5, b"a", b"2"), edit(5, b"b", b"3"), edit(8, b"a", None)]
    marks.append(Mark(group="g", kind="tick", offsets={0: 6}, time_us=77))
    now = {(RULES.name, b"b"): b"3", (RULES.name, b"c"): b"9"}
    known = changes(marks, 0, now)
    always = {(RULES.name, b"c"): b"9"}
    assert known.unmarked == always
    assert known.at(0).content == always | {(RULES.name, b"a"): b"1"}
    assert known.at(4).content == known.at(0).content
    assert known.at(5).content == always | {(RULES.name, b"a"): b"2", (RULES.name, b"b"): b"3"}
    assert known.at(8).content == now
    assert known.stops(0, 8) == [5, 6, 8]
    assert known.ticks == [(6, 77)]
    assert changes(marks, 1, now).unmarked == now


def event(name: str, lane: EventLane = "authoritative", seq: int = 0, **more: Any) -> Event:
    fields: dict[str, Any] = {
        "id": name, "device": "d", "operator": "limit", "kind": "above", "phase": "begin", "subject": "s", "ts_us": 1,
        "learnt_us": 2, "lane": lane, "epoch": 1, "seq": seq, "ordinal": 0,
    }  # fmt: skip
    return Event(**fields | more)


def test_a_comparison_tells_added_missing_and_changed_and_leaves_out_what_is_superseded() -> None:
    shown = [event("p1", "provisional", 3), event("p2", "provisional", 7)]
    ours = [event("a"), event("b", value=1.0), event("d"), *shown]
    theirs = [event("a"), event("b", value=2.0), event("c", "historical")]
    found = compare(ours, theirs, {"d": (1, 5)})
    assert [e.id for e in found.added] == ["d", "p2"]
    assert [e.id for e in found.missing] == ["c"]
    assert [(a.value, b.value) for a, b in found.changed] == [(1.0, 2.0)]
    assert found.same == 1
    assert not found.alike
    assert compare(ours[:1], theirs[:1], {}).alike
    assert compare(shown, [], {}).alike
