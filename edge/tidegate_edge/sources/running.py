"""The sources that run: each in a task of its own, restarted alone when it raises, and exchanged while others go on."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..config import SourceSettings
from . import Device, Source

log = logging.getLogger(__name__)

_RESTART_S = (1.0, 60.0)
_STEADY_S = 60.0  # one that has run for so long is no longer one that fails at once


@dataclass(slots=True, eq=False)
class _Running:
    settings: SourceSettings
    source: Source
    task: asyncio.Task[None] | None = None
    restarts: int = 0


class Sources:
    """All sources by label. Those that were added run once `start` was called."""

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}
        self._ended = False

    def __getitem__(self, label: str) -> Source:
        return self._running[label].source

    @property
    def status(self) -> dict[str, str]:
        return {label: each.source.status for label, each in list(self._running.items())}

    @property
    def well(self) -> dict[str, bool | None]:
        return {label: each.source.well for label, each in list(self._running.items())}

    @property
    def restarts(self) -> dict[str, int]:
        """How often each has raised and was started again."""
        return {label: each.restarts for label, each in list(self._running.items())}

    @property
    def heard_us(self) -> dict[str, int]:
        """When a device of each was last heard, by the agent's clock; 0 for not since it started."""
        return {label: each.source.heard_us for label, each in list(self._running.items())}

    @property
    def devices(self) -> dict[str, Sequence[Device]]:
        """How each device is, of sources that know them one by one."""
        return {label: each.source.devices for label, each in list(self._running.items())}

    def differing(self, wanted: Mapping[str, SourceSettings]) -> set[str]:
        """Labels of those that would have to start, stop or change for `wanted` to run."""
        now = {label: each.settings for label, each in self._running.items()}
        return {label for label in now.keys() | wanted.keys() if now.get(label) != wanted.get(label)}

    def add(self, settings: SourceSettings, source: Source) -> None:
        """Take one in. Its label must be free."""
        self._running[settings.label] = _Running(settings, source)

    def start(self) -> None:
        """Run those that do not run yet."""
        for label, each in self._running.items():
            if each.task is None:
                each.task = asyncio.create_task(self._supervise(each), name=f"source {label}")

    async def retire(self, labels: Iterable[str], commit: Callable[[], Awaitable[None]]) -> None:
        """Stop some: they take in nothing more, what they took is committed and acknowledged, then they close.

        What `commit` raises is raised here, after they have closed: what was not acknowledged comes again.
        """
        leaving = [self._running[label] for label in labels if label in self._running]
        for each in leaving:
            each.source.stop()
        try:
            await commit()
        finally:
            await _close(leaving)
            for each in leaving:
                del self._running[each.settings.label]

    def stop(self) -> None:
        """Take in nothing more, from any."""
        self._ended = True
        for each in self._running.values():
            each.source.stop()

    async def close(self) -> None:
        """Close all. After `stop`."""
        await _close(list(self._running.values()))

    async def _supervise(self, running: _Running) -> None:
        """Run a source until it is stopped; one that raises is run again, alone, less and less often."""
        pause = _RESTART_S[0]
        loop = asyncio.get_running_loop()
        while not self._ended:
            since = loop.time()
            try:
                await running.source.run()
            except Exception as error:
                running.restarts += 1
                if loop.time() - since >= _STEADY_S:
                    pause = _RESTART_S[0]
                log.exception("source %s failed and is started again", running.settings.label)
                running.source.status = f"failed, to be started again: {error!r}"
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _RESTART_S[1])
            else:
                return  # it was stopped


async def _close(leaving: list[_Running]) -> None:
    await asyncio.gather(*(each.source.close() for each in leaving), return_exceptions=True)
    tasks = [each.task for each in leaving if each.task is not None]
    for task in tasks:
        task.cancel()  # it may pause before a restart, or wait for a connection
    await asyncio.gather(*tasks, return_exceptions=True)
