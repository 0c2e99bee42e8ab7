"""The engine on a real Kafka: `tidegate processor` with all its operators, exactly once, over the workload `fleet8`.

The processor is pinned to one core, Kafka and what makes the load to the others. Rates are taken from the log as it is
worked off: between the moment that a tenth of it is committed and the last.

messages/256, readings/1024  32 and 128 scans of 8 channels in a frame; `*_share`: of a micro-batch's time. The peer
                is quixstreams, exactly once, with the same decoder and operators (benchmarks/peers/quix_engine.py),
                pinned alike; it is installed into ~/.cache/tidegate/bench-quixstreams, or where
                TIDEGATE_QUIXSTREAMS says, on first use
latency/half-load  from append of a frame to the event at a reader of committed records, while frames come at half of
                the rate of messages/256
checkpoint      bytes of state rows written for each byte of input, while messages/256 was worked off
recovery/30000  from SIGKILL under load to the next commit of a processor that is started at once, with the state of
                30,000 devices
scale/1, scale/2  CPU seconds of all instances for a million readings, one instance and two
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

import psutil
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import NewTopic
from tidegate_cloud.kafka import Offsets, Part
from tidegate_protocols.errors import BadInput
from tidegate_protocols.events import EVENT
from tidegate_protocols.topics import DEVICE_PARTITIONS, EVENTS, FRAMES, PARTITIONER

from benchmarks import fleet8
from benchmarks.bench_spine import metric_of
from benchmarks.common import Row, percentile, run
from tests.support.kafka import KafkaNode, produce
from tests.support.service import Service
from tests.support.wait import until

_DEVICES = 10_000
_MANY = 30_000
_PEER = "quixstreams exactly-once"
_VENV = Path(os.environ.get("TIDEGATE_QUIXSTREAMS", Path.home() / ".cache" / "tidegate" / "bench-quixstreams"))
_CORE = {0}
_STAGES = ("decode", "admission", "operators", "encode", "commit")
_PARTS = [Part(FRAMES.name, partition) for partition in range(DEVICE_PARTITIONS)]


def measure(quick: bool) -> list[Row]:
    """Every case on one Kafka, each with topics of its own making."""
    others = os.sched_getaffinity(0) - _CORE or os.sched_getaffinity(0)
    os.sched_setaffinity(0, others)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        kafka = KafkaNode(directory / "kafka").start()  # inherits where we run
        stack.callback(kafka.kill)
        bench = _Bench(kafka, directory)
        count = 40_000 if quick else 200_000
        rows = []
        small = bench.work_off(count, 32)
        peer = None if quick else bench.peer(count // 10, 32)
        rows.append(Row("messages/256", "messages_per_s", small.rate, "1/s", _named(peer), peer))
        rows.append(Row("messages/256", "messages_per_cpu_s", small.cpu_rate, "1/s"))
        rows += [Row("messages/256", f"{name}_share", share, "1") for name, share in small.shares.items()]
        rows.append(Row("checkpoint", "bytes_per_input_byte", small.checkpoint, "1"))
        large = bench.work_off(count // 4, 128)
        peer = None if quick else bench.peer(count // 40, 128)
        per = 128 * fleet8.CHANNELS
        rows.append(Row("readings/1024", "readings_per_s", large.rate * per, "1/s", _named(peer), peer and peer * per))
        rows.append(Row("readings/1024", "readings_per_cpu_s", large.cpu_rate * per, "1/s"))
        rows += bench.latency(small.rate / 2, 5.0 if quick else 30.0)
        if quick:
            return rows
        rows.append(Row("recovery/30000", "seconds", bench.recovery(), "s"))
        one, two = bench.work_off(count, 32), bench.work_off(count, 32, instances=2)
        for label, done in (("scale/1", one), ("scale/2", two)):
            cpu_s = 1e6 / (done.cpu_rate * 32 * fleet8.CHANNELS)
            rows.append(Row(label, "cpu_s_per_million_readings", cpu_s, "s"))
        return rows


class _Done:
    """What working off a log was like: messages a second, by the clock and of CPU; checkpoint bytes an input byte; what
    share of the time in micro-batches each stage took.
    """

    def __init__(self, rate: float, cpu_rate: float, checkpoint: float, shares: dict[str, float]) -> None:
        self.rate, self.cpu_rate, self.checkpoint, self.shares = rate, cpu_rate, checkpoint, shares


class _Bench:
    def __init__(self, kafka: KafkaNode, directory: Path) -> None:
        self.kafka = kafka
        self.directory = directory
        self.offsets = Offsets(kafka.bootstrap, "bench")
        self._number = 0
        self._registry = fleet8.registry()

    def fresh(self) -> None:
        """Empty topics but for the registry."""
        self.kafka.refresh_topics()
        for topic, records in self._registry.items():
            produce(self.kafka.bootstrap, topic, records)

    @contextmanager
    def processors(self, count: int = 1) -> Iterator[list[Service]]:
        """Processors that are ready, the first one alone on its core."""
        made = []
        try:
            for i in range(count):
                self._number += 1
                service = Service(
                    f"processor-{self._number}", "processor", "--bootstrap", self.kafka.bootstrap, "--instance",
                    str(i), directory=self.directory,
                )  # fmt: skip
                made.append(service.start(timeout=600))
                os.sched_setaffinity(service.pid, _CORE if i == 0 else os.sched_getaffinity(0))
                for thread in psutil.Process(service.pid).threads():
                    os.sched_setaffinity(thread.id, _CORE if i == 0 else os.sched_getaffinity(0))
            yield made
        finally:
            for service in made:
                service.kill()

    def work_off(self, count: int, scans: int, instances: int = 1) -> _Done:
        """Let processors work off a log of `count` frames."""
        self.fresh()
        produce(self.kafka.bootstrap, FRAMES.name, islice(fleet8.messages(_DEVICES, scans), count))
        with self.processors(instances) as services:
            rate, cpu_rate = self._pace(
                "tidegate-processor", count, [psutil.Process(service.pid) for service in services]
            )
            time.sleep(1.5)  # gauges and the bytes of rows are brought up once a second
            metrics = [_metrics(service) for service in services]
            written, read = (
                sum(metric_of(at, f"tidegate_processor_{name}_total") for at in metrics)
                for name in ("checkpoint_bytes", "input_bytes")
            )
            spent = {
                stage: sum(
                    metric_of(at, f'tidegate_processor_stage_seconds_total{{stage="{stage}"}}') for at in metrics
                )
                for stage in _STAGES
            }
            return _Done(rate, cpu_rate, written / read, {stage: s / sum(spent.values()) for stage, s in spent.items()})

    def _pace(self, group: str, count: int, processes: list[psutil.Process]) -> tuple[float, float]:
        """Messages a second and a CPU second, from a tenth of `count` on."""
        points: list[tuple[int, float, float]] = []

        def done() -> bool:
            committed = sum(found.offset for found in self.offsets.committed(group, _PARTS).values())
            cpu = sum(sum(process.cpu_times()[:2]) for process in processes)
            if committed >= count / 10 and (not points or committed > points[-1][0]):
                points.append((committed, time.monotonic(), cpu))
            return committed >= count

        until(_patient(done), 600, f"{group} to have worked off {count} frames")
        (a, began, cpu_a), (b, ended, cpu_b) = points[0], points[-1]
        if b == a:
            raise BadInput(f"{count} frames are too few to measure a rate by")
        return (b - a) / (ended - began), (b - a) / max(cpu_b - cpu_a, 1e-9)

    def peer(self, count: int, scans: int) -> float:
        """Messages a second of quixstreams."""
        python = _quixstreams()
        self.fresh()
        client = self.kafka.admin()
        for future in client.create_topics([NewTopic("peer.events", DEVICE_PARTITIONS, 1)]).values():
            try:
                future.result(30)
            except Exception as error:
                if "exists" not in str(error):
                    raise
        produce(self.kafka.bootstrap, FRAMES.name, islice(fleet8.messages(_DEVICES, scans), count))
        self._number += 1
        group = f"peer-{self._number}"
        paths = [*sys.path, *(str(Path(path)) for path in os.environ.get("PYTHONPATH", "").split(":") if path)]
        peer = Service(
            group, "-m", "benchmarks.peers.quix_engine", self.kafka.bootstrap, group, directory=self.directory,
            env={"PYTHONPATH": ":".join([str(_packages(python)), *dict.fromkeys(filter(None, paths)), os.getcwd()])},
        )  # fmt: skip
        peer.command = (str(python),)
        peer.start(timeout=600)
        os.sched_setaffinity(peer.pid, _CORE)
        try:
            return self._pace(group, count, [psutil.Process(peer.pid)])[0]
        finally:
            peer.kill()

    def latency(self, per_s: float, seconds: float) -> Iterator[Row]:
        """p50 and p99 from append to the event at a reader of committed records."""
        self.fresh()
        delays: list[float] = []
        stop = threading.Event()
        reading = threading.Thread(target=_follow_events, args=(self.kafka.bootstrap, delays, stop))
        with self.processors():
            reading.start()
            # Every device has been there once, and nothing waits, before it is measured.
            produce(self.kafka.bootstrap, FRAMES.name, islice(fleet8.messages(_DEVICES, 32), 2 * _DEVICES))
            until(lambda: self.kafka.lag("tidegate-processor", FRAMES.name) == 0, 120, "the devices to be known")
            _send(self.kafka.bootstrap, per_s, 2.0, first_round=2)
            until(lambda: self.kafka.lag("tidegate-processor", FRAMES.name) == 0, 120, "nothing to wait")
            delays.clear()
            _send(self.kafka.bootstrap, per_s, seconds, first_round=3 + int(2 * per_s / _DEVICES))
            time.sleep(1)
            stop.set()
            reading.join()
        if len(delays) < 20:
            raise BadInput(f"only {len(delays)} events were found")
        for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
            yield Row("latency/half-load", name, percentile(delays, share), "ms")

    def recovery(self) -> float:
        """Seconds from SIGKILL to the next commit, 30,000 devices at a frame in ten seconds each."""
        self.fresh()
        with self.processors() as (first,):
            _send(self.kafka.bootstrap, 3000, 25, devices=_MANY)
            group = "tidegate-processor"

            def committed() -> int:
                return sum(found.offset for found in self.offsets.committed(group, _PARTS).values())

            until(lambda: committed() >= 70_000, 120, "the devices to be known")
            load = threading.Thread(target=_send, args=(self.kafka.bootstrap, 3000, 20, _MANY, 3))
            load.start()
            time.sleep(3)
            first.kill()
            began = time.monotonic()
            before = committed()
            with self.processors():
                until(_patient(lambda: committed() > before), 120, "the next commit")
                took = time.monotonic() - began
            load.join()
        return took


def _patient(condition: Callable[[], bool]) -> Callable[[], bool]:
    """False while Kafka cannot say for sure."""

    def asked() -> bool:
        from tidegate_cloud.kafka import OffsetsPending

        try:
            return condition()
        except OffsetsPending:
            return False

    return asked


def _send(bootstrap: str, per_s: float, seconds: float, devices: int = _DEVICES, first_round: int = 0) -> None:
    """Frames of 32 scans at a steady rate."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, **PARTITIONER})
    frames = fleet8.messages(devices, 32, first_round=first_round)
    began, sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - began) < seconds:
        due = int(elapsed * per_s) - sent
        for key, value in islice(frames, due):
            producer.produce(FRAMES.name, value, key)
        sent += due
        producer.poll(0)
        time.sleep(0.005)
    producer.flush(30)


