"""Batches as the arrays that compiled codecs work on, and back. Numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..batch import Batch
from ..schema import Schema
from .plain import Columns

Cells = npt.NDArray[np.uint64]
Masks = npt.NDArray[np.uint8]


def cells_of(batch: Batch) -> tuple[Cells, Masks]:
    """The bits of a batch's values, uint64 [channels + 1, n], times less the first in row 0, and its masks."""
    n = len(batch)
    cells = np.empty((len(batch.columns) + 1, n), np.uint64)
    masks = np.ones((len(batch.columns) + 1, n), np.uint8)
    cells[0] = batch.ts_us.view(np.uint64) if batch.ts_us.flags.c_contiguous else batch.ts_us.astype(np.uint64)
    cells[0] -= cells[0, 0]
    signed = cells.view(np.int64)
    floating = cells.view(np.float64)
    for j, column in enumerate(batch.columns, 1):
        # Through the same type, so that the bits of a NaN are copied and not computed with.
        (floating if column.dtype == np.float64 else signed)[j] = column
    for j, mask in enumerate(batch.valid, 1):
        if mask is not None:
            masks[j] = mask
    return cells, masks


def columns_of(schema: Schema, cells: Cells, masks: Masks) -> Columns:
    """Cells as times, columns of the channels' types and masks (None where there is no null)."""
    columns: list[npt.NDArray[Any]] = []
    for channel, cell in zip(schema.channels, cells[1:], strict=True):
        columns.append(cell.astype(np.bool_) if channel.type == "bool" else cell.view(channel.dtype))
    valid = tuple(None if mask.all() else mask.view(np.bool_) for mask in masks[1:])
    return cells[0].view(np.int64), tuple(columns), valid
