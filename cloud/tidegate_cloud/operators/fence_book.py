"""The fences in force, as kernels read them: by number, with their shapes indexed and their terms as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from tidegate_protocols.registry import Fence

from .fence_terms import Terms, parse_terms
from .fences import parse_shape
from .geofence_index import FenceIndex, grown
from .kernels import terms as kernels
from .kernels.terms import Fences
from .names import number_of
from .schedule import zone_offsets


class Pool:
    """Lists of numbers side by side; equal lists are kept once, and nothing is given back."""

    def __init__(self, empty: npt.NDArray[Any]) -> None:
        self.values = empty
        self._used = 0
        self._places: dict[bytes, tuple[int, int]] = {}

    def put(self, values: npt.NDArray[Any]) -> tuple[int, int]:
        """Where a list begins and how long it is."""
        values = np.asarray(values, self.values.dtype).reshape(-1, *self.values.shape[1:])
        key = values.tobytes()
        place = self._places.get(key)
        if place is None:
            end = self._used + len(values)
            if end > len(self.values):
                self.values = grown(self.values, end)
            self.values[self._used : end] = values
            place = self._places[key] = (self._used, len(values))
            self._used = end
        return place


class FenceBook:
    """Fences under their numbers (`names.number_of` of the id). `index` finds those that hold a point."""

    def __init__(self) -> None:
        self.index = FenceIndex()
        self._term: npt.NDArray[Any] = np.zeros(64, kernels.TERM)
        self._groups = Pool(np.zeros(64, np.int32))
        self._windows = Pool(np.zeros((64, 2), np.int32))
        self._zones = Pool(np.zeros((64, 2), np.int64))

    def put(self, fence: Fence) -> None:
        """Add or replace a fence. Raises BadInput when its shape or a term is not valid; what was then stays."""
        terms = parse_terms(fence)
        shape = parse_shape(fence)
        number = number_of(fence.id)
        self.index.put(number, shape)
        self._grow(number + 1)
        row = self._term[number]
        row["active"], row["flags"] = True, _flags(fence, terms)
        row["dwell_us"], row["speed_mps"] = terms.dwell_us, terms.speed_mps
        groups = np.array([number_of(group) for group in fence.groups], np.int32)
        row["group_first"], row["group_count"] = self._groups.put(groups)
        row["window_first"], row["window_count"] = self._windows.put(np.array(terms.windows, np.int32))
        row["zone_first"], row["zone_count"] = self._zones.put(np.column_stack(zone_offsets(fence.time_zone)))

    def remove(self, fence_id: str) -> None:
        """Remove a fence that is there."""
        number = number_of(fence_id)
        self.index.remove(number)
        self._term[number] = np.zeros((), kernels.TERM)

    def fences(self, least: int) -> Fences:
        """What kernels take, for every number below `least`. Stale after the next edit."""
        self._grow(least)
        return Fences(self._term, self._groups.values, self._windows.values, self._zones.values)

    def _grow(self, least: int) -> None:
        if least > len(self._term):
            self._term = grown(self._term, least)


def _flags(fence: Fence, terms: Terms) -> int:
    return (
        (0 if fence.enter_events else kernels.NO_ENTER)
        | (0 if fence.exit_events else kernels.NO_EXIT)
        | (kernels.CORRIDOR if fence.distance_m is not None else 0)
        | (kernels.DWELL if terms.dwell_us else 0)
        | (kernels.SPEED if terms.speed_mps else 0)
        | (0 if not terms.windows else kernels.HOURS if terms.active else kernels.PRESENCE)
    )
