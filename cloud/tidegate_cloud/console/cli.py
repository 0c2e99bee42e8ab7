"""`tidegate console`: the operators' page and its interface as a service."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
import uvicorn
from confluent_kafka import KafkaException
from prometheus_client import start_http_server
from tidegate_protocols.errors import BadInput

from tidegate_cloud.admin.topics import connect

from .app import create_app
from .history import BUDGET
from .protocol import ConsoleProtocol
from .service import ConsoleService

_MIB = 2**20


class _Server(uvicorn.Server):
    """uvicorn that says where it listens, and on SIGTERM ends the streams: they would otherwise go on for ever."""

    def __init__(self, config: uvicorn.Config, console: ConsoleService, also: str) -> None:
        super().__init__(config)
        self._console = console
        self._also = also

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own would raise the signal again once it has ended in order, and the exit status would say "killed".
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            click.echo(f"ready: console {_url(host, port)}{self._also}")
            sys.stdout.flush()

    def _end(self) -> None:
        self._console.hub.close()
        self.should_exit = True


@click.command()
@click.option("--bootstrap", envvar="TIDEGATE_BOOTSTRAP", default="127.0.0.1:9092", show_default=True, help="Kafka.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: any free port.")
@click.option("--allow-host", multiple=True, metavar="NAME", help="A host name under which the console is reached.")
@click.option(
    "--history-mib", type=click.IntRange(1), default=BUDGET // _MIB, show_default=True, help="Memory for the last hour."
)
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Prometheus on 127.0.0.1; 0: a free port.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="warning", show_default=True
)
def console(
    bootstrap: str,
    host: str,
    port: int,
    allow_host: tuple[str, ...],
    history_mib: int,
    metrics_port: int | None,
    log_level: str,
) -> None:
    """Show the fleet and its alerts in a browser. Any number of these agree, since they read the same Kafka."""
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        listener = _listen(host, port)
        connect(bootstrap)
        service = ConsoleService(bootstrap, history_budget=history_mib * _MIB)
        where = _serve_metrics(service, metrics_port)
        asyncio.run(_run(service, listener, (*allow_host, host), where, log_level))
    except BadInput as error:
        raise click.ClickException(str(error)) from None
    except KafkaException as error:
        raise click.ClickException(f"Kafka at {bootstrap}: {error.args[0].str()}") from None
    except TimeoutError as error:
        raise click.ClickException(f"Kafka at {bootstrap}: {error}") from None


async def _run(
    service: ConsoleService, listener: socket.socket, names: tuple[str, ...], where: str, log_level: str
) -> None:
    await service.start()
    try:
        config = uvicorn.Config(
            create_app(service, names=names), log_level=log_level, log_config=None, access_log=False, ws="none",
            http=ConsoleProtocol, lifespan="off", server_header=False,
            timeout_graceful_shutdown=3, timeout_keep_alive=30,
        )  # fmt: skip
        await _Server(config, service, where).serve([listener])
    finally:
        await service.stop()


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises BadInput when the address cannot be had."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BadInput(
                f"port {port} on {host} is in use", where="console", hint="end what listens there or choose --port"
            ) from None
        raise BadInput(f"{host}:{port} cannot be listened on: {error.strerror}", where="console") from None
    listener.setblocking(False)
    return listener


def _serve_metrics(service: ConsoleService, port: int | None) -> str:
    if port is None:
        return ""
    try:
        server, _thread = start_http_server(port, "127.0.0.1", service.registry)
    except OSError as error:
        raise BadInput(f"metrics port {port}: {error.strerror}", where="console") from None
    return f", metrics http://127.0.0.1:{server.server_port}/metrics"


def _url(host: str, port: int) -> str:
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
