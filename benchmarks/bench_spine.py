"""The whole way of a reading: from MQTT to committed events, and from MQTT to the operator's page.

Real Mosquitto (or the embedded broker), real Kafka, every part a process of its own, all on this machine.

mqtt-to-events  SenML messages published as fast as the broker takes them, until the processor has committed the last
                one. The peer does the same with what people write first: one script from MQTT to Kafka, one that tests
                fences with shapely, nothing durable on the way (benchmarks/peers/mqtt_bridge.py).
reading-to-page from the time in the reading to the frame in which the page, in headless Chromium, shows it. The peer is
                a plain MQTT subscriber: what the broker alone takes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import paho.mqtt.client as mqtt
from confluent_kafka.admin import NewTopic
from tidegate_cloud.broker import free_port
from tidegate_protocols import topics
from tidegate_protocols.errors import BadInput
from tidegate_protocols.registry import FENCE, RULE, Fence, Rule

from benchmarks.common import Row, percentile, run
from benchmarks.peers import mqtt_bridge
from tests.support.kafka import KafkaNode, produce
from tests.support.mqtt import MqttBroker, start_mqtt_broker
from tests.support.service import Service, Services, services
from tests.support.wait import until

_CHANNELS = 4  # of a scan that `tidegate sim load` makes
_SCANS = 10  # in a message of the full load
_DEVICES = 50
_PAGE_DEVICES = 20
_PAGE_HZ = 100.0  # over all devices
_CHROMIUM = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
_PEER = "bridge script + shapely"

# Notes when the page has drawn what a message of positions brought: [device, time in the reading, now], microseconds.
# (docs/api.md says how the message is laid out.)
_WATCH_THE_PAGE = """
window.shown = [];
const Plain = window.WebSocket;
window.WebSocket = class extends Plain {
  constructor(...parts) {
    super(...parts);
    const ids = [];
    this.addEventListener("message", ({ data }) => {
      if (typeof data === "string") {
        const { names } = JSON.parse(data);
        if (names) names.ids.forEach((id, n) => (ids[names.from + n] = id));
        return;
      }
      const head = new DataView(data);
      const [n, base] = [head.getUint32(4, true), head.getFloat64(8, true)];
      const [slot, age] = [new Uint32Array(data, 16, n), new Int32Array(data, 16 + 12 * n, n)];
      requestAnimationFrame(() => setTimeout(() => {
        const now = Date.now() * 1000;
        for (let i = 0; i < n; i++) window.shown.push([ids[slot[i]], (base - age[i]) * 1000, now]);
      }));
    });
  }
};
"""


def measure(quick: bool) -> list[Row]:
    """Both cases on one Kafka and one MQTT broker."""
    seconds = 3.0 if quick else 20.0
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        kafka = KafkaNode(directory / "kafka").start()
        stack.callback(kafka.kill)
        broker = stack.enter_context(start_mqtt_broker(directory / "mqtt"))
        group = stack.enter_context(services(directory))
        _register(kafka.bootstrap)
        agent = _agent(group, directory, kafka.bootstrap, broker)
        for service in (group.add("processor", "processor", "--bootstrap", kafka.bootstrap), agent):
            service.start(timeout=120)

        rows = [*_to_page(group, kafka.bootstrap, broker, seconds)]
        ours = _to_events(kafka, broker, agent, seconds)
        agent.stop()
        with _bridge(directory, kafka, broker):
            peers = _bridge_to_events(kafka, broker, seconds)
        return [Row("mqtt-to-events", "readings_per_s", ours, "1/s", _PEER, peers), *rows]


def _fences() -> list[Fence]:
    """A hundred squares of 600 m over the town in which the load drives."""
    corners = [(-97.79 + 0.01 * (i % 10), 30.22 + 0.01 * (i // 10)) for i in range(100)]
    return [
        Fence(id=f"square-{i}", name=f"Square {i}", geometry=json.dumps(_square(*corner)))
        for i, corner in enumerate(corners)
    ]


def _square(lon: float, lat: float) -> dict[str, object]:
    ring = [[lon, lat], [lon + 0.006, lat], [lon + 0.006, lat + 0.006], [lon, lat + 0.006], [lon, lat]]
    return {"type": "Polygon", "coordinates": [ring]}


def _register(bootstrap: str) -> None:
    rule = Rule(id="warm", name="Warm", channel="temperature", high=mqtt_bridge.LIMIT)
    produce(bootstrap, topics.FENCES.name, [(fence.id, FENCE.encode(fence)) for fence in _fences()])
    produce(bootstrap, topics.RULES.name, [(rule.id, RULE.encode(rule))])


def _agent(group: Services, directory: Path, bootstrap: str, broker: MqttBroker) -> Service:
    config = directory / "agent.toml"
    config.write_text(f"""
