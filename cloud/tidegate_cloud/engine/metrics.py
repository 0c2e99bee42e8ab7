"""What an instance counts, for Prometheus. Names begin with ``tidegate_PREFIX_``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tidegate_cloud.kafka import Part

from .logic import Outputs, Record

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 600.0, 3600.0)
_RECORDS = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0)


class BulkHistogram(Collector):
    """A histogram that takes many values at once: one numpy call, where prometheus_client wants a call per value."""

    def __init__(self, name: str, documentation: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        self._name = name
        self._documentation = documentation
        self._bounds = np.array(bounds)
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._sum = 0.0
        registry.register(self)

    def observe(self, values: npt.NDArray[np.float64]) -> None:
        """Count every one of `values`."""
        self._counts += np.bincount(np.searchsorted(self._bounds, values), minlength=len(self._counts))
        self._sum += float(values.sum())

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation)
        labels = [*(repr(float(bound)) for bound in self._bounds), "+Inf"]
        family.add_metric([], list(zip(labels, np.cumsum(self._counts).tolist(), strict=True)), self._sum)
        return [family]


class RunnerMetrics:
    """The metrics of one runner. `counters`: what its Logic counts, name → help text."""

    def __init__(self, prefix: str, counters: Mapping[str, str], registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        name = f"tidegate_{prefix}"
        self._counters = {key: Counter(f"{name}_{key}", text, registry=self.registry) for key, text in counters.items()}
        self._transactions = Counter(f"{name}_transactions", "Transactions committed", registry=self.registry)
        self._aborts = Counter(
            f"{name}_aborts", "Times that everything was forgotten and taken again", registry=self.registry
        )
        self._partitions = Gauge(f"{name}_partitions", "Partitions whose state is in memory", registry=self.registry)
        self._lag = Gauge(
            f"{name}_lag_records", "Records that wait in a partition", ["topic", "partition"], registry=self.registry
        )
        self._delay = BulkHistogram(
            f"{name}_event_to_commit_seconds", "From append of an input record to commit", _SECONDS, self.registry
        )
        self._batch_records = BulkHistogram(f"{name}_batch_records", "Records per micro-batch", _RECORDS, self.registry)
        self._batch_seconds = BulkHistogram(f"{name}_batch_seconds", "Time per micro-batch", _SECONDS, self.registry)
        self._bytes = Counter(f"{name}_input_bytes", "Bytes of input records", registry=self.registry)
        self._stages = Counter(f"{name}_stage_seconds", "Time spent in a stage", ["stage"], registry=self.registry)
        self._row_bytes = Counter(f"{name}_checkpoint_bytes", "Bytes of state rows written", registry=self.registry)
        self._rows_behind = Gauge(f"{name}_rows_behind", "Rows that changed since written", registry=self.registry)
        self._age = Gauge(
            f"{name}_checkpoint_age_seconds", "How long the oldest changed row has not been written",
            registry=self.registry,
        )  # fmt: skip
        self._window = Gauge(
            f"{name}_replay_window_records", "Records that a restart would replay", registry=self.registry
        )
        self._written = 0
        self._labelled: set[Part] = set()

    def committed(self, records: Sequence[Record], out: Outputs, now_us: int, seconds: float) -> None:
        """A micro-batch is done."""
        for key, count in out.counts.items():
            if counter := self._counters.get(key):
                counter.inc(count)
        for stage, spent in out.seconds.items():
            self._stages.labels(stage).inc(spent)
        self._bytes.inc(sum(len(record.value or b"") for record in records))
        self._transactions.inc()
        if records:
            appended = np.array([record.append_us for record in records], np.int64)
            self._delay.observe((now_us - appended) / 1e6)
            self._batch_records.observe(np.array([float(len(records))]))
            self._batch_seconds.observe(np.array([seconds]))

    def aborted(self) -> None:
        """Everything was forgotten."""
        self._aborts.inc()

    def checkpoints(self, behind: int, age_s: float, window: int, written: int) -> None:
        """Rows that are not written yet, the oldest change's age, what a restart would replay; bytes written so far."""
        self._rows_behind.set(behind)
        self._age.set(age_s)
        self._window.set(window)
        self._row_bytes.inc(written - self._written)
        self._written = written

    def standing(self, lags: Mapping[Part, int]) -> None:
        """The partitions at hand, and what waits in each."""
        self._partitions.set(len({part.partition for part in lags}))
        for part in self._labelled - set(lags):
            self._lag.remove(part.topic, str(part.partition))
        for part, lag in lags.items():
            self._lag.labels(part.topic, str(part.partition)).set(lag)
        self._labelled = set(lags)
