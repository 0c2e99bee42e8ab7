"""Services as child processes: started in order, watched, ended in the opposite order.

Each service gets a process group of its own, so that Ctrl-C at the terminal reaches only the supervisor and the order
of the end is ours. What a service prints goes to ``DIR/logs/NAME.log``. It is up when it prints a line that begins with
``ready:``.

``DIR/run.json`` says what runs: ``{"bootstrap", "supervisor", "services": [{"name", "pid", "started", "metrics",
"url", "ready"}], "to_come": [names]}``. `started` is the process's start time as the kernel counts it (field 22 of
proc(5)'s stat): a process id alone may have gone to another program since. From this file the next start finds what a
killed supervisor left behind.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

_POLL_S = 0.05
_LAST_LINES = 15
_METRICS = re.compile(r"http://127\.0\.0\.1:\d+/metrics")
_URL = re.compile(r"http://127\.0\.0\.1:\d+/?(?=[\s,;)]|$)")

State = Literal["waiting", "starting", "up", "ended"]


class RunningService(msgspec.Struct, frozen=True):
    """One service of a run file. `metrics` is where Prometheus metrics are served, `url` what a person may open; not
    `ready`: it starts.
    """

    name: str
    pid: int
    started: int = 0
    metrics: str | None = None
    url: str | None = None
    ready: bool = True


class RunFile(msgspec.Struct, frozen=True):
    """What ``run.json`` holds. `to_come` names services that are still to be started."""

    bootstrap: str
    services: list[RunningService]
    supervisor: RunningService | None = None
    to_come: list[str] = []


class ServiceFailed(RuntimeError):
    """A service ended by itself or did not come up. The text names it and holds the last lines of its log."""


@dataclass(slots=True)
class Service:
    """A service: its command, how long its start and its end may take, and what became of it.

    `may_end`: it has an end of its own, so ending with status 0 is no failure.
    """

    name: str
    command: Sequence[str]
    may_end: bool = False
    up_s: float = 600.0
    down_s: float = 30.0
    log: Path = Path()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    ready_line: str = ""

    @property
    def state(self) -> State:
        if self.process is None:
            return "waiting"
        if self.process.poll() is not None:
            return "ended"
        return "up" if self.ready_line else "starting"

    @property
    def metrics(self) -> str | None:
        found = _METRICS.search(self.ready_line)
        return found[0] if found else None

    @property
    def url(self) -> str | None:
        found = _URL.search(self.ready_line)
        return found[0] if found else None

    @property
    def last_line(self) -> str:
        """The last line that it printed, "" while there is none."""
        lines = self.log.read_text("utf-8", "replace").splitlines() if self.log.is_file() else []
        return lines[-1].strip() if lines else ""

    def tail(self) -> str:
        """The last lines that it printed."""
        lines = self.log.read_text("utf-8", "replace").splitlines()[-_LAST_LINES:] if self.log.exists() else []
        return "\n".join(f"  {line}" for line in lines)


class Supervisor:
    """Starts services, watches them, ends them. Not for use from several threads.

    `planned` names all services that will be started; the run file tells which of them are still to come.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.services: list[Service] = []
        self.bootstrap = ""
        self.planned: list[str] = []

    def start(self, *services: Service, poll: Callable[[], None] = lambda: None) -> None:
        """Start these side by side and return once all are up; `poll` is called meanwhile, and may raise to give up.

        Raises ServiceFailed when one of them, or one that was up before, ends or does not come up in time.
        """
        logs = self.directory / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        for service in services:
            service.log = logs / f"{service.name}.log"
            with service.log.open("wb") as log:
                service.process = subprocess.Popen(
                    list(service.command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                )
            self.services.append(service)
        self.write_run_file()
        started = time.monotonic()
        waiting = list(services)
        while waiting:
            poll()
            self.check()
            for service in list(waiting):
                service.ready_line = _ready_line(service.log)
                if service.ready_line:
                    waiting.remove(service)
                    self.write_run_file()
                elif time.monotonic() - started > service.up_s:
                    raise ServiceFailed(f"{service.name} did not come up within {service.up_s:g} s\n{service.tail()}")
            time.sleep(_POLL_S)

    def check(self) -> None:
        """Raise ServiceFailed if a service has ended by itself."""
        for service in self.services:
            if service.process is not None and (status := service.process.poll()) is not None:
                if service.may_end and status == 0:
                    continue
                how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
                raise ServiceFailed(f"{service.name} {how}\n{service.tail()}")

    def stop(self, on_state: Callable[[Service], None] | None = None) -> list[str]:
        """End all, the last started first. Returns the names of those that had to be killed."""
        killed = []
        for service in reversed(self.services):
            process = service.process
            if process is None:
                continue
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(service.down_s)
                except subprocess.TimeoutExpired:
                    killed.append(service.name)
            _kill_group(process.pid)  # also what a service may have left behind
            process.wait()
            if on_state is not None:
                on_state(service)
        self.services.clear()
        run_file(self.directory).unlink(missing_ok=True)
        return killed

    def write_run_file(self) -> None:
        """Write ``run.json`` anew, whole or not at all."""
        services = [
            RunningService(s.name, s.process.pid, start_time(s.process.pid) or 0, s.metrics, s.url, bool(s.ready_line))
            for s in self.services
            if s.process is not None
        ]
        own = RunningService("supervisor", os.getpid(), start_time(os.getpid()) or 0)
        to_come = [name for name in self.planned if name not in {service.name for service in services}]
        path = run_file(self.directory)
        new = path.with_suffix(".new")
        new.write_bytes(msgspec.json.format(msgspec.json.encode(RunFile(self.bootstrap, services, own, to_come))))
        new.replace(path)


def run_file(directory: Path) -> Path:
    """Where a supervisor of `directory` says what runs."""
    return directory / "run.json"


def read_run_file(directory: Path) -> RunFile | None:
    """What runs, by the run file; None when there is none that can be read."""
    try:
        return msgspec.json.decode(run_file(directory).read_bytes(), type=RunFile)
    except (OSError, msgspec.DecodeError):
        return None


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it is not there or only its corpse is."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[0] in ("Z", "X") else int(fields[19])


def is_alive(service: RunningService) -> bool:
    """Whether that very process still runs."""
    return start_time(service.pid) == service.started


def end_leftovers(run: RunFile, grace_s: float = 30.0) -> list[str]:
    """End what a killed supervisor left running, the last started first. Returns their names."""
    left = [service for service in reversed(run.services) if is_alive(service)]
    for service in left:
        os.kill(service.pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while is_alive(service) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        if is_alive(service):
            _kill_group(service.pid)
    return [service.name for service in left]


def _ready_line(log: Path) -> str:
    text = log.read_text("utf-8", "replace") if log.exists() else ""
    lines = text.splitlines(keepends=True)
    return next((line.strip() for line in lines if line.startswith("ready:") and line.endswith("\n")), "")


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
