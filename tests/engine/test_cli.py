"""`tidegate processor` and `tidegate dlq` as people call them."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner
from tidegate_cloud.engine import Record
from tidegate_cloud.engine.deadletters import dead_letter
from tidegate_cloud.engine.dlq_cli import dlq
from tidegate_protocols.errors import BadInput
from tidegate_protocols.frame import encode_frame
from tidegate_protocols.topics import DEAD_LETTERS, EVENTS, FRAMES, RULES, SCHEMAS

from tests.engine.frames import SPEED, announcement, batch, home
from tests.engine.processes import read
from tests.support.kafka import KafkaNode, produce
from tests.support.service import services
from tests.support.wait import until


def test_a_processor_finds_events_and_dead_letters_can_be_looked_at(fresh_kafka: KafkaNode, tmp_path: Path) -> None:
    from tidegate_protocols.registry import RULE, Rule

    bootstrap = fresh_kafka.bootstrap
    produce(bootstrap, SCHEMAS.name, [(record.key, record.value) for record in announcement(SPEED)])
    rule = Rule(id="fast", name="Too fast", channel="speed", high=20.0)
    produce(bootstrap, RULES.name, [(b"fast", RULE.encode(rule))])
    frames = [
        (b"bus-1", encode_frame(batch("bus-1", [10.0, 30.0, 10.0], seq=0))),
        (b"bus-1", b"noise"),
        (b"bus-2", encode_frame(batch("bus-3", [10.0], seq=0))),
    ]
    produce(bootstrap, FRAMES.name, frames)
    with services(tmp_path) as group:
        processor = group.add("processor", "processor", "--bootstrap", bootstrap).start()
        until(lambda: len(read(fresh_kafka, DEAD_LETTERS.name)) == 2, what="two dead letters")
        until(lambda: len(read(fresh_kafka, EVENTS.name)) >= 2, what="events")
        assert processor.stop() == 0
        assert "metrics on http://127.0.0.1:" in processor.output()

    listed = CliRunner().invoke(dlq, ["ls", "--bootstrap", bootstrap, "--json"])
    letters = {letter["reason"]: letter for letter in map(json.loads, listed.stdout.splitlines())}
    assert set(letters) == {"unreadable", "wrong-key"}
    assert letters["unreadable"]["key"] == "bus-1"
    assert letters["unreadable"]["topic"] == FRAMES.name
    assert (letters["unreadable"]["partition"], letters["unreadable"]["offset"]) == (home("bus-1"), 1)
    assert "the frame is of device 'bus-3'" in letters["wrong-key"]["error"]

    only = CliRunner().invoke(dlq, ["ls", "--bootstrap", bootstrap, "--json", "--reason", "wrong-key"])
    assert [json.loads(line)["key"] for line in only.stdout.splitlines()] == ["bus-2"]
    table = CliRunner().invoke(dlq, ["ls", "--bootstrap", bootstrap])
    assert table.exit_code == 0
    assert "unreadable" in table.stdout

    shown = CliRunner().invoke(dlq, ["show", letters["unreadable"]["place"], "--bootstrap", bootstrap, "--json"])
    assert bytes.fromhex(json.loads(shown.stdout)["value"]) == b"noise"
    missing = CliRunner().invoke(dlq, ["show", "0@999999", "--bootstrap", bootstrap])
    assert missing.exit_code == 1
    assert "there is no dead letter 0@999999" in missing.stderr


def test_dead_letters_go_back_once_where_that_can_help_and_what_was_done_is_listed(fresh_kafka: KafkaNode) -> None:
    bootstrap = fresh_kafka.bootstrap
    lost = batch("bus-1", [1.0, 2.0], seq=0)
    records = [
        (Record(FRAMES.name, 3, 7, 0, b"bus-1", encode_frame(lost)), "wrong-partition"),
        (Record(FRAMES.name, 3, 8, 0, b"bus-1", b"noise"), "unreadable"),
        (Record(FRAMES.name, 3, 9, 0, b"bus-2", encode_frame(lost)), "wrong-key"),
    ]
    for record, reason in records:
        letter = dead_letter(record, reason, BadInput("wrong"))  # type: ignore[arg-type]
        headers = {name: value or b"" for name, value in letter.headers}
        produce(bootstrap, DEAD_LETTERS.name, [(letter.key, letter.value)], headers=headers, partition=3)

    def call(*arguments: str, status: int = 0) -> str:
        ran = CliRunner().invoke(dlq, [arguments[0], "--bootstrap", bootstrap, *arguments[1:]])
        assert ran.exit_code == status, ran.output
        return ran.stdout

    assert "say which" in CliRunner().invoke(dlq, ["retry", "--bootstrap", bootstrap]).output
    assert call("retry", "--all", "--dry-run") == "1 would be retried, 2 left\n"
    assert not read(fresh_kafka, FRAMES.name)
    assert call("retry", "--all") == "1 retried, 2 left\n"
    assert call("retry", "--all") == "0 retried, 3 left\n"
    [back] = read(fresh_kafka, FRAMES.name)
    assert (back.partition, back.key, back.value) == (home("bus-1"), b"bus-1", encode_frame(lost))
    assert call("drop", "--reason", "unreadable", "--since", "2020-01-01") == "1 dropped, 0 left\n"
    call("drop", "3@99", status=1)
    listed = [json.loads(line) for line in call("ls", "--json").splitlines()]
    assert {letter["reason"]: letter["answer"] for letter in listed} == {
        "wrong-partition": "retried", "unreadable": "dropped", "wrong-key": "",
    }  # fmt: skip
    assert [json.loads(line)["reason"] for line in call("ls", "--json", "--open").splitlines()] == ["wrong-key"]
