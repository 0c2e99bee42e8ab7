"""`tidegate demo`: the whole way of a reading on one machine, from simulated devices to alerts on a page.

Everything that runs is the real thing: a Kafka, an MQTT broker, pseudo-terminals for serial lines, and the same
services that a site runs. All of it lives in one directory, so a second start goes on where the first one ended.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table
from tidegate_cloud.admin import topics
from tidegate_cloud.broker import fetch
from tidegate_cloud.broker.cli import fetching
from tidegate_cloud.broker.jars import is_fetched
from tidegate_cloud.broker.ports import free_port, is_free
from tidegate_protocols.errors import BadInput

from .demo_fleet import Fleet, Recording, Simulated, agent_sources, seed_registry
from .supervisor import Service, ServiceFailed, Supervisor, end_leftovers, is_alive, read_run_file

_POLL_S = 0.25
_SERVICES = ("broker", "mqtt", "processor", "alerts", "console", "agent", "devices", "history")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the options say. Ports that are 0 are those of the last start, or any free ones."""

    directory: Path
    port: int
    kafka_port: int
    mqtt_port: int


@click.command()
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), default=Path(".tidegate/demo"),
    show_default=True, help="Where everything that lasts lives; a second start goes on there.",
)  # fmt: skip
@click.option("--port", type=click.IntRange(1, 65535), default=8420, show_default=True, help="Port of the page.")
@click.option(
    "--kafka-port", type=click.IntRange(0, 65535), default=0, show_default=True,
    help="Port of Kafka; 0 takes the last one, or any free one.",
)  # fmt: skip
@click.option(
    "--mqtt-port", type=click.IntRange(0, 65535), default=0, show_default=True,
    help="Port of the MQTT broker; 0 takes the last one, or any free one.",
)  # fmt: skip
@click.option("--devices", type=click.IntRange(1, 9999), default=12, show_default=True, help="Simulated devices.")
@click.option("--seed", type=int, default=1, show_default=True, help="What decides how they drive and fail.")
@click.option("--rate", type=click.FloatRange(0.01, 5), default=1.0, show_default=True, help="Readings a second, each.")
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Replay these recorded positions (CSV, also .gz) instead of simulating.",
)  # fmt: skip
@click.option("--speed", type=click.FloatRange(0.01), default=1.0, show_default=True, help="Replay faster than life.")
@click.option(
    "--fences", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Fences (GeoJSON) for a replay; without them, circles round its busiest places.",
)  # fmt: skip
def demo(
    directory: Path, port: int, kafka_port: int, mqtt_port: int, devices: int, seed: int, rate: float,
    data: Path | None, speed: float, fences: Path | None,
) -> None:  # fmt: skip
    """Run the whole way on this machine.

    Starts Kafka (fetched once), an MQTT broker, devices, the agent, the processor, the alert engine and the page, says
    where the page is, and ends all of it on Ctrl-C.
    """
    if data is None and (fences is not None or speed != 1.0):
        raise click.UsageError("--speed and --fences go with --data")
    fleet: Fleet = Simulated(devices, seed, rate) if data is None else Recording(data.absolute(), speed, fences)
    settings = Settings(directory.absolute(), port, kafka_port, mqtt_port)
    console = Console(highlight=False, soft_wrap=True)
    try:
        with _one_at_a_time(settings.directory, console):
            _run(settings, fleet, console)
    except ServiceFailed as error:
        raise click.ClickException(f"{error}\nThe logs are in {settings.directory / 'logs'}") from None
    except OSError as error:
        raise click.ClickException(f"{error.filename or settings.directory}: {error.strerror or error}") from None


@contextmanager
def _one_at_a_time(directory: Path, console: Console) -> Iterator[None]:
    """Refuse to run where another one runs, and first end what one that was killed left behind."""
    run = read_run_file(directory)
    if run is not None:
        if run.supervisor is not None and is_alive(run.supervisor):
            raise BadInput(
                f"a demo already runs there (process {run.supervisor.pid})",
                where=str(directory),
                hint="end that one with Ctrl-C or choose another --dir",
            )
        left = end_leftovers(run)
        if left:
            console.print(f"Ended what an earlier demo left running: {', '.join(left)}.")
    yield


