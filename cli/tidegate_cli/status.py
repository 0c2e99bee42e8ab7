"""`tidegate status`: the picture of health, in words or as JSON."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from .health import Delay, Health, StageHealth, look
from .supervisor import RunFile, RunningService, read_run_file

_UNKNOWN = "–"


@click.command()
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), default=Path(".tidegate/demo"),
    show_default=True, help="Directory of a demo; its run.json says what runs.",
)  # fmt: skip
@click.option(
    "--bootstrap", envvar="TIDEGATE_BOOTSTRAP", metavar="HOST:PORT", help="Kafka, where there is no run.json."
)
@click.option("--metrics", multiple=True, metavar="URL", help="Metrics of a service, where there is no run.json.")
@click.option(
    "--over", "over_s", type=click.FloatRange(0.1, 60), default=1.0, show_default=True,
    help="Seconds between the two looks that give what is said per second.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(directory: Path, bootstrap: str | None, metrics: tuple[str, ...], over_s: float, as_json: bool) -> None:
    """Say what runs, what waits and how far behind it is.

    The exit status is 1 when something that should run does not or is not ready yet, or something was lost.
    """
    run = _what_runs(directory, bootstrap, metrics)
    health = look(run, over_s=over_s)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(health), indent=2).decode())
    else:
        _in_words(health)
    if health.problems or health.starting:
        raise click.exceptions.Exit(1)


def _what_runs(directory: Path, bootstrap: str | None, metrics: tuple[str, ...]) -> RunFile:
    run = read_run_file(directory)
    if bootstrap is not None or metrics:
        named = [RunningService(url.removeprefix("http://").split("/")[0], 0, 0, url) for url in metrics]
        return RunFile(bootstrap or (run.bootstrap if run is not None else "127.0.0.1:9092"), named)
    if run is None:
        raise click.ClickException(
            f"nothing runs in {directory}: there is no run.json (start tidegate demo, or name --bootstrap)"
        )
    return run


def _in_words(health: Health) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if health.services:
        running = [each.name for each in health.services if each.runs and each.name not in health.starting]
        console.print(f"Runs: {', '.join(running) or 'nothing'}.")
        for service in health.services:
            if service.url:
                console.print(f"{service.name.capitalize()}: {service.url}")
    stages = Table("stage", "came in", "went out", "waits", "lost", box=None, header_style="dim")
    for stage in health.stages:
        stages.add_row(*_row(stage))
    console.print(stages)
    for stage in health.stages:
        if stage.notes:
            console.print(f"{stage.name}: {', '.join(stage.notes)}", style="dim")
    for delay in health.delays:
        console.print(_delay(delay))
    for problem in health.problems:
        console.print(f"[red]Problem:[/] {problem}")
    if health.starting:
        console.print(f"Starting: {', '.join(health.starting)}.")
    if health.not_looked_at:
        names = ", ".join(health.not_looked_at)
        console.print(f"No metrics given for: {names}; name them with --metrics URL.")
    if not health.problems and not health.starting:
        console.print("All is well in what was looked at." if health.not_looked_at else "All is well.")


def _row(stage: StageHealth) -> tuple[str, ...]:
    return (
        stage.name,
        _flow(stage.came_in, stage.unit_in, stage.in_per_s),
        _flow(stage.went_out, stage.unit_out, stage.out_per_s),
        _count(stage.waits),
        _count(stage.lost),
    )


def _flow(count: int | None, unit: str, per_s: float | None) -> str:
    return _UNKNOWN if count is None or per_s is None else f"{count:,} {unit}, {per_s:g}/s"


def _count(count: int | None) -> str:
    return _UNKNOWN if count is None else f"{count:,}"


def _delay(delay: Delay) -> str:
    if delay.p50_s is None or delay.p99_s is None:
        return f"Delay {delay.name}: nothing measured yet"
    return (
        f"Delay {delay.name}: half {_within(delay.p50_s, delay.p50_beyond)}, "
        f"99 % {_within(delay.p99_s, delay.p99_beyond)}"
    )


def _within(value: float, beyond: bool) -> str:
    return f"in more than {value:g} s" if beyond else f"within {_seconds(value)}"


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
