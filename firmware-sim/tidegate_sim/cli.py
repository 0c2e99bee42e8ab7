"""`tidegate sim`: a fleet, a scenario's fences and limits, recorded journeys, load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from tidegate_protocols.errors import BadInput

from .fleet import MQTT, SERIAL, Fleet
from .geo import Place
from .mqtt import parse_address
from .records import read_records
from .replay import Replay
from .scenario import AUSTIN, make_scenario
from .serial_ports import SerialPorts

if TYPE_CHECKING:
    from .modbus_slaves import ModbusLine

_err = Console(stderr=True)
_devices = click.option("--devices", default=12, show_default=True, help="How many devices.")
_seed = click.option("--seed", default=1, show_default=True, help="The same seed gives the same fleet.")
_mix = click.option("--mix", help="Shares of protocols: nmea=1,packets=1,senml=1,sparkplug=1 (a quarter each).")
_centre = click.option("--centre", default=f"{AUSTIN.lat},{AUSTIN.lon}", show_default=True, help="LAT,LON of the town.")
_serial = click.option(
    "--serial-dir", type=click.Path(path_type=Path), help="Folder for the links to pseudo-terminals, one per device."
)
_mqtt = click.option("--mqtt", metavar="HOST:PORT", envvar="TIDEGATE_MQTT", help="The MQTT broker to publish to.")
_json = click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
_drain = click.option(
    "--drain-s", default=15.0, show_default=True, help="How long to wait at the end until everything was taken."
)


@click.group()
def sim() -> None:
    """Devices that do not exist: they speak as real firmware would, over serial lines and MQTT."""


@sim.command()
@_devices
@_seed
@_mix
@_centre
@_serial
@_mqtt
@click.option("--rate", default=1.0, show_default=True, help="Readings a second of each device, up to 5.")
@click.option("--seconds", type=float, help="End after so many seconds; without it, on Ctrl-C.")
@click.option("--faults-per-hour", default=6.0, show_default=True, help="Faults of each machine, on the average.")
@click.option("--truth", type=click.Path(path_type=Path), help="File for the true faults and crossings, JSON lines.")
@_drain
@_json
def fleet(
    devices: int,
    seed: int,
    mix: str | None,
    centre: str,
    serial_dir: Path | None,
    mqtt: str | None,
    rate: float,
    seconds: float | None,
    faults_per_hour: float,
    truth: Path | None,
    drain_s: float,
    as_json: bool,
) -> None:
    """Run a fleet: vehicles that drive and machines that fail.

    Buses speak NMEA and reefers firmware packets over serial lines; vans speak SenML and generators Sparkplug B over
    MQTT. Without --mix the devices are shared out among those that the given links can carry.
    """
    shares = _shares(mix, "--mix") or _default_mix(serial_dir, mqtt)
    place = _place(centre)
    scenario = make_scenario(devices, seed, mix=shares, place=place, faults_per_hour=faults_per_hour)
    running = Fleet(
        scenario,
        rate_hz=rate,
        serial_dir=serial_dir,
        mqtt=parse_address(mqtt) if mqtt else None,
        truth=truth,
    )
    _run(_fleet(running, seconds, drain_s))
    found = {"faults": running.truth.faults, "crossings": running.truth.crossings}
    if as_json:
        click.echo(json.dumps({"protocols": running.report(), "truth": found}))
        return
    table = Table("protocol", "devices", "scans sent", "acknowledged", "lost")
    for protocol, row in running.report().items():
        acknowledged = "nobody does" if row["acknowledged"] is None else str(row["acknowledged"])
        table.add_row(protocol, str(row["devices"]), str(row["sent"]), acknowledged, str(row["lost"]))
    Console().print(table, f"{found['faults']} faults, {found['crossings']} true crossings of fences", sep="\n")


async def _fleet(running: Fleet, seconds: float | None, drain_s: float) -> None:
    async with running:
        click.echo(f"ready: {len(running.scenario.devices)} devices, {running.rate_hz:g} readings a second each")
        total = None if seconds is None else int(seconds * running.rate_hz * len(running.scenario.devices))
        with _progress("scans") as bar:
            task = bar.add_task("sent", total=total)
            await _until_stopped(running.run(seconds, lambda: bar.advance(task)))
        await _drained(running.drain(), drain_s)


@sim.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
@_devices
@_seed
@_mix
@_centre
@_json
def scenario(out: Path, devices: int, seed: int, mix: str | None, centre: str, as_json: bool) -> None:
    """Write fences.geojson, rules.json and devices.json of a fleet, for `tidegate registry put`.

    The options are those of `tidegate sim fleet`; the same ones give the fences in which that fleet's vehicles drive.
    """
    made = make_scenario(devices, seed, mix=_shares(mix, "--mix"), place=_place(centre))
    paths = made.write(out, report_interval_s=1.0)
    if as_json:
        click.echo(json.dumps({path.stem: str(path) for path in paths}))
        return
    for path in paths:
        click.echo(f"wrote {path}")


@sim.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="CSV, plain or gzip.")
@click.option("--speed", default=1.0, show_default=True, help="Times as fast as life; inf does not wait at all.")
@_serial
@_mqtt
@click.option("--split", help="Shares of the vehicles: serial=0.5,mqtt=0.5 (equal shares of the links given).")
@click.option("--from", "skip_minutes", default=0.0, help="Leave out so many minutes at the beginning.")
@click.option("--limit-minutes", type=float, help="Take so many minutes of the recording.")
@click.option("--shift-s", type=int, help="Seconds to add to recorded times, instead of bringing them to now.")
@click.option("--manifest", type=click.Path(path_type=Path), help="File for what was sent, JSON lines.")
@_drain
@_json
def replay(
    data: Path,
    speed: float,
    serial_dir: Path | None,
    mqtt: str | None,
    split: str | None,
    skip_minutes: float,
    limit_minutes: float | None,
    shift_s: int | None,
    manifest: Path | None,
    drain_s: float,
    as_json: bool,
) -> None:
    """Send recorded positions again as if now, over serial NMEA and MQTT SenML."""
    if serial_dir is None and mqtt is None:
        raise BadInput("no link to send over", hint="give --serial-dir, --mqtt or both")
    records = read_records(data, skip_minutes=skip_minutes, limit_minutes=limit_minutes)
    running = Replay(
        records,
        speed=speed,
        serial_dir=serial_dir,
        mqtt=parse_address(mqtt) if mqtt else None,
        split=_shares(split, "--split"),
        shift_s=shift_s,
        manifest=manifest,
    )
    _run(_replay(running, drain_s))
    report = running.report
    if as_json:
        click.echo(report.as_json())
        return
    click.echo(
        f"sent {report.records} of {len(records)} positions of {report.vehicles} vehicles in {report.seconds:.1f} s: "
        f"{report.serial_sent} over serial lines, {report.mqtt_sent} over MQTT "
        f"({report.mqtt_acknowledged} acknowledged); times shifted by {report.shift_s} s"
    )


async def _replay(running: Replay, drain_s: float) -> None:
    async with running:
        click.echo(f"ready: {len(running.records)} positions of {running.report.vehicles} vehicles")
        with _progress("positions") as bar:
            task = bar.add_task("sent", total=len(running.records))
            await _until_stopped(running.run(lambda: bar.advance(task)))
        await _drained(running.drain(), drain_s)


@sim.command()
@_devices
@click.option("--rate", default=1000.0, show_default=True, help="Scans a second over all devices; 0: all it takes.")
@click.option("--to", required=True, type=click.Choice(["mqtt", "kafka"]))
@click.option("--seconds", default=10.0, show_default=True)
@click.option("--payload", type=click.Choice(["senml"]), default="senml", help="What goes over MQTT.")
@click.option("--scans-per-frame", type=int, help="Scans in a message (1 for MQTT, 100 for Kafka).")
@click.option("--mqtt", metavar="HOST:PORT", default="127.0.0.1:1883", envvar="TIDEGATE_MQTT", show_default=True)
@click.option(
    "--bootstrap", metavar="HOST:PORT", default="127.0.0.1:9092", envvar="TIDEGATE_BOOTSTRAP", show_default=True
)
@_seed
@_json
def load(
    devices: int,
    rate: float,
    to: str,
    seconds: float,
    payload: str,
    scans_per_frame: int | None,
    mqtt: str,
    bootstrap: str,
    seed: int,
    as_json: bool,
) -> None:
    """Plain load, and what of it was accepted: PUBACKs from MQTT, delivery reports from Kafka."""
    # Here, since neither a fleet nor a replay needs frames or Kafka's client.
    from .load import LoadReport, load_kafka, load_mqtt

    with _progress("scans") as bar:
        task = bar.add_task("sent", total=int(rate * seconds) or None)

        def show(report: LoadReport) -> None:
            bar.update(task, completed=report.scans)

        if to == "mqtt":
            report = asyncio.run(
                load_mqtt(
                    parse_address(mqtt), devices=devices, rate=rate, seconds=seconds, seed=seed,
                    scans_per_message=scans_per_frame or 1, on_progress=show,
                )
            )  # fmt: skip
        else:
            report = load_kafka(
                bootstrap, devices=devices, rate=rate, seconds=seconds, seed=seed,
                scans_per_frame=scans_per_frame or 100, on_progress=show,
            )  # fmt: skip
    if as_json:
        click.echo(report.as_json())
    else:
        click.echo(
            f"{report.accepted} of {report.messages} messages accepted in {report.seconds:.1f} s "
            f"({report.scans} scans, {report.readings} readings, {report.bytes} bytes; "
            f"{report.scans_per_s:g} scans a second)"
        )
    if report.accepted < report.messages:
        raise click.ClickException(f"{report.messages - report.accepted} messages were not accepted")


@sim.command()
@click.option("--count", type=click.IntRange(1, 100_000), default=100, show_default=True, help="How many agents.")
@_seed
@click.option("--dead", default=0.0, help="Share that is never heard.")
@click.option("--crash", default=0.0, help="Share that restarts over a bad configuration.")
@click.option("--lie", default=0.0, help="Share that says that a bad one runs well.")
@click.option("--vanish", default=0.0, help="Share that is never heard again after a bad one.")
@click.option("--bad-when", default="max_age_ms = 59999", show_default=True, help="Text that makes one a bad one.")
@click.option("--probation-s", default=10.0, show_default=True, help="How long agents try what they are told.")
@click.option("--seconds", type=float, default=0.0, help="End after so many seconds; without it, on Ctrl-C.")
@click.option("--bootstrap", envvar="TIDEGATE_BOOTSTRAP", default="127.0.0.1:9092", show_default=True, help="Kafka.")
@_json
def agents(
    count: int, seed: int, dead: float, crash: float, lie: float, vanish: float, bad_when: str, probation_s: float,
    seconds: float, bootstrap: str, as_json: bool,
) -> None:  # fmt: skip
    """Run agents that take configurations over the air, as real ones do, and fail as real ones do."""
    from .agents import make_agents
    from .agents_kafka import AgentsReport, Follow

    if dead + crash + lie + vanish > 1:
        raise BadInput("the shares are more than all", where="--dead, --crash, --lie, --vanish")
    shares: dict[Any, float] = {"dead": dead, "crashes": crash, "liar": lie, "vanishes": vanish}
    follow = Follow(bootstrap, make_agents(count, seed, shares=shares, probation_s=probation_s), bad_when)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with _progress("told") as progress:
        task = progress.add_task("agents", total=count)

        def show(report: AgentsReport) -> None:
            words = f"{report.running} run what was pushed, {report.bad} a bad one"
            progress.update(task, completed=report.told, description=words)

        report = follow.run(seconds, stop, show)
    if as_json:
        click.echo(json.dumps(report.as_dict()))
    else:
        click.echo(
            f"{report.told} of {report.agents} agents were told; {report.running} run what was pushed, {report.bad} "
            f"run a bad one, {report.ever_bad} ever did"
        )


@sim.command()
@click.option(
    "--serial-dir", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the line."
)
@click.option("--name", default="modbus", show_default=True, help="What the line is called in the folder.")
@click.option("--units", default="1-3", show_default=True, metavar="LIST", help="Addresses, as 1-8,12.")
@click.option("--silent", default="", metavar="LIST", help="Those of them that never answer.")
@click.option("--late-ms", type=click.FloatRange(0), default=5.0, show_default=True, help="How long an answer takes.")
def modbus(serial_dir: Path, name: str, units: str, silent: str, late_ms: float) -> None:
    """Modbus RTU devices on one serial line, until Ctrl-C."""
    from .modbus_slaves import ModbusLine

    line = ModbusLine(_numbers(units, "--units"))
    quiet = set(_numbers(silent, "--silent"))
    for unit in line.units.values():
        unit.silent, unit.late_s = unit.number in quiet, late_ms / 1000
    asyncio.run(_modbus(line, serial_dir, name))


async def _modbus(line: ModbusLine, serial_dir: Path, name: str) -> None:
    async with SerialPorts(serial_dir) as ports:
        port = ports.open(name)
        line.attach(port)
        click.echo(f"ready: {len(line.units)} devices on {port.link}")
        await _until_stopped(asyncio.Event().wait())


def _numbers(text: str, option: str) -> list[int]:
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        try:
            numbers += range(int(first), int(last or first) + 1)
        except ValueError:
            raise BadInput(f"{part!r} is neither a number nor FIRST-LAST", where=option) from None
    if any(not 1 <= number <= 247 for number in numbers):
        raise BadInput("addresses are 1 to 247", where=option)
    return numbers


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end; what tasks raise together comes out as the first of it."""
    try:
        asyncio.run(work)
    except BaseExceptionGroup as group:
        first = _first(group)
        raise first from (None if isinstance(first, BadInput) else group)


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


