"""Offsets of time zones as arrays agree with zoneinfo at any time."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_cloud.operators.zones import check_zone, transitions
from tidegate_protocols.errors import BadInput

ZONES = [
    "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Asia/Kathmandu", "Africa/Casablanca",
    "Australia/Lord_Howe", "Pacific/Apia", "Etc/GMT+12",
]  # fmt: skip


@given(st.sampled_from(ZONES), st.integers(0, 4_102_444_800 - 1))
def test_the_offset_at_any_second_is_zoneinfos(name: str, second: int) -> None:
    starts, offsets = transitions(name)
    found = int(offsets[np.searchsorted(starts, second, side="right") - 1])
    wanted = datetime.fromtimestamp(second, UTC).astimezone(ZoneInfo(name)).utcoffset()
    assert wanted is not None
    assert found == wanted.total_seconds()


def test_the_last_second_of_winter_time_and_the_first_of_summer_time() -> None:
    starts, offsets = transitions("Europe/Berlin")
    at = int(datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp())
    k = int(np.flatnonzero(starts == at)[0])
    assert offsets[k - 1 : k + 1].tolist() == [3600, 7200]


def test_no_name_is_utc() -> None:
    assert transitions("")[1].tolist() == [0]


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc/passwd", "/etc/passwd", "Europe", "x" * 500, "a\0b"])
def test_a_name_that_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="is no time zone"):
        check_zone(name)
