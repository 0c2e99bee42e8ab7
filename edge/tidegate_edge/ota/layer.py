"""A pushed layer over the agent's own file: the text that the agent then runs by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w
from tidegate_protocols.errors import BadInput
from tidegate_protocols.layers import lay_over, read_layer, read_toml

FILES = "{files}"


def laid_over(own: str, layer: bytes, files: Path) -> str:
    """`own` with `layer` over it; ``{files}`` in any text of the layer becomes the folder `files`.

    A table goes into the table of the same name, key by key; anything else replaces. Raises BadInput.
    """
    below = read_toml(own, "the agent's own file")
    try:
        above = read_layer(layer.decode("utf-8"), "the pushed layer")
    except UnicodeDecodeError:
        raise BadInput("is not UTF-8", where="the pushed layer") from None
    lay_over(below, _with_files(above, str(files)))
    return tomli_w.dumps(below)


def _with_files(value: Any, folder: str) -> Any:
    if isinstance(value, dict):
        return {key: _with_files(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_files(inner, folder) for inner in value]
    return value.replace(FILES, folder) if isinstance(value, str) else value
