"""A broker as a source: Mosquitto as it comes, TLS, passwords, wills, what is retained, sent again or unreadable."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from tidegate_edge import config
from tidegate_edge.clock import SystemClock
from tidegate_edge.config import MqttSource as Settings
from tidegate_edge.config import Subscription, TlsSettings
from tidegate_edge.intake import Intake
from tidegate_edge.sources.mqtt import MqttSource
from tidegate_edge.sources.repeats import Sessions
from tidegate_edge.sources.tls import context_of
from tidegate_edge.spool import SourceBook, Spool
from tidegate_protocols.errors import BadInput

from tests.edge.running import BASE_US
from tests.support.mqtt import MqttBroker, mosquitto
from tests.support.wait import until_async

pytestmark = pytest.mark.skipif(mosquitto() is None, reason="needs Mosquitto")

# As Debian ships it: 20 unacknowledged messages a client, 1,000 queued, what is more is dropped without a word.
DEFAULTS = {"max_queued_messages": None, "max_inflight_messages": None}


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[Any]:
    brokers: list[MqttBroker] = []

    def start(**settings: str | None) -> MqttBroker:
        brokers.append(MqttBroker("mosquitto", tmp_path / "broker", settings).start())
        return brokers[-1]

    yield start
    for broker in brokers:
        broker.kill()


class Host:
    """A spool with MQTT sources on it."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.intake = Intake(spool, SystemClock())
        self.sessions = Sessions(spool)
        self.committer = asyncio.create_task(spool.run())
        self.running: dict[MqttSource, asyncio.Task[None]] = {}

    async def connect(self, broker: MqttBroker | SimpleNamespace, *, ready: bool = True, **settings: Any) -> MqttSource:
        settings.setdefault("subscribe", [Subscription(filter="fleet/+/senml", payload="senml", device="{1}")])
        found = Settings(name="mqtt", host=settings.pop("host", broker.host), port=broker.port, **settings)
        source = MqttSource(found, self.intake, self.sessions.of("mqtt", found.window), "agent")
        self.running[source] = asyncio.create_task(source.run())
        if ready:
            await until_async(lambda: source.well, what=source.status)
        return source

    async def disconnect(self, source: MqttSource) -> None:
        source.stop()
        await self.spool.commit()
        await source.close()
        await self.running.pop(source)

    async def until_received(self, scans: int, timeout: float = 30) -> SourceBook:  # noqa: ASYNC109
        await until_async(lambda: self.book.received >= scans, timeout, f"{scans} scans, {self.book}")
        assert self.spool.books.balance()
        return self.book

    @property
    def book(self) -> SourceBook:
        return self.spool.books.sources.get("mqtt", SourceBook())

    async def rejects(self) -> list[tuple[str, bytes]]:
        sql = "SELECT place, payload FROM reject ORDER BY id"
        return await self.spool.database.run(lambda c: c.execute(sql).fetchall())

    async def close(self) -> None:
        for source in list(self.running):
            await self.disconnect(source)
        await self.spool.close()
        await self.committer


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(await Spool.open(tmp_path / "spool", SystemClock()))
    yield made
    await made.close()


class Publisher:
    def __init__(self, broker: MqttBroker, client_id: str = "publisher", inflight: int = 200) -> None:
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id)
        self.client.max_inflight_messages_set(inflight)
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def send(self, start: int, stop: int, **options: Any) -> None:
        """Publish scans that hold their numbers; returns when the broker has acknowledged them all."""
        last = None
        for i in range(start, stop):
            last = self.client.publish(f"fleet/bus-{i % 7}/senml", pack(i), qos=1, **options)
        if last is not None:
            last.wait_for_publish(60)


def pack(i: int) -> str:
    return json.dumps([{"n": "count", "bt": (BASE_US + i * 1000) / 1e6, "v": i}])


