"""The headers and columns of many frames in one call each. The layout is that of `tidegate_protocols.frame`."""

# mypy: no-check-untyped-defs, allow-untyped-defs
from __future__ import annotations

import numpy as np
from numba import njit

from . import packed, ranged
from .bits import load64, take_varint, unzigzag
from .fields import (
    BASE_TS,
    BODY,
    CODEC,
    DEVICE,
    DEVICE_END,
    END,
    EPOCH,
    FINGERPRINT,
    FLAGS,
    PRIORS,
    SCANS,
    SEQ,
    WRONG,
)  # fmt: skip

_FIXED = 13
_CRC = 4
_N_MAX = 65_536
BITPACK, RANGE = 1, 2


@njit(cache=True)
def _id_character(c):
    return (48 <= c <= 57) or (65 <= c <= 90) or (97 <= c <= 122) or c == 45 or c == 46 or c == 58 or c == 95


@njit(cache=True)
def _header(data, start, stop, h):
    if stop - start < _FIXED + _CRC or data[start] != 0x54 or data[start + 1] != 0x47 or data[start + 2] & 15 != 1:
        return False
    end = stop - _CRC
    flags = np.int64(data[start + 3])
    codec = np.int64(data[start + 2] >> 4)
    length = np.int64(data[start + 12])
    if codec > RANGE or flags & 0xE0 or flags & 3 == 3 or not 1 <= length <= 64 or length > end - start - _FIXED:
        return False
    if flags & 0x10 and codec != RANGE:
        return False
    o = start + _FIXED
    for i in range(o, o + length):
        if not _id_character(data[i]):
            return False
    h[DEVICE] = o
    o += length
    h[DEVICE_END] = o
    epoch, o = take_varint(data, o, end)
    if o < 0 or epoch > np.uint64(0xFFFFFFFF):
        return False
    seq, o = take_varint(data, o, end)
    if o < 0 or seq > np.uint64(2**63 - 1):
        return False
    n, o = take_varint(data, o, end)
    if o < 0 or n < np.uint64(1) or n > np.uint64(_N_MAX) or seq > np.uint64(2**63 - 1) - n:
        return False
    base, o = take_varint(data, o, end)
    if o < 0:
        return False
    h[PRIORS] = 0
    if flags & 0x10:
        if end - o < 4:
            return False
        h[PRIORS] = np.int64(load64(data, o) & np.uint64(0xFFFFFFFF))
        o += 4
    h[FINGERPRINT] = np.int64(load64(data, start + 4))
    h[CODEC], h[FLAGS] = codec, flags
    h[EPOCH], h[SEQ], h[SCANS] = np.int64(epoch), np.int64(seq), np.int64(n)
    h[BASE_TS], h[BODY], h[END] = unzigzag(base), o, end
    return True


@njit(cache=True)
def headers(data, starts, out):
    """Parse the frame at data[starts[k]:starts[k + 1]] into out[k]; WRONG is 1 where the header is not one.

    data uint8 with 8 bytes after the last frame, starts int64 [k + 1], out int64 [k, HEADER_FIELDS].
    """
    for k in range(len(out)):
        out[k, WRONG] = 0 if _header(data, starts[k], starts[k + 1], out[k]) else 1


@njit(cache=True)
def columns(data, found, firsts, types, priors, prior_p, prior_seen, cells, masks, faults):
    """Decode the frames whose headers are `found` into cells[:, firsts[k]:] and masks, times made absolute.

    found int64 [k, HEADER_FIELDS], firsts int64 [k], cells uint64 [c, n], masks uint8 [c, n], faults int64 [k, 3]:
    what was found (0: nothing wrong), in which column, at which place. Frames of other codecs are passed over.
    """
    none = np.empty((0, ranged.PRIOR_FIELDS), np.int64)
    for k in range(len(found)):
        h = found[k]
        n = h[SCANS]
        if h[CODEC] == BITPACK:
            packed.decode(data, h[BODY], h[END], n, types, cells, masks, firsts[k], faults[k])
        elif h[CODEC] == RANGE:
            named = priors if h[FLAGS] & 0x10 else none
            ranged.decode(
                data, h[BODY], h[END], n, types, named, prior_p, prior_seen, cells, masks, firsts[k], faults[k]
            )
        else:
            continue
        if faults[k, 0] == 0:
            base = np.uint64(h[BASE_TS])
            for i in range(firsts[k], firsts[k] + n):
                cells[0, i] += base
