"""What people may ask of a rollout, and what comes of it: pure, like the machine."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate_protocols.rollouts import OVER, Rollout, RolloutCommand, RolloutState

# action → (states in which it may be asked, state that it leads to; "" = what was before the pause)
_TABLE: dict[str, tuple[frozenset[RolloutState], RolloutState | None]] = {
    "approve": (frozenset(("waiting", "stopped")), "running"),
    "pause": (frozenset(("running", "waiting")), "paused"),
    "resume": (frozenset(("paused",)), None),
    "abort": (frozenset(("running", "waiting", "paused", "stopped")), "aborted"),
    "rollback": (frozenset(("running", "waiting", "paused", "stopped", "aborted", "done")), "rolling-back"),
    "retry": (frozenset(("running", "waiting", "paused", "stopped", "done")), None),
}
_SAID = {
    "approve": "approved", "pause": "paused", "resume": "resumed", "abort": "aborted", "rollback": "rolling-back",
    "retry": "retried",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command leads to. `refusal` says why nothing."""

    action: str
    state: RolloutState | None = None
    refusal: str = ""
    retry: bool = False


def allowed(state: RolloutState) -> list[str]:
    """What may be asked of a rollout in this state."""
    return [action for action, (states, _) in _TABLE.items() if state in states]


def apply(rollout: Rollout | None, command: RolloutCommand) -> Outcome:
    """The outcome of a command other than a push. Changes nothing."""
    entry = _TABLE.get(command.action)
    if entry is None:
        return Outcome("refused", refusal=f"{command.action!r} is not known: {', '.join(_TABLE)}")
    if rollout is None:
        return Outcome("refused", refusal=f"there is no rollout {command.rollout!r}")
    if command.seen_version is not None and command.seen_version != rollout.version:
        return Outcome(
            "refused", refusal=f"{rollout.id} has changed since you looked: it is {rollout.state}, {rollout.reason}"
        )
    states, state = entry
    if rollout.state not in states:
        over = ", and over" if rollout.state in OVER else ""
        return Outcome("refused", refusal=f"{rollout.id} is {rollout.state}{over}: nothing to {command.action}")
    if command.action == "resume":
        state = rollout.resumes or "running"
    return Outcome(_SAID[command.action], state, retry=command.action == "retry")
