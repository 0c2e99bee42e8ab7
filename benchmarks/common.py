"""What every benchmark shares: its options, its table, its JSON.

A benchmark is a function that takes `quick` and returns rows; `run` does the rest::

    def measure(quick: bool) -> list[Row]: ...

    if __name__ == "__main__":
        run("codec", measure, packages=["numpy", "numba"])

`--quick` stays under 45 s with warm caches. The last line printed with `--json -` is one JSON object
``{"name", "machine", "versions", "rows": [{"case", "metric", "value", "unit", "peer", "peer_value", "ratio"}]}``.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from tidegate_protocols.errors import BadInput


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure. `peer` names what it is compared with, measured in the same run as `peer_value`."""

    case: str
    metric: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's; None without one. Whether more is better depends on the metric."""
        return self.value / self.peer_value if self.peer_value else None


def machine() -> dict[str, Any]:
    """The machine that the figures hold for."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Python's and the packages' versions; a package that is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in ("tidegate", *packages):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def report(name: str, rows: Sequence[Row], packages: Iterable[str]) -> dict[str, Any]:
    """The JSON object of a benchmark."""
    return {
        "name": name,
        "machine": machine(),
        "versions": versions(packages),
        "rows": [asdict(row) | {"ratio": row.ratio} for row in rows],
    }


def table(name: str, rows: Sequence[Row]) -> Table:
    """The same for people."""
    shown = Table(title=name, title_justify="left")
    for heading in ("case", "metric", "value", "unit", "peer", "peer's", "ratio"):
        shown.add_column(heading, justify="right" if heading in ("value", "peer's", "ratio") else "left")
    for row in rows:
        peer_value = "" if row.peer_value is None else f"{row.peer_value:,.4g}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        value = f"{row.value:,.0f}" if abs(row.value) >= 1000 else f"{row.value:,.4g}"
        shown.add_row(row.case, row.metric, value, row.unit, row.peer or "", peer_value, ratio)
    return shown


def best_seconds(function: Callable[[], object], *, repeat: int = 5) -> float:
    """The shortest of `repeat` runs: on a shared machine everything else only makes a run longer."""
    return min(_seconds(function) for _ in range(repeat))


def median_seconds(function: Callable[[], object], *, repeat: int = 5) -> float:
    """The median of `repeat` runs."""
    return statistics.median(_seconds(function) for _ in range(repeat))


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of `values` lie, the nearest one that was measured."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def run(name: str, measure: Callable[[bool], Sequence[Row]], *, packages: Iterable[str] = ()) -> None:
    """Be the benchmark's command line: measure, print the table on stderr, write the JSON where `--json` says."""
    packages = tuple(packages)

    @click.command(help=f"Benchmark: {name}.")
    @click.option("--quick", is_flag=True, help="Measure less: at most 45 s with warm caches.")
    @click.option("--json", "target", metavar="FILE", help="Write the figures as JSON to FILE; - prints them last.")
    def command(quick: bool, target: str | None) -> None:
        try:
            rows = list(measure(quick))
        except BadInput as error:
            raise click.ClickException(str(error)) from None
        if not rows:
            raise click.ClickException(f"{name} measured nothing")
        Console(stderr=target == "-").print(table(name, rows))
        if target is not None:
            text = json.dumps(report(name, rows, packages))
            if target == "-":
                sys.stdout.write(text + "\n")
            else:
                Path(target).write_text(text + "\n", "utf-8")

    command()
