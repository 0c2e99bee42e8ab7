"""From layers to one agent's file: base, its group's layer, its own, each laid over what is below.

A table goes into the table of the same name below, key by key; anything else (numbers, texts, arrays, so all of
`[[source]]`) replaces what is below. What comes out goes over the agent's own file in the same way, except for what
only the agent can know: its name, where its data are, and whom it trusts.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

import tomli_w
from tidegate_protocols.errors import BadInput
from tidegate_protocols.layers import lay_over, read_layer
from tidegate_protocols.ota import CONFIG, target_path
from tidegate_protocols.rollouts import FileRef, Layer


class Compiled(NamedTuple):
    """One agent's configuration: TOML, and the files beside it."""

    content: bytes
    files: dict[str, FileRef]


def layer_ids(agent: str, group: str) -> list[str]:
    """The layers of an agent, lowest first."""
    return ["base", *([f"group/{group}"] if group else []), f"agent/{agent}"]


def compile_layers(layers: Mapping[str, Layer], agent: str, group: str) -> Compiled:
    """What `agent` runs under these layers. The same layers give the same bytes. Raises BadInput for broken TOML."""
    document: dict[str, Any] = {}
    files: dict[str, FileRef] = {}
    for name in layer_ids(agent, group):
        layer = layers.get(name)
        if layer is not None:
            lay_over(document, read_layer(layer.content, name))
            files |= layer.files
    return Compiled(tomli_w.dumps(document).encode(), dict(sorted(files.items())))


def check(layer: Layer) -> None:
    """Raise BadInput for a layer that cannot be compiled."""
    read_layer(layer.content, layer.id)
    for name in layer.files:
        if name == CONFIG:
            raise BadInput(f"a file cannot be called {CONFIG}", where=layer.id)
        target_path("x", name)


def difference(before: str, after: str, name: str) -> list[str]:
    """A unified diff, line by line."""
    return list(
        difflib.unified_diff(before.splitlines(), after.splitlines(), f"{name} now", f"{name} then", lineterm="")
    )
