"""The compiled codecs behind plain signatures: batches in, bytes out, and back. Importing this imports numba.

Everything that is checked about arrays is checked here; the kernels trust their callers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..batch import Batch
from ..errors import BadInput
from ..schema import Schema
from .cells import cells_of, columns_of
from .kernels import bulk, fields, packed, plans, ranged, ranging
from .plain import Columns
from .priors import Prior

CompiledName = Literal["bitpack", "range"]

PADDING = bytes(8)  # the kernels may read, but not use, so many bytes past the end
_CODES: dict[CompiledName, int] = {"bitpack": bulk.BITPACK, "range": bulk.RANGE}
_TYPES = {"float64": plans.FLOAT, "int64": plans.INTEGER, "bool": plans.BOOL}
_KNOWN_MAX = 4096
_types: dict[bytes, npt.NDArray[np.uint8]] = {}

_WHAT = {
    "bitpack": {
        packed.CUT_SHORT: "cut short", packed.BAD_FORM: "its form does not suit the column",
        packed.BAD_MASK: "its nulls are damaged", packed.BAD_EXCEPTION: "its exceptions are damaged",
        packed.BAD_TRANSFORM: "its transform is damaged", packed.TRAILING: "bytes after the last column",
        packed.BAD_VALUE: "a bool is neither 0 nor 1", packed.BAD_TIME: "the first time is not the header's",
    },
    "range": {
        ranged.BAD_HEAD: "its head does not suit the column", ranged.BAD_STRANGE: "its exceptions are damaged",
        ranged.BAD_TRANSFORM: "its transform is damaged", ranged.OVERRUN: "the bytes end before it does",
        ranged.BAD_VALUE: "a bool is neither 0 nor 1", ranged.BAD_TIME: "the first time is not the header's",
        ranged.NOT_WHOLE: "the bytes are not those of the columns alone",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PriorArrays:
    """Priors as the kernels take them: rows of plans, chances and counts, one per column, the times first."""

    plans: npt.NDArray[np.int64]
    chances: npt.NDArray[np.int64]
    seen: npt.NDArray[np.int64]


NO_PRIORS = PriorArrays(
    np.empty((0, ranged.PRIOR_FIELDS), np.int64),
    np.empty((0, ranging.SLOTS), np.int64),
    np.empty((0, ranging.SLOTS), np.int64),
)


def types_of(schema: Schema) -> npt.NDArray[np.uint8]:
    """The kernels' column types of a schema: uint8 [channels + 1], the times first."""
    known = _types.get(schema.fingerprint)
    if known is None:
        if len(_types) >= _KNOWN_MAX:
            _types.clear()
        known = np.array([plans.TIME] + [_TYPES[channel.type] for channel in schema.channels], np.uint8)
        _types[schema.fingerprint] = known
    return known


def encode_columns(batch: Batch, codec: CompiledName, priors: PriorArrays = NO_PRIORS) -> bytes:
    """The body of a frame."""
    return encode_cells(*cells_of(batch), types_of(batch.schema), codec, priors)


def encode_cells(
    cells: npt.NDArray[np.uint64],
    masks: npt.NDArray[np.uint8],
    types: npt.NDArray[np.uint8],
    codec: CompiledName,
    priors: PriorArrays = NO_PRIORS,
) -> bytes:
    """The body of a frame from arrays as `cells_of` and `types_of` give them."""
    c, n = cells.shape
    if codec == "bitpack":
        out = np.empty(packed.worst_size(n, c), np.uint8)
        size = packed.encode(cells, masks, types, out)
    else:
        room = ranged.worst_size(n, c)
        out, back = np.empty(room, np.uint8), np.empty(room, np.uint8)
        size = ranged.encode(cells, masks, types, priors.plans, priors.chances, priors.seen, out, back)
    return out[:size].tobytes()


def decode_columns(
    data: bytes | memoryview,
    schema: Schema,
    n: int,
    base_ts_us: int,
    codec: CompiledName,
    priors: PriorArrays = NO_PRIORS,
) -> Columns:
    """The times, columns and masks of a body. Values under nulls are zero. Raises BadInput."""
    types = types_of(schema)
    cells = np.empty((len(types), n), np.uint64)
    masks = np.empty((len(types), n), np.uint8)
    header = np.zeros((1, fields.HEADER_FIELDS), np.int64)
    header[0, fields.CODEC], header[0, fields.SCANS], header[0, fields.BASE_TS] = _CODES[codec], n, base_ts_us
    header[0, fields.END] = len(data)
    header[0, fields.FLAGS] = 0x10 if len(priors.plans) else 0
    faults = np.zeros((1, 3), np.int64)
    padded = np.frombuffer(bytes(data) + PADDING, np.uint8)
    bulk.columns(
        padded, header, np.zeros(1, np.int64), types, priors.plans, priors.chances, priors.seen, cells, masks, faults
    )
    if faults[0, 0]:
        raise fault_of(codec, schema, faults[0])
    return columns_of(schema, cells, masks)


def fault_of(codec: CompiledName, schema: Schema, fault: npt.NDArray[np.int64], start: int = 0) -> BadInput:
    """What the kernels found, as an error that names the column and the place."""
    code, column, place = (int(value) for value in fault)
    name = schema.channels[column - 1].name if column else "ts"
    where = f"column {name}, body byte {place - start}" if codec == "bitpack" else f"column {name}"
    return BadInput(_WHAT[codec].get(code, "damaged"), where=where)


def prior_arrays(rows: Sequence[Prior | None]) -> PriorArrays:
    """Priors as the kernels take them."""
    table = np.zeros((len(rows), ranged.PRIOR_FIELDS), np.int64)
    chances = np.zeros((len(rows), ranging.SLOTS), np.int64)
    seen = np.zeros((len(rows), ranging.SLOTS), np.int64)
    for i, row in enumerate(rows):
        if row is None:
            continue
        line = table[i]
        line[plans.KIND], line[plans.EXPONENT], line[plans.TRANSFORM] = row.kind, row.exponent, row.transform
        line[plans.MODE], line[plans.BASE], line[plans.STEP] = row.mode, int(row.base), int(row.step)
        line[plans.STRIDE_BY], line[plans.OFFSET] = int(row.stride), int(row.offset)
        line[ranged.PRIOR_SIZE_CLASS], line[ranged.PRIOR_CONTEXTS] = row.size, row.contexts
        line[ranged.PRIOR_BASE_CLASS], line[ranged.PRIOR_PRESENT] = row.base_size, 1
        chances[i], seen[i] = row.chances, row.seen
    return PriorArrays(table, chances, seen)