def _run(settings: Settings, fleet: Fleet, console: Console) -> None:
    if not is_free(settings.port):
        raise BadInput(f"port {settings.port} on 127.0.0.1 is in use", where="the page", hint="choose another --port")
    try:
        settings.directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"the directory cannot be made: {error.strerror}",
            where=str(settings.directory),
            hint="choose another --dir",
        ) from None
    if not is_fetched() and not console.is_terminal:
        console.print("Fetching Kafka, once…")
    with fetching() as progress:
        fetch(progress)
    _assets()
    fleet.prepare(settings.directory)
    end = _end_on_signals()
    supervisor = Supervisor(settings.directory)
    supervisor.planned = list(_SERVICES)
    try:
        _start(settings, fleet, supervisor, end, console)
        _watch(supervisor, end, console)
    except _Ended:
        pass
    finally:
        with console.status("Ending…") as shown:
            killed = supervisor.stop(lambda service: shown.update(f"Ended {service.name}"))
    console.print("Everything has ended; the next start goes on from here.")
    if killed:
        raise ServiceFailed(f"{', '.join(killed)} did not end when told to and had to be killed")


class _Steps:
    """What is being done: a spinner on a terminal, elsewhere a line for each step."""

    def __init__(self, console: Console, shown: Status) -> None:
        self._console = console
        self._shown = shown
        self._last = ""

    def say(self, step: str) -> None:
        if step == self._last:
            return
        self._last = step
        if self._console.is_terminal:
            self._shown.update(escape(step))
        else:
            self._console.print(step, markup=False)


class _Ended(Exception):
    """Somebody wants it to end."""


def _end_on_signals() -> threading.Event:
    end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: end.set())
    return end


def _assets() -> None:
    from tidegate_cloud.console.assets import AssetsError, ensure

    try:
        ensure()
    except AssetsError as error:
        raise BadInput(str(error)) from None


def _start(settings: Settings, fleet: Fleet, supervisor: Supervisor, end: threading.Event, console: Console) -> None:
    directory = settings.directory
    with console.status("Starting…") as shown:
        steps = _Steps(console, shown)

        def start(*services: Service) -> None:
            def poll() -> None:
                _end_if(end)
                steps.say(_waiting_for(services))

            steps.say(f"Starting {', '.join(service.name for service in services)}…")
            supervisor.start(*services, poll=poll)

        kafka_port, mqtt_port = _ports(settings)
        bootstrap = f"127.0.0.1:{kafka_port}"
        supervisor.bootstrap = bootstrap
        start(
            _tidegate("broker", "broker", "--dir", directory / "kafka", "--port", kafka_port),
            Service("mqtt", _python("tidegate_cli.mqtt_broker", "--port", mqtt_port)),
        )
        steps.say("Making topics…")
        client = topics.connect(bootstrap)
        topics.apply(client, [change for change in topics.plan(client) if change.action != "leave"])
        topics.settle(client)
        seed_registry(bootstrap, fleet, directory)
        on_kafka = ("--bootstrap", bootstrap, "--metrics-port", 0)
        metrics = {name: free_port() for name in ("processor", "alerts", "agent")}
        history_port = free_port()
        scraped = [f"--scrape={name}=http://127.0.0.1:{port}/metrics" for name, port in metrics.items()]
        agent_file = _agent_config(settings, bootstrap, mqtt_port)
        start(
            _tidegate("processor", "processor", *on_kafka[:3], metrics["processor"]),
            _tidegate("alerts", "alerts", *on_kafka[:3], metrics["alerts"]),
            _tidegate(
                "console",
                "console",
                *on_kafka,
                "--port",
                settings.port,
                "--login-link",
                *scraped,
                "--history",
                f"http://127.0.0.1:{history_port}",
            ),
            _tidegate("agent", "agent", "run", "--config", agent_file, "--metrics-port", metrics["agent"]),
        )
        # Charts need their past later than pages need their present.
        start(
            _tidegate("devices", *fleet.command(directory, mqtt_port), may_end=fleet.ends),
            _tidegate("history", "history", *on_kafka, "--dir", directory / "history", "--port", history_port),
        )  # fmt: skip
    _announce(settings, supervisor, fleet, bootstrap, mqtt_port, console)


