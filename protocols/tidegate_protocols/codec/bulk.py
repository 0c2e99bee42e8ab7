"""Many frames at once: headers parsed and columns decoded in bulk, no Python object per reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from crc32c import crc32c

from ..batch import Batch
from ..errors import BadInput
from ..schema import FINGERPRINT_SIZE, Schema
from . import backend
from .limits import CELLS_MAX, FRAME_MAX
from .priors import PRIORS_NAME_SIZE, Priors

CALL_CELLS_MAX = 16 * CELLS_MAX  # what one call decodes at most: small frames may stand for many values
_INTACT = crc32c(bytes(4))  # of any data followed by its own CRC-32C


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """All scans of one schema in the order of their frames; n scans.

    ts_us       int64 [n], microseconds since 1970-01-01 UTC
    columns     one array [n] per channel, of the channel's dtype; zero under nulls
    valid       per channel bool [n], or None when every scan has a value
    message     int32 [n], the frame's place in what was given to `decode_many`
    device      int32 [n], index into `Decoded.devices`
    epoch, seq  int64 [n], the scans' names
    """

    schema: Schema
    ts_us: npt.NDArray[np.int64]
    columns: tuple[npt.NDArray[Any], ...]
    valid: tuple[npt.NDArray[np.bool_] | None, ...]
    message: npt.NDArray[np.int32]
    device: npt.NDArray[np.int32]
    epoch: npt.NDArray[np.int64]
    seq: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What came of many frames.

    blocks   one per schema (and priors)
    devices  device ids, as the blocks index them
    flags    uint8 [k]: byte 3 of each frame, 0xFF for a bad one (bits 0-1 are the lane)
    bad      (place of the frame, why it could not be read)
    taken    how many frames were looked at: all, unless they hold more than one call may decode; go on from there
    """

    blocks: list[Block]
    devices: list[str]
    flags: npt.NDArray[np.uint8]
    bad: list[tuple[int, BadInput]]
    taken: int


def decode_many(
    frames: Sequence[bytes], schemas: Mapping[bytes, Schema], priors: Mapping[bytes, Priors] | None = None
) -> Decoded:
    """Read frames together. A frame that cannot be read is in `bad` and holds up no other.

    Until the compiled codecs are ready the frames are read one by one.
    """
    if backend.ready():
        return _compiled(frames, schemas, priors or {})
    backend.prepare()
    return _one_by_one(frames, schemas, priors or {})


def _compiled(frames: Sequence[bytes], schemas: Mapping[bytes, Schema], priors: Mapping[bytes, Priors]) -> Decoded:
    from . import compiled
    from .kernels import bulk

    count = len(frames)
    starts = np.zeros(count + 1, np.int64)
    np.cumsum(np.fromiter(map(len, frames), np.int64, count), out=starts[1:])
    intact = np.fromiter(map(crc32c, frames), np.uint32, count) == _INTACT
    joined = b"".join((*frames, compiled.PADDING))
    data = np.frombuffer(joined, np.uint8)
    headers = np.zeros((count, bulk.HEADER_FIELDS), np.int64)
    bulk.headers(data, starts, headers)
    readable = intact & (headers[:, bulk.WRONG] == 0) & (np.diff(starts) <= FRAME_MAX)

    # Which schema and which priors: by name, once for each name.
    channels = np.full(count, -1, np.int64)
    named: dict[int, Schema] = {}
    for word in np.unique(headers[readable, bulk.FINGERPRINT]).tolist():
        schema = schemas.get(word.to_bytes(FINGERPRINT_SIZE, "little", signed=True))
        if schema is not None:
            named[word] = schema
            channels[readable & (headers[:, bulk.FINGERPRINT] == word)] = len(schema.channels)
    cells = headers[:, bulk.SCANS] * (channels + 1)
    readable &= (channels > 0) & (cells <= CELLS_MAX)
    total = np.cumsum(np.where(readable, cells, 0))
    taken = max(int(np.searchsorted(total, CALL_CELLS_MAX, side="right")), min(1, count))
    readable[taken:] = False

    bad = {i: _why(frames[i], schemas, priors) for i in np.nonzero(~readable[:taken])[0].tolist()}
    devices: dict[bytes, int] = {}
    device = np.full(count, -1, np.int32)
    for i, begin, end in zip(
        np.nonzero(readable)[0].tolist(),
        headers[readable, bulk.DEVICE].tolist(),
        headers[readable, bulk.DEVICE_END].tolist(),
        strict=True,
    ):
        device[i] = devices.setdefault(joined[begin:end], len(devices))

    blocks = []
    # The flag is part of the key: priors may be named 00000000, which is what stands here where none are named.
    keys = np.stack([headers[:, bulk.FINGERPRINT], headers[:, bulk.FLAGS] & 0x10, headers[:, bulk.PRIORS]], axis=1)
    for key in np.unique(keys[readable], axis=0):
        mine = np.nonzero(readable & (keys == key).all(axis=1))[0]
        block = _block(frames, mine, headers[mine], device[mine], named[int(key[0])], data, priors, bad)
        if block is not None:
            blocks.append(block)
    flags = headers[:taken, bulk.FLAGS].astype(np.uint8)
    flags[list(bad)] = 0xFF
    return Decoded(blocks, [name.decode("ascii") for name in devices], flags, sorted(bad.items()), taken)


