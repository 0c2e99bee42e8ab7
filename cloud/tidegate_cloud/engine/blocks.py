"""From frames to blocks: everything between the bytes of a micro-batch and the columns that operators read.

`read` decodes all frames of a micro-batch together and says of each what its header says, in columns by record. `cut`
puts what is new in them into blocks. Python touches a frame a few times on this way, and a reading never.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tidegate_protocols.batch import Lane
from tidegate_protocols.codec import bulk
from tidegate_protocols.codec.priors import Priors
from tidegate_protocols.errors import BadInput
from tidegate_protocols.schema import Schema

from tidegate_cloud.operators.block import Block

from .logic import Record

_LANE, _ESTIMATED = 0x03, 0x04
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """The frames of k records.

    names       device ids
    schemas     fingerprints, of schemas announced or not
    blocks      the columns of the frames
    bad         record → why its frame could not be read (`NotYetReadable` when it can be read later)

    device      int64 [k], index into `names`; -1 where the header cannot be read
    schema      int64 [k], index into `schemas`; likewise
    block, row  int64 [k], which block the scans are in, -1 = none; where they begin there
    epoch, seq  int64 [k], name of the first scan
    n           int64 [k], number of scans
    lane        uint8 [k], batch.Lane
    estimated   bool [k], the times are estimates
    """

    names: list[bytes]
    schemas: list[bytes]
    blocks: list[bulk.Block]
    bad: dict[int, BadInput]
    device: Ints
    schema: Ints
    block: Ints
    row: Ints
    epoch: Ints
    seq: Ints
    n: Ints
    lane: npt.NDArray[np.uint8]
    estimated: Bools


class Piece(NamedTuple):
    """A block, and when its turn comes: a lower round is processed before."""

    round: int
    preview: bool
    block: Block


def read(
    records: Sequence[Record], schemas: Mapping[bytes, Schema], priors: Mapping[bytes, Priors] | None = None
) -> Frames:
    """What the frames in these records hold."""
    k = len(records)
    device, schema, block, row, epoch, seq, n = np.full((7, k), -1, np.int64)
    lane, estimated = np.zeros(k, np.uint8), np.zeros(k, np.bool_)
    frames = Frames([], [], [], {}, device, schema, block, row, epoch, seq, n, lane, estimated)
    values = [record.value for record in records]
    names: dict[bytes, int] = {}
    marks: dict[bytes, int] = {}
    at = 0
    while at < k:
        found = bulk.decode_many(values[at:] if at else values, schemas, priors)
        here = slice(at, at + found.taken)
        frames.bad.update((at + i, error) for i, error in found.bad.items())
        device[here] = _renumbered(found.device, found.devices, names)
        schema[here] = _renumbered(found.schema, found.schemas, marks)
        block[here] = np.where(found.block >= 0, found.block + len(frames.blocks), -1)
        row[here], epoch[here], seq[here], n[here] = found.row, found.epoch, found.seq, found.scans
        lane[here], estimated[here] = found.flags & _LANE, found.flags & _ESTIMATED != 0
        frames.blocks.extend(found.blocks)
        at += found.taken
    frames.names.extend(names)
    frames.schemas.extend(marks)
    return frames


def _renumbered(index: npt.NDArray[np.int32], names: Sequence[bytes], numbers: dict[bytes, int]) -> Ints:
    """`index` into `names` as an index into `numbers`; -1 stays."""
    return np.array([*(numbers.setdefault(name, len(numbers)) for name in names), -1], np.int64)[index]


def cut(frames: Frames, start: Ints, gap: Bools, round_of: Ints) -> list[Piece]:
    """Blocks in the order of their rounds, of what is new in each frame: its scans from `start` on, -1 for none.

    `gap`: scans are missing before the first new one. A device is in at most one block of a round.
    """
    pieces = []
    order = round_of * 2 + (frames.lane == Lane.PREVIEW)
    new = start >= 0
    for number, block in enumerate(frames.blocks):
        here = frames.block == number
        for turn in np.unique(order[new & here]).tolist():
            chosen = np.flatnonzero(new & here & (order == turn))
            whole = len(chosen) == int(here.sum()) and not start[chosen].any()
            pieces.append(Piece(turn // 2, bool(turn % 2), _block(frames, block, chosen, whole, start, gap)))
    return sorted(pieces, key=lambda piece: piece.round)


def _block(frames: Frames, block: bulk.Block, chosen: Ints, whole: bool, start: Ints, gap: Bools) -> Block:
    """What is new in the `chosen` records' frames. `whole`: that is everything in `block`."""
    skipped = start[chosen]
    sizes = frames.n[chosen] - skipped
    begins = np.cumsum(sizes) - sizes
    rows: Any = slice(None)
    if not whole:
        rows = np.arange(int(sizes.sum()), dtype=np.int64) + np.repeat(frames.row[chosen] + skipped - begins, sizes)
    numbers, local = np.unique(frames.device[chosen], return_inverse=True)
    told = np.zeros(int(sizes.sum()), np.bool_)
    told[begins] = gap[chosen]
    return Block(
        block.schema, [frames.names[number].decode("ascii") for number in numbers.tolist()],
        np.repeat(local.astype(np.int32), sizes), block.ts_us[rows],
        tuple(column[rows] for column in block.columns),
        tuple(None if mask is None else mask[rows] for mask in block.valid),
        block.seq[rows], block.epoch[rows], np.repeat(chosen.astype(np.int32), sizes), told,
    )  # fmt: skip