def dropped(broker: MqttBroker) -> int:
    """How many messages the broker says that it has dropped."""
    found = threading.Event()
    counts: list[int] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, "looker")

    def on_message(_client: Any, _data: Any, message: Any) -> None:
        counts.append(int(message.payload))
        found.set()

    client.on_message = on_message
    client.connect(broker.host, broker.port)
    client.loop_start()
    client.subscribe("$SYS/broker/publish/messages/dropped")
    assert found.wait(20)
    client.disconnect()
    client.loop_stop()
    return counts[0]


async def test_mosquitto_as_it_comes_neither_stalls_nor_drops_under_a_fast_publisher(
    host: Host, start_broker: Any
) -> None:
    broker = start_broker(**DEFAULTS)
    await host.connect(broker)
    with Publisher(broker, inflight=100) as publisher:
        for i in range(0, 6_000, 500):  # bursts of half of what the broker queues, as fast as it takes them
            await asyncio.to_thread(publisher.send, i, i + 500)
            await host.until_received(i)
    book = await host.until_received(6_000)
    assert (book.accepted, book.duplicate, book.rejected) == (6_000, 0, 0)
    assert await asyncio.to_thread(dropped, broker) == 0


@pytest.mark.parametrize("window", [1, 20, 1000])
async def test_a_window_that_is_not_the_brokers_only_costs_time(host: Host, start_broker: Any, window: int) -> None:
    broker = start_broker(max_queued_messages="0", max_inflight_messages="20")
    await host.connect(broker, window=window)
    with Publisher(broker) as publisher:
        await asyncio.to_thread(publisher.send, 0, 300)
        assert (await host.until_received(300)).accepted == 300


async def test_while_the_disk_is_in_the_way_the_broker_keeps_what_it_sent(host: Host, start_broker: Any) -> None:
    broker = start_broker()
    await host.connect(broker)
    with Publisher(broker) as publisher:
        await asyncio.to_thread(publisher.send, 0, 100)
        await host.until_received(100)
        await host.spool.database.run(lambda c: c.execute("PRAGMA max_page_count=1").fetchone())
        await asyncio.to_thread(publisher.send, 100, 2000)
        await until_async(lambda: bool(host.spool.error))
        assert host.book.accepted < 1000
        await host.spool.database.run(lambda c: c.execute("PRAGMA max_page_count=1000000").fetchone())
        book = await host.until_received(2000, 60)
    assert (book.accepted, book.duplicate) == (2000, 0)


async def test_what_is_retained_is_taken_once_however_often_the_agent_connects(host: Host, start_broker: Any) -> None:
    broker = start_broker()
    with Publisher(broker) as publisher:
        await asyncio.to_thread(publisher.send, 0, 7, retain=True)
    source = await host.connect(broker)
    await host.until_received(7)
    broker.restart()
    await until_async(lambda: source.status != "connected")
    await until_async(lambda: source.well, what=source.status)
    assert (await host.until_received(14)).accepted == 7
    with Publisher(broker) as publisher:
        await asyncio.to_thread(publisher.send, 7, 14, retain=True)
    await until_async(lambda: host.book.accepted == 14)


async def test_a_broker_that_forgot_the_session_is_subscribed_to_anew(host: Host, start_broker: Any) -> None:
    broker = start_broker(persistence="false")
    source = await host.connect(broker)
    for n in range(1, 4):
        broker.kill()
        await until_async(lambda: source.status != "connected")
        broker.start()
        await until_async(lambda: source.well, what=source.status)
        with Publisher(broker) as publisher:
            await asyncio.to_thread(publisher.send, n * 100, n * 100 + 100)
        await host.until_received(100 * n)


