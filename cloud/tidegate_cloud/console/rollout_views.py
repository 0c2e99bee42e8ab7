"""What the console says of rollouts: pure functions of what the rollouts' server has on record, and the time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct
from tidegate_protocols.rollouts import OVER, Rollout, RolloutStep
from tidegate_protocols.scan import INT64_MAX

from tidegate_cloud.rollouts import commands, layers
from tidegate_cloud.rollouts.controller import Controller
from tidegate_cloud.rollouts.machine import FAILED, SECOND, Told, alerts_allowed, answer_of, back_of, count

from .views import Key, RolloutView, Stand, WaveView

LISTED_MAX = 100
NOT_TAKEN: frozenset[str] = frozenset((*FAILED, "away"))


class GateView(Struct):
    """One thing that must hold before the next wave. `value` is null while nothing can be said of it.

    success  share of those that answered that run it and are well; at least `limit`
    answers  agents of the wave that run it; at least `limit`
    alerts   new alerts of those that run it; at most `limit`
    """

    name: Literal["success", "answers", "alerts"]
    value: float | None
    limit: float
    holds: bool | None


class RolloutDetail(RolloutView, kw_only=True):
    """A rollout with its gates, what it changes, and every step with who and why.

    `hold_s` is how long the gates must hold, `next_us` when the next wave begins if they do; null where they do not.
    """

    since_us: int
    hold_s: float
    next_us: int | None
    timeout_s: float
    pace: int
    on_failure: str
    gates: list[GateView]
    difference: list[str]
    files: list[str]
    steps: list[RolloutStep]


class AgentView(Struct):
    """An agent of a rollout. `why` is in its own words; `failed`: it failed, even where it went back since."""

    agent: str
    wave: int
    stand: Stand
    failed: bool
    why: str
    running: int | None
    heard_us: int | None
    version: str


class AgentPage(Struct):
    """Some agents; `total` is how many the filters let through."""

    agents: list[AgentView]
    total: int


class RolloutCommandBody(Struct, forbid_unknown_fields=True):
    """What a person asks of a rollout. `why` is kept on the log."""

    action: Literal["approve", "pause", "resume", "abort", "rollback", "retry"]
    id: Key
    why: Annotated[str, Meta(min_length=1, max_length=500)]
    seen_version: (
        Annotated[int, Meta(ge=0, le=INT64_MAX, description="The rollout's version that the person was looking at")]
        | None
    ) = None


class RolloutAnswer(Struct):
    """What came of a command; `answered` false: it stands on Kafka, and no rollouts' server has worked it off yet."""

    id: str
    answered: bool
    state: str = ""
    version: int = 0


class Failure(Struct, frozen=True):
    """An agent that did not take a rollout: how it stood then, and why in its own words."""

    stand: Stand
    why: str


Failures = Mapping[str, Mapping[str, Failure]]
"""By rollout, by agent."""


def listed(controller: Controller, now_us: int) -> list[RolloutView]:
    """The last hundred rollouts, the newest first."""
    found = sorted(controller.rollouts.values(), key=lambda rollout: (-rollout.created_us, rollout.id))
    return [summary(controller, rollout, now_us) for rollout in found[:LISTED_MAX]]


def summary(controller: Controller, rollout: Rollout, now_us: int) -> RolloutView:
    """A rollout with its agents counted."""
    counts: list[Counter[Stand]] = [Counter() for _ in rollout.waves]
    for _, number, stand in stands(controller, rollout, now_us):
        counts[number][stand] += 1
    waves = [
        WaveView(wave.name, wave.size, wave.manual, _when(rollout, number), dict(sorted(counts[number].items())))
        for number, wave in enumerate(rollout.waves)
    ]
    agents = sum(wave.size for wave in rollout.waves)
    order = rollout.order
    return RolloutView(
        id=rollout.id, version=rollout.version, state=rollout.state, layer=order.layer, title=order.title,
        who=rollout.who, why=rollout.why, reason=rollout.reason, created_us=rollout.created_us,
        changed_us=rollout.changed_us, wave=rollout.wave, agents=agents,
        reached=agents - sum(wave.counts.get("waiting", 0) for wave in waves), waves=waves,
        actions=commands.allowed(rollout.state),
    )  # fmt: skip


