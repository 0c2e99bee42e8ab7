"""What people have decided, as it is in force: policies, silences, and the devices' groups.

The policies are those on `registry.alert-policies`, and the built-in ones while that says nothing of them. To be rid of
a built-in policy, write one under its name that is not enabled.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec
from tidegate_protocols.alerts import Alert
from tidegate_protocols.avro import AvroCodec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.policies import BUILT_IN, POLICY, SILENCE, Policy, Silence
from tidegate_protocols.registry import DEVICE, Device
from tidegate_protocols.topics import DEVICES, POLICIES, SILENCES

from tidegate_cloud.engine import Record
from tidegate_cloud.policy_checks import check_policy
from tidegate_cloud.silences import Quiet

_log = logging.getLogger(__name__)

T = TypeVar("T", Policy, Silence, Device)
ALL = "*"


class InForce:
    """The newest readable record of each id counts, whatever the order in which they came.

    `edition` grows with every change that may concern alerts that are there already.
    """

    TOPICS = (POLICIES.name, SILENCES.name, DEVICES.name)

    def __init__(self, built_in: Iterable[Policy] = BUILT_IN) -> None:
        self._built_in = {policy.id: policy for policy in built_in}
        self._written: dict[str, Policy] = {}
        self._groups: dict[str, str] = {}
        self._silences: dict[str, Quiet] = {}
        self.edition = 0
        self._gather()

    def put(self, record: Record) -> None:
        """A record of one of `TOPICS`. What cannot be read is logged and left out; what was in force before stays."""
        name = (record.key or b"").decode("utf-8", "replace")
        try:
            if record.topic == POLICIES.name:
                if record.value is None:
                    self._written.pop(name, None)
                else:
                    self._written[name] = _usable(_read(POLICY, name, record.value))
                self._gather()
            elif record.topic == SILENCES.name:
                silence = None if record.value is None else _read(SILENCE, name, record.value)
                if silence is None:
                    self._silences.pop(name, None)
                else:
                    self._silences[name] = Quiet(silence)
            else:
                device = None if record.value is None else _read(DEVICE, name, record.value)
                self._groups[name] = "" if device is None else device.group
                return  # alerts keep the group that the device had when they opened
        except BadInput as error:
            _log.warning("%s: left out: %s", record.topic, error)
            return
        self.edition += 1

    def _gather(self) -> None:
        together = self._built_in | self._written
        self.policies: Mapping[str, Policy] = {name: together[name] for name in sorted(together)}
        self._by_operator: dict[str, list[Policy]] = {}
        for policy in self.policies.values():
            if policy.enabled:
                self._by_operator.setdefault(policy.operator, []).append(policy)

    def policies_of(self, operator: str) -> Sequence[Policy]:
        """The enabled policies that read an operator's events, ordered by id."""
        return self._by_operator.get(operator, ())

    def policy(self, name: str) -> Policy | None:
        """An enabled policy by id."""
        found = self.policies.get(name)
        return found if found is not None and found.enabled else None

    def group_of(self, device: str) -> str:
        """The device's group; empty when it has none."""
        return self._groups.get(device, "")

    def silenced(self, alert: Alert, at_us: int) -> str:
        """The id of the first silence (by id) that hides the alert at this time; empty: none does."""
        active = (name for name, quiet in self._of(alert) if quiet.active(at_us))
        return min(active, default="")

    def next_silence_change(self, alert: Alert, after_us: int) -> int | None:
        """When a silence for this alert next begins or ends."""
        times = (quiet.next_change(after_us) for _, quiet in self._of(alert))
        return min((time for time in times if time is not None), default=None)

    def _of(self, alert: Alert) -> Iterator[tuple[str, Quiet]]:
        return ((name, quiet) for name, quiet in self._silences.items() if quiet.hides(alert))

    def inhibits(self, inhibitor: Alert, alert: Alert) -> bool:
        """Whether the policy of one alert says that it hides another one of its device."""
        policy = self.policy(inhibitor.rule)
        return policy is not None and (
            alert.rule in policy.inhibits or (ALL in policy.inhibits and alert.rule != policy.id)
        )


def _usable(policy: Policy) -> Policy:
    """The policy, checked again: whoever wrote it may not have. One that opens on nothing counts as not enabled."""
    policy = policy if policy.opens else msgspec.structs.replace(policy, enabled=False)
    check_policy(policy)
    return policy


def _read(codec: AvroCodec[T], name: str, value: bytes) -> T:
    found = codec.decode(value)
    if found.id != name:
        raise BadInput(f"its key is {name!r} and its id is {found.id!r}", where=codec.name)
    return found