def _block(
    frames: Sequence[bytes],
    mine: npt.NDArray[np.int64],
    headers: npt.NDArray[np.int64],
    device: npt.NDArray[np.int32],
    schema: Schema,
    data: npt.NDArray[np.uint8],
    priors: Mapping[bytes, Priors],
    bad: dict[int, BadInput],
) -> Block | None:
    """Decode the frames `mine`, all of one schema and priors; adds to `bad` what cannot be read."""
    from ..frame import UnknownPriors, decode_frame
    from . import compiled
    from .kernels import bulk

    arrays = compiled.NO_PRIORS
    if headers[0, bulk.FLAGS] & 0x10:
        name = int(headers[0, bulk.PRIORS]).to_bytes(PRIORS_NAME_SIZE, "little")
        known = priors.get(name)
        if known is None or known.fingerprint != schema.fingerprint:
            bad.update((int(i), UnknownPriors(name)) for i in mine)
            return None
        arrays = known.arrays
    scans = headers[:, bulk.SCANS]
    ends = np.cumsum(scans)
    firsts = ends - scans
    types = compiled.types_of(schema)
    cells = np.empty((len(types), int(ends[-1])), np.uint64)
    masks = np.empty(cells.shape, np.uint8)
    faults = np.zeros((len(mine), 3), np.int64)
    bulk.columns(data, headers, firsts, types, arrays.plans, arrays.chances, arrays.seen, cells, masks, faults)
    keep = np.ones(len(mine), np.bool_)
    for k in np.nonzero(faults[:, 0])[0].tolist():
        codec: compiled.CompiledName = "bitpack" if headers[k, bulk.CODEC] == bulk.BITPACK else "range"
        bad[int(mine[k])] = compiled.fault_of(codec, schema, faults[k], int(headers[k, bulk.BODY]))
        keep[k] = False
    for k in np.nonzero(headers[:, bulk.CODEC] == 0)[0].tolist():
        try:
            batch = decode_frame(frames[int(mine[k])], {schema.fingerprint: schema})
        except BadInput as error:
            bad[int(mine[k])] = error
            keep[k] = False
            continue
        here = slice(int(firsts[k]), int(ends[k]))
        cells[:, here], masks[:, here] = compiled.cells_of(batch)
        cells[0, here] = batch.ts_us.view(np.uint64)
    if not keep.all():
        rows = np.repeat(keep, scans)
        cells, masks = np.ascontiguousarray(cells[:, rows]), np.ascontiguousarray(masks[:, rows])
        mine, headers, device, scans = mine[keep], headers[keep], device[keep], scans[keep]
        firsts = np.cumsum(scans) - scans
        if not len(mine):
            return None
    ts_us, columns, valid = compiled.columns_of(schema, cells, masks)
    place = np.arange(len(ts_us), dtype=np.int64) - np.repeat(firsts, scans)
    return Block(
        schema, ts_us, columns, valid,
        np.repeat(mine.astype(np.int32), scans), np.repeat(device, scans),
        np.repeat(headers[:, bulk.EPOCH], scans), np.repeat(headers[:, bulk.SEQ], scans) + place,
    )  # fmt: skip


def _why(frame: bytes, schemas: Mapping[bytes, Schema], priors: Mapping[bytes, Priors]) -> BadInput:
    """The error that reading this frame alone gives: bad frames are few, and worth a good message."""
    from ..frame import decode_frame

    try:
        decode_frame(frame, schemas, priors)
    except BadInput as error:
        return error
    return BadInput("the header is damaged", where="header")


def _one_by_one(frames: Sequence[bytes], schemas: Mapping[bytes, Schema], priors: Mapping[bytes, Priors]) -> Decoded:
    from ..frame import decode_frame

    bad: list[tuple[int, BadInput]] = []
    devices: dict[str, int] = {}
    groups: dict[bytes, list[tuple[int, Batch]]] = {}
    flags = np.full(len(frames), 0xFF, np.uint8)
    cells = 0
    taken = 0
    for i, frame in enumerate(frames):
        try:
            batch = decode_frame(frame, schemas, priors)
        except BadInput as error:
            bad.append((i, error))
        else:
            cells += len(batch) * (len(batch.columns) + 1)
            if cells > CALL_CELLS_MAX and i:
                break
            devices.setdefault(batch.device, len(devices))
            groups.setdefault(batch.schema.fingerprint, []).append((i, batch))
            flags[i] = frame[3]
        taken = i + 1
    blocks = []
    for group in groups.values():
        batches = [batch for _, batch in group]
        sizes = [len(batch) for batch in batches]
        blocks.append(
            Block(
                batches[0].schema,
                np.concatenate([batch.ts_us for batch in batches]),
                tuple(np.concatenate(parts) for parts in zip(*(batch.columns for batch in batches), strict=True)),
                tuple(_joined(parts, sizes) for parts in zip(*(batch.valid for batch in batches), strict=True)),
                np.repeat(np.array([i for i, _ in group], np.int32), sizes),
                np.repeat(np.array([devices[batch.device] for batch in batches], np.int32), sizes),
                np.repeat(np.array([batch.epoch for batch in batches], np.int64), sizes),
                np.concatenate([batch.seq + np.arange(len(batch), dtype=np.int64) for batch in batches]),
            )
        )
    return Decoded(blocks, list(devices), flags[:taken], bad, taken)


def _joined(masks: Sequence[npt.NDArray[np.bool_] | None], sizes: Sequence[int]) -> npt.NDArray[np.bool_] | None:
    if all(mask is None for mask in masks):
        return None
    return np.concatenate(
        [np.ones(size, np.bool_) if mask is None else mask for mask, size in zip(masks, sizes, strict=True)]
    )
