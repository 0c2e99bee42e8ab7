"""Priors: what earlier batches taught about the columns of a schema, so that a small frame need not tell it again.

A prior says how a column is written (model, transform, predictor, step), where its base is to be expected, and the
chances that its residuals start with. Priors are named by the first 4 bytes of SHA-256 over their canonical JSON; a
frame that builds on them carries the name, and can be read only with them. `training.train_priors` makes them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec
import rfc8785

from ..errors import BadInput
from ..schema import CHANNELS_MAX, FINGERPRINT_SIZE

if TYPE_CHECKING:
    from .compiled import PriorArrays

PRIORS_NAME_SIZE = 4
PRIORS_MAX = 4 << 20  # bytes of JSON
CHANCES = 60  # three contexts of 20 bins
_KINDS = (0, 1, 2, 3, 4, 6)  # those without second integers
_MODES = (0, 1, 2, 4, 5, 6, 7)  # those whose head is a base and a step known beforehand
_SIZES = range(-16, 240)
_I64 = range(-(2**63), 2**63)


class Prior(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one column is written. Numbers as in docs/frame.md; those that may pass 2**53 travel as text.

    `size` and `base_size` are size classes, `chances` and `seen` the slots of the three contexts.
    """

    kind: int
    exponent: int
    transform: int
    mode: int
    base: str
    step: str
    stride: str
    offset: str
    size: int
    contexts: bool
    base_size: int
    chances: tuple[int, ...]
    seen: tuple[int, ...]

    def check(self, where: str) -> None:
        """Raise BadInput unless a decoder can follow this prior whatever the frame says."""
        texts = (self.base, self.step, self.stride, self.offset)
        if any(len(text) > 20 or not text.lstrip("-").isdecimal() or int(text) not in _I64 for text in texts):
            raise BadInput("base, step, stride or offset is not a 64-bit integer", where=where)
        if (
            self.kind not in _KINDS
            or self.mode not in _MODES
            or self.transform not in (0, 1)
            or int(self.stride) < self.transform
            or not 0 <= self.exponent <= (31 if self.kind == 2 else 15)
            or self.size not in _SIZES
            or self.base_size not in _SIZES
        ):
            raise BadInput("kind, mode, transform, exponent or size class is out of range", where=where)
        if (
            len(self.chances) != CHANCES
            or len(self.seen) != CHANCES
            or not all(96 <= chance <= 65440 for chance in self.chances)
            or not all(0 <= seen <= 62 for seen in self.seen)
        ):
            raise BadInput(f"chances or counts are not {CHANCES} numbers in range", where=where)


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fingerprint: str
    version: int
    columns: tuple[Prior | None, ...]


@dataclass(frozen=True)
class Priors:
    """The priors of a schema's columns, the times first; None for a column that is told afresh each time.

    `version` is for people: which training this was.
    """

    fingerprint: bytes
    rows: tuple[Prior | None, ...]
    version: int = 1

    @cached_property
    def canonical_json(self) -> bytes:
        """What is stored, sent and named."""
        document = _Document(self.fingerprint.hex(), self.version, self.rows)
        return rfc8785.dumps(msgspec.to_builtins(document, builtin_types=()))

    @cached_property
    def name(self) -> bytes:
        """The 4 bytes that stand for these priors in a frame."""
        return hashlib.sha256(self.canonical_json).digest()[:PRIORS_NAME_SIZE]

    @cached_property
    def arrays(self) -> PriorArrays:
        """The same as the kernels take it."""
        from .compiled import prior_arrays

        return prior_arrays(self.rows)

    @classmethod
    def from_json(cls, data: bytes) -> Priors:
        """Read what `canonical_json` gave. Raises BadInput that names the column."""
        if len(data) > PRIORS_MAX:
            raise BadInput(f"{len(data)} bytes; at most {PRIORS_MAX} are allowed", where="priors")
        try:
            document = msgspec.json.decode(data, type=_Document)
            fingerprint = bytes.fromhex(document.fingerprint)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"not priors: {error}", where="priors") from None
        if len(fingerprint) != FINGERPRINT_SIZE or not 2 <= len(document.columns) <= CHANNELS_MAX + 1:
            raise BadInput("not a fingerprint and columns", where="priors")
        for i, row in enumerate(document.columns):
            if row is not None:
                row.check(f"priors, columns[{i}]")
        return cls(fingerprint, document.columns, document.version)
