"""The agent as a process on this machine: from MQTT through the spool to Kafka, durable on the way.

durable/256    messages of 256 readings, queued at the broker before the agent starts: readings a second from its
               connection to the broker until Kafka has all of them
durable/1      messages of one reading each from 1,000 devices, likewise, with a window of 1,000
               In both also the agent's CPU time per message, without that of its start
rss/…          resident memory of the agent after that, without numba and with its kernels loaded
start          from exec to the first reading that is durable
wear           bytes that the agent wrote to the disk for each reading of durable/1

The peer is a plain subscriber (paho) on a full queue of the same messages in the same run, which stores nothing: what
the broker gives a Python client, and the CPU time that it takes. thingsboard-gateway 3.8.5 is not measured: without a
ThingsBoard that tells it its limits it reads, and sends nothing on.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import psutil
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from tidegate_protocols.codec import backend

from benchmarks.common import Row, run
from tests.edge.running import RunningAgent
from tests.support.kafka import KafkaNode
from tests.support.mqtt import MqttBroker, start_mqtt_broker
from tests.support.wait import until

_WINDOW = 1_000
_PEER = "paho, stores nothing"


def measure(quick: bool) -> list[Row]:
    messages = {256: 300 if quick else 3_000, 1: 8_000 if quick else 60_000}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        kafka = KafkaNode(directory / "kafka").start()
        stack.callback(kafka.kill)
        for readings, count in messages.items():
            rows += _durable(directory / f"durable-{readings}", kafka, readings, count)
        rows.append(_start(directory / "start", kafka))
        if backend.available():
            rows.append(_memory_with_kernels(directory / "kernels", kafka, messages[256]))
    return rows


def _agent(directory: Path, kafka: KafkaNode, broker: MqttBroker, *, kernels: bool = False) -> RunningAgent:
    return RunningAgent(directory, kafka.bootstrap, broker, window=_WINDOW, codec="range" if kernels else "plain")


def _subscribe(agent: RunningAgent) -> float:
    """Let the agent make its session, so that the broker queues for it. Returns the seconds of CPU of its start."""
    agent.start()
    until(lambda: "mqtt: connected" in agent.output(), what="the session")
    used = _cpu(psutil.Process(agent.pid))
    assert agent.stop() == 0
    return used


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _connected(agent: RunningAgent) -> float:
    """When the agent was connected to the broker last, in seconds since 1970, as its log says."""
    line = [line for line in agent.output().splitlines() if "mqtt: connected" in line][-1]
    return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()


def _fill(broker: MqttBroker, readings: int, count: int) -> None:
    """Publish what queues at the broker: SenML, 4 channels, from 1,000 devices where a message is one reading."""
    client = paho.Client(CallbackAPIVersion.VERSION2, "filler")
    client.max_inflight_messages_set(1_000)
    client.connect(broker.host, broker.port)
    client.loop_start()
    now = time.time()
    last = None
    for i in range(count):
        if readings == 1:
            pack = [{"n": "value", "bt": now + i / 1000, "v": i}]
            device = f"d{i % 1000}"
        else:
            pack = [
                {"n": f"c{k}", "t": now + i + j / 100, "v": round(20 + k + (i * 7 + j * 3) % 100 / 100, 2)}
                for j in range(readings // 4)
                for k in range(4)
            ]
            device = f"d{i % 10}"
        last = client.publish(f"fleet/{device}/senml", json.dumps(pack), qos=1)
    if last is not None:
        last.wait_for_publish(300)
    client.disconnect()
    client.loop_stop()


def _durable(directory: Path, kafka: KafkaNode, readings: int, count: int) -> list[Row]:
    directory.mkdir()
    with start_mqtt_broker(directory / "mqtt") as broker:
        agent = _agent(directory, kafka, broker)
        starting = _subscribe(agent)
        _drain_with_paho(broker, 0)
        _fill(broker, readings, count)
        before = time.process_time()
        peer = count * readings / _drain_with_paho(broker, count)
        peer_cpu = time.process_time() - before
        scans = count if readings == 1 else count * (readings // 4)
        agent.start()
        process = psutil.Process(agent.pid)
        url = _metrics(agent)
        until(lambda: _metric(url, "tidegate_edge_acknowledged_total") >= scans, 300, "everything on Kafka")
        took = time.time() - _connected(agent)
        used = _cpu(process) - starting
        wear = process.io_counters().write_bytes / (count * readings)
        rss = process.memory_info().rss
        assert agent.stop() == 0
    case = f"durable/{readings}"
    rows = [
        Row(case, "readings_per_s", count * readings / took, "1/s", _PEER, peer),
        Row(case, "cpu_us_per_message", used / count * 1e6, "us", _PEER, peer_cpu / count * 1e6),
    ]
    if readings == 1:
        rows += [Row("rss/plain", "bytes", rss, "B"), Row("wear", "disk_bytes_per_reading", wear, "B")]
    return rows


def _drain_with_paho(broker: MqttBroker, count: int) -> float:
    """Seconds in which a bare subscriber takes `count` queued messages; with 0 it only makes its session."""
    taken = 0
    client = paho.Client(CallbackAPIVersion.VERSION2, "bare", clean_session=False)
    ready = [False]

    def on_message(*_: object) -> None:
        nonlocal taken
        taken += 1

    client.on_message = on_message
    client.on_subscribe = lambda *_: ready.__setitem__(0, True)
    client.connect(broker.host, broker.port)
    client.subscribe("fleet/+/senml", 1)
    began = time.perf_counter()
    while taken < count or not ready[0]:
        client.loop(0.1)
    took = time.perf_counter() - began
    client.disconnect()
    return took


def _start(directory: Path, kafka: KafkaNode) -> Row:
    """A reading waits at the broker; the agent is started; its acknowledgement says that it is durable."""
    directory.mkdir()
    with start_mqtt_broker(directory / "mqtt") as broker:
        agent = _agent(directory, kafka, broker)
        _subscribe(agent)
        _fill(broker, 1, 1)
        spool = directory / "agent" / "spool.db-wal"
        before = spool.stat().st_mtime_ns if spool.exists() else 0
        began = time.time()
        agent.start(ready=False)
        until(lambda: spool.exists() and spool.stat().st_mtime_ns > before and agent.books()["accepted"] >= 1)
        took = spool.stat().st_mtime_ns / 1e9 - began
        agent.stop()
    return Row("start", "seconds", took, "s")


def _memory_with_kernels(directory: Path, kafka: KafkaNode, count: int) -> Row:
    directory.mkdir()
    with start_mqtt_broker(directory / "mqtt") as broker:
        agent = _agent(directory, kafka, broker, kernels=True)
        _subscribe(agent)
        _fill(broker, 256, count)
        agent.start()
        url = _metrics(agent)
        until(lambda: _metric(url, "tidegate_edge_acknowledged_total") >= count * 64, 300)
        until(lambda: _has_kernels(agent.pid), 120, "the compiled codecs")
        rss = psutil.Process(agent.pid).memory_info().rss
        agent.stop()
    return Row("rss/numba", "bytes", rss, "B")


def _has_kernels(pid: int) -> bool:
    return any("llvmlite" in region.path for region in psutil.Process(pid).memory_maps())


def _metrics(agent: RunningAgent) -> str:
    found = re.findall(r"(http://127\.0\.0\.1:\d+/metrics)", agent.output())
    return str(found[-1])


def _metric(url: str, name: str) -> float:
    text = urllib.request.urlopen(url).read().decode()
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    run("edge", measure, packages=["numpy", "numba", "confluent-kafka", "paho-mqtt", "aiosqlite", "psutil"])
