"""From frames to blocks: everything between the bytes of a micro-batch and the columns that operators read.

Today each frame is decoded by a call of its own and the columns are put together afterwards; decoding many frames in
one call will live behind the same two functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tidegate_protocols.batch import Batch
from tidegate_protocols.errors import BadInput
from tidegate_protocols.frame import decode_frame
from tidegate_protocols.schema import Schema

from tidegate_cloud.operators.block import Block, block_of

from .logic import Record


class Admitted(NamedTuple):
    """What is new in one record: its number among the micro-batch's records, its scans, and what precedes them."""

    message: int
    batch: Batch
    gap: bool


def read_frames(records: Sequence[Record], schemas: Mapping[bytes, Schema]) -> Iterator[Batch | BadInput]:
    """The batch in each record, in order, or why there is none (`UnknownSchema` when it can be read later)."""
    for record in records:
        try:
            if record.value is None:
                raise BadInput("no value", where="frame")
            yield decode_frame(record.value, schemas)
        except BadInput as error:
            yield error


def blocks_of(admitted: Sequence[Admitted]) -> list[Block]:
    """Blocks, to be processed one after the other: the scans of a device follow in the order of the records.

    A block holds one schema. A device that changes its schema within the micro-batch goes on in a later round of
    blocks, so that what it sent first is processed first.
    """
    rounds: dict[str, tuple[int, bytes]] = {}
    groups: dict[tuple[int, bytes], list[Admitted]] = {}
    for item in admitted:
        fingerprint = item.batch.schema.fingerprint
        number, before = rounds.get(item.batch.device, (0, fingerprint))
        if before != fingerprint:
            number += 1
        rounds[item.batch.device] = (number, fingerprint)
        groups.setdefault((number, fingerprint), []).append(item)
    return [
        block_of(
            [item.batch for item in items],
            gaps=[item.gap for item in items],
            messages=[item.message for item in items],
        )
        for _, items in sorted(groups.items(), key=lambda group: group[0][0])
    ]
