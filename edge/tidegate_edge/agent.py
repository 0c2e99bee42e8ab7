"""The agent: sources, spool and uplink in one event loop, from the configuration to an orderly end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from tidegate_protocols.errors import BadInput

from .clock import Clock, SystemClock
from .config import Config, SerialSource, TimeSettings
from .framing import Framer
from .intake import Intake
from .metrics import Health, serve
from .producer import settings as kafka_settings
from .sources import Source
from .sources.links import Cursors
from .sources.mqtt import MqttSource
from .sources.serial import SerialSource as SerialPorts
from .spool import Spool
from .uplink import Uplink

log = logging.getLogger(__name__)

_RESTART_S = 1.0


class Agent:
    """Use `start`, then `run` until `stop` was called. Nothing is acknowledged to a source that is not on the disk."""

    def __init__(self, config: Config, spool: Spool, clock: Clock) -> None:
        self.config = config
        self.spool = spool
        self.metrics_port: int | None = None
        self._ended = asyncio.Event()
        self._stop_metrics: Callable[[], None] = lambda: None
        intake = _intake(spool, clock, config.time)
        cursors = Cursors(intake)
        self.sources: dict[str, SerialPorts | MqttSource] = {}
        for source in config.source:
            if isinstance(source, SerialSource):
                self.sources[source.label] = SerialPorts(source, intake, cursors)
            else:
                self.sources[source.label] = MqttSource(source, intake, f"tidegate-{config.agent.name}")
        self.uplink = Uplink(
            spool,
            kafka_settings(config.kafka.bootstrap, f"tidegate-{config.agent.name}", config.kafka.options),
            clock,
            max_scans=config.batch.max_scans,
            max_age_s=config.batch.max_age_ms / 1000,
            framer=Framer(config.batch.codec),
        )

    @classmethod
    async def start(cls, config: Config, clock: Clock | None = None) -> Agent:
        """Open the spool and everything else that may fail for good. Raises BadInput, as a person should read it."""
        clock = clock or SystemClock()
        spool = await Spool.open(
            Path(config.agent.data_dir), clock,
            max_bytes=config.spool.max_bytes, commit_s=config.spool.commit_ms / 1000,
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
            self.spool.error or "up",
            {name: source.status for name, source in self.sources.items()},
        )

    def stop(self) -> None:
        """Ask `run` to end in order."""
        self._ended.set()

    async def run(self) -> None:
        """Carry readings until `stop`. Then: take in nothing more, commit, acknowledge, send what Kafka still takes."""
        committer = asyncio.create_task(self.spool.run(), name="spool")
        uplink = asyncio.create_task(self.uplink.run(), name="uplink")
        sources = [asyncio.create_task(self._supervise(name, each)) for name, each in self.sources.items()]
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({ended, committer, uplink}, return_when=asyncio.FIRST_COMPLETED)
            for source in self.sources.values():
                source.stop()
            for task in (committer, uplink):
                if task.done():
                    task.result()  # neither ends by itself: what it raised is a bug, and ends the agent
            await self.spool.commit()
            self.uplink.finish(self.config.agent.grace_s)
            await uplink
        finally:
            ended.cancel()
            closing = [source.close() for source in self.sources.values()]
            await asyncio.gather(*closing, *sources, return_exceptions=True)
            uplink.cancel()
            await asyncio.gather(uplink, return_exceptions=True)
            await self.spool.close()
            await asyncio.gather(committer, return_exceptions=True)
            self._stop_metrics()

    async def _supervise(self, name: str, source: Source) -> None:
        """Run a source; one that raises is run again, alone."""
        while not self._ended.is_set():
            try:
                await source.run()
            except Exception:
                log.exception("source %s failed and is started again", name)
                await asyncio.sleep(_RESTART_S)


def _intake(spool: Spool, clock: Clock, times: TimeSettings) -> Intake:
    return Intake(spool, clock, max_past_s=times.max_past_s, max_future_s=times.max_future_s)
