"""The policies in force: those on `registry.alert-policies`, and the built-in ones while that says nothing of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from tidegate_protocols.errors import BadInput
from tidegate_protocols.policies import BUILT_IN, POLICY, Policy

_log = logging.getLogger(__name__)


class Policies:
    """A policy on the topic replaces the built-in one of its name, and a tombstone brings that back.

    To be rid of a built-in policy, write one under its name that opens on nothing.
    """

    def __init__(self) -> None:
        self._written: dict[str, Policy] = {}
        self._in_force: tuple[Policy, ...] = tuple(sorted(BUILT_IN, key=lambda policy: policy.id))

    @property
    def in_force(self) -> Sequence[Policy]:
        """Ordered by id, so that the order in which they were written changes nothing."""
        return self._in_force

    def put(self, key: bytes | None, value: bytes | None) -> None:
        """A record of the topic. What cannot be read is logged and left out; what was in force before stays."""
        name = (key or b"").decode("utf-8", "replace")
        if value is None:
            self._written.pop(name, None)
        else:
            try:
                policy = POLICY.decode(value)
                if policy.id != name:
                    raise BadInput(f"its key is {name!r} and its id is {policy.id!r}", where="policy")
            except BadInput as error:
                _log.warning("an alert policy is left out: %s", error)
                return
            self._written[name] = policy
        together = {policy.id: policy for policy in BUILT_IN} | self._written
        self._in_force = tuple(together[name] for name in sorted(together))
