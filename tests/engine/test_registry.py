"""What is in force, from the broadcast topics, whatever is written to them."""

from __future__ import annotations

import json

import pytest
from tidegate_cloud.engine.logic import Record
from tidegate_cloud.engine.registry import Registry
from tidegate_protocols.registry import DEVICE, FEEDBACK, FENCE, RULE, Device, Feedback, Fence, Rule
from tidegate_protocols.topics import DEVICES, FENCES, RULES, SCHEMAS
from tidegate_protocols.topics import FEEDBACK as FEEDBACK_TOPIC

HUGE = 10**400  # JSON allows it; no double holds it
RULE_1 = Rule(id="warm", name="Warm", channel="t", high=8.0)
WRONG = Feedback(id="a1", device="d", operator="anomaly", subject="t", ts_us=5, who="kim", value=9.5)


def record(topic: str, key: str, value: bytes | None, offset: int = 0) -> Record:
    return Record(topic, 0, offset, 0, key.encode(), value)


def square(size: float) -> str:
    return json.dumps({"type": "Polygon", "coordinates": [[[0, 0], [size, 0], [size, 1], [0, 1], [0, 0]]]})


@pytest.mark.parametrize(
    "bad",
    [
        record(FENCES.name, "f", FENCE.encode(Fence(id="f", name="", geometry=square(HUGE)))),
        record(FENCES.name, "f", FENCE.encode(Fence(id="f", name="", geometry="[" * 3000 + "]" * 3000))),
        record(FENCES.name, "other", FENCE.encode(Fence(id="f", name="", geometry=square(1)))),
        record(RULES.name, "r" * 70_000, RULE.encode(Rule(id="r" * 70_000, name="", channel="t", high=1.0))),
        record(RULES.name, "other", RULE.encode(RULE_1)),
        record(DEVICES.name, "other", DEVICE.encode(Device(id="d"))),
        record(DEVICES.name, "d", b"junk"),
        record(DEVICES.name, "d", DEVICE.encode(Device(id="d", time_zone="Mars/Olympus"))),
        record(FEEDBACK_TOPIC.name, "other", FEEDBACK.encode(WRONG)),
        record(
            SCHEMAS.name,
            "00",
            json.dumps(
                {
                    "type": "record",
                    "name": "s",
                    "fields": [
                        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}},
                        {"name": "a", "type": ["null", "double"], "resolution": HUGE},
                    ],
                }
            ).encode(),
        ),
    ],
    ids=lambda bad: f"{bad.topic} {bad.value[-8:]!r}",
)
def test_what_cannot_be_read_is_left_out_and_counted(bad: Record) -> None:
    registry = Registry()
    assert len(registry.apply([bad, record(RULES.name, "warm", RULE.encode(RULE_1))])) == 1
    assert list(registry.control.rules) == ["warm"]
    assert not registry.control.fences
    assert not registry.control.devices
    assert not registry.control.feedback
    assert not registry.schemas


@pytest.mark.parametrize("at_once", [True, False], ids=["read at a start", "as they come"])
def test_an_edit_that_cannot_be_read_leaves_what_was_in_force(at_once: bool) -> None:
    registry = Registry()
    records = [record(RULES.name, "warm", RULE.encode(RULE_1)), record(RULES.name, "warm", b"junk", 1)]
    for part in [records] if at_once else [[item] for item in records]:
        registry.apply(part)
    assert registry.control.rules == {"warm": RULE_1}


def test_the_newest_version_counts_and_a_tombstone_removes() -> None:
    registry = Registry()
    newer = Rule(id="warm", name="Warm", version=2, channel="t", high=9.0)
    versions = [RULE.encode(RULE_1), RULE.encode(newer)]
    registry.apply([record(RULES.name, "warm", value, i) for i, value in enumerate(versions)])
    assert registry.control.rules == {"warm": newer}
    registry.apply([record(RULES.name, "warm", RULE.encode(RULE_1), 2), record(RULES.name, "warm", None, 3)])
    assert not registry.control.rules


def test_what_people_said_of_alerts_is_found_by_operator_and_device_and_can_be_taken_back() -> None:
    registry = Registry()
    other = Feedback(id="a0", device="d", operator="anomaly", subject="rpm", ts_us=4, who="kim")
    for offset, said in enumerate((WRONG, other, WRONG)):
        assert not registry.apply([record(FEEDBACK_TOPIC.name, said.id, FEEDBACK.encode(said), offset)])
    assert registry.control.said("anomaly", "d") == [other, WRONG]
    assert registry.control.said("limit", "d") == []
    registry.apply([record(FEEDBACK_TOPIC.name, "a0", None, 3), record(FEEDBACK_TOPIC.name, "a1", None, 4)])
    assert registry.control.said("anomaly", "d") == []
    assert not registry.control.feedback


def test_priors_are_known_by_their_name_until_they_are_removed() -> None:
    from tidegate_protocols.codec.priors import Priors
    from tidegate_protocols.topics import PRIORS

    priors = Priors(bytes(8), (None, None))
    registry, name = Registry(), priors.name.hex()
    assert not registry.apply([record(PRIORS.name, name, priors.canonical_json)])
    assert registry.priors == {priors.name: priors}
    wrong = [record(PRIORS.name, "00000000", priors.canonical_json), record(PRIORS.name, name, b"{}")]
    assert registry.apply(wrong) == wrong
    assert registry.priors == {priors.name: priors}
    registry.apply([record(PRIORS.name, name, None)])
    assert registry.priors == {}