async def test_what_is_no_longer_subscribed_to_is_unsubscribed_from_in_a_session_that_lasts(
    host: Host, start_broker: Any
) -> None:
    broker = start_broker()
    every = Subscription(filter="fleet/+/senml", payload="senml", device="{1}")
    one = Subscription(filter="fleet/bus-1/senml", payload="senml", device="only")
    source = await host.connect(broker, subscribe=[every])
    await host.disconnect(source)
    await host.connect(broker, subscribe=[one])
    with Publisher(broker) as publisher:
        await asyncio.to_thread(publisher.send, 0, 70)
    await host.until_received(10)
    assert host.book.rejected == 0


async def test_messages_that_nobody_can_read_are_kept_in_bounds_and_block_nothing(
    host: Host, start_broker: Any
) -> None:
    broker = start_broker()
    await host.connect(broker, max_payload_bytes=100_000)
    bad = [b"", b"{", b"[" * 50_000, b"\xff" * 9_000, b"x" * 200_000]
    with Publisher(broker) as publisher:
        for payload in bad:
            publisher.client.publish("fleet/bus-1/senml", payload, qos=1)
        publisher.client.publish("fleet/\N{SNOWMAN}/senml", pack(1), qos=1)
        for _ in range(150):
            publisher.client.publish("fleet/bus-1/senml", b"again", qos=1)
        await asyncio.to_thread(publisher.send, 0, 50)
    book = await host.until_received(206)
    assert (book.accepted, book.rejected) == (50, 156)
    rejects = await host.rejects()
    assert len(rejects) == 100
    assert all(len(payload) <= 4096 for _, payload in rejects)


# ---- who may connect


def certificates(directory: Path) -> None:
    """An authority, a broker's certificate for localhost and an agent's."""
    directory.mkdir()

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "2")
    for name, more in (("localhost", "subjectAltName=DNS:localhost"), ("agent", "extendedKeyUsage=clientAuth")):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (directory / f"{name}.ext").write_text(more)
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", f"{name}.pem", "-days", "2", "-extfile", f"{name}.ext",
        )  # fmt: skip


