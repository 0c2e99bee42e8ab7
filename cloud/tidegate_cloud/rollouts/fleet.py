"""What the rollouts' server knows of the agents: what each was told, what it said, its group, its new alerts."""

from __future__ import annotations

import hashlib
import sys
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
from tidegate_protocols.ota import Desired, Place, decode_claim, decode_desired, decode_reported
from tidegate_protocols.registry import Device
from tidegate_protocols.rollouts import FileRef, Layer

from .layers import Compiled, compile_layers, layer_ids
from .machine import SECOND, Alerts, Heard, Told

ALERTS_KEPT_US = 48 * 3600 * SECOND


class Content(NamedTuple):
    """A compiled configuration with its name by content."""

    sha256: str
    data: bytes
    files: dict[str, FileRef]


class Fleet:
    """Agents by name. About 1.2 kB for each: records stay as the bytes that they came in."""

    def __init__(self) -> None:
        self.told: dict[str, Told] = {}
        self.heard: dict[str, Heard] = {}
        self.records: dict[str, bytes] = {}  # the last Desired of each agent, as sent
        self.renewed: dict[str, int] = {}  # when each of them was sent, oldest first
        self.groups: dict[str, str] = {}
        self.wants: dict[str, None] = {}  # agents that asked to be told anew, in order
        self._speaks: dict[str, str] = {}  # device → the agent that sends what it measures, where that is another name
        self._opened: dict[str, list[int]] = {}  # agent → when alerts of its devices were opened, ascending
        self._compiled: dict[tuple[tuple[str, str, tuple[tuple[str, FileRef], ...]], ...], Content] = {}

    def put_desired(self, agent: str, value: bytes | None, at_us: int) -> None:
        """An agent was told. Raises BadInput."""
        if value is None:
            self.told.pop(agent, None)
            self.records.pop(agent, None)
            self.renewed.pop(agent, None)
            return
        desired = decode_desired(value)
        before = self.told.get(agent)
        rollout = rollout_of(desired)
        # A renewal tells nothing new: the time at which it was told stays.
        same = before is not None and before.number == desired.number
        self.told[agent] = Told(desired.number, rollout, before.at_us if same and before is not None else at_us)
        self.records[agent] = value
        self.renewed.pop(agent, None)
        self.renewed[agent] = at_us
        self.wants.pop(agent, None)

    def put_reported(self, agent: str, value: bytes | None, at_us: int) -> None:
        """An agent said something. Raises BadInput."""
        if value is None:
            self.heard.pop(agent, None)
            return
        said = decode_reported(value)
        self.heard[agent] = Heard(said, at_us)
        if said.want:
            self.wants[agent] = None

    def put_claim(self, device: str, value: bytes | None) -> None:
        """An agent sends a device's scans from now on. Raises BadInput."""
        agent = "" if value is None else decode_claim(value).agent
        if agent and agent != device:
            self._speaks[device] = sys.intern(agent)
        else:
            self._speaks.pop(device, None)

    def put_device(self, name: str, device: Device | None) -> None:
        """What people keep about a device. An agent's group is that of the device with its name."""
        if device is None or not device.group:
            self.groups.pop(name, None)
        else:
            self.groups[name] = device.group

    def alert_opened(self, device: str, at_us: int) -> None:
        """An alert of a device was opened or opened again: it counts for the agent that speaks for the device."""
        times = self._opened.setdefault(self._speaks.get(device, device), [])
        times.append(at_us)
        if times[-1] - times[0] > ALERTS_KEPT_US:
            del times[: bisect_left(times, times[-1] - ALERTS_KEPT_US)]

    def alerts_since(self, agents: Iterable[str], before_s: float, now_us: int) -> Alerts:
        """New alerts of these agents since each was told, and what the time before lets one expect."""
        now, expected = 0, 0.0
        for agent in agents:
            times = self._opened.get(agent)
            told = self.told.get(agent)
            if times is None or told is None:
                continue
            at = bisect_left(times, told.at_us)
            now += len(times) - at
            earlier = at - bisect_left(times, told.at_us - int(before_s * SECOND))
            expected += earlier * (now_us - told.at_us) / (before_s * SECOND)
        return Alerts(now, expected)

    def compiled(self, layers: Mapping[str, Layer], agent: str) -> Content:
        """What `agent` runs under `layers`. Agents without a layer of their own share it with their group."""
        names = [name for name in layer_ids(agent, self.groups.get(agent, "")) if name in layers]
        key = tuple((name, layers[name].content, tuple(layers[name].files.items())) for name in names)
        found = self._compiled.get(key)
        if found is None:
            made: Compiled = compile_layers(layers, agent, self.groups.get(agent, ""))
            found = Content(hashlib.sha256(made.content).hexdigest(), made.content, made.files)
            if len(self._compiled) > 20_000:
                self._compiled.clear()
            self._compiled[key] = found
        return found

    def agents(self) -> list[str]:
        """Every agent that ever said something or was told something."""
        return sorted(self.heard.keys() | self.told.keys())

    def places(self, agent: str) -> dict[str, list[Place]]:
        """Where the contents are that an agent was told of last."""
        value = self.records.get(agent)
        return {} if value is None else decode_desired(value).places


def rollout_of(desired: Desired) -> str:
    """The rollout in a Desired of ours. It was signed here: no need to verify it again."""
    custom = msgspec.json.decode(desired.targets)["signed"].get("custom", {})
    return str(custom.get("rollout", ""))
