"""How the agent writes its frames: with the codec that the configuration names, and never by waiting for a compiler.

numba's kernels are compiled in a child process and loaded in a thread; until then, and where numba is not installed,
frames are plain. Writing happens in the event loop, so `auto` gives a large frame to the faster codec alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tidegate_protocols.batch import Batch
from tidegate_protocols.codec import backend
from tidegate_protocols.codec.priors import Priors
from tidegate_protocols.errors import BadInput
from tidegate_protocols.frame import encode_frame

Codec = Literal["auto", "plain", "bitpack", "range"]

# The smallest form of so many cells takes some 3 ms on a server's core, ten times that on a small board's.
_SMALLEST_CELLS = 1 << 15


class Framer:
    """Turns batches into frames. `priors` are files, one a schema, that the range coder builds on.

    Raises BadInput for a codec that this machine cannot have, and for files that hold no priors.
    """

    def __init__(self, codec: Codec = "plain", priors: Sequence[str] = ()) -> None:
        self._codec = codec
        self._priors: dict[bytes, Priors] = {}
        for i, path in enumerate(priors):
            found = _read(path, f"batch.priors[{i}]")
            if found.fingerprint in self._priors:
                raise BadInput(
                    f"{path} is for schema {found.fingerprint.hex()}, as is one before", where=f"batch.priors[{i}]"
                )
            self._priors[found.fingerprint] = found
        if codec in ("bitpack", "range") and not backend.available():
            raise BadInput(
                f"{codec!r} needs numba", where="batch.codec", hint="pip install tidegate[kernels], or codec = 'auto'"
            )
        if codec != "plain":
            backend.prepare()

    def encode(self, batch: Batch) -> bytes:
        """`batch` as a frame. Raises BadInput where it is larger than a frame may be."""
        if self._codec == "plain" or not backend.ready():
            return encode_frame(batch, codec="plain")
        if self._codec == "auto" and len(batch) * (len(batch.columns) + 1) > _SMALLEST_CELLS:
            return encode_frame(batch, codec="bitpack")
        return encode_frame(batch, codec=self._codec, priors=self._priors.get(batch.schema.fingerprint))


def _read(path: str, where: str) -> Priors:
    try:
        return Priors.from_json(Path(path).read_bytes())
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}", where=where) from None
    except BadInput as error:
        raise error.at(f"{where}, {path}") from None
