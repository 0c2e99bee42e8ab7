"""Changing policies: what differs from what is in force, versions, and writing.

A version is counted here: one more than that in force (a built-in policy is version 1), and only where something
differs. Whoever saves may say which version was looked at; if there is another by then, nothing is written. Kafka knows
no compare-and-set, so of two who save within the same instant the later one counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.policies import BUILT_IN, Policy

from tidegate_cloud.admin import registry
from tidegate_cloud.policy_checks import check_policy

from .policies import ALL

KIND = registry.KINDS["policies"]


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """What saving does to one policy. `after` is None where it is removed (a built-in one then counts again)."""

    id: str
    action: Literal["add", "change", "remove", "leave"]
    before: Policy | None
    after: Policy | None

    def differences(self) -> list[tuple[str, Any, Any]]:
        """(field, value before, value after) of what differs, without the version."""
        before = {} if self.before is None else msgspec.to_builtins(self.before)
        after = {} if self.after is None else msgspec.to_builtins(self.after)
        names = [name for name in Policy.__struct_fields__ if name not in ("id", "version")]
        return [(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)]


def in_force(bootstrap: str) -> tuple[dict[str, Policy], frozenset[str]]:
    """The policies by id, and the ids of those that somebody wrote. Raises BadInput."""
    written = {record.id: record for record in registry.read(bootstrap, KIND) if isinstance(record, Policy)}
    together = {policy.id: policy for policy in BUILT_IN} | written
    return {name: together[name] for name in sorted(together)}, frozenset(written)


def plan(
    current: Mapping[str, Policy], written: frozenset[str], wanted: Sequence[Policy], *, prune: bool = False
) -> list[PolicyChange]:
    """What it takes that `wanted` are in force; with `prune`, and no others that somebody wrote. Raises BadInput."""
    changes = []
    for policy in wanted:
        check_policy(policy)
        before = current.get(policy.id)
        number = 1 if before is None else before.version
        if before is not None and msgspec.structs.replace(policy, version=number) == before:
            changes.append(PolicyChange(policy.id, "leave", before, before))
        else:
            after = msgspec.structs.replace(policy, version=number + (before is not None))
            changes.append(PolicyChange(policy.id, "add" if before is None else "change", before, after))
    if prune:
        built_in = {policy.id: policy for policy in BUILT_IN}
        for name in sorted(written - {policy.id for policy in wanted}):
            changes.append(PolicyChange(name, "remove", current[name], built_in.get(name)))
    known = {change.id for change in changes if change.action != "remove"} | (set(current) if not prune else set())
    known |= {policy.id for policy in BUILT_IN}
    for policy in wanted:
        missing = [name for name in policy.inhibits if name != ALL and name not in known]
        if missing:
            raise BadInput(f"there is no policy {missing[0]!r}", where=f"policy {policy.id!r}, inhibits")
    return changes


def apply(bootstrap: str, changes: Sequence[PolicyChange]) -> None:
    """Write what differs. Raises BadInput."""
    records = [change.after for change in changes if change.action in ("add", "change") and change.after is not None]
    if records:
        registry.put(bootstrap, KIND, records)
    removed = [change.id for change in changes if change.action == "remove"]
    if removed:
        registry.remove(bootstrap, KIND, removed)


def save(bootstrap: str, policy: Policy, seen_version: int | None) -> PolicyChange:
    """Save one policy, for who edits it on a page. `seen_version`: the one that was looked at; None: there was none.

    Raises BadInput when it cannot be meant, or when it was changed meanwhile; nothing is written then.
    """
    current, written = in_force(bootstrap)
    before = current.get(policy.id)
    number = None if before is None else before.version
    if number != seen_version:
        now = "it is not there" if number is None else f"it is version {number} now"
        raise BadInput(f"it was changed meanwhile: {now}", where=f"policy {policy.id!r}", hint="look at it again")
    (change,) = plan(current, written, [policy])
    apply(bootstrap, [change])
    return change
