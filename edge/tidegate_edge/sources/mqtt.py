"""An MQTT broker as a source: a persistent session at QoS 1 in which an acknowledgement means durable.

A message is acknowledged when the commit that holds its scans is on the disk. Brokers send a window of messages
(Mosquitto: 20) and then wait, so the spool is asked to commit when half of the window has come: the other half is on
its way meanwhile. While the disk is in the way, acknowledgements are held and the broker keeps the rest.

A message that cannot be read is counted, kept for inspection and acknowledged: it never blocks those behind it.
paho-mqtt speaks the protocol on the event loop; only the connecting, which blocks, runs in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import threading
from functools import partial
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from tidegate_protocols.errors import BadInput
from tidegate_protocols.payload.mapped import Mapping, parse_json
from tidegate_protocols.payload.senml import parse_senml
from tidegate_protocols.payload.sparkplug import SparkplugReader
from tidegate_protocols.scan import Scan

from ..config import MqttSource as Settings
from ..config import Subscription
from ..intake import Intake
from ..names import device_name
from .repeats import Repeats
from .topics import match

log = logging.getLogger(__name__)

CONNECTED = "connected"
_BURST = 64  # messages taken before other tasks have their turn
_PAUSE_S = (0.2, 10.0)
_TOPICS_MAX = 20_000
_CONNECT_TIMEOUT_S = 10.0
_GOODBYE_S = 2.0


class _Route:
    """How the messages of one subscription are read."""

    def __init__(self, settings: Subscription) -> None:
        self.settings = settings
        self.mapping: Mapping | None = settings.json.mapping() if settings.json else None
        self.sparkplug = SparkplugReader() if settings.payload == "sparkplug" else None


class MqttSource:
    """One broker. `status` is "connected", or says what is in the way."""

    def __init__(self, settings: Settings, intake: Intake, repeats: Repeats, client_id: str) -> None:
        self.status = "not yet connected"
        self._settings = settings
        self._intake = intake
        self._spool = intake.spool
        self._repeats = repeats
        self._routes = [_Route(each) for each in settings.subscribe]
        self._by_topic: dict[str, tuple[_Route, str | None]] = {}
        self._subscribing: int | None = None  # packet id of the SUBSCRIBE that the broker has not answered yet
        self._connecting: asyncio.Future[Any] | None = None
        self._session = 0  # counts connections: what was received in one is acknowledged in that one only
        self._group = -1
        self._mids: list[int] = []
        self._taken = 0
        self._resumed = False
        self._stopped = asyncio.Event()
        self._lost = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        client = self._client = paho.Client(
            CallbackAPIVersion.VERSION2, settings.client_id or client_id, clean_session=False,
            reconnect_on_failure=False, manual_ack=True,
        )  # fmt: skip
        if settings.username is not None:
            client.username_pw_set(settings.username, settings.password)
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write

    @property
    def well(self) -> bool | None:
        """Whether the broker has taken the subscriptions."""
        return self.status == CONNECTED

    async def run(self) -> None:
        pause = _PAUSE_S[0]
        settings = self._settings
        while not self._stopped.is_set():
            self._lost.clear()
            try:
                self._connecting = asyncio.ensure_future(
                    asyncio.to_thread(self._client.connect, settings.host, settings.port, settings.keepalive_s)
                )
                await asyncio.shield(self._connecting)
            except OSError as error:
                self._trouble(f"{settings.host}:{settings.port}: {error.strerror or error}")
            else:
                if await self._keep_alive():
                    pause = _PAUSE_S[0]
            if not self._stopped.is_set():
                await self._sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _PAUSE_S[1])

    def stop(self) -> None:
        """Take in nothing more; acknowledgements still go out."""
        self._stopped.set()
        sock = self._client.socket()
        if sock is not None:
            self._loop.remove_reader(sock)

    async def close(self) -> None:
        """Say goodbye and wait until the broker has: closing on what it still sends would reset the connection, and
        with it the acknowledgements that it has not read yet."""
        if self._connecting is not None and not self._connecting.done():
            self._connecting.add_done_callback(self._let_go)
        sock = self._client.socket()
        if sock is None:
            return
        rest = socket.socket(fileno=os.dup(sock.fileno()))  # paho closes its own with the goodbye
        rest.setblocking(False)
        try:
            self._client.disconnect()
            async with asyncio.timeout(_GOODBYE_S):
                while await self._loop.sock_recv(rest, 65_536):
                    pass
        except (TimeoutError, OSError):
            pass
        finally:
            rest.close()

    def _let_go(self, connecting: asyncio.Future[Any]) -> None:
        """A connection that came about after the source was closed is given up: another one may have the session."""
        if not connecting.cancelled() and connecting.exception() is None:
            self._client.disconnect()

    async def _keep_alive(self) -> bool:
        """Until the connection is lost or the source is stopped. Returns whether the broker had accepted it."""
        accepted = False
        while not self._lost.is_set() and not self._stopped.is_set():
            if self._client.loop_misc() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
            accepted = accepted or self._client.is_connected()
            try:
                async with asyncio.timeout(1.0):
                    await self._lost.wait()
            except TimeoutError:
                pass
        return accepted

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass

    def _trouble(self, what: str) -> None:
        if self.status != what:
            log.warning("%s: %s", self._settings.label, what)
        self.status = what

    # ---- paho's socket on the event loop. It is opened in the thread that connects.

    def _on_socket_open(self, _client: paho.Client, _data: Any, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._watch, sock)

    def _watch(self, sock: Any) -> None:
        if sock.fileno() >= 0 and not self._stopped.is_set():
            self._loop.add_reader(sock, self._readable)

    def _on_socket_close(self, _client: paho.Client, _data: Any, sock: Any) -> None:
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)

    def _on_register_write(self, _client: paho.Client, _data: Any, sock: Any) -> None:
        if threading.get_ident() == self._thread:
            self._watch_write(sock)
        else:
            self._loop.call_soon_threadsafe(self._watch_write, sock)

    def _watch_write(self, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.add_writer(sock, self._client.loop_write)

    def _on_unregister_write(self, _client: paho.Client, _data: Any, sock: Any) -> None:
        if threading.get_ident() == self._thread:
            self._loop.remove_writer(sock)
        else:
            self._loop.call_soon_threadsafe(self._unwatch_write, sock)

    def _unwatch_write(self, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.remove_writer(sock)

    def _readable(self) -> None:
        """Take what has come: paho reads one packet a call, and a turn of the event loop for each would cost more."""
        for _ in range(_BURST):
            before = self._taken
            if self._client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS or self._taken == before:
                break

    # ---- the session

    def _on_connect(self, client: paho.Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._trouble(f"refused by the broker: {reason}")
            return
        self._session += 1
        if not flags.session_present:
            self._repeats.forget()
        self._resumed = bool(flags.session_present)
        self.status = "connected, subscribing"
        _, self._subscribing = client.subscribe([(route.settings.filter, 1) for route in self._routes])

    def _on_subscribe(self, _client: paho.Client, _data: Any, mid: int, reasons: Any, _properties: Any) -> None:
        if mid != self._subscribing:
            return
        refused = [
            f"{route.settings.filter!r} ({reason})"
            for route, reason in zip(self._routes, reasons, strict=False)
            if reason.is_failure
        ]
        if refused:
            self._trouble(f"the broker refuses the subscription to {', '.join(refused)}")
            return
        self.status = CONNECTED
        log.info("%s: connected%s", self._settings.label, ", session resumed" if self._resumed else "")

    def _on_disconnect(self, _client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if not self._stopped.is_set() and self.status.startswith(CONNECTED):
            self._trouble(f"connection lost: {reason}")
        self._loop.call_soon_threadsafe(self._lost.set)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self._taken += 1
        topic, payload = message.topic, bytes(message.payload)
        if message.qos and self._repeats.seen(message.mid, topic, payload, again=message.dup):
            self._intake.repeated(self._settings.label, self._count(topic, payload))
        else:
            try:
                route, device = self._route(topic)
                scans = self._read(route, device, topic, payload)
            except BadInput as error:
                self._intake.refuse(self._settings.label, topic, error, payload)
            except Exception as error:  # a parser's bug must not hold up the stream: the broker would send it for ever
                log.exception("%s: a message on %s broke its parser", self._settings.label, topic)
                self._intake.refuse(self._settings.label, topic, BadInput(f"broke its parser: {error!r}"), payload)
            else:
                self._intake.take(self._settings.label, scans)
        if message.qos:
            self._acknowledge_later(message.mid)

    def _count(self, topic: str, payload: bytes) -> int:
        """How many scans a repeated message holds. It was readable, or it was counted as one."""
        try:
            route, device = self._route(topic)
            return len(self._read(route, device, topic, payload)) if route.sparkplug is None else 1
        except Exception:  # it was refused, whatever it raised
            return 1

    def _read(self, route: _Route, device: str | None, topic: str, payload: bytes) -> list[Scan]:
        if route.sparkplug is not None:
            try:
                return route.sparkplug.feed(topic, payload)
            finally:
                for command_topic, command in route.sparkplug.take_rebirths():
                    self._client.publish(command_topic, command)
        if route.mapping is not None:
            return parse_json(payload, device, route.mapping)
        if route.settings.payload == "senml":
            scans = parse_senml(payload, device, now_us=self._intake.clock.wall_us())
        else:
            scans = parse_json(payload, device)
        return self._intake.steady.widen(scans)

    def _route(self, topic: str) -> tuple[_Route, str | None]:
        """The first subscription that a topic matches, and the device that its template names there."""
        known = self._by_topic.get(topic)
        if known is None:
            for route in self._routes:
                fields = match(route.settings.filter, topic)
                if fields is not None:
                    template = route.settings.device
                    known = route, device_name(template, fields) if template is not None else None
                    break
            else:
                raise BadInput("no subscription matches its topic")
            if len(self._by_topic) >= _TOPICS_MAX:
                self._by_topic.clear()
            self._by_topic[topic] = known
        return known

    def _acknowledge_later(self, mid: int) -> None:
        """Acknowledge once the group that is being collected is durable."""
        spool = self._spool
        if self._group != spool.group:
            self._group = spool.group
            self._mids = []
            spool.then(partial(self._acknowledge, self._mids, self._session))
        self._mids.append(mid)
        if 2 * len(self._mids) >= self._settings.window:
            spool.hurry()

    def _acknowledge(self, mids: list[int], session: int) -> None:
        if session != self._session:
            return  # the broker sends them again, and they are known
        for mid in mids:
            self._client.ack(mid, 1)