[agent]
name = "bench"
data_dir = "{directory / "agent"}"
[kafka]
bootstrap = "{bootstrap}"
[metrics]
port = 0
[[source]]
type = "mqtt"
host = "127.0.0.1"
port = {broker.port}
client_id = "bench"
[[source.subscribe]]
filter = "fleet/+/senml"
payload = "senml"
device = "{{1}}"
""")
    return group.add("agent", "agent", "run", "--config", config)


def _load(broker: MqttBroker, *options: str) -> dict[str, float]:
    """Run `tidegate sim load` over MQTT to its end; what it reports."""
    command = [sys.executable, "-m", "tidegate_cli.main", "sim", "load", "--to", "mqtt", "--mqtt", broker.address]
    done = subprocess.run([*command, "--json", *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BadInput(f"the load ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    report: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return report


def _full_load(broker: MqttBroker, seconds: float) -> float:
    """As many scans as the broker takes, `_SCANS` in a message; how many readings it acknowledged."""
    report = _load(
        broker, "--devices", str(_DEVICES), "--rate", "0", "--seconds", str(seconds), "--scans-per-frame", str(_SCANS)
    )
    return report["scans"] * report["accepted"] / report["messages"] * _CHANNELS


def _to_events(kafka: KafkaNode, broker: MqttBroker, agent: Service, seconds: float) -> float:
    """Readings a second from the first message published to the commit of what the last one led to."""
    metrics = agent.output().split("metrics ")[1].split()[0]
    before = _accepted(metrics)
    begin = time.monotonic()
    readings = _full_load(broker, seconds)
    scans = round(readings / _CHANNELS)
    until(lambda: _accepted(metrics) - before >= scans, 600, "the agent to have accepted every scan")
    until(lambda: metric_of(metrics, "tidegate_edge_pending") == 0, 600, "the spool to be empty")
    until(lambda: kafka.lag("tidegate-processor", topics.FRAMES.name) == 0, 600, "the processor to have caught up")
    return readings / (time.monotonic() - begin)


def _accepted(metrics: str) -> float:
    return metric_of(metrics, "tidegate_edge_accepted_total")


def metric_of(address: str, name: str) -> float:
    """The sum of a metric over its labels."""
    with urllib.request.urlopen(address, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


class _Script(Service):
    """A part of the peer, run as the benchmark's own parts are."""

    command = (sys.executable, "-m", "benchmarks.peers.mqtt_bridge")


@contextmanager
def _bridge(directory: Path, kafka: KafkaNode, broker: MqttBroker) -> Iterator[None]:
    """The peer, running."""
    names = (mqtt_bridge.READINGS, mqtt_bridge.EVENTS)
    client = kafka.admin()
    for future in client.create_topics([NewTopic(name, topics.DEVICE_PARTITIONS, 1) for name in names]).values():
        future.result(30)
    fences = directory / "fences.geojson"
    features = [{"type": "Feature", "geometry": json.loads(fence.geometry)} for fence in _fences()]
    fences.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    parts = [
        _Script("worker", "worker", kafka.bootstrap, fences, directory=directory),
        _Script("bridge", "bridge", str(broker.port), kafka.bootstrap, directory=directory),
    ]
    try:
        for part in parts:
            part.start()
        yield
    finally:
        for part in parts:
            part.kill()


def _bridge_to_events(kafka: KafkaNode, broker: MqttBroker, seconds: float) -> float:
    """The same for the peer: until its worker has committed the last message."""
    begin = time.monotonic()
    readings = _full_load(broker, seconds)
    messages = round(readings / _CHANNELS / _SCANS)

    def committed() -> int:
        return kafka.lag("nobody", mqtt_bridge.READINGS) - kafka.lag("bridge-worker", mqtt_bridge.READINGS)

    until(lambda: committed() >= messages, 600, "the peer to have dealt with every message")
    return readings / (time.monotonic() - begin)


def _to_page(group: Services, bootstrap: str, broker: MqttBroker, seconds: float) -> Iterator[Row]:
    """p50 and p99 from the time in the reading to the page, beside a plain subscriber's."""
    port = free_port()
    console = group.add("console", "console", "--bootstrap", bootstrap, "--port", str(port), "--login-link")
    console.start(timeout=120)
    (address,) = (word for word in console.output().split() if "/login#" in word)
    options = ["--devices", str(_PAGE_DEVICES), "--rate", str(_PAGE_HZ), "--seconds", str(max(8.0, seconds))]
    with _subscriber(broker) as heard:
        shown = _watch(address, lambda: _load(broker, *options))
    # The first second holds the announcement of the schema and the first assignment of everything.
    begin = min(at for _, at, _ in shown) + 1_000_000
    page = list({(device, at): now - at for device, at, now in reversed(shown) if at > begin}.values())
    direct = [now - at for at, now in heard if at > begin]
    if len(page) < 50:
        raise BadInput(f"only {len(page)} readings reached the page")
    for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
        peer = percentile(direct, share) / 1000
        yield Row("reading-to-page", name, percentile(page, share) / 1000, "ms", "MQTT subscriber", peer)


@contextmanager
def _subscriber(broker: MqttBroker) -> Iterator[list[tuple[int, int]]]:
    """A plain MQTT subscriber: (time in the reading, when it was heard), microseconds."""
    heard: list[tuple[int, int]] = []
    listening = threading.Event()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)

    def on_message(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        heard.append((round(json.loads(message.payload)[0]["bt"] * 1e6), time.time_ns() // 1000))

    client.on_message = on_message
    client.on_subscribe = lambda *_: listening.set()
    client.connect(broker.host, broker.port)
    client.loop_start()
    client.subscribe("fleet/+/senml", qos=1)
    try:
        if not listening.wait(10):
            raise BadInput("the MQTT broker did not take the subscription")
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


def _watch(url: str, load: Callable[[], object]) -> list[tuple[str, int, int]]:
    """What the page showed while `load` ran: (device, time in the reading, when shown), microseconds."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise BadInput("the page needs a browser to be shown in", hint="apt install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_CHROMIUM)
        page = browser.new_page()
        page.add_init_script(_WATCH_THE_PAGE)
        page.goto(url)
        page.get_by_role("button", name="Not now").click()
        page.get_by_role("status").first.wait_for(state="attached")
        load()
        page.wait_for_timeout(1500)
        shown = [(str(device), int(at), int(now)) for device, at, now in page.evaluate("window.shown")]
        browser.close()
    return shown


if __name__ == "__main__":
    run("spine", measure, packages=["numpy", "numba", "confluent-kafka", "paho-mqtt", "litestar", "shapely"])