def _follow_events(bootstrap: str, delays: list[float], stop: threading.Event) -> None:
    reader = Consumer(
        {
            "bootstrap.servers": bootstrap, "group.id": "bench-reader", "auto.offset.reset": "earliest",
            "isolation.level": "read_committed", "enable.auto.commit": False, "fetch.wait.max.ms": 10,
        }
    )  # fmt: skip
    reader.subscribe([EVENTS.name])
    while not stop.is_set():
        for message in reader.consume(1000, 0.005):
            if message.error() is None:
                delays.append((time.time_ns() / 1000 - EVENT.decode(message.value()).learnt_us) / 1000)
    reader.close()


def _metrics(service: Service) -> str:
    return service.output().split("metrics on ")[1].split()[0]


def _named(peer: float | None) -> str:
    """The peer's name; in a quick run it is not measured, and the row says so."""
    return _PEER if peer is not None else f"{_PEER} (not measured in a quick run)"


def _quixstreams() -> Path:
    """Python of the peer's environment, made on first use. Raises BadInput where it cannot be had."""
    python = _VENV / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", _VENV], check=True)
        if subprocess.run([python, "-c", "import quixstreams"], capture_output=True, check=False).returncode:
            subprocess.run([python, "-m", "pip", "install", "-q", "quixstreams"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BadInput(f"quixstreams cannot be installed into {_VENV}: {error}") from None
    return python


def _packages(python: Path) -> Path:
    return next((python.parent.parent / "lib").glob("python*/site-packages"))


if __name__ == "__main__":
    run("engine", measure, packages=["numpy", "numba", "confluent-kafka"])
