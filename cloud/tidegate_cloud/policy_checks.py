"""What makes an alert policy one that can be meant, for whoever reads or saves one."""

from __future__ import annotations

import math
import re

from tidegate_protocols.errors import BadInput
from tidegate_protocols.policies import Policy

TITLE_FIELD = re.compile(r"\{([a-z_]*)\}")
# What a policy's title may name in braces.
TITLE_FIELDS = ("title", "device", "name", "channel", "subject", "kind", "value", "limit")

_WINDOW_MAX_S = 86_400.0
_LEVELS_MAX = 10
_MEMBERS_MIN = 2


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


def check_template(template: str) -> None:
    """Raises BadInput for a policy's title that names a field which does not exist."""
    for name in TITLE_FIELD.findall(template):
        if name not in TITLE_FIELDS:
            raise BadInput(f"the title names {{{name}}}", hint=f"known are {', '.join(TITLE_FIELDS)}")
