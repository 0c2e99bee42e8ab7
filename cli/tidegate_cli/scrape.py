"""Prometheus metrics of the services, fetched and summed over instances."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_S = 2.0


@dataclass(slots=True)
class Samples:
    """Metric values by name and labels, added up over instances."""

    values: dict[str, dict[tuple[tuple[str, str], ...], float]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(float))
    )

    def add(self, text: str) -> None:
        """Take in what one instance serves."""
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.values[sample.name][tuple(sorted(sample.labels.items()))] += sample.value

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def total(self, name: str) -> float:
        """The sum over every label; 0 when it is not there."""
        return sum(self.values[name].values()) if name in self.values else 0.0

    def labelled(self, name: str) -> Iterable[tuple[dict[str, str], float]]:
        """Each labelled value."""
        return ((dict(labels), value) for labels, value in self.values.get(name, {}).items())

    def quantile(self, name: str, share: float) -> float | None:
        """A quantile of a histogram, straight between bucket bounds as Prometheus's histogram_quantile has it.

        None while nothing was observed. A quantile beyond the last finite bound is given as that bound.
        """
        buckets: dict[float, float] = defaultdict(float)
        for labels, count in self.labelled(f"{name}_bucket"):
            buckets[float(labels["le"])] += count
        bounds = sorted(buckets)
        if not bounds or not buckets[bounds[-1]]:
            return None
        rank = share * buckets[bounds[-1]]
        lower, below = 0.0, 0.0
        for bound in bounds:
            if buckets[bound] >= rank:
                if bound == float("inf"):
                    return lower
                within = buckets[bound] - below
                return lower + (bound - lower) * ((rank - below) / within if within else 1.0)
            lower, below = bound, buckets[bound]
        return lower

    def beyond(self, name: str, share: float) -> bool:
        """Whether a quantile of a histogram lies beyond its last finite bound."""
        buckets: dict[float, float] = defaultdict(float)
        for labels, count in self.labelled(f"{name}_bucket"):
            buckets[float(labels["le"])] += count
        total = buckets.get(float("inf"), 0.0)
        finite = [count for bound, count in buckets.items() if bound != float("inf")]
        return total > 0 and max(finite, default=0.0) < share * total


def fetch_metrics(url: str) -> str | None:
    """What is served at `url`; None when nothing answers there within two seconds."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            body: bytes = answer.read()
            return body.decode("utf-8")
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
        return None


def difference(before: Samples, after: Samples) -> Samples:
    """What was added between two looks; for counters and histograms."""
    out = Samples()
    for name, labelled in after.values.items():
        for labels, value in labelled.items():
            out.values[name][labels] = value - before.values.get(name, {}).get(labels, 0.0)
    return out
