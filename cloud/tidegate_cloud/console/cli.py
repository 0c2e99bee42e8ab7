"""`tidegate console`: the operators' page and its interface as a service."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
import uvicorn
from confluent_kafka import KafkaException
from prometheus_client import start_http_server
from tidegate_protocols.errors import BadInput

from tidegate_cloud.admin.topics import connect

from .app import create_app
from .history import BUDGET
from .past import Past
from .protocol import ConsoleProtocol
from .service import ConsoleService
from .writer import NotSaved

_MIB = 2**20
_MESSAGE_MAX = 64 * 1024  # nobody says more over a WebSocket
_FILE = click.Path(exists=True, dir_okay=False)


class _Server(uvicorn.Server):
    """uvicorn that says where it listens, and on SIGTERM ends the streams: they would otherwise go on for ever."""

    def __init__(self, config: uvicorn.Config, console: ConsoleService, also: str, link: str | None) -> None:
        super().__init__(config)
        self._console = console
        self._also = also
        self._link = link

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
            url = _url(host, port, "https" if self.config.is_ssl else "http")
            if self._link is not None:
                click.echo(f"log in once, within the hour: {url}/login#{self._link}")
            click.echo(f"ready: console {url}{self._also}")
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
@click.option("--history", "history_url", default="", metavar="URL", help="A history service: tidegate history.")
@click.option("--history-token", envvar="TIDEGATE_HISTORY_TOKEN", default="", help="What it wants to see.")
@click.option(
    "--scrape", multiple=True, metavar="NAME=URL", help="Metrics of agent, processor or alerts, for the pipeline page."
)
@click.option("--tls-cert", type=_FILE, help="Certificate chain, PEM.")
@click.option("--tls-key", type=_FILE, help="Its private key, PEM.")
@click.option(
    "--behind-proxy", metavar="ADDRESS", help="A proxy that speaks TLS: its X-Forwarded-For and -Proto are believed."
)
@click.option("--login-link", is_flag=True, help="Print a one-time link for the admin at every start.")
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
    history_url: str,
    history_token: str,
    scrape: tuple[str, ...],
    tls_cert: str | None,
    tls_key: str | None,
    behind_proxy: str | None,
    login_link: bool,
    metrics_port: int | None,
    log_level: str,
) -> None:
    """Show the fleet and its alerts in a browser. Any number of these agree, since they read the same Kafka.

    While no admin has a password, a link that logs in once is printed at the start.
    """
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        if (tls_cert is None) != (tls_key is None):
            raise click.UsageError("--tls-cert and --tls-key go together")
        _check_reach(host, tls_cert is not None, behind_proxy is not None)
        _many_files()
        listener = _listen(host, port)
        connect(bootstrap)
        service = ConsoleService(
            bootstrap,
            history_budget=history_mib * _MIB,
            past=Past(history_url, history_token),
            scrape=_named(scrape),
        )
        where = _serve_metrics(service, metrics_port)
        more = {
            "log_level": log_level, "ssl_certfile": tls_cert, "ssl_keyfile": tls_key,
            "proxy_headers": behind_proxy is not None, "forwarded_allow_ips": behind_proxy,
        }  # fmt: skip
        asyncio.run(_run(service, listener, (*allow_host, host), where, login_link, more))
    except BadInput as error:
        raise click.ClickException(str(error)) from None
    except KafkaException as error:
        raise click.ClickException(f"Kafka at {bootstrap}: {error.args[0].str()}") from None
    except (TimeoutError, NotSaved) as error:
        raise click.ClickException(f"Kafka at {bootstrap}: {error}") from None


async def _run(
    service: ConsoleService,
    listener: socket.socket,
    names: tuple[str, ...],
    where: str,
    login_link: bool,
    more: dict[str, Any],
) -> None:
    await service.start()
    try:
        config = uvicorn.Config(
            create_app(service, names=names), log_config=None, access_log=False, ws="websockets-sansio",
            ws_max_size=_MESSAGE_MAX, ws_per_message_deflate=False,
            http=ConsoleProtocol, lifespan="off", server_header=False,
            timeout_graceful_shutdown=3, timeout_keep_alive=30, **more,
        )  # fmt: skip
        link = await service.accounts.first_link(always=login_link)
        await _Server(config, service, where, link).serve([listener])
    finally:
        await service.stop()


def _named(pairs: tuple[str, ...]) -> dict[str, str]:
    """NAME=URL pairs. Raises BadInput."""
    found = {}
    for pair in pairs:
        name, _, url = pair.partition("=")
        if not name or not url.startswith(("http://", "https://")):
            raise BadInput(f"{pair!r} is not NAME=URL", where="--scrape")
        found[name] = url
    return found


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
        server, _thread = start_http_server(port, "127.0.0.1", service.metrics)
    except OSError as error:
        raise BadInput(f"metrics port {port}: {error.strerror}", where="console") from None
    return f", metrics http://127.0.0.1:{server.server_port}/metrics"


def _url(host: str, port: int, scheme: str) -> str:
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _check_reach(host: str, tls: bool, proxied: bool) -> None:
    """Passwords and cookies do not go over a network in the clear. Raises BadInput."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not (loopback or tls or proxied):
        raise BadInput(
            f"{host} can be reached over the network, and passwords would go there in the clear",
            where="console",
            hint="--tls-cert and --tls-key, or --behind-proxy where a proxy in front speaks TLS",
        )


def _many_files() -> None:
    """A client is a file: as many as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
