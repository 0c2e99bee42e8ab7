"""An MQTT broker as a source: a persistent session at QoS 1 in which an acknowledgement means durable.

A message is acknowledged when the commit that holds its scans is on the disk. Brokers send a window of messages
(Mosquitto: 20) and then wait, so the spool is asked to commit when the window is full, or when half of it has come and
nothing follows for a moment. While the disk is in the way, acknowledgements are held and the broker keeps the rest.

A message that cannot be read is counted, kept for inspection and acknowledged: it never blocks those behind it. What
the broker retained and sends at each subscription is known by its content, if it was the topic's last message.
paho-mqtt speaks the protocol on the event loop; only the connecting, which blocks, runs in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import ssl
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from tidegate_protocols.errors import BadInput

from ..config import MqttSource as Settings
from ..intake import Intake
from . import Device
from .paho_client import Client
from .repeats import Repeats, mark_of
from .routes import Routes
from .tls import context_of

log = logging.getLogger(__name__)

CONNECTED = "connected"
_REFUSED = "refused by the broker"
_ONLINE, _OFFLINE = b'{"state":"online"}', b'{"state":"offline"}'
_TOPICS_MAX = 20_000
_QUIET_S = 0.003
_RESUME_S = 0.1
_BURST = 64  # messages taken before other tasks have their turn
_PAUSE_S = (0.2, 10.0)
_CONNECT_TIMEOUT_S = 10.0
_GOODBYE_S = 2.0


class MqttSource:
    """One broker. `status` is "connected", or says what is in the way. Whose its messages are, only their books say."""

    devices: Sequence[Device] = ()

    def __init__(self, settings: Settings, intake: Intake, repeats: Repeats, client_id: str) -> None:
        self.status = "not yet connected"
        self._settings = settings
        self._intake = intake
        self._spool = intake.spool
        self._repeats = repeats
        self.heard_us = 0
        self._last: dict[str, bytes] = {}  # hash of the last message of each topic
        self._arrived = 0.0
        self._quiet: asyncio.TimerHandle | None = None
        self._subscribing: int | None = None  # packet id of the SUBSCRIBE that the broker has not answered yet
        self._connecting: asyncio.Future[Any] | None = None
        self._session = 0  # counts connections: what was received in one is acknowledged in that one only
        self._group = -1
        self._mids: list[int] = []
        self._unacknowledged = 0
        self._taken = 0
        self._resumed = False
        self._stopped = asyncio.Event()
        self._lost = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        client = self._client = Client(
            CallbackAPIVersion.VERSION2, settings.client_id or client_id, clean_session=False,
            reconnect_on_failure=False, manual_ack=True,
        )  # fmt: skip
        if settings.tls is not None:
            client.tls_set_context(context_of(settings.tls, settings.label))
        if settings.username is not None:
            client.username_pw_set(settings.username, settings.password)
        if settings.status_topic is not None:
            client.will_set(settings.status_topic, _OFFLINE, qos=1, retain=True)
        self._routes = Routes(settings.subscribe, intake, client.publish)
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
            except (OSError, ValueError) as error:  # ValueError: a host name that is none
                where = f"{settings.host}:{settings.port}: " if settings.name else ""
                self._trouble(where + _reason(error))
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
            if self._settings.status_topic is not None:  # a goodbye, after which the broker forgets the will
                self._client.publish(self._settings.status_topic, _OFFLINE, qos=1, retain=True)
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
        self._client.forget()
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
        sock: Any = self._client.socket()
        if self._stopped.is_set():
            return
        if self._spool.congested and sock is not None:
            self._loop.remove_reader(sock)
            self._loop.call_later(_RESUME_S, self._resume, sock)
            return
        for _ in range(_BURST):
            before = self._taken
            if self._client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS or self._taken == before:
                break
        # What was read ahead, or TLS has decrypted already, does not make the socket readable again.
        if sock is self._client.socket() and (
            self._client.ahead or (isinstance(sock, ssl.SSLSocket) and sock.pending() > 0)
        ):
            self._loop.call_soon(self._readable)

    def _resume(self, sock: Any) -> None:
        self._watch(sock)
        if sock is self._client.socket():
            self._readable()

    # ---- the session

    def _on_connect(self, client: paho.Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._trouble(f"{_REFUSED}: {reason}")
            return
        self._session += 1
        self._unacknowledged, self._group = 0, -1
        if not flags.session_present:
            self._repeats.forget()
        self._resumed = bool(flags.session_present)
        self.status = "connected, subscribing"
        filters = self._routes.filters
        gone = self._repeats.subscribed(filters) if self._resumed else self._repeats.subscribed(filters, anew=True)
        if gone:
            client.unsubscribe(gone)
        _, self._subscribing = client.subscribe([(each, 1) for each in filters])
        if self._settings.status_topic is not None:
            client.publish(self._settings.status_topic, _ONLINE, qos=1, retain=True)

    def _on_subscribe(self, _client: paho.Client, _data: Any, mid: int, reasons: Any, _properties: Any) -> None:
        if mid != self._subscribing:
            return
        refused = [
            f"{each!r} ({reason})"
            for each, reason in zip(self._routes.filters, reasons, strict=False)
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
        elif not self._stopped.is_set() and not self.status.startswith(_REFUSED):
            self._trouble("the broker closes the connection before it has answered: does it want a certificate?")
        self._loop.call_soon_threadsafe(self._lost.set)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self._taken += 1
        label = self._settings.label
        payload = bytes(message.payload)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            self._intake.refuse(label, "", BadInput("its topic is not UTF-8"), payload)
        else:
            self._take(topic, payload, message)
        if message.qos:
            self._acknowledge_later(message.mid)

    def _take(self, topic: str, payload: bytes, message: paho.MQTTMessage) -> None:
        label = self._settings.label
        self.heard_us = self._intake.clock.wall_us()
        mark = mark_of(topic, payload)
        again = message.qos and self._repeats.seen(message.mid, mark, again=message.dup)
        if again or (message.retain and self._last.get(topic) == mark):
            self._intake.repeated(label, self._routes.count(topic, payload))
            return
        if len(self._last) >= _TOPICS_MAX:
            self._last.clear()
        self._last[topic] = mark
        if len(payload) > self._settings.max_payload_bytes:
            large = BadInput(f"{len(payload)} bytes, more than max_payload_bytes allows")
            self._intake.refuse(label, topic, large, payload)
            return
        try:
            scans = self._routes.read(topic, payload)
        except BadInput as error:
            self._intake.refuse(label, topic, error, payload)
        except Exception as error:  # a parser's bug must not hold up the stream: the broker would send it for ever
            log.exception("%s: a message on %s broke its parser", label, topic)
            self._intake.refuse(label, topic, BadInput(f"broke its parser: {error!r}"), payload)
        else:
            self._intake.take(label, scans)

    def _acknowledge_later(self, mid: int) -> None:
        """Acknowledge once the group that is being collected is durable."""
        spool = self._spool
        if self._group != spool.group:
            self._group = spool.group
            self._mids = []
            spool.then(partial(self._acknowledge, self._mids, self._session))
        self._mids.append(mid)
        self._unacknowledged += 1
        window = self._settings.window
        if self._unacknowledged >= window:
            spool.hurry()
        elif 2 * self._unacknowledged >= window:
            self._arrived = self._loop.time()
            if self._quiet is None:
                self._quiet = self._loop.call_later(_QUIET_S, self._is_quiet)

    def _is_quiet(self) -> None:
        """Half a window has come: commit once nothing more follows. Its rest may be what the broker cannot send."""
        self._quiet = None
        left = self._arrived + _QUIET_S - self._loop.time()
        if left > 0:
            self._quiet = self._loop.call_later(left, self._is_quiet)
        elif self._unacknowledged:
            self._spool.hurry()

    def _acknowledge(self, mids: list[int], session: int) -> None:
        if session != self._session:
            return  # the broker sends them again, and they are known
        self._unacknowledged -= len(mids)
        self._client.ack_all(mids)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return getattr(error, "strerror", None) or str(error)
