"""Limits with hysteresis: against a naive twin, under every batching, and when rules change."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_cloud.operators import Control, Level
from tidegate_cloud.operators.limit import Limit
from tidegate_protocols.errors import BadInput
from tidegate_protocols.registry import Device, Rule
from tidegate_protocols.schema import Channel, Schema

from tests.support import naive
from tests.support.blocks import block_of_rows, check_batching, run

SCHEMA = Schema("engine", (Channel("temp", unit="Cel"), Channel("rpm", "int64", unit="1/min"), Channel("door", "bool")))
HOT = Rule(id="hot", name="Too hot", channel="temp", high=90.0, low=-10.0, hysteresis=5.0, severity="critical")


def control_of(*rules: Rule, devices: dict[str, str] | None = None) -> Control:
    control = Control()
    for rule in rules:
        control.put_rule(rule)
    for device, group in (devices or {}).items():
        control.put_device(Device(id=device, group=group))
    return control


def temps(*values: float | None, device: str = "a") -> list[tuple[str, int, list[float | None]]]:
    return [(device, 1_000_000 * i, [value, None, None]) for i, value in enumerate(values)]


def test_a_value_goes_above_and_comes_back_under_the_hysteresis() -> None:
    block = block_of_rows(SCHEMA, temps(80, 90, 90.5, 86, None, 91, 85, 80))
    events, state = run(Limit(), [block], control_of(HOT))
    assert [(seq, event.kind, event.phase, event.value, event.limit) for _, seq, event in events] == [
        (2, "above", "begin", 90.5, 90.0),
        (6, "within", "end", 85.0, 90.0),
    ]
    event = events[0][2]
    assert (event.subject, event.unit, event.ts_us) == ("hot", "Cel", 2_000_000)
    assert event.attrs == {"name": "Too hot", "channel": "temp", "severity": "critical", "rule_version": "1"}
    assert Limit().levels(state, "a") == []


def test_a_jump_from_one_side_to_the_other_passes_within() -> None:
    events, state = run(Limit(), [block_of_rows(SCHEMA, temps(95, -20))], control_of(HOT))
    assert [(seq, event.kind, event.limit) for _, seq, event in events] == [
        (0, "above", 90.0), (1, "within", 90.0), (1, "below", -10.0),
    ]  # fmt: skip
    assert Limit().levels(state, "a") == [Level("below", "hot", 1_000_000)]


def test_whole_numbers_and_switches_have_limits_too() -> None:
    rules = [Rule(id="fast", name="", channel="rpm", high=3000), Rule(id="open", name="", channel="door", high=0.5)]
    rows = [("a", 0, [None, 2999, False]), ("a", 1, [None, 3001, True]), ("a", 2, [None, 3000, False])]
    events, _ = run(Limit(), [block_of_rows(SCHEMA, rows)], control_of(*rules))
    assert [(seq, event.subject, event.kind) for _, seq, event in events] == [
        (1, "fast", "above"), (1, "open", "above"), (2, "fast", "within"), (2, "open", "within"),
    ]  # fmt: skip


def test_a_rule_is_for_its_groups_and_ends_with_them() -> None:
    control = control_of(Rule(id="r", name="", channel="temp", high=1.0, groups=["g"]), devices={"a": "g"})
    block = block_of_rows(SCHEMA, [*temps(5), *temps(5, device="b")])
    events, state = run(Limit(), [block], control)
    assert [(device, event.kind) for device, _, event in events] == [("a", "above")]
    control.put_device(Device(id="a", group="h"))
    events, state = run(Limit(), [block], control, state)
    assert [(device, event.kind, event.attrs["reason"]) for device, _, event in events] == [
        ("a", "within", "the rule is not for this group")
    ]
    assert state.to_bytes("a") == b""


def test_a_removed_rule_ends_what_was_open_once() -> None:
    control = control_of(HOT)
    _, state = run(Limit(), [block_of_rows(SCHEMA, [*temps(95), *temps(50, device="b")])], control)
    control.remove_rule("hot")
    block = block_of_rows(SCHEMA, [*temps(96, 97), *temps(50, device="b")])
    events, state = run(Limit(), [block], control, state)
    assert [(device, seq, event.kind, event.attrs) for device, seq, event in events] == [
        ("a", 0, "within", {"reason": "the rule was removed"})
    ]
    assert run(Limit(), [block], control, state)[0] == []


def test_an_edited_rule_judges_from_the_next_value() -> None:
    control = control_of(HOT)
    _, state = run(Limit(), [block_of_rows(SCHEMA, temps(95))], control)
    control.put_rule(Rule(id="hot", name="", version=2, channel="temp", high=100.0))
    events, _ = run(Limit(), [block_of_rows(SCHEMA, temps(95))], control, state)
    assert [(event.kind, event.limit) for _, _, event in events] == [("within", 100.0)]


VALUES = st.one_of(st.none(), st.just(math.nan), st.sampled_from([math.inf, -math.inf]), st.integers(-6, 6).map(float))
RULES = [
    Rule(id="both", name="", channel="temp", low=-3.0, high=3.0, hysteresis=1.5),
    Rule(id="high", name="", channel="temp", high=2.0),
    Rule(id="low", name="", channel="temp", low=0.0, hysteresis=2.0),
]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), VALUES), min_size=1, max_size=60), st.sets(st.integers(1, 59)),
    st.permutations([0, 1, 2]),
)  # fmt: skip
def test_any_sequence_equals_the_naive_twin_under_every_batching(
    rows: list[tuple[str, float | None]], cuts: set[int], order: list[int]
) -> None:
    block = block_of_rows(SCHEMA, [(device, i, [value, None, None]) for i, (device, value) in enumerate(rows)])
    control = control_of(*RULES)
    check_batching(Limit(), block, control, cuts, [i for i in order if i < len(block.devices)])
    events, _ = run(Limit(), [block], control)
    for device in block.devices:
        values = [math.nan if value is None else value for name, value in rows if name == device]
        for rule in RULES:
            mine = [(seq, event.kind) for name, seq, event in events if name == device and event.subject == rule.id]
            assert mine == naive.limit_events(values, rule)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "neither low nor high"),
        ({"high": math.inf}, "high is not a finite number"),
        ({"low": 2.0, "high": 1.0}, "low 2.0 is above high 1.0"),
        ({"high": 1.0, "hysteresis": -1.0}, "hysteresis -1.0 is negative"),
        ({"low": 0.0, "high": 2.0, "hysteresis": 1.0}, "leaves nothing between"),
    ],
)
def test_a_rule_that_cannot_be_applied_is_refused_and_the_old_one_stays(fields: dict[str, float], words: str) -> None:
    control = control_of(HOT)
    with pytest.raises(BadInput, match=words):
        control.put_rule(Rule(id="hot", name="", channel="temp", **fields))  # type: ignore[arg-type]
    assert control.rules["hot"] == HOT
