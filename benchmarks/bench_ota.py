"""Configuration over the air: what an agent pays for it, how soon a fleet is told, what the server keeps.

apply       CPU of one agent for one pushed configuration: verifying it (python-tuf in a child process, its start
            included), laying it over the agent's file, validating the whole; and the memory that stays with the agent
check       bytes that an agent reads to learn that nothing is new, and for a push; the peer is one TUF repository for
            all agents, with a targets file that names each
told/10000  from the command to the last agent's record on Kafka, signed one by one, committed
server      what the server keeps in memory for each agent, and for 100,000 of them
"""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import psutil
from confluent_kafka import Consumer, Producer, TopicPartition
from tidegate_cloud.clock import SystemClock
from tidegate_cloud.rollouts import asking, keys
from tidegate_cloud.rollouts.director import Director
from tidegate_cloud.rollouts.fleet import Fleet
from tidegate_cloud.rollouts.server import Server
from tidegate_edge.config import parse
from tidegate_edge.ota.layer import laid_over
from tidegate_edge.ota.verify import Question
from tidegate_protocols.ota import Desired, Place, Reported, desired_key
from tidegate_protocols.rollouts import Gate, Order, RolloutCommand
from tidegate_protocols.topics import DESIRED, PARTITIONER, REPORTED
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from benchmarks.common import Row, run
from tests.support.kafka import KafkaNode

_OWN = """
[agent]
name = "truck-7"
data_dir = "/var/lib/tidegate"
[kafka]
bootstrap = "kafka:9092"
[[source]]
type = "mqtt"
name = "mqtt"
host = "127.0.0.1"
[[source.subscribe]]
filter = "fleet/+/senml"
payload = "senml"
device = "{1}"
"""
_LAYER = b"[batch]\nmax_scans = 64\n[spool]\nmax_bytes = 67108864\n"
_SHA = hashlib.sha256(_LAYER).hexdigest()
_FILES = {"config.toml": (_SHA, len(_LAYER))}
_PLACES = {_SHA: [Place(0, 4711)]}


