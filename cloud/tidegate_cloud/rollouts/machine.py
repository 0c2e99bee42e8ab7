"""What a rollout does next: a pure function of how it stands, what its agents say, and the time.

    running ──gate holds──▶ next wave ──…──▶ done
       │  └─a wave needs a person─▶ waiting ──approve──▶ running
       ├──pause──▶ paused ──resume──▶ running
       ├──abort──▶ aborted          (those that have it keep it)
       └──a gate fails, or rollback──▶ rolling-back ──all answered──▶ rolled-back
                    └─ on_failure = stop ──▶ stopped ──approve | rollback | abort──▶ …

An agent that was there when it was told and says nothing before the time-out has failed: a configuration that cuts
agents off looks just like that. One that was away before it was told is away: it is told all the same, is not waited
for, and does not count. So dead agents neither hold a rollout up nor hide what it does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tidegate_protocols.ota import Reported
from tidegate_protocols.rollouts import Rollout, RolloutState

from . import plan

SECOND = 1_000_000
Answer = Literal["waiting", "told", "applying", "took", "refused", "rolled-back", "unwell", "silent", "away"]
FAILED: frozenset[Answer] = frozenset(("refused", "rolled-back", "unwell", "silent"))
PENDING: frozenset[Answer] = frozenset(("told", "applying"))


class Told(NamedTuple):
    """The last thing that an agent was told: its number, for which rollout, when."""

    number: int
    rollout: str
    at_us: int


class Heard(NamedTuple):
    """The last thing that an agent said, and when Kafka had it."""

    said: Reported
    at_us: int


@dataclass(slots=True)
class Counts:
    """Agents of a wave by answer."""

    waiting: int = 0
    pending: int = 0
    took: int = 0
    failed: int = 0
    away: int = 0

    @property
    def answered(self) -> int:
        return self.took + self.failed


class Alerts(NamedTuple):
    """New alerts of the agents that run it: `now` so far, and how many `before` lets one expect in that time."""

    now: int
    expected: float


@dataclass(frozen=True, slots=True)
class Step:
    """What to do. `state` None: it stays. `tell`: these agents are told; `wave`: the next wave begins."""

    action: str = ""
    state: RolloutState | None = None
    why: str = ""
    tell: tuple[str, ...] = ()
    wave: bool = False
    good_us: int | None = None


def back_of(rollout: str) -> str:
    """The name under which a rollout's roll-back is told."""
    return f"{rollout}/back"


def answer_of(rollout: Rollout, told: Told | None, heard: Heard | None, now_us: int, *, back: bool = False) -> Answer:
    """How an agent stands to a rollout; with `back`, to its roll-back."""
    if told is None or told.rollout != (back_of(rollout.id) if back else rollout.id):
        return "waiting"
    order = rollout.order
    late = now_us - told.at_us > order.timeout_s * SECOND
    if heard is not None and heard.said.number >= told.number:
        said = heard.said
        if said.state == "running":
            return "took" if said.healthy else "unwell"
        if said.state == "applying":
            return "silent" if late else "applying"
        return said.state
    there = heard is not None and heard.at_us >= told.at_us - order.heard_s * SECOND
    if not there:
        return "away"
    return "silent" if late else "told"


def count(
    rollout: Rollout,
    agents: Iterable[str],
    told: Mapping[str, Told],
    heard: Mapping[str, Heard],
    now_us: int,
    *,
    back: bool = False,
) -> Counts:
    """Count agents by how they stand."""
    counts = Counts()
    for agent in agents:
        answer = answer_of(rollout, told.get(agent), heard.get(agent), now_us, back=back)
        if answer == "waiting":
            counts.waiting += 1
        elif answer in PENDING:
            counts.pending += 1
        elif answer == "took":
            counts.took += 1
        elif answer == "away":
            counts.away += 1
        else:
            counts.failed += 1
    return counts


