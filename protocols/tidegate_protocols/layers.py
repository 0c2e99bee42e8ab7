"""Layers of configuration, as the server lays them over each other and the agent lays them over its own file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from .errors import BadInput

# Tables and keys that are the agent's own: pushing them would take it over or cut it off.
OWN: tuple[tuple[str, ...], ...] = (("agent", "name"), ("agent", "data_dir"), ("ota",))


def read_toml(text: str, name: str) -> dict[str, Any]:
    """A TOML text; `name` is its place in the error. Raises BadInput, naming the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"is not TOML: {error}", where=name) from None


def read_layer(text: str, name: str) -> dict[str, Any]:
    """A layer's TOML. Raises BadInput, naming the line, or the key that no layer may hold."""
    document = read_toml(text, name)
    for path in OWN:
        inner: Any = document
        for key in path:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if inner is not None:
            raise BadInput(f"{'.'.join(path)} cannot be pushed", where=name, hint="it belongs to each agent's own file")
    return document


def lay_over(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Lay `above` over `below`, which changes: a table into the table of its name, anything else in its place."""
    for key, value in above.items():
        under = below.get(key)
        if isinstance(value, dict) and isinstance(under, dict):
            lay_over(under, value)
        else:
            below[key] = value