def _waiting_for(services: Sequence[Service]) -> str:
    """Which of these are not up yet, and what the first of them that says anything says."""
    waiting = [service for service in services if not service.ready_line]
    names = ", ".join(service.name for service in waiting)
    said = next((f": {service.name}: {line}" for service in waiting if (line := service.last_line)), "")
    return f"Waiting for {names}{said or '…'}"


def _end_if(end: threading.Event) -> None:
    if end.is_set():
        raise _Ended


def _watch(supervisor: Supervisor, end: threading.Event, console: Console) -> None:
    finished: set[str] = set()
    while not end.wait(_POLL_S):
        supervisor.check()
        for service in supervisor.services:
            if service.state == "ended" and service.name not in finished:
                finished.add(service.name)
                console.print(f"{service.name}: all recorded positions have been sent; the page goes on.")


def _ports(settings: Settings) -> tuple[int, int]:
    """Kafka's and the MQTT broker's ports: as asked for, else those of the last start, else free ones."""
    path = settings.directory / "ports.json"
    try:
        last: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        last = {}

    def choose(name: str, asked: int) -> int:
        kept = last.get(name)
        if asked:
            if not is_free(asked):
                raise BadInput(f"port {asked} on 127.0.0.1 is in use", where=name, hint=f"choose another --{name}-port")
            return asked
        return kept if isinstance(kept, int) and is_free(kept) else free_port()

    chosen = {"kafka": choose("kafka", settings.kafka_port), "mqtt": choose("mqtt", settings.mqtt_port)}
    path.write_text(json.dumps(chosen), "utf-8")
    return chosen["kafka"], chosen["mqtt"]


def _agent_config(settings: Settings, bootstrap: str, mqtt_port: int) -> Path:
    """Write the agent's configuration and return its path."""
    directory = settings.directory
    head = (
        f'[agent]\nname = "demo"\ndata_dir = {json.dumps(str(directory / "agent"))}\n\n'
        f"[kafka]\nbootstrap = {json.dumps(bootstrap)}\n\n"
    )
    sources = agent_sources(directory / "serial", mqtt_port)
    path = directory / "agent.toml"
    path.write_text(head + sources, "utf-8")
    return path


def _python(module: str, *arguments: object) -> Sequence[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


def _tidegate(name: str, *arguments: object, may_end: bool = False) -> Service:
    return Service(name, _python("tidegate_cli.main", *arguments), may_end=may_end)


def _announce(
    settings: Settings, supervisor: Supervisor, fleet: Fleet, bootstrap: str, mqtt_port: int, console: Console
) -> None:
    places = {"broker": f"Kafka on {bootstrap}", "mqtt": f"MQTT on 127.0.0.1:{mqtt_port}", "devices": fleet.words}
    table = Table("runs", "what", "process", "log", box=None, header_style="dim")
    for service in supervisor.services:
        assert service.process is not None
        what = places.get(service.name) or service.metrics or ""
        log = service.log.relative_to(settings.directory)
        table.add_row(service.name, what, str(service.process.pid), str(log))
    console.print(table)
    if fleet.note:
        console.print(f"\n{fleet.note}")
    console.print(f"\nLogs and data are in {settings.directory}.")
    console.print("How it goes: tidegate status" + _dir_option(settings.directory))
    console.print(f"\n[bold]The page is at {_page(settings, supervisor)}[/]   Ctrl-C ends everything.")
    sys.stdout.flush()


def _page(settings: Settings, supervisor: Supervisor) -> str:
    """The page's address; with it the one-time link that the console of this start has printed."""
    console = next(service for service in supervisor.services if service.name == "console")
    links = re.findall(r"https?://\S+/login#\S+", console.log.read_text("utf-8", "replace"))
    return links[-1] if links else f"http://127.0.0.1:{settings.port}/"


def _dir_option(directory: Path) -> str:
    default = Path(".tidegate/demo").absolute()
    return "" if directory == default else f" --dir {directory}"
