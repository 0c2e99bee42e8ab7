"""Fewer bits for channels that ask for it: values on a coarser grid, none further off than the channel allows."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..batch import Batch
from ..errors import BadInput

_EXACT = 2.0**53
_BOUND_MAX = sys.float_info.max
# A grid of 1, 2 or 5 times a power of ten is a decimal with a stride: the models find both.
_STEPS = (5.0, 2.0, 1.0)


def reduce_batch(batch: Batch, max_error: Mapping[str, float]) -> Batch:
    """`batch` with each channel named in `max_error` moved to a grid, by at most the error given (in its unit).

    float64: the grid is the coarsest of 1, 2 or 5 times a power of ten that keeps the bound; NaN, infinities and
    values for which rounding would break the bound stay as they are. int64: the error is taken as its whole part.
    Times and all other channels stay. Raises BadInput for a channel that is not there, is a bool, or a bound that is
    negative or not finite.
    """
    columns = list(batch.columns)
    for name, bound in max_error.items():
        place = batch.schema.index.get(name)
        where = f"max_error, channel {name!r}"
        if place is None:
            raise BadInput(f"schema {batch.schema.name} has no such channel", where=where)
        if not (0 <= bound <= _BOUND_MAX):
            raise BadInput(f"{bound} is not an error bound", where=where, hint="0 or more, in the channel's unit")
        bound = float(bound)
        kind = batch.schema.channels[place].type
        if kind == "bool":
            raise BadInput("a bool is right or wrong", where=where)
        if bound:
            columns[place] = _floats(columns[place], bound) if kind == "float64" else _integers(columns[place], bound)
    return replace(batch, columns=tuple(columns))


def _floats(values: npt.NDArray[Any], bound: float) -> npt.NDArray[Any]:
    # Beyond these no float64 grid is both coarse and exact; told before anything is doubled, which may overflow.
    if not 5e-16 <= bound < 5e15:
        return values
    exponent = int(np.floor(np.log10(2.0 * bound)))
    multiple = next(step for step in _STEPS if step * 10.0**exponent <= 2.0 * bound or step == 1.0)
    with np.errstate(invalid="ignore", over="ignore"):
        # As the decimal model forms it (whole number over a power of ten), so that it is written in few bits.
        if exponent < 0:
            near = np.rint(values * (10.0**-exponent / multiple)) * multiple / 10.0**-exponent
        else:
            near = np.rint(values / (multiple * 10.0**exponent)) * (multiple * 10.0**exponent)
        good = (np.abs(near - values) <= bound) & (np.abs(near) < _EXACT)
    return np.where(good, near + 0.0, values)  # + 0.0: no negative zeros


def _integers(values: npt.NDArray[Any], bound: float) -> npt.NDArray[Any]:
    reach = int(min(bound, 2.0**61))
    step = 2 * reach + 1
    off = (values % step + reach) % step - reach
    near = values - off
    wrapped = (near > values) != (off < 0)
    return np.where(wrapped & (off != 0), values, near)
