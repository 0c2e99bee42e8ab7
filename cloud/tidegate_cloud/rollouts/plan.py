"""Cuts a fleet into waves, and says when agents may be told."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence, Set
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tidegate_protocols.errors import BadInput
from tidegate_protocols.rollouts import Order, Wave, Window

_SIZE = re.compile(r"(\d{1,7})(%?)(!?)")


def cut(order: Order, rollout: str, agents: Collection[str], heard: Set[str]) -> tuple[list[Wave], dict[str, int]]:
    """The waves of a rollout, and which one each agent is in.

    Agents come in an order that the rollout's id and their names decide, so that no device is always the canary, and
    those that were `heard` lately come first: a canary that is switched off says nothing. Shares are of all agents and
    count from the beginning: "1%", "10%" are a hundredth, then nine more. Empty waves are left out. Raises BadInput.
    """
    if not agents:
        raise BadInput(f"no agent has the layer {order.layer!r}", where="order", hint="tidegate registry ls devices")
    line = sorted(agents, key=lambda agent: (agent not in heard, _lot(rollout, agent)))
    waves: list[Wave] = []
    members: dict[str, int] = {}
    reached = 0
    for number, (text, end, manual) in enumerate(_ends(order.waves, len(line))):
        if end <= reached:
            continue
        for agent in line[reached:end]:
            members[agent] = len(waves)
        name = "Canary" if not waves and end < len(line) else "Everyone" if end == len(line) else f"Wave {number + 1}"
        waves.append(Wave(f"{name} ({text})" if name.startswith("Wave") else name, end - reached, manual))
        reached = end
    return waves, members


def _ends(sizes: Sequence[str], total: int) -> Iterable[tuple[str, int, bool]]:
    end = 0
    for number, text in enumerate(sizes):
        match = _SIZE.fullmatch(text)
        if match is None:
            raise BadInput(f"{text!r} is not a size of a wave", where="order", hint='"5", "10%", or "10%!" to be asked')
        size, share, manual = int(match[1]), match[2], match[3]
        # At least one: a hundredth of 40 agents is a canary all the same.
        end = max(end, -(-total * size // 100)) if share else end + size
        last = number == len(sizes) - 1
        yield text.rstrip("!"), total if last else min(end, total), bool(manual)


def _lot(rollout: str, agent: str) -> bytes:
    return hashlib.blake2b(f"{rollout}\0{agent}".encode(), digest_size=8).digest()


def check_windows(windows: Iterable[Window]) -> None:
    """Raise BadInput for a time zone that nobody knows."""
    for window in windows:
        try:
            ZoneInfo(window.zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise BadInput(f"no time zone {window.zone!r}", where="windows", hint="such as Europe/Berlin") from None


def is_open(windows: Sequence[Window], now_us: int) -> bool:
    """Whether agents may be told now. Without windows they may at any time."""
    now = datetime.fromtimestamp(now_us / 1e6, UTC)
    return not windows or any(_inside(window, now) for window in windows)


def _inside(window: Window, now: datetime) -> bool:
    local = now.astimezone(ZoneInfo(window.zone))
    clock = local.strftime("%H:%M")
    if window.start <= window.end:
        return local.weekday() in window.days and window.start <= clock < window.end
    # Past midnight: the morning belongs to the day before.
    yesterday = (local - timedelta(days=1)).weekday()
    return (local.weekday() in window.days and clock >= window.start) or (
        yesterday in window.days and clock < window.end
    )
