"""The sending side of Sparkplug B: one edge node with its devices, as topics and payloads to publish.

Order of a session: set `death()` as the MQTT will, connect, publish `birth()`, then a `device_birth` for each device,
then data. On an NCMD that `is_rebirth` recognises, the births again. A new connection takes a new node with the next
`bd_seq`. Everything goes at QoS 0 and not retained, the will at QoS 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import BadInput, Misuse
from .sparkplug import NAMESPACE
from .sparkplug_wire import DataType, Scalar, decode_payload, metric_bytes, payload_bytes, value_as

_REBIRTH = "Node Control/Rebirth"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A metric that a device has: its name, type and engineering unit."""

    name: str
    datatype: DataType
    unit: str = ""


class SparkplugNode:
    """Numbers the messages of one session and gives each metric an alias at its birth."""

    def __init__(self, group: str, node: str, *, bd_seq: int = 0) -> None:
        self.group = group
        self.node = node
        self.bd_seq = bd_seq
        self._seq = 0
        self._metrics: dict[tuple[str, str], tuple[int, MetricSpec]] = {}

    @property
    def command_topic(self) -> str:
        """Where commands to this node are published."""
        return f"{NAMESPACE}/{self.group}/NCMD/{self.node}"

    def is_rebirth(self, payload: bytes) -> bool:
        """Whether a message on `command_topic` asks for the births again."""
        try:
            metrics = decode_payload(payload).metrics
            return any(m.name == _REBIRTH and value_as(m, DataType.BOOLEAN) is True for m in metrics)
        except BadInput:
            return False

    def death(self) -> tuple[str, bytes]:
        """The will: NDEATH with this session's bdSeq."""
        return self._topic("NDEATH"), payload_bytes(None, None, [self._bd_seq_metric()])

    def birth(self, ts_ms: int) -> tuple[str, bytes]:
        """NBIRTH: numbering starts at 0."""
        self._seq = 0
        metrics = [self._bd_seq_metric(), metric_bytes(False, DataType.BOOLEAN, name=_REBIRTH)]
        return self._topic("NBIRTH"), payload_bytes(ts_ms, self._next(), metrics)

    def device_birth(
        self, device: str, ts_ms: int, metrics: Sequence[MetricSpec], values: Mapping[str, Scalar]
    ) -> tuple[str, bytes]:
        """DBIRTH with every metric's current value; one that `values` lacks is null."""
        out = []
        for spec in metrics:
            alias, _ = self._metrics.setdefault((device, spec.name), (len(self._metrics) + 1, spec))
            out.append(
                metric_bytes(
                    values.get(spec.name),
                    spec.datatype,
                    name=spec.name,
                    alias=alias,
                    timestamp_ms=ts_ms,
                    unit=spec.unit,
                )
            )
        return self._topic("DBIRTH", device), payload_bytes(ts_ms, self._next(), out)

    def device_data(self, device: str, ts_ms: int, values: Mapping[str, Scalar]) -> tuple[str, bytes]:
        """DDATA: the metrics that changed, by alias."""
        out = []
        for name, value in values.items():
            if (device, name) not in self._metrics:
                raise Misuse(f"{device} was not born with a metric {name!r}")
            alias, spec = self._metrics[device, name]
            out.append(metric_bytes(value, spec.datatype, alias=alias, timestamp_ms=ts_ms))
        return self._topic("DDATA", device), payload_bytes(ts_ms, self._next(), out)

    def device_death(self, device: str, ts_ms: int) -> tuple[str, bytes]:
        """DDEATH: the device is no longer heard by its node."""
        return self._topic("DDEATH", device), payload_bytes(ts_ms, self._next(), [])

    def _bd_seq_metric(self) -> bytes:
        return metric_bytes(self.bd_seq, DataType.INT64, name="bdSeq")

    def _next(self) -> int:
        seq, self._seq = self._seq, (self._seq + 1) % 256
        return seq

    def _topic(self, kind: str, device: str = "") -> str:
        return f"{NAMESPACE}/{self.group}/{kind}/{self.node}" + (f"/{device}" if device else "")
