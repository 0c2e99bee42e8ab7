"""What is in force: the fences, rules and devices that operators go by, and what people said of alerts.

The content decides what operators find, never the order of the edits that led to it.
"""

from __future__ import annotations

import math

from tidegate_protocols.errors import BadInput
from tidegate_protocols.registry import Device, Feedback, Fence, Rule

from .expressions import parse_expression
from .fence_book import FenceBook
from .zones import check_zone

ID_MAX = 256  # bytes


class Control:
    """Fences, rules, devices and feedback by id. Read by operators; changed by whoever runs them, between blocks.

    `edition` grows with every change, so that an operator can keep what it worked out for one edition.
    """

    def __init__(self) -> None:
        self.fences: dict[str, Fence] = {}
        self.book = FenceBook()
        self.rules: dict[str, Rule] = {}
        self.devices: dict[str, Device] = {}
        self.feedback: dict[str, Feedback] = {}
        self._said: dict[tuple[str, str], dict[str, Feedback]] = {}
        self.edition = 0

    def put_fence(self, fence: Fence) -> None:
        """Add or replace a fence. Raises BadInput, and leaves what was, when its shape is not valid."""
        check_id(fence.id)
        self.book.put(fence)
        self.fences[fence.id] = fence
        self.edition += 1

    def remove_fence(self, fence_id: str) -> None:
        """Remove a fence; one that is not there is no error."""
        if self.fences.pop(fence_id, None) is not None:
            self.book.remove(fence_id)
            self.edition += 1

    def put_rule(self, rule: Rule) -> None:
        """Add or replace a rule. Raises BadInput, and leaves what was, when it cannot be applied."""
        check_rule(rule)
        self.rules[rule.id] = rule
        self.edition += 1

    def remove_rule(self, rule_id: str) -> None:
        """Remove a rule; one that is not there is no error."""
        if self.rules.pop(rule_id, None) is not None:
            self.edition += 1

    def put_device(self, device: Device) -> None:
        """Add or replace what is known about a device. Raises BadInput for a time zone that does not exist."""
        check_zone(device.time_zone)
        self.devices[device.id] = device
        self.edition += 1

    def remove_device(self, device_id: str) -> None:
        """Remove what is known about a device; it is still served, as one that nobody named."""
        if self.devices.pop(device_id, None) is not None:
            self.edition += 1

    def put_feedback(self, feedback: Feedback) -> None:
        """Add or replace what a person said of an alert."""
        check_id(feedback.id)
        self.remove_feedback(feedback.id)
        self.feedback[feedback.id] = feedback
        self._said.setdefault((feedback.operator, feedback.device), {})[feedback.id] = feedback
        self.edition += 1

    def remove_feedback(self, feedback_id: str) -> None:
        """Take back what a person said; what is not there is no error."""
        feedback = self.feedback.pop(feedback_id, None)
        if feedback is not None:
            place = (feedback.operator, feedback.device)
            del self._said[place][feedback_id]
            if not self._said[place]:
                del self._said[place]
            self.edition += 1

    def said(self, operator: str, device: str) -> list[Feedback]:
        """What people said of an operator's alerts of a device, in order of the alerts' ids."""
        said = self._said.get((operator, device))
        return [] if said is None else [said[name] for name in sorted(said)]

    def time_zone_of(self, device_id: str) -> str:
        """The IANA name of the device's time zone; "" is UTC."""
        device = self.devices.get(device_id)
        return "" if device is None else device.time_zone

    def group_of(self, device_id: str) -> str:
        """The device's group, "" when it has none."""
        device = self.devices.get(device_id)
        return "" if device is None else device.group


def check_id(name: str) -> None:
    """Raise BadInput for an id that rows of state and ids of events have no room for."""
    if not 1 <= len(name.encode()) <= ID_MAX:
        raise BadInput(f"an id of {len(name.encode())} bytes", where=name[:40], hint=f"1 to {ID_MAX} are allowed")


def check_rule(rule: Rule) -> None:
    """Raise BadInput, naming the field, for a rule that cannot be applied."""
    check_id(rule.id)
    where = f"rule {rule.id!r}"
    if rule.expression:
        _check_expression(rule, where)
        return
    if not rule.channel:
        raise BadInput("no channel is given", where=where, hint="channel with low or high, or an expression")
    if rule.low is None and rule.high is None:
        raise BadInput("neither low nor high is given", where=where)
    for name, value in (("low", rule.low), ("high", rule.high), ("hysteresis", rule.hysteresis)):
        if value is not None and not math.isfinite(value):
            raise BadInput(f"{name} is not a finite number", where=where)
    if rule.low is not None and rule.high is not None and rule.low > rule.high:
        raise BadInput(f"low {rule.low} is above high {rule.high}", where=where)
    if rule.hysteresis < 0:
        raise BadInput(f"hysteresis {rule.hysteresis} is negative", where=where)
    if rule.low is not None and rule.high is not None and 2 * rule.hysteresis >= rule.high - rule.low:
        raise BadInput(
            f"hysteresis {rule.hysteresis} leaves nothing between low and high", where=where,
            hint="less than half of high − low",
        )  # fmt: skip


def _check_expression(rule: Rule, where: str) -> None:
    if rule.channel or rule.low is not None or rule.high is not None or rule.hysteresis:
        raise BadInput(
            "an expression beside channel, low, high or hysteresis", where=where, hint="one rule for each",
        )  # fmt: skip
    try:
        parse_expression(rule.expression)
    except BadInput as error:
        raise BadInput(error.what, where=f"{where}, {error.where}", hint=error.hint) from None
