"""`GET /pipeline`: each stage's rate, delay, lag and dead letters, and what became of notifications.

Two sources. Kafka itself says how many records each topic gets and how far behind the processor is; it is asked once a
second by `Probe`. The services' own metrics say the rest, where the console was told where they are (`--scrape
NAME=URL`): they are fetched when somebody looks, at most every two seconds for all who look together.
"""

from __future__ import annotations

import asyncio
import urllib.request
from collections import defaultdict, deque
from collections.abc import Mapping

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

_FETCH_S = 2.0
_FRESH_S = 2.0
_METRICS_MAX = 8 * 2**20
_WINDOW_S = 10.0


class TopicView(Struct):
    """A topic: how many records it has had, and how many a second lately. Marks of transactions count as records."""

    name: str
    records: int
    per_s: float


class StageView(Struct):
    """A service as its metrics tell it. `up` null: the console was not told where its metrics are.

    in_total, out_total    what came in and went out since it started (scans, frames, events …), null where not told
    in_per_s, out_per_s    the same a second, between the last two looks
    lag                    records that wait
    dead_letters           records that could not be read, or scans that were refused
    delay_p50_s, _p99_s    from append of its input to its commit, upper bounds of the histogram's buckets
    """

    name: str
    up: bool | None
    in_total: float | None = None
    out_total: float | None = None
    in_per_s: float | None = None
    out_per_s: float | None = None
    lag: float | None = None
    dead_letters: float | None = None
    delay_p50_s: float | None = None
    delay_p99_s: float | None = None


class PipelineView(Struct):
    """Every stage. `behind_ms`: of the console and the processor, as on the stream (`health`)."""

    server_us: int
    stages: list[StageView]
    topics: list[TopicView]


# What each service counts: in, out, lag, dead letters, delay.
_METRICS: dict[str, tuple[str, str, str, str, str]] = {
    "agent": (
        "tidegate_edge_received_total", "tidegate_edge_acknowledged_total", "tidegate_edge_pending",
        "tidegate_edge_rejected_total", "",
    ),
    "processor": (
        "tidegate_processor_frames_total", "tidegate_processor_events_total", "tidegate_processor_lag_records",
        "tidegate_processor_dead_letters_total", "tidegate_processor_event_to_commit_seconds",
    ),
    "alerts": (
        "tidegate_alerts_events_total", "tidegate_alerts_transitions_total", "tidegate_alerts_lag_records",
        "tidegate_alerts_dead_letters_total", "tidegate_alerts_event_to_commit_seconds",
    ),
}  # fmt: skip


class TopicRates:
    """How many records topics get. Thread-safe by assignment; times are monotonic seconds, handed in."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, dict[str, int]]] = deque(maxlen=30)

    def look(self, now_s: float, ends: Mapping[str, int]) -> None:
        """The sum of a topic's ends, for each topic."""
        self._looks.append((now_s, dict(ends)))

    def views(self) -> list[TopicView]:
        """Every topic, by name."""
        looks = list(self._looks)
        if not looks:
            return []
        newest_s, newest = looks[-1]
        since_s, since = next((look for look in looks if newest_s - look[0] <= _WINDOW_S), looks[-1])
        seconds = newest_s - since_s
        return [
            TopicView(name, end, round(max(0, end - since.get(name, end)) / seconds, 2) if seconds > 0 else 0.0)
            for name, end in sorted(newest.items())
        ]


class Scraper:
    """Fetches services' metrics. `urls`: name → where."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = dict(urls)
        self._stages: list[StageView] = []
        self._looked_s = float("-inf")
        self._before: dict[str, tuple[float, float, float]] = {}
        self._looking = asyncio.Lock()

    async def stages(self, now_s: float) -> list[StageView]:
        """Every stage, no older than two seconds."""
        async with self._looking:
            if now_s - self._looked_s >= _FRESH_S:
                texts = await asyncio.gather(*(asyncio.to_thread(_fetch, url) for url in self._urls.values()))
                said = dict(zip(self._urls, texts, strict=True))
                names = [*_METRICS, *(name for name in self._urls if name not in _METRICS)]
                self._stages = [self._stage(name, said, now_s) for name in names]
                self._looked_s = now_s
            return self._stages

    def _stage(self, name: str, said: Mapping[str, str | None], now_s: float) -> StageView:
        text = said.get(name)
        if text is None:
            return StageView(name, False if name in said else None)
        try:
            totals, delay = _totals(text, _METRICS.get(name, ("",) * 5)[4])
        except ValueError:
            return StageView(name, False)
        metrics = _METRICS.get(name)
        if metrics is None:
            return StageView(name, True)
        came, went, lag, dead = (totals.get(metric) for metric in metrics[:4])
        view = StageView(
            name, True, came, went, None, None, lag, dead, _quantile(delay, 0.5), _quantile(delay, 0.99)
        )  # fmt: skip
        before = self._before.get(name)
        if before is not None and came is not None and went is not None and now_s > before[0]:
            view.in_per_s = round(max(0.0, came - before[1]) / (now_s - before[0]), 2)
            view.out_per_s = round(max(0.0, went - before[2]) / (now_s - before[0]), 2)
        if came is not None and went is not None:
            self._before[name] = (now_s, came, went)
        return view


def _totals(text: str, histogram: str) -> tuple[dict[str, float], dict[float, float]]:
    """Every metric summed over its labels, and a histogram's cumulative counts by bound."""
    totals: dict[str, float] = defaultdict(float)
    buckets: dict[float, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            totals[sample.name] += sample.value
            if histogram and sample.name == f"{histogram}_bucket":
                buckets[float(sample.labels["le"])] += sample.value
    return totals, buckets


def _quantile(buckets: Mapping[float, float], share: float) -> float | None:
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return None
    found = next(bound for bound in bounds if buckets[bound] >= share * buckets[bounds[-1]])
    return found if found != float("inf") else (bounds[-2] if len(bounds) > 1 else None)


def _fetch(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=_FETCH_S) as answer:
            body: bytes = answer.read(_METRICS_MAX)
            return body.decode("utf-8", "replace")
    except (OSError, ValueError):
        return None
