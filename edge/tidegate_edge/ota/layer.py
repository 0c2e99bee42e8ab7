"""A pushed layer over the agent's own file: the text that the agent then runs by."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
from tidegate_protocols.errors import BadInput

# What only the agent itself can know. A layer with any of it was not made by our server.
OWN: tuple[tuple[str, ...], ...] = (("agent", "name"), ("agent", "data_dir"), ("ota",))
FILES = "{files}"


def laid_over(own: str, layer: bytes, files: Path) -> str:
    """`own` with `layer` over it; ``{files}`` in any text of the layer becomes the folder `files`.

    A table goes into the table of the same name, key by key; anything else replaces. Raises BadInput.
    """
    below = _read(own, "the agent's own file")
    try:
        above = _read(layer.decode("utf-8"), "the pushed layer")
    except UnicodeDecodeError:
        raise BadInput("is not UTF-8", where="the pushed layer") from None
    for path in OWN:
        inner: Any = above
        for key in path:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if inner is not None:
            raise BadInput(f"{'.'.join(path)} cannot be pushed", where="the pushed layer")
    _merge(below, _with_files(above, str(files)))
    return tomli_w.dumps(below)


def _read(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"is not TOML: {error}", where=name) from None


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        under = below.get(key)
        if isinstance(value, dict) and isinstance(under, dict):
            _merge(under, value)
        else:
            below[key] = value


def _with_files(value: Any, folder: str) -> Any:
    if isinstance(value, dict):
        return {key: _with_files(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_files(inner, folder) for inner in value]
    return value.replace(FILES, folder) if isinstance(value, str) else value
