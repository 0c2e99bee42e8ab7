"""One console: what reads Kafka, what it knows, and whom it tells, held together by the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import TypeAlias

from litestar.di import NamedDependency
from prometheus_client import CollectorRegistry, Gauge, Histogram

from tidegate_cloud.clock import Clock, SystemClock

from .commands import Commander
from .history import BUDGET, History
from .hub import Hub
from .past import Past
from .picture import Delta, Picture
from .pipeline import Scraper
from .registry import Registry
from .rollouts import Rollouts
from .security.accounts import Accounts
from .security.audit import Audit
from .security.gate import identity
from .security.limits import Failures
from .security.passwords import Hashing
from .tail import Tail
from .tokens import PROCESS_SIZE
from .views import Health, encode
from .writer import Writer

_HEALTH_S = 1.0
_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 15.0, 60.0, 600.0)


class ConsoleService:
    """Starts and stops with the application; `start` and everything else on one event loop.

    `bootstrap`: Kafka. `history_budget`: bytes for the last hour of readings;
    `past`: the history service; `scrape`: where services have their metrics, by name.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        history_budget: int = BUDGET,
        clock: Clock | None = None,
        past: Past | None = None,
        scrape: Mapping[str, str] | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.metrics = CollectorRegistry()
        self.history = History(history_budget)
        self.history_budget = history_budget
        self.picture = Picture(os.urandom(PROCESS_SIZE))
        shown = Histogram(
            "tidegate_console_reading_to_page_seconds",
            "From the newest reading of a positions event to its being sent",
            buckets=_SECONDS,
            registry=self.metrics,
        )
        self.hub = Hub(self.picture, self.clock, observe=shown.observe)
        self.commander = Commander(bootstrap)
        self.writer = Writer(bootstrap, self.clock)
        self.past = past or Past()
        self.scraper = Scraper(scrape or {})
        self.accounts = Accounts(self.writer, self.clock)
        self.registry = Registry(self.writer)
        self.audit = Audit(bootstrap)
        self.failures = Failures()
        self.hashing = Hashing()
        self.tail = Tail(bootstrap, self.history, self._publish, self.clock, self.accounts, self.audit, self.registry)
        self.rollouts = Rollouts(
            bootstrap, self.writer, self.clock, lambda shown: self._publish(Delta(rollouts=shown), lambda: None)
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pulse: asyncio.Task[None] | None = None
        self._gauge("clients", "Clients of the stream", lambda: self.hub.clients)
        self._gauge("behind_seconds", "Age of the oldest record not read yet", lambda: self.health().behind_ms / 1000)
        self._gauge("devices", "Devices known", lambda: self.picture.device_count)
        self._gauge("history_bytes", "Memory of the last hour", lambda: self.history.nbytes)
        self._gauge("unreadable_frames", "Frames that could not be read", lambda: self.tail.unreadable)
        self._gauge("frames", "Frames read", lambda: self.tail.rates.frames)
        self._gauge("readings", "Readings read", lambda: self.tail.rates.readings)

    async def start(self, timeout: float = 60.0) -> None:  # noqa: ASYNC109
        """Return once everything but the last hour has been read. Raises BadInput, KafkaException, TimeoutError."""
        self._loop = asyncio.get_running_loop()
        self.tail.start()
        if not await asyncio.to_thread(self.tail.wait_ready, timeout):
            raise TimeoutError("Kafka's topics could not be read in time")
        self.rollouts.start()
        self._pulse = asyncio.create_task(self._beat())

    async def stop(self) -> None:
        """End every stream and stop reading."""
        self.hub.close()
        if self._pulse is not None:
            self._pulse.cancel()
            await asyncio.gather(self._pulse, return_exceptions=True)
        await asyncio.to_thread(self.tail.stop)
        await asyncio.to_thread(self.rollouts.stop)
        for client in (self.commander, self.writer, self.audit):
            await asyncio.to_thread(client.close)

    def while_good(self, scope: object) -> Callable[[], bool]:
        """Whether whoever asked is still welcome: streams outlive sessions."""
        who = identity(scope)
        return lambda: who is not None and self.accounts.is_good(who)

    def health(self) -> Health:
        """How things stand now."""
        now_us = self.clock.now_us()
        frames, readings = self.tail.rates.per_second(self.clock.monotonic())
        return Health(
            server_us=now_us,
            behind_ms=self.tail.behind_us(now_us) // 1000,
            kafka="up" if self.tail.kafka_up and self.tail.failed is None else "away",
            frames_per_s=frames,
            readings_per_s=readings,
            devices=self.picture.device_count,
            stages=self.tail.stages(now_us),
        )

    async def _beat(self) -> None:
        while True:
            self.hub.health(encode(self.health()))
            await asyncio.sleep(_HEALTH_S)

    def _publish(self, delta: Delta, taken: Callable[[], None]) -> None:
        def take() -> None:
            try:
                self.hub.publish(delta)
            finally:
                taken()

        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(take)
        except RuntimeError:
            taken()  # the loop has ended: nobody is left to tell

    def _gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        Gauge(f"tidegate_console_{name}", text, registry=self.metrics).set_function(value)


Console: TypeAlias = NamedDependency[ConsoleService]
"""The parameter of a handler that gets the console."""
