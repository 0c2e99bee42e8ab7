"""Calls into the client library that may never return, made by a thread that can be left behind.

librdkafka 2.16's `send_offsets_to_transaction` does not keep to its time-out: when the group's coordinator goes away at
the wrong moment it waits for a change of connections that may never come (its issues 5456 and 5511).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any


class Stuck(RuntimeError):
    """A call did not return in time. Whatever it was made on must not be used again."""


class Caller:
    """Makes calls one at a time, each within a given time."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], Any] | None] | None = None
        self._answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def call(self, function: Callable[..., Any], *arguments: Any, within_s: float) -> Any:
        """What the function returns or raises. Raises Stuck, and leaves its thread behind, when it does neither."""
        if self._calls is None:
            self._calls, self._answers = queue.SimpleQueue(), queue.SimpleQueue()
            # A daemon: a call that hangs must not keep the process from ending.
            threading.Thread(target=_work, args=(self._calls, self._answers), name="kafka-calls", daemon=True).start()
        self._calls.put(lambda: function(*arguments))
        try:
            value, error = self._answers.get(timeout=within_s)
        except queue.Empty:
            self.close()
            raise Stuck(f"{getattr(function, '__name__', function)} did not return within {within_s:g} s") from None
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """Let the thread end once it has nothing to do."""
        if self._calls is not None:
            self._calls.put(None)
            self._calls = None


def _work(
    calls: queue.SimpleQueue[Callable[[], Any] | None], answers: queue.SimpleQueue[tuple[Any, BaseException | None]]
) -> None:
    while (call := calls.get()) is not None:
        try:
            answers.put((call(), None))
        except BaseException as error:
            answers.put((None, error))
