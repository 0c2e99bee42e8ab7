"""What the edge needs of an MQTT broker, of both brokers that tests and the demo use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import psutil
import pytest

from tests.support.mqtt import MqttBroker, mosquitto, start_mqtt_broker
from tests.support.wait import until


@pytest.fixture(params=["embedded", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MqttBroker]:
    if request.param == "mosquitto" and mosquitto() is None:
        pytest.skip("Mosquitto is not installed")
    with start_mqtt_broker(tmp_path, request.param) as broker:
        yield broker


class Client:
    """A paho client that keeps what it got and acknowledges when told to."""

    def __init__(self, broker: MqttBroker, name: str, *, keep_session: bool = False, ack: bool = True) -> None:
        self.got: list[mqtt.MQTTMessage] = []
        self._ack = ack
        self.session_present: bool | None = None
        self.paho = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, clean_session=not keep_session, manual_ack=True)
        self.paho.on_connect = self._on_connect
        self.paho.on_message = self._on_message
        self.paho.connect(broker.host, broker.port)
        self.paho.loop_start()
        until(lambda: self.session_present is not None, what="the broker to accept the client")

    def _on_connect(self, _client: object, _data: object, flags: mqtt.ConnectFlags, *_: object) -> None:
        self.session_present = flags.session_present

    def _on_message(self, client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        self.got.append(message)
        if self._ack:
            client.ack(message.mid, message.qos)

    def subscribe(self, pattern: str) -> None:
        granted: list[object] = []
        self.paho.on_subscribe = lambda *_: granted.append(True)
        self.paho.subscribe(pattern, qos=1)
        until(lambda: granted, what="the subscription")

    def publish(self, payloads: range) -> None:
        for info in [self.paho.publish("fleet/bus", str(number), qos=1) for number in payloads]:
            info.wait_for_publish(20)

    def drop(self) -> None:
        """Lose the connection without a word."""
        self.paho.loop_stop()
        self.paho._sock_close()


def test_what_was_not_acknowledged_comes_again(broker: MqttBroker) -> None:
    subscriber = Client(broker, "agent", keep_session=True, ack=False)
    subscriber.subscribe("fleet/#")
    publisher = Client(broker, "device")
    publisher.publish(range(20))
    until(lambda: len(subscriber.got) == 20)
    for message in subscriber.got[:15]:
        subscriber.paho.ack(message.mid, message.qos)
    # Acknowledgements go out in order with everything else: the answer to this one comes after they have arrived.
    subscriber.subscribe("other")
    subscriber.drop()
    publisher.publish(range(20, 200))
    again = Client(broker, "agent", keep_session=True)
    assert again.session_present
    until(lambda: len(again.got) >= 185, what=f"the rest; {len(again.got)} came")
    assert [int(message.payload) for message in again.got] == list(range(15, 200))
    again.paho.loop_stop()
    publisher.paho.loop_stop()


def test_it_listens_on_the_loopback_address_only(broker: MqttBroker) -> None:
    assert broker._process is not None
    process = psutil.Process(broker._process.pid)
    listening = [c.laddr for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", broker.port)]


def test_it_ends_at_once_and_its_port_is_free(broker: MqttBroker) -> None:
    broker.stop()
    broker.start()


def test_a_port_in_use_is_one_sentence(broker: MqttBroker) -> None:
    command = [sys.executable, "-m", "tidegate_cli.mqtt_broker", "--port", str(broker.port)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == (
        f"Error: MQTT: port {broker.port} on 127.0.0.1 is in use; choose another one with --port\n"
    )
