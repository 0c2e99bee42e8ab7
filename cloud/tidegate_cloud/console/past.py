"""Asks the history service (`tidegate history`), which keeps more than this console remembers."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from tidegate_protocols.events import Event

_ANSWER_S = 10.0
_ANSWER_MAX = 64 * 2**20
T = TypeVar("T")


class PastSeries(Struct):
    """As the service gives it: `resolution_s` 0 means every reading, else stretches of so many seconds."""

    unit: str
    resolution_s: float
    ts_us: list[int]
    low: list[float]
    high: list[float]
    mean: list[float]
    n: list[int]


class PastChannel(Struct):
    """A channel of which anything is kept."""

    name: str
    unit: str


class Unanswered(Exception):
    """The history service does not answer, or not in a way that can be read."""


class Past:
    """See the module's docstring. `url`: the service's address, "" for none; `token`: what it wants to see."""

    def __init__(self, url: str = "", token: str = "") -> None:
        self._url = url.rstrip("/")
        self._token = token

    @property
    def is_there(self) -> bool:
        return bool(self._url)

    async def series(self, device: str, channel: str, from_us: int, to_us: int, max_points: int) -> PastSeries | None:
        """A channel over time, None where nothing is kept of it. Raises Unanswered."""
        query = {"device": device, "channel": channel, "from_us": from_us, "to_us": to_us, "max_points": max_points}
        return await self._ask("series", query, PastSeries)

    async def channels(self, device: str) -> list[PastChannel]:
        """What is kept of a device. Raises Unanswered."""
        return await self._ask("channels", {"device": device}, list[PastChannel]) or []

    async def events(self, device: str, from_us: int, to_us: int, limit: int) -> list[Event]:
        """The newest events of a device, or of all with "". Raises Unanswered."""
        query = {"device": device, "from_us": from_us, "to_us": to_us, "limit": limit}
        return await self._ask("events", query, list[Event]) or []

    async def _ask(self, what: str, query: dict[str, Any], kind: type[T]) -> T | None:
        if not self.is_there:
            raise Unanswered("no history service was named: tidegate console --history URL")
        return await asyncio.to_thread(self._get, f"{self._url}/v1/{what}?{urllib.parse.urlencode(query)}", kind)

    def _get(self, address: str, kind: type[T]) -> T | None:
        headers = {"authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            request = urllib.request.Request(address, headers=headers)
            with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
                return msgspec.json.decode(answer.read(_ANSWER_MAX), type=kind)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise Unanswered(f"the history service answered {error.code}") from None
        except (OSError, msgspec.DecodeError) as error:
            raise Unanswered(f"the history service does not answer: {error}") from None
