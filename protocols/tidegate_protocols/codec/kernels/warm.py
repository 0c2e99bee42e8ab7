"""Calls every kernel that the codec calls, with the types it calls it with, so that each is compiled or loaded."""

from __future__ import annotations

import numpy as np

from . import bulk, fields, packed, plans, ranged, ranging


def call_everything() -> None:
    """Encode and decode a scan or two with both codecs."""
    cells = np.zeros((2, 2), np.uint64)
    masks = np.ones((2, 2), np.uint8)
    types = np.array([plans.TIME, plans.FLOAT], np.uint8)
    rows = np.empty((0, ranged.PRIOR_FIELDS), np.int64)
    chances = np.empty((0, ranging.SLOTS), np.int64)
    out = np.zeros(ranged.worst_size(2, 2), np.uint8)
    back = np.zeros_like(out)
    found = np.zeros((1, fields.HEADER_FIELDS), np.int64)
    found[0, fields.SCANS] = 2
    firsts = np.zeros(1, np.int64)
    faults = np.zeros((1, 3), np.int64)
    for codec in (bulk.BITPACK, bulk.RANGE):
        if codec == bulk.BITPACK:
            size = packed.encode(cells, masks, types, out)
        else:
            size = ranged.encode(cells, masks, types, rows, chances, chances, out, back)
        found[0, fields.CODEC], found[0, fields.END] = codec, size
        data = np.frombuffer(out.tobytes(), np.uint8)  # read-only, as the bytes of messages are
        bulk.columns(data, found, firsts, types, rows, chances, chances, cells, masks, faults)
    bulk.headers(data, np.array([0, 1], np.int64), found)
