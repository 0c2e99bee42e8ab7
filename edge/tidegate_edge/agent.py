"""The agent: sources, spool and uplink in one event loop, from the configuration to an orderly end."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
from tidegate_protocols.errors import BadInput

from .clock import Clock, SystemClock
from .condition import UPLINK, Condition, resident_bytes
from .config import Config, SerialSource, SourceSettings
from .config import ModbusSource as ModbusSettings
from .config import MqttSource as Mqtt
from .framing import Framer
from .health import Health
from .intake import Intake
from .producer import check as check_client
from .producer import settings as kafka_settings
from .reload import Status as ConfigStatus
from .reload import Step
from .sources import Source
from .sources.links import Cursors
from .sources.mqtt import MqttSource
from .sources.repeats import Sessions
from .sources.running import Sources
from .sources.serial import SerialSource as SerialPorts
from .sources.tls import context_of
from .spool import Spool
from .times import Times
from .uplink import Uplink
from .windowing import Windows

log = logging.getLogger(__name__)

_LOOK_S = 0.05
_TICK_S = 0.5


class Agent:
    """Use `start`, then `run` until `stop` was called. Nothing is acknowledged to a source that is not on the disk."""

    def __init__(self, config: Config, spool: Spool, clock: Clock) -> None:
        self.config = config
        self.spool = spool
        self.metrics_port: int | None = None
        self.config_status: Callable[[], ConfigStatus | None] = lambda: None
        self._clock = clock
        self._ended = asyncio.Event()
        self._started = False
        self._stop_metrics: Callable[[], None] = lambda: None
        self._times = Times(spool, clock, config.time.hold_s)
        self._intake = _intake(spool, clock, config, self._times)
        self._intake.put(self._intake.windows.restore())
        self._cursors = Cursors(self._intake)
        self._sessions = Sessions(spool)
        self.sources = Sources()
        for settings in config.source:
            self.sources.add(settings, self._source(settings, config))
        self.uplink = Uplink(
            spool, _kafka(config), clock,
            max_scans=config.batch.max_scans, max_age_s=config.batch.max_age_ms / 1000,
            framer=Framer(config.batch.codec, config.batch.priors),
            link_share=config.backlog.link_share,
            spread_s=config.backlog.spread_s,
            agent=config.agent.name,
            resolve=self._times.resolve,
        )  # fmt: skip

    def _source(self, settings: SourceSettings, config: Config) -> Source:
        if isinstance(settings, SerialSource):
            return SerialPorts(settings, self._intake, self._cursors)
        if isinstance(settings, ModbusSettings):
            from .sources.modbus import ModbusSource  # pymodbus is loaded where it is spoken

            return ModbusSource(settings, self._intake)
        repeats = self._sessions.of(settings.label, settings.window)
        return MqttSource(settings, self._intake, repeats, f"tidegate-{config.agent.name}")

    @classmethod
    async def start(cls, config: Config, clock: Clock | None = None) -> Agent:
        """Open the spool and everything else that may fail for good. Raises BadInput, as a person should read it."""
        clock = clock or SystemClock()
        await asyncio.to_thread(check_client, _kafka(config))
        spool = await Spool.open(
            Path(config.agent.data_dir), clock,
            max_bytes=config.spool.max_bytes, commit_s=config.spool.commit_ms / 1000,
            keep_free=config.spool.keep_free_bytes,
        )  # fmt: skip
        try:
            agent = cls(config, spool, clock)
            if config.metrics.port is not None:
                agent.serve_metrics(config.metrics.port)
        except BaseException:
            await spool.close()
            raise
        return agent

    def serve_metrics(self, port: int) -> None:
        """Serve metrics on a port, 0 for a free one. Raises BadInput where it is taken."""
        from .metrics import serve  # a web server, which not everybody wants

        try:
            self.metrics_port, self._stop_metrics = serve(self.health, port)
        except OSError as error:
            raise BadInput(
                f"port {port} cannot be used: {error.strerror}", where="metrics.port", hint="0 takes a free one"
            ) from None

    def health(self) -> Health:
        """How the agent is just now. May be called from any thread."""
        return Health(
            self.spool.books,
            self.spool.epoch,
            self.uplink.frames,
            self.uplink.frame_bytes,
            self.uplink.status,
            self.spool.error or ("up, but the disk runs short" if self.spool.room.short else "up"),
            self.sources.status,
            self.config_status(),
            self.sources.devices,
        )

    def condition(self) -> Condition:
        """How the agent is just now, as a new configuration is judged by."""
        uplink = self.uplink.status
        books = self.spool.books
        return Condition(
            {**self.sources.well, UPLINK: None if uplink == "not yet connected" else uplink == "up"},
            {**self.sources.status, UPLINK: uplink},
            self.sources.restarts,
            self.spool.error,
            books.pending,
            books.acknowledged,
            resident_bytes(),
        )

    def status(self) -> dict[str, Any]:
        """How the agent is, for people and programs: what `tidegate agent status --json` prints."""
        condition = self.condition()
        books = self.spool.books
        config = self.config_status()
        devices = self.sources.devices
        return {
            "agent": self.config.agent.name,
            "epoch": self.spool.epoch,
            "parts": [
                {"part": part, "well": condition.well[part], "status": condition.words[part],
                 "restarts": condition.restarts.get(part, 0), "heard_us": self.sources.heard_us.get(part),
                 "devices": [asdict(device) for device in devices.get(part, ())]}
                for part in condition.well
            ],
            "spool": {
                "error": self.spool.error, "short_of_disk": self.spool.room.short,
                "accepted": books.accepted, "acknowledged": books.acknowledged,
                "evicted": books.evicted, "pending": books.pending, "bytes": books.bytes,
                "max_bytes": self.config.spool.max_bytes,
            },
            "sources": {name: msgspec.structs.asdict(book) for name, book in books.sources.items()},
            "memory_bytes": condition.memory,
            "config": msgspec.structs.asdict(config) if config is not None else None,
        }  # fmt: skip

    async def check(self, config: Config) -> None:
        """Raises BadInput where a running agent cannot take `config` over."""
        if not await asyncio.to_thread(_same_place, Path(config.agent.data_dir), self.spool.directory):
            raise BadInput(
                f"cannot change while the agent runs, from {str(self.spool.directory)!r}",
                where="agent.data_dir", hint="stop the agent, move the folder, start it",
            )  # fmt: skip
        Framer(config.batch.codec, config.batch.priors)
        for source in config.source:
            if isinstance(source, Mqtt) and source.tls is not None:
                context_of(source.tls, source.label)
        await asyncio.to_thread(check_client, _kafka(config))

    async def switch(self, config: Config, step: Callable[[Step], None]) -> None:
        """Run by `config` from now on; sources that it leaves as they are never notice.

        Raises BadInput where something that it names cannot be had; a switch back puts everything right.
        """
        wanted = {settings.label: settings for settings in config.source}
        labels = self.sources.differing(wanted)
        if config.agent.name != self.config.agent.name:  # it names sessions
            labels |= {each.label for each in (*config.source, *self.config.source) if isinstance(each, Mqtt)}
        if config.metrics.port != self.config.metrics.port:
            stop_old, self._stop_metrics, self.metrics_port = self._stop_metrics, lambda: None, None
            await asyncio.to_thread(stop_old)
            if config.metrics.port is not None:
                self.serve_metrics(config.metrics.port)
        await self.sources.retire(labels, self._commit)
        step(Step.HELD)
        if config.window != self.config.window:
            self._intake.put(self._intake.windows.close())
            self._intake.windows = Windows(config.window, self.spool, self._clock)
        self.config = config
        self._intake.believe(config.time.max_past_s, config.time.max_future_s)
        self._intake.priorities = _priorities(config)
        self.spool.configure(
            max_bytes=config.spool.max_bytes, commit_s=config.spool.commit_ms / 1000,
            keep_free=config.spool.keep_free_bytes,
        )  # fmt: skip
        self.uplink.configure(
            _kafka(config),
            max_scans=config.batch.max_scans, max_age_s=config.batch.max_age_ms / 1000,
            framer=Framer(config.batch.codec, config.batch.priors),
            link_share=config.backlog.link_share, spread_s=config.backlog.spread_s,
        )  # fmt: skip
        for label in sorted(labels & wanted.keys()):
            self.sources.add(wanted[label], self._source(wanted[label], config))
        if self._started:
            self.sources.start()

    async def _tick(self) -> None:
        """Close the windows of devices that have fallen silent."""
        while True:
            await asyncio.sleep(_TICK_S)
            self._intake.put(self._intake.windows.tick())

    async def _commit(self) -> None:
        try:
            await self.spool.commit()
        except (
            sqlite3.Error,
            OSError,
        ) as error:  # it stays in memory and is tried again; what was not acknowledged comes again
            log.error("what the sources took cannot be stored just now: %s", error)

    async def until_ready(self, patience_s: float) -> list[str]:
        """Wait until every source is at work; return those that are not after `patience_s`, and what each waits for."""
        until = self._clock.monotonic() + patience_s
        while True:
            status = self.sources.status
            waiting = [f"{label} ({status[label]})" for label, well in self.sources.well.items() if well is False]
            if not waiting or self._clock.monotonic() >= until:
                return waiting
            await asyncio.sleep(_LOOK_S)

    def stop(self) -> None:
        """Ask `run` to end in order."""
        self._ended.set()

    async def run(self) -> None:
        """Carry readings until `stop`. Then: take in nothing more, commit, acknowledge, send what Kafka still takes."""
        committer = asyncio.create_task(self.spool.run(), name="spool")
        uplink = asyncio.create_task(self.uplink.run(), name="uplink")
        self._started = True
        self.sources.start()
        ticking = asyncio.create_task(self._tick(), name="windows")
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({ended, committer, uplink, ticking}, return_when=asyncio.FIRST_COMPLETED)
            self.sources.stop()
            for task in (committer, uplink, ticking):
                if task.done():
                    task.result()  # neither ends by itself: what it raised is a bug, and ends the agent
            await self._commit()
            self.uplink.finish(self.config.agent.grace_s)
            await uplink
        finally:
            ended.cancel()
            ticking.cancel()
            await self.sources.close()
            uplink.cancel()
            await asyncio.gather(uplink, return_exceptions=True)
            await self.spool.close()
            await asyncio.gather(committer, return_exceptions=True)
            self._stop_metrics()


def _kafka(config: Config) -> dict[str, Any]:
    return kafka_settings(config.kafka.bootstrap, f"tidegate-{config.agent.name}", config.kafka.options)


def _same_place(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _intake(spool: Spool, clock: Clock, config: Config, times: Times) -> Intake:
    return Intake(
        spool, clock, windows=Windows(config.window, spool, clock), times=times,
        max_past_s=config.time.max_past_s, max_future_s=config.time.max_future_s,
        priorities=_priorities(config),
    )  # fmt: skip


def _priorities(config: Config) -> dict[str, int]:
    return {source.label: source.priority for source in config.source}
