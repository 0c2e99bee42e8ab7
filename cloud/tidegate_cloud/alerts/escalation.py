"""Who is told when: the levels of a policy, one after the other, while nobody acknowledges."""

from __future__ import annotations

import msgspec
from tidegate_protocols.policies import Policy

# Stands for the word in a line's cause that says which round of telling it belongs to, and how far that has gone.
OVER = "over"


class Escalation(msgspec.Struct, frozen=True, array_like=True):
    """How far the telling of one alert or group has gone.

    since_us   when the clock of the levels began; None: it does not run
    round      version at which it began, or more: a condition that comes back is told anew
    level      how many levels have been told in this round
    told       who was told in this round
    """

    since_us: int | None = None
    round: int = 0
    level: int = 0
    told: tuple[str, ...] = ()

    def started(self, at_us: int, version: int) -> Escalation:
        """A new round, with a number of its own."""
        return Escalation(at_us, max(version, self.round + 1))

    def stopped(self) -> Escalation:
        """Somebody has it, or it is hidden: nobody further is told."""
        return msgspec.structs.replace(self, since_us=None)

    def ended(self) -> Escalation:
        """Those who were told know that it is over: whatever comes back unseen is not over for them a second time."""
        return msgspec.structs.replace(self, since_us=None, told=())

    def due_us(self, policy: Policy | None) -> int | None:
        """When the next level is to be told."""
        if self.since_us is None or policy is None or self.level >= len(policy.tell):
            return None
        return self.since_us + int(policy.tell[self.level].after_s * 1e6)

    def next(self, policy: Policy) -> tuple[Escalation, list[str]]:
        """After the next level has been told, and who that was."""
        to = policy.tell[self.level].to
        told = tuple(dict.fromkeys((*self.told, *to)))
        return msgspec.structs.replace(self, level=self.level + 1, told=told), to

    def cause(self) -> str:
        """What names the level that was told last, the same whenever it is worked out."""
        return f"{self.round}.{self.level}"
