"""The director: signs, for one agent at a time, what that agent should run.

Each agent has a TUF repository of its own under a root that all share, as the director of Uptane (standard 2.1,
section 5.3.2) makes one for each vehicle: timestamp → snapshot → targets, whose paths begin with the agent's name. A
set is small, an agent learns nothing of others, and another agent's set is no use to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TypeVar

from tidegate_protocols.ota import Desired, Place, target_path
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from .keys import Ring

# An agent that is held back from news installs nothing new after this; what it runs goes on.
TIMESTAMP_DAYS = 14
TARGETS_DAYS = 365
_SHARED = 256
_COMPACT = JSONSerializer(compact=True)

S = TypeVar("S", Timestamp, Snapshot, Targets)


class Director:
    """Signs with the keys of a ring. `files`, throughout: name → (SHA-256 in hex, length in bytes).

    Timestamps and snapshots name versions only, never an agent, so agents that are told in the same second share them:
    what is an agent's own are its targets, whose version no other targets of that agent ever have.
    """

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._timestamp = lru_cache(_SHARED)(self._sign_timestamp)
        self._snapshot = lru_cache(_SHARED)(self._sign_snapshot)

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
        now_s = now_us // 1_000_000
        paths = {target_path(agent, name): entry for name, entry in sorted(files.items())}
        targets = Targets(
            version=stamp, expires=_later(now_s, TARGETS_DAYS),
            unrecognized_fields={"custom": {"number": number, "rollout": rollout}},
            targets={path: TargetFile(length, {"sha256": sha256}, path) for path, (sha256, length) in paths.items()},
        )  # fmt: skip
        signed = self._signed(targets, "targets")
        timestamp, snapshot = self._timestamp(stamp, stamp, now_s), self._snapshot(stamp, now_s)
        return Desired(agent, number, stamp, timestamp, snapshot, signed, dict(places))

    def renew(self, desired: Desired, *, now_us: int) -> Desired:
        """The same with a fresh timestamp: it says that nothing newer is being held back."""
        snapshot = Metadata[Snapshot].from_bytes(desired.snapshot).signed.version
        stamp = desired.stamp + 1
        return Desired(
            desired.agent, desired.number, stamp, self._timestamp(stamp, snapshot, now_us // 1_000_000),
            desired.snapshot, desired.targets, desired.places,
        )  # fmt: skip

    def _sign_timestamp(self, stamp: int, snapshot: int, now_s: int) -> bytes:
        expires = _later(now_s, TIMESTAMP_DAYS)
        return self._signed(Timestamp(version=stamp, expires=expires, snapshot_meta=MetaFile(snapshot)), "timestamp")

    def _sign_snapshot(self, stamp: int, now_s: int) -> bytes:
        meta = {"targets.json": MetaFile(stamp)}
        return self._signed(Snapshot(version=stamp, expires=_later(now_s, TARGETS_DAYS), meta=meta), "snapshot")

    def _signed(self, signed: S, role: str) -> bytes:
        metadata = Metadata[S](signed)
        for signer in self._ring.signers[role]:
            metadata.sign(signer, append=True)
        return metadata.to_bytes(_COMPACT)


def _later(now_s: int, days: int) -> datetime:
    return datetime.fromtimestamp(now_s, UTC) + timedelta(days=days)
