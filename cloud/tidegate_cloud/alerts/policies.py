"""What people have decided, as it is in force: policies, silences, and the devices' groups.

The policies are those on `registry.alert-policies`, and the built-in ones while that says nothing of them. To be rid of
a built-in policy, write one under its name that is not enabled.
"""

from __future__ import annotations

import logging
import math
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

from .silences import Quiet
from .titles import check_template

_log = logging.getLogger(__name__)

T = TypeVar("T", Policy, Silence, Device)
ALL = "*"
_WINDOW_MAX_S = 86_400.0
_LEVELS_MAX = 10
_MEMBERS_MIN = 2


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


def check_policy(policy: Policy) -> None:
    """Raises BadInput, naming the field, for a policy that cannot be meant."""
    where = f"policy {policy.id!r}"
    for name, holds, text in (
        ("id", policy.id.isprintable() and 0 < len(policy.id) <= 64, "1 to 64 printable characters"),
        ("opens", bool(policy.opens) or not policy.enabled, "empty: no event would ever open an alert"),
        ("operator", bool(policy.operator), "empty"),
        ("ends", not set(policy.opens) & set(policy.ends), "a kind of event both opens and ends"),
        ("hold_off_s", _within(policy.hold_off_s, 0, 30 * 86_400.0), "0 to 30 days"),
        ("flap_count", policy.flap_count == 0 or 2 <= policy.flap_count <= 100, "0, or 2 to 100"),
        ("flap_window_s", _within(policy.flap_window_s, 1, _WINDOW_MAX_S), "1 s to a day"),
        ("group_min", _MEMBERS_MIN <= policy.group_min <= 10_000, "2 to 10,000"),
        ("group_window_s", _within(policy.group_window_s, 1, _WINDOW_MAX_S), "1 s to a day"),
        ("group_wait_s", _within(policy.group_wait_s, 0, 600), "0 to 600 s"),
        ("tell", len(policy.tell) <= _LEVELS_MAX, f"more than {_LEVELS_MAX} levels"),
        ("tell", all(level.to and all(level.to) for level in policy.tell), "a level without receivers"),
        ("tell", all(_within(level.after_s, 0, 7 * 86_400.0) for level in policy.tell), "after_s is 0 to 7 days"),
        (
            "tell", all(a.after_s < b.after_s for a, b in zip(policy.tell, policy.tell[1:], strict=False)),
            "each level must come later than the one before",
        ),
        ("inhibits", policy.id not in policy.inhibits, "it names itself"),
    ):  # fmt: skip
        if not holds:
            raise BadInput(text, where=f"{where}, {name}")
    try:
        check_template(policy.title)
    except BadInput as error:
        raise error.at(f"{where}, title") from None


def _within(value: float, low: float, high: float) -> bool:
    return math.isfinite(value) and low <= value <= high


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
