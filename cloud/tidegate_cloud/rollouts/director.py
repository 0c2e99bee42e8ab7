"""The director: signs, for one agent at a time, what that agent should run.

Each agent has a TUF repository of its own under a root that all share, as the director of Uptane (standard 2.1,
section 5.3.2) makes one for each vehicle: timestamp → snapshot → targets, whose paths begin with the agent's name. A
set is small, an agent learns nothing of others, and another agent's set is no use to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from tidegate_protocols.ota import Desired, Place, target_path
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from .keys import Ring

# An agent that is held back from news installs nothing new after this; what it runs goes on.
TIMESTAMP_DAYS = 14
TARGETS_DAYS = 365
_COMPACT = JSONSerializer(compact=True)

S = TypeVar("S", Timestamp, Snapshot, Targets)


class Director:
    """Signs with the keys of a ring. `files`, throughout: name → (SHA-256 in hex, length in bytes)."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def sign(
        self,
        agent: str,
        number: int,
        stamp: int,
        files: Mapping[str, tuple[str, int]],
        *,
        rollout: str,
        now_us: int,
        places: Mapping[str, list[Place]],
    ) -> Desired:
        """What `agent` should run from `number` on. `stamp` must be above that of its last one."""
        now = datetime.fromtimestamp(now_us // 1_000_000, UTC)
        later = now + timedelta(days=TARGETS_DAYS)
        paths = {target_path(agent, name): entry for name, entry in sorted(files.items())}
        targets = Targets(
            version=stamp, expires=later, unrecognized_fields={"custom": {"number": number, "rollout": rollout}},
            targets={path: TargetFile(length, {"sha256": sha256}, path) for path, (sha256, length) in paths.items()},
        )  # fmt: skip
        signed_targets = self._signed(targets, "targets")
        snapshot = Snapshot(version=stamp, expires=later, meta={"targets.json": MetaFile(stamp)})
        signed_snapshot = self._signed(snapshot, "snapshot")
        return Desired(
            agent, number, stamp, self._timestamp(stamp, stamp, now), signed_snapshot, signed_targets, dict(places)
        )

    def renew(self, desired: Desired, *, now_us: int) -> Desired:
        """The same with a fresh timestamp: it says that nothing newer is being held back."""
        now = datetime.fromtimestamp(now_us // 1_000_000, UTC)
        snapshot = Metadata[Snapshot].from_bytes(desired.snapshot).signed.version
        stamp = desired.stamp + 1
        return Desired(
            desired.agent,
            desired.number,
            stamp,
            self._timestamp(stamp, snapshot, now),
            desired.snapshot,
            desired.targets,
            desired.places,
        )

    def _timestamp(self, stamp: int, snapshot: int, now: datetime) -> bytes:
        expires = now + timedelta(days=TIMESTAMP_DAYS)
        return self._signed(Timestamp(version=stamp, expires=expires, snapshot_meta=MetaFile(snapshot)), "timestamp")

    def _signed(self, signed: S, role: str) -> bytes:
        metadata = Metadata[S](signed)
        for signer in self._ring.signers[role]:
            metadata.sign(signer, append=True)
        return metadata.to_bytes(_COMPACT)
