"""The books and the state of the agent, as Prometheus metrics on a local port.

Nothing is counted for the metrics' sake: they are read from the books when they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .health import Health
from .reload import Status as ConfigStatus

_BY_SOURCE = (
    ("received", "Scans that came, readable or not"),
    ("rejected", "Scans or messages that could not be read"),
    ("duplicate", "Scans that came again"),
    ("folded", "Scans that went into an aggregate"),
    ("accepted", "Scans that were stored"),
)


class _Collector(Collector):
    def __init__(self, health: Callable[[], Health]) -> None:
        self._health = health

    def collect(self) -> Iterable[Metric]:
        health = self._health()
        books = health.books
        for name, text in _BY_SOURCE:
            family = CounterMetricFamily(f"tidegate_edge_{name}", text, labels=["source"])
            for source, book in books.sources.items():
                family.add_metric([source], getattr(book, name))
            yield family
        yield CounterMetricFamily("tidegate_edge_acknowledged", "Scans that Kafka has", value=books.acknowledged)
        yield CounterMetricFamily("tidegate_edge_evicted", "Scans given up unsent, at most", value=books.evicted)
        yield GaugeMetricFamily("tidegate_edge_pending", "Scans that wait in the spool", value=books.pending)
        yield GaugeMetricFamily("tidegate_edge_spool_bytes", "What they take of the quota", value=books.bytes)
        yield CounterMetricFamily("tidegate_edge_frames", "Frames sent since the start", value=health.frames)
        yield CounterMetricFamily("tidegate_edge_frame_bytes", "Bytes of those frames", value=health.frame_bytes)
        yield GaugeMetricFamily("tidegate_edge_epoch", "Epoch of the spool", value=health.epoch)
        state = GaugeMetricFamily("tidegate_edge_state", "1; the label says how it is", labels=["part", "state"])
        state.add_metric(["uplink", health.uplink], 1)
        state.add_metric(["spool", health.spool], 1)
        for source, text in health.sources.items():
            state.add_metric([source, text], 1)
        if health.config is not None:
            state.add_metric(["config", _in_words(health.config)], 1)
        yield state
        heard = GaugeMetricFamily(
            "tidegate_edge_device_heard_timestamp_seconds", "When a device was last understood, 0 for never",
            labels=["source", "device"],
        )  # fmt: skip
        bad = GaugeMetricFamily(
            "tidegate_edge_device_bad",
            "What could not be read of it since its port was opened",
            labels=["source", "device"],
        )
        for source, devices in health.devices.items():
            for name in {device.name: None for device in devices}:  # one device may be on two ports
                same = [device for device in devices if device.name == name]
                heard.add_metric([source, name], max(device.heard_us for device in same) / 1e6)
                bad.add_metric([source, name], sum(device.bad for device in same))
        yield heard
        yield bad


def _in_words(config: ConfigStatus) -> str:
    if config.on_probation:
        return f"{config.digest} from {config.origin} on probation" + "".join(f"; {c}" for c in config.complaints)
    refused = f"; {config.refused.digest} from {config.refused.origin} refused" if config.refused is not None else ""
    return f"{config.digest} from {config.origin}{refused}"


def serve(health: Callable[[], Health], port: int) -> tuple[int, Callable[[], None]]:
    """Serve metrics on 127.0.0.1; returns the port, a free one for 0, and what ends it.

    `health` is called in the server's thread. Raises OSError where the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(health))
    ProcessCollector(registry=registry)
    server, thread = start_http_server(port, "127.0.0.1", registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return server.server_port, stop
