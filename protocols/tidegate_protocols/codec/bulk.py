"""Many frames at once: headers parsed and columns decoded in bulk, no Python object per reading.

Until the compiled codecs are ready the same is done frame by frame, with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from crc32c import crc32c

from ..errors import BadInput
from ..schema import FINGERPRINT_SIZE, Schema
from . import backend
from .cells import Cells, Masks, cells_of, columns_of
from .kernels import fields as f
from .limits import CELLS_MAX, FRAME_MAX
from .priors import PRIORS_NAME_SIZE, Priors

if TYPE_CHECKING:
    from .compiled import CompiledName

CALL_CELLS_MAX = 16 * CELLS_MAX  # what one call decodes at most: small frames may stand for many values
_INTACT = crc32c(bytes(4))  # of any data followed by its own CRC-32C
_NAMES_PRIORS = 0x10
_BAD = 0xFF

Heads = npt.NDArray[np.int64]


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

    def __len__(self) -> int:
        return len(self.ts_us)


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What came of k frames.

    blocks       one per schema, in the order of their first frames
    devices      device ids, ASCII, as the keys of records hold them
    schemas      fingerprints, of schemas known or not
    bad          why a frame could not be read, by its place. UnknownSchema and UnknownPriors heal by waiting: of those
                 the header is known all the same
    taken        how many frames were looked at: all, unless they hold more than one call may decode; go on from there

    And of each of the `taken` frames what its header says:

    device       int32, index into `devices`; -1 where the header cannot be read or trusted
    schema       int32, index into `schemas`; -1 likewise
    epoch, seq   int64, the name of its first scan
    scans        int64, how many it holds
    ts_us        int64, the time of its first scan
    flags        uint8: bits 0-1 the lane, bit 2 the times are an estimate, bit 3 the times are the agent's, bit 4 it
                 names priors; 0xFF where the header cannot be read
    block        int32, index into `blocks`; -1 for a bad one
    row          int64, where in its block its scans begin
    """

    blocks: list[Block]
    devices: list[bytes]
    schemas: list[bytes]
    bad: dict[int, BadInput]
    taken: int
    device: npt.NDArray[np.int32]
    schema: npt.NDArray[np.int32]
    epoch: npt.NDArray[np.int64]
    seq: npt.NDArray[np.int64]
    scans: npt.NDArray[np.int64]
    ts_us: npt.NDArray[np.int64]
    flags: npt.NDArray[np.uint8]
    block: npt.NDArray[np.int32]
    row: npt.NDArray[np.int64]


def decode_many(
    frames: Sequence[bytes | None], schemas: Mapping[bytes, Schema], priors: Mapping[bytes, Priors] | None = None
) -> Decoded:
    """Read frames together. A frame that cannot be read is in `bad` and holds up no other; None, the value of a
    record that has none, is bad too.
    """
    compiled = backend.ready()
    if not compiled:
        backend.prepare()
    return _Call([frame or b"" for frame in frames], schemas, priors or {}, compiled).decoded()