def decide(
    rollout: Rollout,
    agents: Iterable[str],
    told: Mapping[str, Told],
    heard: Mapping[str, Heard],
    alerts: Alerts,
    now_us: int,
) -> Step:
    """The next step of a rollout. `agents`: those of its wave; when it is being rolled back, all of them."""
    agents = list(agents)
    if rollout.state == "rolling-back":
        return _roll_back(rollout, agents, told, heard, now_us)
    if rollout.state != "running":
        return Step(good_us=rollout.good_us)
    counts = count(rollout, agents, told, heard, now_us)
    failure = _failure(rollout, counts, alerts)
    if failure:
        state: RolloutState = "rolling-back" if rollout.order.on_failure == "rollback" else "stopped"
        return Step("failed", state, failure)
    if counts.waiting:
        return Step(tell=_due(rollout, agents, told, now_us), good_us=None)
    return _gate(rollout, counts, now_us)


def _gate(rollout: Rollout, counts: Counts, now_us: int) -> Step:
    gate = rollout.order.gate
    last = rollout.wave == len(rollout.waves) - 1
    nobody = counts.took + counts.failed + counts.pending == 0
    # The last wave may be all away: whoever comes back gets it, and there is nothing left to protect.
    if counts.pending or (counts.took < min(gate.answers, rollout.waves[rollout.wave].size) and not (last and nobody)):
        return Step(good_us=None)
    good_us = rollout.good_us if rollout.good_us is not None else now_us
    if now_us - good_us < gate.hold_s * SECOND:
        return Step(good_us=good_us)
    if last:
        away = f", {counts.away} not heard of yet" if counts.away else ""
        return Step("done", "done", f"{counts.took} of the last wave run it{away}", good_us=good_us)
    if rollout.waves[rollout.wave + 1].manual and rollout.let <= rollout.wave:
        return Step("waiting", "waiting", f"{rollout.waves[rollout.wave + 1].name} needs a person", good_us=good_us)
    return Step("wave", wave=True, why=f"all gates held: {counts.took} run it", good_us=good_us)


def _failure(rollout: Rollout, counts: Counts, alerts: Alerts) -> str:
    """Why the gate can hold no more, or "". It fails as soon as it cannot be passed: nobody waits for the rest."""
    gate = rollout.order.gate
    possible = counts.took + counts.pending
    if counts.failed and possible < gate.success * (possible + counts.failed):
        return f"{counts.failed} of {counts.answered} that answered did not take it; at least {gate.success:.0%} must"
    if gate.alerts_ratio is not None and alerts.now > alerts_allowed(gate.alerts_ratio, alerts.expected):
        return f"{alerts.now} new alerts where {alerts.expected:.1f} were to be expected"
    return ""


def alerts_allowed(ratio: float, expected: float) -> float:
    """More new alerts than this fail the gate."""
    allowed = ratio * expected
    # Three standard deviations of a Poisson count, and three alerts for fleets that never had any.
    return allowed + 3 * math.sqrt(allowed) + 3


def _due(rollout: Rollout, agents: Iterable[str], told: Mapping[str, Told], now_us: int) -> tuple[str, ...]:
    """Whom to tell now, by pace and windows."""
    order = rollout.order
    if not plan.is_open(order.windows, now_us):
        return ()
    done, left = 0, []
    for agent in agents:
        last = told.get(agent)
        if last is not None and last.rollout == rollout.id:
            done += 1
        else:
            left.append(agent)
    if not order.pace:
        return tuple(left)
    allowed = 1 + int(order.pace * max(0, now_us - rollout.since_us) / (60 * SECOND)) - done
    return tuple(left[: max(0, allowed)])


def _roll_back(
    rollout: Rollout, agents: list[str], told: Mapping[str, Told], heard: Mapping[str, Heard], now_us: int
) -> Step:
    """Everybody who was told is told what was before, at once: no pace and no window for what does harm."""
    names = (rollout.id, back_of(rollout.id))
    reached = [agent for agent in agents if (last := told.get(agent)) is not None and last.rollout in names]
    left = tuple(agent for agent in reached if told[agent].rollout == rollout.id)
    if left:
        return Step(tell=left)
    counts = count(rollout, reached, told, heard, now_us, back=True)
    if counts.pending:
        return Step()
    words = f"{counts.took} are back on what they ran"
    if counts.failed:
        words += f", {counts.failed} did not take that either"
    if counts.away:
        words += f", {counts.away} not heard of yet"
    return Step("rolled-back", "rolled-back", words)
