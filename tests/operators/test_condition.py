"""Rules as expressions: against a naive twin per scan, under every batching, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_cloud.operators import Control, Level
from tidegate_cloud.operators.condition import Condition
from tidegate_protocols.errors import BadInput
from tidegate_protocols.registry import RULE, Device, Rule
from tidegate_protocols.schema import Channel, Schema

from tests.support.blocks import Row, block_of_rows, check_batching, run

SCHEMA = Schema("engine", (Channel("temp"), Channel("speed"), Channel("door", "bool")))
OTHER = Schema("other", (Channel("temp"),))
S = 1_000_000


def rule_of(expression: str, name: str = "r", **fields: object) -> Rule:
    return Rule(id=name, name="Hot and still", expression=expression, **fields)  # type: ignore[arg-type]


def control_of(*rules: Rule) -> Control:
    control = Control()
    for rule in rules:
        control.put_rule(rule)
    return control


def told(rows: list[Row], rule: Rule, gaps: tuple[int, ...] = ()) -> list[tuple[int, str]]:
    events, _ = run(Condition(), [block_of_rows(SCHEMA, rows, gaps)], control_of(rule))
    return [(seq, event.kind) for _, seq, event in events]


def test_a_condition_holds_once_it_has_lasted_and_ceases_when_it_is_not_true() -> None:
    rows: list[Row] = [("a", i * 10 * S, [t, 0.0, None]) for i, t in enumerate([96, 90, 96, 97, 98, 99, 90])]
    rule = rule_of("temp > 95 and speed < 2 for 20s", severity="critical")
    events, state = run(Condition(), [block_of_rows(SCHEMA, rows[:6])], control_of(rule))
    ((_, seq, event),) = events
    assert (seq, event.kind, event.phase, event.ts_us, event.subject) == (4, "holds", "begin", 40 * S, "r")
    assert event.attrs == {
        "name": "Hot and still", "severity": "critical", "expression": rule.expression, "rule_version": "1",
        "since_us": str(20 * S),
    }  # fmt: skip
    assert Condition().levels(state, "a") == [Level("holds", "r", 40 * S)]
    assert told(rows, rule) == [(4, "holds"), (6, "ceased")]


def test_a_gap_begins_what_is_pending_anew_also_in_a_scan_of_another_schema() -> None:
    rows: list[Row] = [("a", i * 10 * S, [96, 0.0, None]) for i in range(5)]
    rule = rule_of("temp > 95 and speed < 2 for 20s")
    assert told(rows, rule, (2,)) == [(4, "holds")]
    control = control_of(rule)
    blocks = [
        block_of_rows(SCHEMA, rows[:2]), block_of_rows(OTHER, [("a", 15 * S, [1.0])], (0,)),
        block_of_rows(SCHEMA, rows[2:4]),
    ]  # fmt: skip
    assert run(Condition(), blocks, control)[0] == []


def test_what_holds_ends_when_the_rule_is_removed_or_not_for_the_group() -> None:
    control = control_of(rule_of("temp > 95", groups=["g"]))
    control.put_device(Device(id="a", group="g"))
    block = block_of_rows(SCHEMA, [("a", 0, [96, 0.0, None])])
    _, state = run(Condition(), [block], control)
    control.remove_rule("r")
    events, state = run(Condition(), [block], control, state)
    assert [(event.kind, event.attrs["reason"]) for _, _, event in events] == [("ceased", "the rule was removed")]
    assert state.to_bytes("a") == b""


def test_an_edited_rule_begins_what_is_pending_anew() -> None:
    control = control_of(rule_of("temp > 95 for 20s"))
    blocks = [block_of_rows(SCHEMA, [("a", i * 10 * S, [96, 0.0, None])]) for i in range(4)]
    _, state = run(Condition(), blocks[:2], control)
    control.put_rule(rule_of("temp > 90 for 20s", version=2))
    assert run(Condition(), blocks[2:], control, state)[0] == []


EXPRESSIONS = {
    "temp > 1": lambda t, s, d: None if t is None else t > 1,
    "not temp > 1": lambda t, s, d: None if t is None else t <= 1,
    "temp != 1 or speed >= 2": lambda t, s, d: (t is not None and t != 1) or (s is not None and s >= 2),
    "abs(temp - speed) < 1 and max(temp, speed, 2) == 2": lambda t, s, d: (
        t is not None and s is not None and abs(t - s) < 1 and max(t, s, 2) == 2
    ),
    "not (temp < 0 and door)": lambda t, s, d: (t is not None and t >= 0) or (d is not None and not d),
    "-1 <= temp / 2 < 1": lambda t, s, d: t is not None and -1 <= t / 2 < 1,
}
NUMBER = st.one_of(st.none(), st.integers(-3, 3).map(float))
SCANS = st.lists(
    st.tuples(
        st.sampled_from("ab"), NUMBER, NUMBER, st.sampled_from([None, False, True]), st.integers(0, 3), st.booleans()
    ),
    min_size=1, max_size=40,
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(SCANS, st.sampled_from(sorted(EXPRESSIONS)), st.sampled_from([0, 2, 5]), st.sets(st.integers(1, 39)))
def test_any_scans_equal_the_naive_twin_under_every_batching(scans, expression, seconds, cuts) -> None:  # type: ignore[no-untyped-def]
    rows: list[Row] = []
    expected: list[tuple[str, int, str]] = []
    since: dict[str, int | None] = {}
    holds: dict[str, bool] = {}
    seq: dict[str, int] = {}
    now = 0
    for device, t, s, d, step, gap in scans:
        now += step * S
        rows.append((device, now, [t, s, d]))
        i = seq[device] = seq.get(device, -1) + 1
        if gap and not holds.get(device):
            since[device] = None
        if not EXPRESSIONS[expression](t, s, d):
            if holds.get(device):
                expected.append((device, i, "ceased"))
            since[device], holds[device] = None, False
            continue
        first = since.get(device)
        if first is None:
            first = since[device] = now
        if not holds.get(device) and now - first >= seconds * S:
            holds[device] = True
            expected.append((device, i, "holds"))
    block = block_of_rows(SCHEMA, rows, [i for i, scan in enumerate(scans) if scan[5]])
    control = control_of(rule_of(f"{expression} for {seconds}s"))
    check_batching(Condition(), block, control, cuts, range(len(block.devices)))
    events, _ = run(Condition(), [block], control)
    assert [(device, i, event.kind) for device, i, event in events] == sorted(expected, key=lambda e: e[:2])


@pytest.mark.parametrize(
    ("expression", "place", "words"),
    [
        ("temp >", "column 7", "syntax"),
        (" temp > 1 )", "column 11", "unmatched"),
        ("temp > 1 and __import__('os')", "column 14", "not a condition"),
        ("temp > eval(1)", "column 8", "not allowed here"),
        ("temp + 1", "column 1", "not a condition"),
        ("temp > 1 for ever", "column 10", "no duration"),
        ("temp in speed", "column 1", "comparison"),
        ("temp > 1) or (speed > 2", "column", "unmatched"),
        ("1 > 0", "expression", "names no channel"),
        ("temp > 1e400", "column 8", "too large"),
        ("temp > 1 for 8d", "column 14", "too long"),
        ("(" * 400 + "temp" + ")" * 400, "expression", ""),
    ],
)
def test_an_expression_that_is_not_allowed_is_refused_with_its_place(expression: str, place: str, words: str) -> None:
    with pytest.raises(BadInput) as error:
        control_of(rule_of(expression))
    assert place in str(error.value)
    assert words in str(error.value)


def test_an_expression_stands_alone() -> None:
    with pytest.raises(BadInput, match="beside channel"):
        control_of(rule_of("temp > 1", channel="temp"))


def test_the_record_carries_an_expression() -> None:
    rule = rule_of("temp > 1 for 2min")
    assert RULE.decode(RULE.encode(rule)) == rule
