"""Puts what people ask for on `fleet.commands`; the alert engine decides what becomes of it."""

from __future__ import annotations

import threading

from confluent_kafka import KafkaError, KafkaException, Message
from tidegate_protocols.alerts import COMMAND, Command
from tidegate_protocols.topics import COMMANDS

from tidegate_cloud.kafka import producer

_ANSWER_MS = 5_000


class NotRecorded(Exception):
    """Kafka did not acknowledge the command in time. It may yet be there: asking again under the same id is safe."""


class Commander:
    """Thread-safe; `send` blocks."""

    def __init__(self, bootstrap: str) -> None:
        settings = {"message.timeout.ms": _ANSWER_MS, "acks": "all", "linger.ms": 0}
        self._producer = producer(bootstrap, "tidegate-console-commands", settings)

    def send(self, command: Command) -> None:
        """Return once Kafka has the command for good. Raises NotRecorded."""
        done = threading.Event()
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failed.append(error)
            done.set()

        try:
            self._producer.produce(COMMANDS.name, COMMAND.encode(command), command.key.encode(), on_delivery=delivered)
        except (BufferError, KafkaException) as error:
            raise NotRecorded(str(error)) from None
        while not done.is_set():
            self._producer.poll(0.05)
        if failed:
            raise NotRecorded(failed[0].str())

    def close(self) -> None:
        """Wait shortly for what is under way."""
        self._producer.flush(1.0)