async def _until_stopped(work: Coroutine[Any, Any, object]) -> None:
    """Run `work`; SIGINT and SIGTERM end it early and in order."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _drained(work: Coroutine[Any, Any, None], drain_s: float) -> None:
    try:
        await asyncio.wait_for(work, drain_s)
    except TimeoutError:
        _err.print(f"[yellow]not everything was taken within {drain_s:g} s; what was not is left behind[/]")


def _progress(unit: str) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
        TimeElapsedColumn(), TimeRemainingColumn(), console=_err, disable=not _err.is_terminal,
    )  # fmt: skip


def _shares(text: str | None, option: str) -> dict[str, float] | None:
    if text is None:
        return None
    shares: dict[str, float] = {}
    for part in text.split(","):
        key, _, value = part.partition("=")
        try:
            shares[key.strip()] = float(value)
        except ValueError:
            raise BadInput(f"{part!r} is not NAME=SHARE", where=option) from None
    return shares


def _default_mix(serial_dir: Path | None, mqtt: str | None) -> dict[str, float]:
    names = (SERIAL if serial_dir is not None else ()) + (MQTT if mqtt is not None else ())
    if not names:
        raise BadInput("no link to speak over", hint="give --serial-dir, --mqtt or both")
    return dict.fromkeys(names, 1.0)


def _place(text: str) -> Place:
    try:
        lat, lon = (float(part) for part in text.split(","))
        if not (abs(lat) <= 80 and abs(lon) <= 180):
            raise ValueError
    except ValueError:
        raise BadInput(f"{text!r} is not LAT,LON", where="--centre", hint="degrees, such as 30.27,-97.74") from None
    return Place(lat, lon)
