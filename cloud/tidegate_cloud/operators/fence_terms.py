"""What a fence asks for besides its shape: stays, speeds, hours. Checked here; `fence_book` has them for kernels."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate_protocols.errors import BadInput
from tidegate_protocols.registry import Fence

from .schedule import parse_schedule, zone_offsets

DWELL_MAX_S = 366 * 86_400.0
SPEED_MAX_MPS = 1000.0
MODES = ("presence", "active")


@dataclass(frozen=True, slots=True)
class Terms:
    """A fence's terms as numbers; 0 or empty where it has none.

    dwell_us   a stay so long is told, microseconds
    speed_mps  highest speed inside
    windows    of its schedule: [begin, end) in minutes since Monday 00:00, local
    active     the fence is there within its windows alone
    """

    dwell_us: int
    speed_mps: float
    windows: tuple[tuple[int, int], ...]
    active: bool


def parse_terms(fence: Fence) -> Terms:
    """The terms of a fence. Raises BadInput that names the field."""
    where = f"fence {fence.id!r}"
    for name, value, most in (
        ("dwell_s", fence.dwell_s, DWELL_MAX_S), ("speed_limit_mps", fence.speed_limit_mps, SPEED_MAX_MPS),
    ):  # fmt: skip
        if value is not None and not 0 < value <= most:
            raise BadInput(f"{name} {value:g} is not above 0 and up to {most:g}", where=where)
    if fence.schedule_mode not in MODES:
        raise BadInput(f"schedule_mode is {fence.schedule_mode!r}", where=where, hint=" or ".join(MODES))
    try:
        windows = parse_schedule(fence.schedule)
        zone_offsets(fence.time_zone)
    except BadInput as error:
        raise error.at(where) from None
    return Terms(
        dwell_us=0 if fence.dwell_s is None else max(1, round(fence.dwell_s * 1e6)),
        speed_mps=fence.speed_limit_mps or 0.0,
        windows=tuple(windows),
        active=fence.schedule_mode == "active" and bool(windows),
    )
