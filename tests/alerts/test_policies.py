"""Policies as people change them: checked before anything is written, versioned, said field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from tidegate_cloud.admin import registry
from tidegate_cloud.alerts import policy_store as store
from tidegate_cloud.alerts.cli import alerts
from tidegate_cloud.policy_checks import check_policy
from tidegate_protocols.errors import BadInput
from tidegate_protocols.policies import BUILT_IN, Level, Policy, Silence

from tests.support.kafka import KafkaNode

GOOD = Policy(
    id="cold", operator="limit", opens=["above"], ends=["within"], group_by=["subject"],
    tell=[Level(to=["desk"]), Level(after_s=300.0, to=["oncall"])],
)  # fmt: skip
CURRENT = {policy.id: policy for policy in BUILT_IN}


@pytest.mark.parametrize("policy", [*BUILT_IN, GOOD], ids=lambda policy: policy.id)
def test_these_can_be_meant(policy: Policy):
    check_policy(policy)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"id": ""}, "id: 1 to 64"), ({"id": "a\nb"}, "id: 1 to 64"), ({"opens": []}, "opens: empty"),
        ({"operator": ""}, "operator: empty"), ({"ends": ["above"]}, "both opens and ends"),
        ({"hold_off_s": -1.0}, "hold_off_s"), ({"hold_off_s": float("nan")}, "hold_off_s"),
        ({"flap_count": 1}, "flap_count"), ({"flap_window_s": float("inf")}, "flap_window_s"),
        ({"group_min": 1}, "group_min"), ({"group_window_s": 0.0}, "group_window_s"),
        ({"group_wait_s": 601.0}, "group_wait_s"), ({"tell": [Level(to=[])]}, "without receivers"),
        ({"tell": [Level(to=["a"]), Level(to=["b"])]}, "later than the one before"),
        ({"tell": [Level(after_s=float("nan"), to=["a"])]}, "after_s"),
        ({"tell": [Level(after_s=float(n), to=["a"]) for n in range(11)]}, "more than 10 levels"),
        ({"inhibits": ["cold"]}, "names itself"), ({"title": "{colour}"}, "the title names {colour}"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_by_field(change: dict[str, Any], complaint: str):
    with pytest.raises(BadInput, match=complaint) as caught:
        check_policy(msgspec.structs.replace(GOOD, **change))
    assert "policy " in str(caught.value)


def test_a_plan_counts_versions_and_leaves_what_is_the_same():
    softer = msgspec.structs.replace(CURRENT["limit"], severity="notice", version=99)
    added, changed, left = store.plan(CURRENT, frozenset(), [GOOD, softer, CURRENT["anomaly"]])
    assert (added.action, changed.action, left.action) == ("add", "change", "leave")
    assert added.after is not None
    assert changed.after is not None
    assert (added.after.version, changed.after.version) == (1, 2)
    assert changed.differences() == [("severity", "", "notice")]


def test_pruning_removes_what_people_wrote_only():
    written = msgspec.structs.replace(CURRENT["limit"], severity="critical", version=4)
    current = CURRENT | {"limit": written, "cold": GOOD}
    changes = store.plan(current, frozenset({"limit", "cold"}), [GOOD], prune=True)
    assert [(change.id, change.action, change.after) for change in changes] == [
        ("cold", "leave", GOOD), ("limit", "remove", CURRENT["limit"]),
    ]  # fmt: skip


def test_a_policy_cannot_hide_one_that_is_not_there():
    hides = msgspec.structs.replace(GOOD, inhibits=["limit", "nothing"])
    with pytest.raises(BadInput, match="there is no policy 'nothing'"):
        store.plan(CURRENT, frozenset(), [hides])


FILE = """
[[policies]]
id = "cold"
operator = "limit"
opens = ["above"]
ends = ["within"]
tell = [{ to = ["desk"] }, { after_s = 300, to = ["oncall"] }]
[[policies]]
id = "limit"
operator = "limit"
opens = ["above", "below"]
ends = ["within"]
group_by = ["subject"]
severity = "critical"
"""


def test_a_file_is_checked_shown_and_put_in_force(fresh_kafka: KafkaNode, tmp_path: Path):
    runner, at = CliRunner(env={"COLUMNS": "200"}), ("--bootstrap", fresh_kafka.bootstrap)
    file = tmp_path / "policies.toml"
    file.write_text(FILE)

    def run(*arguments: str) -> str:
        ran = runner.invoke(alerts, ["policies", *arguments])
        assert ran.exit_code == 0, ran.output
        return ran.output

    assert run("check", str(file)) == "2 policies, each can be meant\n"
    said = run("apply", str(file), "--dry-run", *at)
    assert "add cold (version 1)\n" in said
    assert 'change limit (version 2)\n  severity: "" → "critical"\n' in said
    assert said.endswith("2 of 2 would change\n")
    assert all(row["built_in"] for row in json.loads(run("ls", "--json", *at)))
    assert run("apply", str(file), *at).endswith("2 of 2 changed\n")
    assert run("apply", str(file), *at) == "0 of 2 changed\n"
    assert "desk after 0 s, oncall after 300 s" in run("ls", *at)
    shown = json.loads(run("show", "limit", *at))
    assert (shown["version"], shown["severity"]) == (2, "critical")
    again = tmp_path / "shown.json"
    again.write_text(json.dumps(shown))
    assert run("apply", str(again), *at) == "0 of 1 changed\n"

    policy = store.in_force(fresh_kafka.bootstrap)[0]["cold"]
    edited = msgspec.structs.replace(policy, severity="notice")
    assert store.save(fresh_kafka.bootstrap, edited, 1).after == msgspec.structs.replace(edited, version=2)
    with pytest.raises(BadInput, match="it is version 2 now"):
        store.save(fresh_kafka.bootstrap, edited, 1)
    assert "remove cold" in run("apply", str(again), "--prune", *at)
    assert "cold" not in store.in_force(fresh_kafka.bootstrap)[0]


def test_silences_come_from_files(tmp_path: Path):
    file = tmp_path / "s.toml"
    text = (
        '[[silences]]\nid = "night"\nstarts_us = 0\nfrom_time = "22:00"\nto_time = "06:00"\n'
        'time_zone = "Europe/Lisbon"\nmatchers = [{ name = "device_group", value = "vans" }]\n'
    )
    file.write_text(text)
    (silence,) = registry.load(registry.KINDS["silences"], file)
    assert isinstance(silence, Silence)
    assert silence.matchers[0].op == "="
    file.write_text(text.replace("device_group", "colour"))
    with pytest.raises(BadInput, match="nothing is called 'colour'"):
        registry.load(registry.KINDS["silences"], file)
