"""Which configuration an agent starts with, and the file that people edit: looked at by signal and when it changes.

the file is new or has changed, and is sound    it, on probation if there is a last good one
the file has not changed since it was looked at the last good one (it may have been pushed, the file not)
the file cannot be used                         the last good one, and a complaint; an error where there is none
one was on trial when the agent was ended       it, once more on probation; after that the last good one
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from tidegate_protocols.errors import BadInput

from .agent import Agent
from .clock import Clock, SystemClock
from .condition import UPLINK, Condition, resident_bytes
from .config import Config, OtaSettings, parse
from .last_good import Entry, LastGood, Record, Refusal, Trial, digest_of
from .places import data_dir_of, read_file
from .reload import Reloader, Step
from .status import serve
from .systemd import keep_watchdog

if TYPE_CHECKING:
    # TUF's client is an extra of its own: only who takes configurations over the air has it.
    from .ota.updates import Updates, Wellness

log = logging.getLogger(__name__)

_ATTEMPTS_MAX = 2
_WATCH_S = 1.0
_MEMORY_S = 5.0
_FOLLOW_AGAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Choice:
    """What to start with: `entry` is a Trial where it has to prove itself, and `record` what is then to be written."""

    config: Config
    entry: Entry
    record: Record


def choose(path: Path, record: Record, now_us: int, read: Callable[[str], Config]) -> Choice:
    """What to start with, by the file and by what is on record. Raises BadInput where there is nothing."""
    try:
        text = read_file(path)
        fresh = digest_of(text) != record.seen
        config = read(text) if fresh or record.good is None else None
        problem = None
    except BadInput as error:
        fresh, config, problem = True, None, error
        text = ""
    good = record.good
    if good is None:
        if config is None:
            assert problem is not None
            raise problem
        entry = Entry(text, "file", now_us)
        return Choice(config, entry, Record(good=entry, seen=entry.digest))
    if config is not None and fresh:
        if digest_of(text) == good.digest:
            return Choice(config, good, msgspec.structs.replace(record, trial=None, seen=good.digest))
        trial = Trial(text, "file", now_us)
        return Choice(config, trial, msgspec.structs.replace(record, trial=trial, seen=trial.digest))
    if problem is not None:
        log.error("the last good configuration is used, since the file cannot be:\n%s", problem)
        refused = Refusal(digest_of(text), "file", str(problem), now_us)
        record = msgspec.structs.replace(record, refused=refused)
    if record.trial is not None:
        if record.trial.attempts < _ATTEMPTS_MAX:
            with suppress(BadInput):
                trial = msgspec.structs.replace(record.trial, attempts=record.trial.attempts + 1)
                return Choice(read(trial.text), trial, msgspec.structs.replace(record, trial=trial))
        why = f"the agent ended {record.trial.attempts} times while it was on trial"
        log.error("configuration %s is given up, %s is used: %s", record.trial.digest, good.digest, why)
        refused = Refusal(record.trial.digest, record.trial.origin, why, now_us)
        record = msgspec.structs.replace(record, trial=None, refused=refused)
    elif problem is None and record.refused is not None and record.refused.digest == record.seen:
        log.warning("%s was refused, and stays so until it changes or SIGHUP asks: %s", path, record.refused.why)
    return Choice(read(good.text), good, record)


class Boot:
    """Starts the agent of a configuration file and keeps both in step. Use `start`, then `run`."""

    def __init__(
        self, path: Path, agent: Agent, reloader: Reloader, last_good: LastGood, before: Condition | None, clock: Clock
    ) -> None:
        self.agent = agent
        self.reloader = reloader
        self._path = path
        self._last_good = last_good
        self._before = before
        self._clock = clock
        self._asked = asyncio.Event()

    @classmethod
    async def start(
        cls,
        path: Path,
        *,
        adjust: Callable[[Config], None] = lambda _: None,
        clock: Clock | None = None,
        on_step: Callable[[Step], None] = lambda _: None,
    ) -> Boot:
        """Start with what `choose` says. `adjust` changes any configuration after it was read, as options do.

        Raises BadInput, as a person should read it.
        """
        clock = clock or SystemClock()

        def read(text: str) -> Config:
            config = parse(text, str(path))
            adjust(config)
            return config

        try:
            found = data_dir_of(read_file(path))
        except BadInput:
            found = data_dir_of("")
        last_good = LastGood(found) if found is not None else None
        choice = choose(path, last_good.record if last_good is not None else Record(), clock.wall_us(), read)
        try:
            agent = await Agent.start(choice.config, clock)
        except BadInput as error:
            good = choice.record.good
            if not isinstance(choice.entry, Trial) or good is None:
                raise
            log.error("configuration %s cannot start, %s is used: %s", choice.entry.digest, good.digest, error)
            refused = Refusal(choice.entry.digest, choice.entry.origin, str(error), clock.wall_us())
            record = msgspec.structs.replace(choice.record, trial=None, refused=refused)
            choice = Choice(read(good.text), good, record)
            agent = await Agent.start(choice.config, clock)
        # Only now is the folder this agent's own.
        last_good = LastGood(Path(choice.config.agent.data_dir))
        last_good.write(**msgspec.structs.asdict(choice.record))
        before = None
        if isinstance(choice.entry, Trial) and choice.record.good is not None:
            before = _blameless(read(choice.record.good.text), choice.config)
        reloader = Reloader(agent, last_good, clock, read, on_step)
        agent.config_status = lambda: reloader.status
        return cls(path, agent, reloader, last_good, before, clock)

    def reload(self) -> None:
        """Look at the file now, also when it has not changed."""
        self._asked.set()

    async def run(self) -> None:
        """Carry readings, and take new configurations, until the agent was stopped."""
        helpers = [
            asyncio.create_task(self.reloader.run(self._before)),
            asyncio.create_task(self._watch()),
            asyncio.create_task(self._answer()),
            asyncio.create_task(self._guard_memory()),
            asyncio.create_task(keep_watchdog()),
        ]
        if self.agent.config.ota is not None:
            helpers.append(asyncio.create_task(self._follow(self.agent.config.ota)))
        try:
            await self.agent.run()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _follow(self, settings: OtaSettings) -> None:
        """Take configurations over the air. Whatever goes wrong with that, the readings go on."""
        while True:
            try:
                await self._updates(settings).run()
            except BadInput as error:
                log.error("no configuration is taken over the air: %s", error)
                return
            except Exception:
                log.exception("following what is pushed failed and is begun again")
            await asyncio.sleep(_FOLLOW_AGAIN_S)

    def _updates(self, settings: OtaSettings) -> Updates:
        from .ota.line import Line
        from .ota.memory import Memory
        from .ota.updates import Updates, root_of

        config = self.agent.config
        return Updates(
            config.agent.name, root_of(Path(settings.root)), Memory(Path(config.agent.data_dir)),
            lambda told: Line(config.agent.name, config.kafka.bootstrap, config.kafka.options, told),
            self.reloader, lambda: read_file(self._path), self._wellness, self._clock,
            max_bytes=settings.max_bytes, heartbeat_s=settings.heartbeat_s,
        )  # fmt: skip

    def _wellness(self) -> Wellness:
        from .ota.updates import Wellness

        now = self.agent.condition()
        troubles = [f"{name}: {now.words[name]}" for name, well in now.well.items() if well is False]
        troubles += [f"spool: {now.spool}"] if now.spool else []
        return Wellness(not troubles, "; ".join(troubles), self.agent.spool.epoch)

    async def _answer(self) -> None:
        """Say how the agent is to whoever asks in its folder."""
        try:
            server = await serve(self.agent.spool.directory, self.agent.status)
        except OSError as error:
            log.error("`tidegate agent status` will get no answer: %s", error)
            return
        async with server:
            await server.serve_forever()

    async def _guard_memory(self) -> None:
        """End in order where memory runs away: all that was acknowledged is on the disk, and a fresh start is small."""
        while True:
            await asyncio.sleep(_MEMORY_S)
            limit = self.agent.config.limits.memory_bytes
            found = resident_bytes()
            if found > limit and not self.reloader.status.on_probation:
                log.error("%d MiB of memory, over limits.memory_bytes (%d MiB): ending", found >> 20, limit >> 20)
                self.agent.stop()
                return

    async def _watch(self) -> None:
        offers: set[asyncio.Task[object]] = set()
        last: object = None
        while True:
            try:
                async with asyncio.timeout(_WATCH_S):
                    await self._asked.wait()
            except TimeoutError:
                pass
            asked = self._asked.is_set()
            self._asked.clear()
            try:
                stat = self._path.stat()
                mark: object = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            except OSError:
                mark = None
            if not asked and (mark == last or mark is None or not self.agent.config.reload.watch):
                continue
            last = mark
            try:
                text = read_file(self._path)
            except BadInput as error:
                log.error("%s", error)
                continue
            if asked or digest_of(text) != self._last_good.record.seen:
                task: asyncio.Task[object] = asyncio.create_task(self.reloader.offer(text, "file"))
                offers.add(task)
                task.add_done_callback(offers.discard)


def _blameless(good: Config, trial: Config) -> Condition:
    """A condition in which all that a trial leaves as it was is in trouble, so that only what it changes is judged."""
    old = {source.label: source for source in good.source}
    well: dict[str, bool | None] = {s.label: False for s in trial.source if old.get(s.label) == s}
    if good.kafka == trial.kafka:
        well[UPLINK] = False
    return Condition(well, {}, {}, "", 0, 0, 0)
