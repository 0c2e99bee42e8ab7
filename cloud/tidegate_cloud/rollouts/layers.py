"""From layers to one agent's file: base, its group's layer, its own, each laid over what is below.

A table goes into the table of the same name below, key by key; anything else (numbers, texts, arrays, so all of
`[[source]]`) replaces what is below. What comes out goes over the agent's own file in the same way, except for what
only the agent can know: its name, where its data are, and whom it trusts.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from typing import Any, NamedTuple

import tomli_w
from tidegate_protocols.errors import BadInput
from tidegate_protocols.ota import CONFIG, target_path
from tidegate_protocols.rollouts import FileRef, Layer

# Tables and keys that are the agent's own: pushing them would take it over or cut it off.
OWN: tuple[tuple[str, ...], ...] = (("agent", "name"), ("agent", "data_dir"), ("ota",))


class Compiled(NamedTuple):
    """One agent's configuration: TOML, and the files beside it."""

    content: bytes
    files: dict[str, FileRef]


def layer_ids(agent: str, group: str) -> list[str]:
    """The layers of an agent, lowest first."""
    return ["base", *([f"group/{group}"] if group else []), f"agent/{agent}"]


def touches(layer: str, agent: str, group: str) -> bool:
    """Whether a layer is one of this agent's."""
    return layer in layer_ids(agent, group)


def compile_layers(layers: Mapping[str, Layer], agent: str, group: str) -> Compiled:
    """What `agent` runs under these layers. The same layers give the same bytes. Raises BadInput for broken TOML."""
    document: dict[str, Any] = {}
    files: dict[str, FileRef] = {}
    for name in layer_ids(agent, group):
        layer = layers.get(name)
        if layer is not None:
            merge(document, read(layer.content, name))
            files |= layer.files
    return Compiled(tomli_w.dumps(document).encode(), dict(sorted(files.items())))


def merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Lay `above` over `below`, which changes."""
    for key, value in above.items():
        under = below.get(key)
        if isinstance(value, dict) and isinstance(under, dict):
            merge(under, value)
        else:
            below[key] = value


def read(content: str, name: str) -> dict[str, Any]:
    """A layer's TOML. Raises BadInput, naming the line, or the key that no layer may hold."""
    try:
        document = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"is not TOML: {error}", where=name) from None
    for path in OWN:
        inner: Any = document
        for key in path:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if inner is not None:
            raise BadInput(f"{'.'.join(path)} cannot be pushed", where=name, hint="it belongs to each agent's own file")
    return document


def check(layer: Layer) -> None:
    """Raise BadInput for a layer that cannot be compiled."""
    read(layer.content, layer.id)
    for name in layer.files:
        if name == CONFIG:
            raise BadInput(f"a file cannot be called {CONFIG}", where=layer.id)
        target_path("x", name)


def difference(before: str, after: str, name: str) -> list[str]:
    """A unified diff, line by line."""
    return list(
        difflib.unified_diff(before.splitlines(), after.splitlines(), f"{name} now", f"{name} then", lineterm="")
    )
