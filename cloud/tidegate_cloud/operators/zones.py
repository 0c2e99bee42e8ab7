"""Local time for kernels: a zone's offsets from UTC as an array, so that no reading passes through Python.

Rules of a zone come from the system's or the tzdata package's copy of the IANA database, through `zoneinfo`.
"""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import numpy.typing as npt
from tidegate_protocols.errors import BadInput

_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(2100, 1, 1, tzinfo=UTC)


def check_zone(name: str) -> None:
    """Raise BadInput for a name that is no time zone. "" is UTC."""
    _zone(name)


@cache
def transitions(name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """When the offset of a zone changes, 1970 to 2100, and what it is from then on; int64 [k] each, in seconds.

    The first time is the smallest int64: before 1970 the offset of 1970 counts; after 2100 that of 2100.
    Raises BadInput for a name that is no time zone.
    """
    zone = _zone(name)
    starts, offsets = [np.iinfo(np.int64).min], [_offset(zone, _FIRST)]
    at = _FIRST
    while at < _LAST:
        # Some zones have changed twice within a few weeks.
        later = min(at + timedelta(days=7), _LAST)
        if _offset(zone, later) != offsets[-1]:
            low, high = at, later
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) // 2
                low, high = (middle, high) if _offset(zone, middle) == offsets[-1] else (low, middle)
            changed = high.replace(microsecond=0)
            starts.append(int(changed.timestamp()))
            offsets.append(_offset(zone, changed))
            at = changed
        else:
            at = later
    return np.array(starts, np.int64), np.array(offsets, np.int64)


def _offset(zone: zoneinfo.ZoneInfo, at: datetime) -> int:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name or "UTC")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise BadInput(
            f"{name[:80]!r} is no time zone", where="time_zone", hint="a name such as Europe/Berlin; empty is UTC"
        ) from None
