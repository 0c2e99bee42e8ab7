"""Ways of cutting a stream: every parser must give the same whichever way its bytes arrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from tidegate_protocols.errors import BadInput


def whole(feed: Callable[[bytes], Sequence[Any]], data: bytes) -> list[Any]:
    return list(feed(data))


def byte_by_byte(feed: Callable[[bytes], Sequence[Any]], data: bytes) -> list[Any]:
    return [item for i in range(len(data)) for item in feed(data[i : i + 1])]


def cut_at(feed: Callable[[bytes], Sequence[Any]], data: bytes, cuts: Sequence[int]) -> list[Any]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [item for a, b in pairwise(edges) for item in feed(data[a:b])]


def good(items: Sequence[Any]) -> list[Any]:
    return [item for item in items if not isinstance(item, BadInput)]


def bad(items: Sequence[Any]) -> list[BadInput]:
    return [item for item in items if isinstance(item, BadInput)]
