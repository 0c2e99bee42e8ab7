"""Repairs of fences whose shapes are not valid, for a person to look at before they are put."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.registry import Fence

from .files import features_of, flat, parse, read_text


def propose(path: Path) -> tuple[Any, list[tuple[bool, str]]]:
    """The GeoJSON of a file with every invalid shape repaired, and of each that was not valid: (repaired, a sentence).

    Only geometries change. Raises BadInput when the file is no GeoJSON.
    """
    text = read_text(path)
    out: list[Any] = []
    notes: list[tuple[bool, str]] = []
    for feature, where in features_of(path, text):
        try:
            better, words = mended(feature, where)
        except BadInput as error:
            better, words = feature, ""
            notes.append((False, f"{error.where}: {error.what}"))
        if words:
            notes.append((True, words))
        out.append(better)
    value = parse(path, text)
    return ({**value, "features": out} if value.get("type") == "FeatureCollection" else out[0]), notes


def mended(feature: Any, where: str) -> tuple[Any, str]:
    """A feature with its shape repaired, and in words what was done; as it is, and "", where the shape is valid.

    Raises BadInput when it cannot be repaired, or is no feature.
    """
    # Here, since operators bring numba with them.
    from tidegate_cloud.operators.fences import parse_shape, repaired

    entry = flat(feature, where)
    where = f"{where}, fence {entry['id']!r}"
    shape = {name: entry.get(name) for name in ("id", "geometry", "radius_m", "distance_m")}
    try:
        fence = msgspec.convert(shape | {"name": ""}, Fence)
    except msgspec.ValidationError as error:
        raise BadInput(str(error), where=where) from None
    try:
        parse_shape(fence)
    except BadInput as error:
        try:
            better = repaired(fence)
            parse_shape(better)
        except BadInput as second:
            reason = "" if second.what == error.what else f"; {second.what}"
            raise BadInput(f"{error.what}{reason}", where=where) from None
        words = f"{where}: {error.what}: repaired as {_in_words(better)}"
        return {**feature, "geometry": json.loads(better.geometry)}, words
    return feature, ""


def _in_words(fence: Fence) -> str:
    geometry = json.loads(fence.geometry)
    many = geometry["type"] == "MultiPolygon"
    polygons = geometry["coordinates"] if many else [geometry["coordinates"]]
    positions = sum(len(ring) - 1 for polygon in polygons for ring in polygon)
    holes = sum(len(polygon) - 1 for polygon in polygons)
    parts = f"{len(polygons)} polygons" if many else "a polygon"
    return f"{parts} of {positions} corners" + (f" and {holes} hole{'s' if holes > 1 else ''}" if holes else "")
