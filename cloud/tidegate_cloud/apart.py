"""Questions that only Kafka's admin client can ask, asked in a process of their own.

librdkafka ends the whole process, by an assertion, when a broker goes away before it has answered its admin client
(`eonce->refcnt > 0`, its issue 3663; seen with 2.16 in one restart of a broker out of ten). A service must outlive
that: here the child ends, the question counts as unanswered, and the next question starts another child.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from tidegate_cloud.kafka import client_settings

_ANSWER_S = 5.0
_START_S = 15.0  # a loaded machine takes its time to start a Python


class Apart:
    """Asks through a child process, which starts with the first question. Every question raises KafkaException when
    there is no answer; it can be asked again. May be used by several threads.
    """

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._command = [sys.executable, "-m", "tidegate_cloud.apart", bootstrap, client_id]
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def topic_ids(self, names: Sequence[str]) -> dict[str, bytes]:
        """The id of each topic, 16 bytes: another one than before means that the topic was made anew."""
        return msgspec.convert(self._ask("topic_ids", list(names)), dict[str, bytes])

    def members(self, group: str) -> list[tuple[str, str]]:
        """(client id, member id) of every member of a group."""
        return msgspec.convert(self._ask("members", group), list[tuple[str, str]])

    def close(self) -> None:
        """End the child. The next question starts another."""
        with self._lock:
            self._end()

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, question: str, about: Any) -> Any:
        with self._lock:
            within_s = _ANSWER_S + 1
            if self._child is None or self._child.poll() is not None:
                self._end()
                # Out of the terminal's group: its Ctrl-C is for the service, and at the service's end stdin ends.
                self._child = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
                )
                within_s += _START_S
            try:
                line = _exchange(self._child, msgspec.json.encode((question, about)) + b"\n", within_s)
            except OSError as error:
                self._end()
                raise KafkaException(KafkaError(KafkaError._TRANSPORT, f"{question}: {error}")) from None
        answer, code, failure = msgspec.json.decode(line, type=tuple[Any, int, str])
        if failure:
            raise KafkaException(KafkaError(code, f"{question}: {failure}"))
        return answer

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()
            self._child = None


def _exchange(child: subprocess.Popen[bytes], line: bytes, within_s: float) -> bytes:
    """Send a line and return the one that comes back. Raises OSError when none does."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(line)
    child.stdin.flush()
    deadline = time.monotonic() + within_s
    answer = b""
    while not answer.endswith(b"\n"):
        if not select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError(f"no answer within {within_s:g} s")
        more = os.read(child.stdout.fileno(), 1 << 16)
        if not more:
            raise BrokenPipeError("the broker went away before it had answered")
        answer += more
    return answer


def _topic_ids(admin: AdminClient, names: Sequence[str]) -> dict[str, bytes]:
    futures = admin.describe_topics(TopicCollection(list(names)), request_timeout=_ANSWER_S)
    found = {}
    for name, future in futures.items():
        topic_id = future.result(_ANSWER_S + 1).topic_id
        high, low = topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits()
        found[name] = (high % 2**64).to_bytes(8, "big") + (low % 2**64).to_bytes(8, "big")
    return found


def _members(admin: AdminClient, group: str) -> list[tuple[str, str]]:
    future = admin.describe_consumer_groups([group], request_timeout=_ANSWER_S)[group]
    return [(member.client_id, member.member_id) for member in future.result(_ANSWER_S + 1).members]


_QUESTIONS: dict[str, Callable[[AdminClient, Any], Any]] = {"topic_ids": _topic_ids, "members": _members}


def main() -> None:
    """The child: one question a line on stdin, one answer a line on stdout, until stdin ends."""
    bootstrap, client_id = sys.argv[1:]
    admin = AdminClient(client_settings(bootstrap, client_id))
    for line in sys.stdin.buffer:
        question, about = msgspec.json.decode(line, type=tuple[str, Any])
        answer, code, failure = None, 0, ""
        try:
            answer = _QUESTIONS[question](admin, about)
        except KafkaException as error:
            code, failure = error.args[0].code(), error.args[0].str() or "no answer"
        except TimeoutError:
            code, failure = KafkaError._TIMED_OUT, "no answer"
        sys.stdout.buffer.write(msgspec.json.encode((answer, code, failure)) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
