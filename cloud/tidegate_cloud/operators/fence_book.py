"""The fences in force, as kernels read them: by number, with their shapes indexed and the groups they are valid for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from tidegate_protocols.registry import Fence

from .fence_terms import parse_terms
from .fences import parse_shape
from .geofence_index import FenceIndex, grown
from .names import number_of


class FenceBook:
    """Fences under their numbers (`names.number_of` of the id).

    index   finds the fences that hold a point
    active  bool [.], by fence number: whether it is in force
    """

    def __init__(self) -> None:
        self.index = FenceIndex()
        self.active = np.zeros(64, np.bool_)
        self._group_first = np.zeros(64, np.int32)
        self._group_count = np.zeros(64, np.int32)
        self._group_pool = np.zeros(64, np.int32)
        self._pool_used = 0
        self._group_room: dict[int, int] = {}

    def put(self, fence: Fence) -> None:
        """Add or replace a fence. Raises BadInput when its shape or a term is not valid; what was then stays."""
        parse_terms(fence)
        shape = parse_shape(fence)
        number = number_of(fence.id)
        self.index.put(number, shape)
        if number >= len(self.active):
            self.active, self._group_first, self._group_count = (
                grown(a, number + 1) for a in (self.active, self._group_first, self._group_count)
            )
        groups = [number_of(group) for group in fence.groups]
        first = int(self._group_first[number])
        if len(groups) > self._group_room.get(number, 0):
            first = self._pool_used
            self._pool_used += len(groups)
            self._group_room[number] = len(groups)
            if self._pool_used > len(self._group_pool):
                self._group_pool = grown(self._group_pool, self._pool_used)
        self._group_pool[first : first + len(groups)] = groups
        self._group_first[number] = first
        self._group_count[number] = len(groups)
        self.active[number] = True

    def remove(self, fence_id: str) -> None:
        """Remove a fence that is there."""
        number = number_of(fence_id)
        self.index.remove(number)
        self.active[number] = False

    def arrays(self, least: int) -> tuple[npt.NDArray[Any], ...]:
        """active, group_first, group_count, group_pool; by fence number for every number below `least`."""
        if least > len(self.active):
            self.active, self._group_first, self._group_count = (
                grown(a, least) for a in (self.active, self._group_first, self._group_count)
            )
        return self.active, self._group_first, self._group_count, self._group_pool
