"""Files of fences and other records: JSON, TOML, and GeoJSON features as fences."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tidegate_protocols.errors import BadInput


def read_text(path: Path) -> str:
    """The text of a file. Raises BadInput when it cannot be read."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise BadInput(error.strerror or str(error), where=str(path)) from None
    except UnicodeDecodeError:
        raise BadInput("not UTF-8 text", where=str(path)) from None


def parse(path: Path, text: str) -> Any:
    """The value of a TOML or JSON file. Raises BadInput with the line."""
    try:
        return tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"not JSON: {error.msg}", where=f"{path}, line {error.lineno}") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"not TOML: {error}", where=str(path)) from None


def features_of(path: Path, text: str) -> Iterator[tuple[Any, str]]:
    """What a GeoJSON file holds, each with its place: the features of a collection, or the one that it is."""
    value = parse(path, text)
    features = (
        value.get("features") if isinstance(value, dict) and value.get("type") == "FeatureCollection" else [value]
    )
    if not isinstance(features, list):
        raise BadInput("features is not an array", where=str(path))
    for number, feature in enumerate(features, 1):
        yield feature, f"{path}, feature {number}"


def flat(feature: Any, where: str) -> dict[str, Any]:
    """A GeoJSON Feature as the fields of a Fence."""
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        raise BadInput("not a GeoJSON Feature", where=where, hint="a Feature or a FeatureCollection is expected")
    properties = feature.get("properties") or {}
    if not isinstance(properties, dict):
        raise BadInput("its properties are not an object", where=where)
    fields = dict(properties)
    name = feature.get("id", fields.get("id"))
    if name is None:
        raise BadInput("a fence needs an id", where=where)
    fields["id"] = str(name)
    fields.setdefault("name", fields["id"])
    fields["geometry"] = json.dumps(feature.get("geometry"), separators=(",", ":"))
    return fields
