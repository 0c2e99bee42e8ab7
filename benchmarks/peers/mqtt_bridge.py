"""What people write first: MQTT to Kafka in one script, fences and limits in another. The peer of bench_spine.

    python -m benchmarks.peers.mqtt_bridge bridge MQTT_PORT BOOTSTRAP
    python -m benchmarks.peers.mqtt_bridge worker BOOTSTRAP FENCES.geojson

`bridge` subscribes at QoS 1 and forwards each message as it is; paho acknowledges it before Kafka has it, so a crash
loses what lies between. `worker` reads JSON, tests each position against the fences with shapely's STRtree and each
temperature against a limit, and produces what changed; it commits its offsets on a timer, so a crash repeats events.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import paho.mqtt.client as mqtt
import shapely
from confluent_kafka import Consumer, Producer

READINGS = "bridge.readings"
EVENTS = "bridge.events"
LIMIT = 8.0


def bridge(port: int, bootstrap: str) -> None:
    """Forward fleet/+/senml to Kafka, keyed by device."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000})

    def on_message(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        producer.produce(READINGS, message.payload, message.topic.split("/")[1])
        producer.poll(0)

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="bridge", clean_session=False)
    client.on_message = on_message
    client.on_subscribe = lambda *_: print("ready: bridge", flush=True)
    client.connect("127.0.0.1", port)
    client.subscribe("fleet/+/senml", qos=1)
    client.loop_forever()


def worker(bootstrap: str, fences: Path) -> None:
    """Find who entered and left which fence, and who crossed the limit."""
    shapes = [shapely.from_geojson(json.dumps(f["geometry"])) for f in json.loads(fences.read_text())["features"]]
    tree = shapely.STRtree(shapes)
    inside: dict[str, set[int]] = {}
    above: dict[str, bool] = {}
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bridge-worker", "auto.offset.reset": "earliest",
         "auto.commit.interval.ms": 200}
    )  # fmt: skip
    consumer.subscribe([READINGS], on_assign=lambda *_: print("ready: worker", flush=True))
    while True:
        for message in consumer.consume(500, 0.05):
            if message.error():
                continue
            device = message.key().decode()
            for lat, lon, temperature in _scans(json.loads(message.value())):
                now = set(tree.query(shapely.Point(lon, lat), predicate="within").tolist())
                before = inside.get(device, set())
                for fence in now ^ before:
                    producer.produce(EVENTS, json.dumps({"device": device, "fence": fence, "in": fence in now}), device)
                inside[device] = now
                if (temperature > LIMIT) != above.get(device, False):
                    above[device] = temperature > LIMIT
                    producer.produce(EVENTS, json.dumps({"device": device, "above": above[device]}), device)
        producer.poll(0)


def _scans(records: list[dict[str, object]]) -> list[tuple[float, float, float]]:
    """Positions and temperatures of a SenML pack, in order."""
    scans: list[dict[str, float]] = []
    for record in records:
        name = str(record.get("n", ""))
        if not scans or name in scans[-1]:
            scans.append({})
        scans[-1][name] = float(record.get("v", 0.0))  # type: ignore[arg-type]
    return [(scan["lat"], scan["lon"], scan["temperature"]) for scan in scans]


if __name__ == "__main__":
    if sys.argv[1] == "bridge":
        bridge(int(sys.argv[2]), sys.argv[3])
    else:
        worker(sys.argv[2], Path(sys.argv[3]))
