"""Priors from batches: how each column of a schema is best written, learnt once and used for every small frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..batch import Batch
from ..errors import BadInput, Misuse
from .cells import cells_of
from .compiled import types_of
from .kernels import plans, predict, ranged, ranging
from .kernels.hazards import CLASS_MIN
from .priors import Prior, Priors

_SEEN_CAP = 62  # what a trained chance counts for at most
_MODES = tuple(mode for mode in range(8) if mode != predict.SLOPE)


def train_priors(batches: Sequence[Batch], version: int = 1) -> Priors:
    """Priors for the schema of `batches`, which should be like the frames to come: of their size, from many devices.

    Raises BadInput where there is nothing to learn from, Misuse where the batches are of different schemas.
    """
    batches = [batch for batch in batches if len(batch) > 1]
    if not batches:
        raise BadInput("no batch of two scans or more to learn from", where="training")
    schema = batches[0].schema
    if any(batch.schema.fingerprint != schema.fingerprint for batch in batches):
        raise Misuse("the batches are of different schemas")
    types = types_of(schema)
    parts: list[list[npt.NDArray[np.uint64]]] = [[] for _ in types]
    for batch in batches:
        cells, masks = cells_of(batch)
        for j in range(len(types)):
            if masks[j].all():
                parts[j].append(np.ascontiguousarray(cells[j]))
    return Priors(
        schema.fingerprint,
        tuple(_train_column(part, int(kind)) for part, kind in zip(parts, types, strict=True)),
        version,
    )


def _train_column(parts: list[npt.NDArray[np.uint64]], column_type: int) -> Prior | None:
    """The prior under which the parts cost least together, or None where no one plan fits them."""
    best: tuple[float, npt.NDArray[np.int64], list[npt.NDArray[np.uint64]], list[int]] | None = None
    for given in _candidates(parts, column_type):
        residuals: list[npt.NDArray[np.uint64]] = []
        bases: list[int] = []
        cost = 0.0
        for u in parts:
            m = len(u)
            x, extra, out = np.empty(m, np.int64), np.empty(m, np.int64), np.empty(m, np.uint64)
            plan = np.zeros(plans.PLAN_SIZE, np.int64)
            if plans.apply(u, m, given, x, extra, np.empty(m // 16 + 2, np.int64), out, plan):
                residuals.append(out[: plan[plans.COUNT]])
                bases.append(int(plan[plans.BASE]))
            else:
                cost += 64.0 * m
        if len(bases) * 2 < len(parts) or not bases:
            continue
        joined = np.concatenate(residuals)
        cost += plans.entropy(joined, len(joined))
        middle = int(np.median(np.array(bases, np.float64))) if len(set(bases)) > 1 else bases[0]
        spread = _folded(bases, middle)
        cost += float(sum(np.log2(1.0 + spread.astype(np.float64)) + 1.0))
        if best is None or cost < best[0]:
            given[plans.BASE] = middle
            best = cost, given, residuals, bases
    return None if best is None else _prior(*best[1:])


def _candidates(parts: list[npt.NDArray[np.uint64]], column_type: int) -> list[npt.NDArray[np.int64]]:
    """Plans worth a try: the model that all parts share, with and without their common stride, in every mode."""
    joined = np.concatenate(parts) if parts else np.empty(0, np.uint64)
    m = len(joined)
    if m == 0:
        return []
    x, y, extra = np.empty(m, np.int64), np.empty(m, np.int64), np.empty(m, np.int64)
    r, residuals = np.empty(m, np.uint64), np.empty(m, np.uint64)
    table, plan = np.empty(plans.DICTIONARY_MAX + 1, np.int64), np.zeros(plans.PLAN_SIZE, np.int64)
    strange = np.empty(m // 16 + 2, np.int64)
    plans.choose(joined, m, column_type, True, x, y, extra, strange, r, residuals, table, plan)
    kind, exponent = int(plan[plans.KIND]), int(plan[plans.EXPONENT])
    if kind in (5, 7):
        return []
    strides = [(plans.PLAIN, 0, 0)]
    if plan[plans.TRANSFORM] == plans.STRIDE:
        offset = int(plan[plans.OFFSET]) % int(plan[plans.STRIDE_BY])
        strides.append((plans.STRIDE, int(plan[plans.STRIDE_BY]), offset))
    found = []
    for transform, stride, offset in strides:
        for mode in _MODES:
            for step in _steps(x, parts, mode, max(stride, 1), timed=column_type == plans.TIME):
                given = np.zeros(ranged.PRIOR_FIELDS, np.int64)
                given[plans.KIND], given[plans.EXPONENT] = kind, exponent
                given[plans.TRANSFORM], given[plans.STRIDE_BY], given[plans.OFFSET] = transform, stride, offset
                given[plans.MODE], given[plans.STEP] = mode, step
                found.append(given)
    return found


def _steps(
    x: npt.NDArray[np.int64], parts: list[npt.NDArray[np.uint64]], mode: int, stride: int, *, timed: bool
) -> list[int]:
    """The steps to try in a mode: none, and for times the usual period."""
    if mode not in (predict.DELTA, predict.LINE):
        return [0]
    if not timed:
        return [0] if mode == predict.DELTA else []
    edges = np.cumsum([len(part) for part in parts])[:-1]
    period = int(np.median(np.delete(np.diff(x), edges - 1))) // stride
    return [period] if mode == predict.DELTA else [period << 8]


def _folded(bases: list[int], middle: int) -> npt.NDArray[np.uint64]:
    return np.array([((base - middle) << 1 ^ (base - middle) >> 63) & (2**64 - 1) for base in bases], np.uint64)


def _prior(given: npt.NDArray[np.int64], residuals: list[npt.NDArray[np.uint64]], bases: list[int]) -> Prior:
    joined = np.concatenate(residuals)
    count = len(joined)
    size = int(ranging.size_class(joined, count)) if count else CLASS_MIN
    contexts = bool(ranged.contexts_pay(joined, count, size)) if count else False
    chances, seen = np.empty(ranging.SLOTS, np.int64), np.empty(ranging.SLOTS, np.int64)
    ranging.start_slots(size, contexts, chances, seen)
    # Run the coder over all of it and keep what its chances have become; the bytes are of no interest.
    state = np.zeros(ranging.STATE_SIZE, np.uint64)
    ranging.start_encoder(state)
    for part in residuals:
        room = np.empty(len(part) * 64 + 64, np.uint8)
        state[ranging.FRONT] = state[ranging.BACK] = 1
        state[ranging.LOW] = 0
        room[0] = 0
        ranging.put_residuals(state, room, np.empty_like(room), part, len(part), size, contexts, chances, seen)
    base_size = ranging.size_class(_folded(bases, int(given[plans.BASE])), len(bases))
    return Prior(
        kind=int(given[plans.KIND]), exponent=int(given[plans.EXPONENT]), transform=int(given[plans.TRANSFORM]),
        mode=int(given[plans.MODE]), base=str(int(given[plans.BASE])), step=str(int(given[plans.STEP])),
        stride=str(int(given[plans.STRIDE_BY])), offset=str(int(given[plans.OFFSET])),
        size=size, contexts=contexts, base_size=int(base_size),
        chances=tuple(int(value) for value in chances), seen=tuple(min(int(value), _SEEN_CAP) for value in seen),
    )  # fmt: skip