class _Call:
    """One call of `decode_many`: the bytes of all frames as one, and what is known of each."""

    def __init__(
        self, frames: list[bytes], schemas: Mapping[bytes, Schema], priors: Mapping[bytes, Priors], compiled: bool
    ) -> None:
        self.frames, self.known, self.priors, self.compiled = frames, schemas, priors, compiled
        self.data = b"".join((*frames, bytes(8)))  # kernels may read, but not use, so many bytes past the end
        self.words = np.frombuffer(self.data, np.uint8)
        self.starts = np.zeros(len(frames) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, frames), np.int64, len(frames)), out=self.starts[1:])
        self.bad: dict[int, BadInput] = {}
        self.heads = self._heads()
        self.device = np.full(len(frames), -1, np.int32)
        self.block = np.full(len(frames), -1, np.int32)
        self.row = np.zeros(len(frames), np.int64)

    def _heads(self) -> Heads:
        """Every frame's header; WRONG is 1 where it cannot be read or its checksum does not fit."""
        heads = np.zeros((len(self.frames), f.HEADER_FIELDS), np.int64)
        if self.compiled:
            from .kernels import bulk

            bulk.headers(self.words, self.starts, heads)
            intact = np.fromiter(map(crc32c, self.frames), np.uint32, len(self.frames)) == _INTACT
            heads[~intact | (np.diff(self.starts) > FRAME_MAX), f.WRONG] = 1
            return heads
        for head, frame, start in zip(heads, self.frames, self.starts.tolist(), strict=False):
            _fill_head(head, frame, start)
        return heads

    def decoded(self) -> Decoded:
        heads, count = self.heads, len(self.frames)
        readable = heads[:, f.WRONG] == 0
        fingerprints, inverse = np.unique(heads[readable, f.FINGERPRINT], return_inverse=True)
        names = [word.to_bytes(FINGERPRINT_SIZE, "little", signed=True) for word in fingerprints.tolist()]
        schema = np.full(count, -1, np.int32)
        schema[readable] = inverse
        known = [self.known.get(name) for name in names]
        width = np.array([0 if found is None else len(found.channels) + 1 for found in known] or [0], np.int64)[schema]
        cells = heads[:, f.SCANS] * width
        good = readable & (width > 0) & (cells <= CELLS_MAX)
        taken = int(np.searchsorted(np.cumsum(np.where(good, cells, 0)), CALL_CELLS_MAX, side="right"))
        taken = max(taken, min(1, count))
        good[taken:] = False
        devices = self._number_devices(np.nonzero(readable[:taken])[0])
        for i in np.nonzero(~good[:taken])[0].tolist():
            self.bad[i] = self._why(i)
        blocks: list[Block] = []
        _, first = np.unique(schema[good], return_index=True)
        for number in schema[good][np.sort(first)].tolist():
            found = known[number]
            assert found is not None
            block = self._block(np.nonzero(good & (schema == number))[0], found, len(blocks))
            if block is not None:
                blocks.append(block)
        flags = np.where(readable, heads[:, f.FLAGS], _BAD).astype(np.uint8)
        epoch, seq, scans, ts_us = (heads[:taken, i].copy() for i in (f.EPOCH, f.SEQ, f.SCANS, f.BASE_TS))
        return Decoded(
            blocks, devices, names, dict(sorted(self.bad.items())), taken, self.device[:taken], schema[:taken],
            epoch, seq, scans, ts_us, flags[:taken], self.block[:taken], self.row[:taken],
        )  # fmt: skip

    def _number_devices(self, places: npt.NDArray[np.int64]) -> list[bytes]:
        devices: dict[bytes, int] = {}
        data, number = self.data, devices.setdefault
        spans = zip(self.heads[places, f.DEVICE].tolist(), self.heads[places, f.DEVICE_END].tolist(), strict=True)
        self.device[places] = [number(data[begin:end], len(devices)) for begin, end in spans]
        return list(devices)

    def _why(self, place: int) -> BadInput:
        """The error that reading this frame alone gives: bad frames are few, and worth a good message."""
        from ..frame import decode_frame

        try:
            decode_frame(self.frames[place], self.known, self.priors)
        except BadInput as error:
            return error
        return BadInput("the header is damaged", where="header")

    def _block(self, mine: npt.NDArray[np.int64], schema: Schema, number: int) -> Block | None:
        """The scans of the frames `mine`, all of one schema; what cannot be read is added to `bad`."""
        scans = self.heads[mine, f.SCANS]
        firsts = np.cumsum(scans) - scans
        cells = np.empty((len(schema.channels) + 1, int(scans.sum())), np.uint64)
        masks = np.empty(cells.shape, np.uint8)
        keep = np.ones(len(mine), np.bool_)
        alone = self.heads[mine, f.CODEC] == 0
        if self.compiled:
            self._by_kernels(mine, firsts, schema, cells, masks, keep)
        else:
            alone[:] = True
        self._one_by_one(mine, np.nonzero(alone)[0], firsts, cells, masks, keep)
        if not keep.all():
            rows = np.repeat(keep, scans)
            cells, masks = np.ascontiguousarray(cells[:, rows]), np.ascontiguousarray(masks[:, rows])
            mine, scans = mine[keep], scans[keep]
            firsts = np.cumsum(scans) - scans
            if not len(mine):
                return None
        self.block[mine], self.row[mine] = number, firsts
        ts_us, columns, valid = columns_of(schema, cells, masks)
        return Block(
            schema, ts_us, columns, valid,
            np.repeat(mine.astype(np.int32), scans), np.repeat(self.device[mine], scans),
            np.repeat(self.heads[mine, f.EPOCH], scans),
            np.repeat(self.heads[mine, f.SEQ] - firsts, scans) + np.arange(len(ts_us), dtype=np.int64),
        )  # fmt: skip

    def _by_kernels(
        self, mine: npt.NDArray[np.int64], firsts: npt.NDArray[np.int64], schema: Schema, cells: Cells, masks: Masks,
        keep: npt.NDArray[np.bool_],
    ) -> None:  # fmt: skip
        """Decode the frames of the compiled codecs, in one call for each priors named, and for those without."""
        from . import compiled
        from .kernels import bulk

        types = compiled.types_of(schema)
        heads = self.heads[mine]
        names = np.where(heads[:, f.FLAGS] & _NAMES_PRIORS, heads[:, f.PRIORS], -1)
        for name in np.unique(names).tolist():
            part = np.nonzero(names == name)[0]
            arrays = compiled.NO_PRIORS
            if name >= 0:
                priors = self.priors.get(name.to_bytes(PRIORS_NAME_SIZE, "little"))
                if priors is None or priors.fingerprint != schema.fingerprint:
                    self.bad.update((i, self._why(i)) for i in mine[part].tolist())
                    keep[part] = False
                    continue
                arrays = priors.arrays
            faults = np.zeros((len(part), 3), np.int64)
            bulk.columns(
                self.words, heads[part], firsts[part], types, arrays.plans, arrays.chances, arrays.seen, cells, masks,
                faults,
            )  # fmt: skip
            for k in np.nonzero(faults[:, 0])[0].tolist():
                head = heads[part[k]]
                codec: CompiledName = "bitpack" if head[f.CODEC] == bulk.BITPACK else "range"
                self.bad[int(mine[part[k]])] = compiled.fault_of(codec, schema, faults[k], int(head[f.BODY]))
                keep[part[k]] = False

    def _one_by_one(
        self, mine: npt.NDArray[np.int64], places: npt.NDArray[np.int64], firsts: npt.NDArray[np.int64], cells: Cells,
        masks: Masks, keep: npt.NDArray[np.bool_],
    ) -> None:  # fmt: skip
        from ..frame import decode_frame

        for k in places.tolist():
            i, first = int(mine[k]), int(firsts[k])
            try:
                batch = decode_frame(self.frames[i], self.known, self.priors)
            except BadInput as error:
                self.bad[i] = error
                keep[k] = False
                continue
            here = slice(first, first + len(batch))
            cells[:, here], masks[:, here] = cells_of(batch)
            cells[0, here] = batch.ts_us.view(np.uint64)


def _fill_head(head: npt.NDArray[np.int64], frame: bytes, start: int) -> None:
    """As `kernels.bulk.headers` does."""
    from ..frame import peek_header

    try:
        said = peek_header(frame)
    except BadInput:
        head[f.WRONG] = 1
        return
    head[f.FINGERPRINT] = int.from_bytes(said.fingerprint, "little", signed=True)
    head[f.CODEC] = frame[2] >> 4
    head[f.FLAGS] = frame[3]
    head[f.DEVICE], head[f.DEVICE_END] = start + 13, start + 13 + len(said.device)
    head[f.EPOCH], head[f.SEQ], head[f.SCANS], head[f.BASE_TS] = said.epoch, said.seq, said.n, said.base_ts_us
    head[f.PRIORS] = int.from_bytes(said.priors, "little")
    head[f.BODY], head[f.END] = start + said.body, start + said.end
