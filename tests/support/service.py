"""Tidegate's own commands as child processes: started, waited for until they are ready, ended or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.wait import until


class Service:
    """One `tidegate …` process. What it prints goes to `log`; a failure to get ready shows the end of it."""

    command: tuple[str, ...] = (sys.executable, "-m", "tidegate_cli.main")

    def __init__(self, name: str, *arguments: str | Path, directory: Path, env: dict[str, str] | None = None) -> None:
        self.name = name
        self.arguments = [str(argument) for argument in arguments]
        self.log = directory / f"{name}.log"
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True, timeout: float = 60) -> Service:
        """Start it, and unless `ready` is False wait for the line that says it is ready."""
        assert self._process is None, f"{self.name} runs already"
        seen = self.output().count("ready: ")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.command, *self.arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._env,
                start_new_session=True,
            )
        if ready:
            until(lambda: self._is_ready(seen), timeout, f"{self.name} to be ready; {self.log} ends:\n{self.tail()}")
        return self

    def _is_ready(self, seen: int) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self._process.returncode}:\n{self.tail()}")
        return self.output().count("ready: ") > seen

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    def output(self) -> str:
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.output().splitlines()[-lines:])

    def kill(self) -> None:
        """SIGKILL, as a power cut would end it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self, timeout: float = 30) -> int:
        """SIGTERM, and its exit status."""
        assert self._process is not None, f"{self.name} does not run"
        self._process.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout: float = 120) -> int:
        """Wait until it ends by itself, and its exit status."""
        assert self._process is not None, f"{self.name} does not run"
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {timeout:g} s:\n{self.tail()}") from None
        self._process = None
        return status


@contextmanager
def services(directory: Path) -> Iterator[Services]:
    """Services of one test: whatever still runs when the test ends is killed."""
    group = Services(directory)
    try:
        yield group
    finally:
        for service in reversed(group.all):
            service.kill()


class Services:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.all: list[Service] = []

    def add(self, name: str, *arguments: str | Path, env: dict[str, str] | None = None) -> Service:
        """A service that has not been started yet."""
        service = Service(name, *arguments, directory=self.directory, env=env)
        self.all.append(service)
        return service