def detail(controller: Controller, rollout: Rollout, steps: list[RolloutStep], now_us: int) -> RolloutDetail:
    """Everything about a rollout but its agents one by one."""
    order, gate = rollout.order, rollout.order.gate
    next_us = None
    if rollout.state == "running" and rollout.good_us is not None:
        next_us = rollout.good_us + int(gate.hold_s * SECOND)
    view = summary(controller, rollout, now_us)
    return RolloutDetail(
        **{name: getattr(view, name) for name in RolloutView.__struct_fields__},
        since_us=rollout.since_us, hold_s=gate.hold_s,
        next_us=next_us, timeout_s=order.timeout_s, pace=order.pace, on_failure=order.on_failure,
        gates=_gates(controller, rollout, now_us),
        difference=layers.difference(rollout.before, order.content, order.layer), files=sorted(order.files),
        steps=steps,
    )  # fmt: skip


def agents(
    controller: Controller, rollout: Rollout, failures: Failures, now_us: int, wanted: frozenset[str], wave: int | None,
    limit: int,
) -> AgentPage:  # fmt: skip
    """Agents of a rollout. `wanted`: how they stand; empty: those that did not take it, or went back since."""
    failed = failures.get(rollout.id, {})
    found: list[AgentView] = []
    total = 0
    for agent, number, stand in stands(controller, rollout, now_us):
        if wave is not None and wave != number:
            continue
        before = failed.get(agent)
        if not (stand in wanted if wanted else stand in NOT_TAKEN or before is not None):
            continue
        total += 1
        if len(found) < limit:
            heard = controller.fleet.heard.get(agent)
            said = None if heard is None else heard.said
            why = before.why if before is not None else (said.why or said.trouble) if said and stand in FAILED else ""
            found.append(
                AgentView(
                    agent, number, stand, stand in FAILED or before is not None, why,
                    None if said is None else said.running, None if heard is None else heard.at_us,
                    "" if said is None else said.version,
                )
            )  # fmt: skip
    return AgentPage(found, total)


def stands(controller: Controller, rollout: Rollout, now_us: int) -> Iterator[tuple[str, int, Stand]]:
    """Each agent of a rollout with its wave and how it stands."""
    told, heard = controller.fleet.told, controller.fleet.heard
    for number, wave in enumerate(controller.members(rollout.id)):
        for agent in wave:
            last = told.get(agent)
            if last is None or last.rollout not in (rollout.id, back_of(rollout.id)):
                yield agent, number, _elsewhere(rollout, last)
                continue
            back = last.rollout != rollout.id
            answer: Stand = answer_of(rollout, last, heard.get(agent), now_us, back=back)
            if back and answer in ("told", "applying"):
                answer = "going-back"
            yield agent, number, "back" if back and answer == "took" else answer


def _elsewhere(rollout: Rollout, told: Told | None) -> Stand:
    newer = told is not None and rollout.state in OVER and told.at_us >= rollout.created_us
    return "moved-on" if newer else "waiting"


def _when(rollout: Rollout, number: int) -> Literal["done", "now", "later"]:
    if rollout.state == "done" or number < rollout.wave:
        return "done"
    return "now" if number == rollout.wave and rollout.state != "rolled-back" else "later"


def _gates(controller: Controller, rollout: Rollout, now_us: int) -> list[GateView]:
    """How the gates of the wave under way stand; nothing where none is."""
    members = controller.members(rollout.id)
    if rollout.state not in ("running", "waiting", "paused", "stopped") or rollout.wave >= len(members):
        return []
    gate, fleet, wave = rollout.order.gate, controller.fleet, members[rollout.wave]
    counts = count(rollout, wave, fleet.told, fleet.heard, now_us)
    share = counts.took / counts.answered if counts.answered else None
    needed = float(min(gate.answers, len(wave)))
    found = [
        GateView("success", share, gate.success, None if share is None else share >= gate.success),
        GateView("answers", float(counts.took), needed, counts.took >= needed),
    ]
    if gate.alerts_ratio is not None:
        mine = [
            agent
            for part in members[: rollout.wave + 1]
            for agent in part
            if (told := fleet.told.get(agent)) is not None and told.rollout == rollout.id
        ]
        alerts = fleet.alerts_since(mine, gate.before_s, now_us)
        most = math.floor(alerts_allowed(gate.alerts_ratio, alerts.expected))
        found.append(GateView("alerts", float(alerts.now), float(most), alerts.now <= most))
    return found