async def test_tls_with_a_certificate_of_its_own(host: Host, start_broker: Any, tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    await asyncio.to_thread(certificates, pki)
    broker = start_broker(
        cafile=str(pki / "ca.pem"), certfile=str(pki / "localhost.pem"), keyfile=str(pki / "localhost.key"),
        require_certificate="true",
    )  # fmt: skip
    ca, cert, key = str(pki / "ca.pem"), str(pki / "agent.pem"), str(pki / "agent.key")
    stranger = await host.connect(broker, host="localhost", tls=TlsSettings(), ready=False)
    await until_async(lambda: "its certificate is not accepted" in stranger.status, what=stranger.status)
    await host.disconnect(stranger)
    nameless = await host.connect(broker, host="localhost", tls=TlsSettings(ca=ca), ready=False)
    await until_async(lambda: "does it want a certificate?" in nameless.status, what=nameless.status)
    await host.disconnect(nameless)
    await host.connect(broker, host="localhost", tls=TlsSettings(ca=ca, cert=cert, key=key), window=1000)

    def publish() -> None:
        client = paho.Client(CallbackAPIVersion.VERSION2, "publisher")
        client.tls_set(ca, cert, key)
        client.connect("localhost", broker.port)
        client.loop_start()
        for i in range(1000):
            last = client.publish("fleet/bus-1/senml", pack(i), qos=1)
        last.wait_for_publish(60)
        client.disconnect()
        client.loop_stop()

    await asyncio.to_thread(publish)
    assert (await host.until_received(1000)).accepted == 1000


def test_files_of_tls_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    with pytest.raises(BadInput, match=r"mqtt.tls.ca: /nowhere: cannot be read: No such file"):
        context_of(TlsSettings(ca="/nowhere"), "mqtt")
    with pytest.raises(BadInput, match=r"mqtt.tls.ca: .*empty: holds no certificates"):
        context_of(TlsSettings(ca=str(tmp_path / "empty")), "mqtt")
    with pytest.raises(BadInput, match="no pair of a certificate and its key"):
        context_of(TlsSettings(cert=str(tmp_path / "empty"), key=str(tmp_path / "empty")), "mqtt")


async def test_a_password_and_what_is_said_without_it(host: Host, start_broker: Any, tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    await asyncio.to_thread(
        subprocess.run, ["mosquitto_passwd", "-b", "-c", str(file), "agent", "secret"], check=True
    )  # fmt: skip
    broker = start_broker(allow_anonymous="false", password_file=str(file))
    wrong = await host.connect(broker, username="agent", password="wrong", ready=False)
    await until_async(lambda: "refused by the broker" in wrong.status, what=wrong.status)
    await host.disconnect(wrong)
    await host.connect(broker, username="agent", password="secret")


async def test_the_status_topic_says_online_and_the_broker_says_offline_when_the_agent_is_gone(
    host: Host, start_broker: Any
) -> None:
    broker = start_broker()
    said: list[bytes] = []
    watcher = paho.Client(CallbackAPIVersion.VERSION2, "watcher")
    watcher.on_message = lambda _client, _data, message: said.append(message.payload)
    watcher.connect(broker.host, broker.port)
    watcher.subscribe("agents/depot", qos=1)
    watcher.loop_start()
    try:
        source = await host.connect(broker, status_topic="agents/depot")
        await until_async(lambda: said == [b'{"state":"online"}'])
        source._client._sock_close()  # as a cable that is cut
        await until_async(lambda: b'{"state":"offline"}' in said)
        await until_async(lambda: said[-1] == b'{"state":"online"}')
        await host.disconnect(source)
        await until_async(lambda: said[-1] == b'{"state":"offline"}')
    finally:
        watcher.disconnect()
        watcher.loop_stop()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tls = { cert = 'a.pem' }", "source[0].tls.key: is missing"),
        ("password = 'x'", "source[0].username: is missing"),
        ("status_topic = 'a/+'", "source[0].status_topic: 'a/+' is not a topic"),
    ],
)
def test_what_does_not_go_together_is_said(line: str, expected: str) -> None:
    text = (
        "[agent]\nname = 'a'\ndata_dir = '/d'\n[kafka]\nbootstrap = 'k:1'\n[[source]]\ntype = 'mqtt'\nhost = 'h'\n"
        f"{line}\n[[source.subscribe]]\nfilter = 'f'\npayload = 'senml'\n"
    )
    with pytest.raises(config.BadConfig) as caught:
        config.parse(text)
    assert expected in str(caught.value)


def _packet(kind: int, body: bytes) -> bytes:
    return bytes([kind, len(body)]) + body


async def test_a_topic_that_is_not_utf8_is_refused_and_acknowledged(host: Host) -> None:
    """Mosquitto lets none pass, other brokers do: the few bytes of one that does."""
    acknowledged: list[int] = []

    async def broker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                kind, size = await reader.readexactly(2)
                body = await reader.readexactly(size)
                if kind == 0x10:
                    writer.write(_packet(0x20, b"\0\0"))
                elif kind == 0x82:
                    writer.write(_packet(0x90, body[:2] + b"\1"))
                    for mid, topic in ((7, b"fleet/\xff/senml"), (8, b"fleet/bus-1/senml")):
                        text = len(topic).to_bytes(2, "big") + topic + mid.to_bytes(2, "big")
                        writer.write(_packet(0x32, text + pack(mid).encode()))
                elif kind == 0x40:
                    acknowledged.append(int.from_bytes(body, "big"))
                elif kind == 0xE0:
                    writer.close()
                    return

    server = await asyncio.start_server(broker, "127.0.0.1", 0)
    await host.connect(SimpleNamespace(host="127.0.0.1", port=server.sockets[0].getsockname()[1]))
    await until_async(lambda: acknowledged == [7, 8])
    assert (host.book.accepted, host.book.rejected) == (1, 1)
    assert await host.rejects() == [("", pack(7).encode())]
    for source in list(host.running):
        await host.disconnect(source)
    server.close()
