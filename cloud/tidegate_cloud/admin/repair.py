"""Repairs of fences whose shapes are not valid, for a person to look at before they are put."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tidegate_protocols.errors import BadInput
from tidegate_protocols.registry import Fence

from .files import features_of, flat, parse, read_text


def propose(path: Path) -> tuple[Any, list[tuple[bool, str]]]:
    """The GeoJSON of a file with every invalid shape repaired, and of each that was not valid: (repaired, a sentence).

    Only geometries change. Raises BadInput when the file is no GeoJSON.
    """
    # Here, since operators bring numba with them.
    from tidegate_cloud.operators.fences import parse_shape, repaired

    text = read_text(path)
    out: list[Any] = []
    notes: list[tuple[bool, str]] = []
    for feature, where in features_of(path, text):
        entry = flat(feature, where)
        radius_m, distance_m = entry.get("radius_m"), entry.get("distance_m")
        fence = Fence(
            id=entry["id"], name="", geometry=entry["geometry"], radius_m=radius_m, distance_m=distance_m
        )  # fmt: skip
        try:
            parse_shape(fence)
        except BadInput as error:
            try:
                better = repaired(fence)
                parse_shape(better)
            except BadInput as second:
                reason = "" if second.what == error.what else f"; {second.what}"
                notes.append((False, f"{where}, fence {fence.id!r}: {error.what}{reason}"))
            else:
                feature = {**feature, "geometry": json.loads(better.geometry)}
                notes.append((True, f"{where}, fence {fence.id!r}: {error.what}: repaired as {_in_words(better)}"))
        out.append(feature)
    value = parse(path, text)
    return ({**value, "features": out} if value.get("type") == "FeatureCollection" else out[0]), notes


def _in_words(fence: Fence) -> str:
    geometry = json.loads(fence.geometry)
    many = geometry["type"] == "MultiPolygon"
    polygons = geometry["coordinates"] if many else [geometry["coordinates"]]
    positions = sum(len(ring) - 1 for polygon in polygons for ring in polygon)
    holes = sum(len(polygon) - 1 for polygon in polygons)
    parts = f"{len(polygons)} polygons" if many else "a polygon"
    return f"{parts} of {positions} corners" + (f" and {holes} hole{'s' if holes > 1 else ''}" if holes else "")
