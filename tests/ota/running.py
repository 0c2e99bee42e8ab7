"""The rollouts' server in a thread."""

from __future__ import annotations

import threading
from pathlib import Path

from tidegate_cloud.clock import SystemClock
from tidegate_cloud.rollouts import keys
from tidegate_cloud.rollouts.director import Director
from tidegate_cloud.rollouts.server import Server


class Running:
    """A server in a thread."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.server = Server(bootstrap, Director(keys.ring(folder)), SystemClock())
        self.stop = threading.Event()
        self.failed: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        ready = threading.Event()
        self._ready = ready
        self.thread.start()
        assert ready.wait(60), self.failed

    def _run(self) -> None:
        try:
            self.server.run(self.stop, ready=self._ready.set)
        except BaseException as error:
            self.failed = error

    def end(self) -> None:
        self.stop.set()
        self.thread.join(30)
        assert self.failed is None, self.failed
