"""An MQTT client for asyncio on top of paho: a window of unacknowledged messages, and counts of what was accepted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from tidegate_protocols.errors import BadInput

WINDOW = 500


def parse_address(text: str, *, where: str = "--mqtt", default_port: int = 1883) -> tuple[str, int]:
    """``HOST:PORT`` or ``HOST``. Raises BadInput."""
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, str(default_port)
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise BadInput(f"{text!r} is not HOST:PORT", where=where)
    return host, int(port)


class MqttClient:
    """One connection, which paho's thread keeps and renews. Everything else happens in the caller's event loop.

    QoS 1 messages survive a lost connection: paho sends again what was not acknowledged.
    """

    def __init__(self, address: tuple[str, int], client_id: str, *, window: int = WINDOW) -> None:
        self.address = address
        self.published = 0
        self.acknowledged = 0
        self.on_message: Callable[[str, bytes], None] | None = None
        self.on_connect: Callable[[], None] | None = None
        self.next_will: Callable[[], tuple[str, bytes]] | None = None
        self._loop = asyncio.get_running_loop()
        self._connected = asyncio.Event()
        self._changed = asyncio.Event()
        self._window = window
        self._waiting: set[int] = set()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=True)
        self._client.max_inflight_messages_set(window)
        self._client.max_queued_messages_set(0)
        self._client.reconnect_delay_set(1, 5)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message

    async def __aenter__(self) -> MqttClient:
        """Connect. Raises BadInput when nobody answers."""
        host, port = self.address
        self._set_will()
        try:
            await asyncio.to_thread(self._client.connect, host, port, 30)
        except OSError as error:
            raise BadInput(
                f"no MQTT broker at {host}:{port}: {error.strerror or error}", hint="is it running, on that port?"
            ) from None
        self._client.loop_start()
        try:
            await asyncio.wait_for(self._connected.wait(), 15)
        except TimeoutError:
            await self.__aexit__()
            raise BadInput(f"the MQTT broker at {host}:{port} does not answer") from None
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted the connection that stands now."""
        return self._connected.is_set()

    @property
    def outstanding(self) -> int:
        """QoS 1 messages without an acknowledgement."""
        return self.published - self.acknowledged

    async def publish(self, topic: str, payload: bytes) -> None:
        """Hand over a QoS 1 message; waits while the window is full."""
        while self.outstanding >= self._window:
            self._changed.clear()
            await self._changed.wait()
        self.published += 1
        self._waiting.add(self._client.publish(topic, payload, qos=1).mid)

    def publish_once(self, topic: str, payload: bytes) -> bool:
        """Send a QoS 0 message. False when there is no connection: it is gone."""
        if not self.is_connected:
            return False
        return self._client.publish(topic, payload, qos=0).rc == paho.MQTT_ERR_SUCCESS

    def subscribe(self, topic: str) -> None:
        """Ask for a topic (QoS 1); to be called from `on_connect`, since a new connection knows of none."""
        self._client.subscribe(topic, qos=1)

    async def drain(self) -> None:
        """Wait until every QoS 1 message is acknowledged."""
        while self.outstanding:
            self._changed.clear()
            await self._changed.wait()

    def _set_will(self) -> None:
        if self.next_will is not None:
            topic, payload = self.next_will()
            self._client.will_set(topic, payload, qos=1)

    # The callbacks below run in paho's thread.

    def _on_connect(self, _c: Any, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
        if not reason.is_failure:
            self._call(self._now_connected)

    def _on_disconnect(self, *_: Any) -> None:
        self._set_will()
        self._call(self._connected.clear)

    def _on_publish(self, _c: Any, _u: Any, mid: int, *_: Any) -> None:
        self._call(self._now_published, mid)

    def _on_message(self, _c: Any, _u: Any, message: paho.MQTTMessage) -> None:
        self._call(self._now_message, message.topic, bytes(message.payload))

    def _call(self, function: Callable[..., object], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended before the thread
            self._loop.call_soon_threadsafe(function, *args)

    # And these in the event loop.

    def _now_connected(self) -> None:
        self._connected.set()
        if self.on_connect is not None:
            self.on_connect()

    def _now_published(self, mid: int) -> None:
        if mid in self._waiting:  # paho tells of QoS 0 as well
            self._waiting.discard(mid)
            self.acknowledged += 1
            self._changed.set()

    def _now_message(self, topic: str, payload: bytes) -> None:
        if self.on_message is not None:
            self.on_message(topic, payload)
