"""The proxy of the tests does to a connection what it says."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer
from tidegate_protocols.topics import EVENTS, PARTITIONER

from tests.support.kafka import QUIET, KafkaNode, consume_all, produce
from tests.support.proxy import Proxy
from tests.support.wait import until


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends everything back."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(4096):
                    connection.sendall(data)
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    with Proxy(echo) as proxy:
        yield proxy


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def exchange(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    got = b""
    while len(got) < len(data):
        piece = connection.recv(65_536)
        assert piece, "the connection ended"
        got += piece
    return got


def test_it_forwards_both_ways(proxy: Proxy) -> None:
    data = bytes(range(256)) * 1000
    with connect(proxy) as connection:
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        got = b""
        while len(got) < len(data):
            got += connection.recv(65_536)
        sender.join()
    assert got == data


def test_a_cut_breaks_and_refuses_until_it_is_restored(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        exchange(connection, b"x")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(10)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.restore()
    with connect(proxy) as connection:
        assert exchange(connection, b"again") == b"again"


def test_what_a_blackhole_swallowed_comes_after_it(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        exchange(connection, b"x")
        proxy.blackhole()
        connection.sendall(b"held")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(10)
        connection.settimeout(10)
        proxy.restore()
        assert connection.recv(10) == b"held"


def test_nothing_comes_before_the_delay(proxy: Proxy) -> None:
    proxy.delay_s = 0.2
    with connect(proxy) as connection:
        start = time.monotonic()
        exchange(connection, b"x")
        assert time.monotonic() - start >= 0.4  # a lower bound: the machine cannot make it faster


def test_a_throttled_connection_carries_no_more_than_told(proxy: Proxy) -> None:
    proxy.bytes_per_s = 50_000
    with connect(proxy) as connection:
        start = time.monotonic()
        exchange(connection, bytes(20_000))
        assert time.monotonic() - start >= 0.3


def test_kafka_is_reached_only_through_its_proxy(proxied_kafka: KafkaNode) -> None:
    assert proxied_kafka.proxy is not None
    produce(proxied_kafka.bootstrap, EVENTS.name, [("d", b"1")])
    proxied_kafka.proxy.cut()
    client = Producer({"bootstrap.servers": proxied_kafka.bootstrap, **PARTITIONER, **QUIET})
    client.produce(EVENTS.name, b"2", b"d")
    assert client.flush(1) == 1
    proxied_kafka.proxy.restore()
    until(lambda: client.flush(1) == 0, what="the record that waited")
    assert [message.value() for message in consume_all(proxied_kafka.bootstrap, EVENTS.name)] == [b"1", b"2"]
