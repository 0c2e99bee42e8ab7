"""Real MQTT brokers for tests: Mosquitto where it is installed, else the one that the demo embeds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tidegate_cloud.broker.ports import answers, free_port

from tests.support.wait import until


class MqttBroker:
    """A broker as a child process on 127.0.0.1. `stop`, `start` and `kill` keep the port.

    `name` is "mosquitto" or "embedded". Mosquitto keeps persistent sessions over a stop (not over a kill). `settings`
    go over what it is configured with otherwise, None for its own default.
    """

    host = "127.0.0.1"

    def __init__(self, name: str, directory: Path, settings: Mapping[str, str | None] | None = None) -> None:
        self.settings = dict(settings or {})
        self.name = name
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def start(self) -> MqttBroker:
        with (self.directory / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        until(self._answers, timeout=20, what=f"{self.name} on port {self.port}")
        return self

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _command(self) -> list[str]:
        if self.name == "embedded":
            return [sys.executable, "-m", "tidegate_cli.mqtt_broker", "--port", str(self.port)]
        settings: dict[str, str | None] = {
            "listener": f"{self.port} {self.host}",
            "allow_anonymous": "true",
            "persistence": "true",
            "persistence_location": f"{self.directory}/",
            # The defaults drop silently past 1,000 queued messages, which is not what these tests are about.
            "max_queued_messages": "0",
            "max_inflight_messages": "1000",
        }
        if os.geteuid() == 0:
            settings["user"] = "root"  # else it changes to a user that cannot write the test's directory
        settings = {key: value for key, value in {**settings, **self.settings}.items() if value is not None}
        path = self.directory / "mosquitto.conf"
        path.write_text("".join(f"{key} {value}\n" for key, value in settings.items()), "utf-8")
        return [mosquitto() or "mosquitto", "-c", str(path)]

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            log = (self.directory / "broker.log").read_text("utf-8", "replace")[-2000:]
            raise AssertionError(f"{self.name} ended with status {self._process.returncode}:\n{log}")
        return answers(self.port)

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"{self.name} did not end within 20 s of {how.name}") from None
        finally:
            self._process = None


def mosquitto() -> str | None:
    """Where Mosquitto is, if it is installed; Debian puts it out of an ordinary user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@contextmanager
def start_mqtt_broker(directory: Path, name: str | None = None) -> Iterator[MqttBroker]:
    """Run a broker for as long as the context lives; `name` as in MqttBroker, by default the best at hand."""
    broker = MqttBroker(name or ("mosquitto" if mosquitto() else "embedded"), directory).start()
    try:
        yield broker
    finally:
        broker.kill()