def measure(quick: bool) -> Iterator[Row]:
    """All figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys.create(folder / "keys")
        director = Director(keys.ring(folder / "keys"))
        yield from _apply(folder, director, 3 if quick else 20)
        yield from _check(director)
        yield from _server(director, 2_000 if quick else 20_000)
        yield from _told(folder, director, 10_000)


def _sign(director: Director, agent: str, number: int) -> Desired:
    return director.sign(agent, number, number, _FILES, rollout="R-1", now_us=time.time_ns() // 1000, places=_PLACES)


def _apply(folder: Path, director: Director, times: int) -> Iterator[Row]:
    roots = keys.roots(folder / "keys")
    spent = []
    memory = psutil.Process().memory_info().rss
    for number in range(1, times + 1):
        desired = _sign(director, "truck-7", number).encode()
        before, own = _child_seconds(), time.process_time()
        question = msgspec.msgpack.encode(Question(desired, roots[1], roots, number - 1))
        command = [sys.executable, "-m", "tidegate_edge.ota.verify", str(folder / "tuf"), "truck-7"]
        out = subprocess.run(command, input=question, capture_output=True, check=True).stdout
        assert b'"refusal":""' in out, out
        parse(laid_over(_OWN, _LAYER, folder), "pushed")
        spent.append((_child_seconds() - before + time.process_time() - own) * 1000)
    yield Row("apply", "cpu_ms", min(spent), "ms")
    yield Row("apply", "agent_bytes", max(0, psutil.Process().memory_info().rss - memory), "B")


def _child_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _check(director: Director) -> Iterator[Row]:
    desired = _sign(director, "truck-7", 1)
    again = director.renew(desired, now_us=time.time_ns() // 1000)
    peer = "one repository for 10,000"
    timestamp, snapshot, targets = _common(10_000)
    yield Row("check", "bytes", len(again.encode()), "B", peer, timestamp)
    yield Row("push", "bytes", len(desired.encode()), "B", peer, timestamp + snapshot + targets)


def _common(agents: int) -> tuple[int, int, int]:
    """Bytes of timestamp, snapshot and targets of one repository in which every agent has a file, compact, one key."""
    from securesystemslib.signer import CryptoSigner

    expires = datetime.now(UTC) + timedelta(days=14)
    paths = {f"truck-{n}/config.toml": hashlib.sha256(str(n).encode()).hexdigest() for n in range(agents)}
    files = {path: TargetFile(len(_LAYER), {"sha256": sha256}, path) for path, sha256 in paths.items()}
    signer = CryptoSigner.generate_ed25519()
    sizes = []
    for signed in (
        Timestamp(version=1, expires=expires, snapshot_meta=MetaFile(1)),
        Snapshot(version=1, expires=expires, meta={"targets.json": MetaFile(1)}),
        Targets(version=1, expires=expires, targets=files),
    ):
        metadata = Metadata(signed)  # type: ignore[type-var]
        metadata.sign(signer)
        sizes.append(len(metadata.to_bytes(JSONSerializer(compact=True))))
    return sizes[0], sizes[1], sizes[2]


def _server(director: Director, agents: int) -> Iterator[Row]:
    """Memory for so many agents, each told and heard, and CPU to sign for one."""
    now_us = time.time_ns() // 1000
    began = time.process_time()
    values = [(f"truck-{n:06}", _sign(director, f"truck-{n:06}", 1).encode()) for n in range(agents)]
    signing = time.process_time() - began
    tracemalloc.start()
    fleet = Fleet()
    while values:  # what is kept is counted: names and records come as new objects from Kafka
        name, value = _copy(values.pop())
        fleet.put_desired(name, value, now_us)
        said = Reported(
            agent=name, number=1, state="running", running=1, config=_SHA[:12], since_us=now_us, heard_us=now_us,
            version="0.1.0", free_bytes=1 << 33, clock="synchronised", epoch=3,
        )  # fmt: skip
        fleet.put_reported(name, said.encode(), now_us)
    each = tracemalloc.get_traced_memory()[0] / agents
    tracemalloc.stop()
    yield Row("sign", "cpu_ms", signing / agents * 1000, "ms")
    yield Row("server", "bytes_per_agent", each, "B")
    yield Row("server/100000", "bytes", each * 100_000, "B")


def _copy(entry: tuple[str, bytes]) -> tuple[str, bytes]:
    return entry[0].encode().decode(), bytes(bytearray(entry[1]))


def _told(folder: Path, director: Director, agents: int) -> Iterator[Row]:
    """From the command to the last record that a reader of committed records sees."""
    node = KafkaNode(folder / "kafka").start()
    try:
        _report_all(node.bootstrap, agents)
        server, stop, ready = Server(node.bootstrap, director, SystemClock()), threading.Event(), threading.Event()
        thread = threading.Thread(target=server.run, args=(stop,), kwargs={"ready": ready.set}, daemon=True)
        thread.start()
        ready.wait(120)
        order = Order(layer="base", content=_LAYER.decode(), waves=["100%"], gate=Gate(hold_s=1))
        body = msgspec.json.encode(order).decode()
        seen = threading.Thread(target=_read_all, args=(node.bootstrap, agents))
        began = time.monotonic()
        seen.start()
        asking.ask(node.bootstrap, RolloutCommand(id="c1", action="push", who="bench", body=body), 60)
        seen.join()
        yield Row(f"told/{agents}", "seconds", time.monotonic() - began, "s")
        stop.set()
        thread.join(30)
    finally:
        node.kill()


def _report_all(bootstrap: str, agents: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, **PARTITIONER})
    for number in range(agents):
        name = f"truck-{number:06}"
        producer.produce(REPORTED.name, Reported(agent=name, number=0, state="running").encode(), desired_key(name))
        producer.poll(0)
    producer.flush(60)


def _read_all(bootstrap: str, agents: int) -> None:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bench", "isolation.level": "read_committed",
         "enable.auto.commit": False, "fetch.wait.max.ms": 20}
    )  # fmt: skip
    consumer.assign([TopicPartition(DESIRED.name, number, 0) for number in range(DESIRED.partitions)])
    told: set[bytes] = set()
    while len(told) < agents:
        told |= {message.key() or b"" for message in consumer.consume(1_000, 0.2) if message.error() is None}
    consumer.close()


if __name__ == "__main__":
    run("ota", measure, packages=["tuf", "cryptography", "confluent-kafka"])
