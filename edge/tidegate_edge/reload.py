"""A new configuration while the agent runs: validate → stage → switch → probation → commit, or roll back.

    offer(text) ─ validated ─ staged ─ switched ─ (probation) ─ healthy ─ committed
                      │                    │            │
                   refused            rolled back ◀─────┘  what was good runs again, and why is on record

One at a time: an offer that comes while another is on probation takes its place at once, and of many only the last is
tried. What is staged and committed is durable (`last_good`), so an agent that is killed or loses power at any step
starts with the old configuration or the new one. No reading depends on any of this: sources that change stop, what
they took is committed and acknowledged, and what they did not take stays with the broker or the device.

Whoever else brings configurations (a push over the air, say) calls `offer` and is told the outcome.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

import msgspec
from tidegate_protocols.errors import BadInput

from .clock import Clock
from .condition import Condition, worse
from .config import Config
from .last_good import Entry, LastGood, Refusal, Trial, digest_of

log = logging.getLogger(__name__)

_LOOK_S = 0.5
_ANOTHER = "another one came"


class Step(StrEnum):
    """The steps of a switch, in order; after each the one that is named has happened, durably where that matters."""

    VALIDATED = "validated"
    STAGED = "staged"
    HELD = "held"  # changed sources have stopped, and what they took is committed and acknowledged
    SWITCHED = "switched"
    HEALTHY = "healthy"
    COMMITTED = "committed"
    RECORDED = "recorded"  # on the way back: that the new one is refused is durable, the old one does not run yet
    ROLLED_BACK = "rolled back"


State = Literal["committed", "unchanged", "refused", "rolled back", "superseded"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an offer, and why where it did not stay."""

    digest: str
    state: State
    why: str = ""


class Target(Protocol):
    """What is switched: the agent."""

    config: Config

    async def check(self, config: Config) -> None:
        """Raises BadInput for what is wrong with a configuration beyond its text."""

    async def switch(self, config: Config, step: Callable[[Step], None]) -> None:
        """Run by `config` from now on. Raises BadInput where something cannot be had; `switch` back is possible."""

    def condition(self) -> Condition:
        """How the agent is just now."""


class Status(msgspec.Struct, frozen=True):
    """For people: which configuration runs, and what became of the last one that does not."""

    digest: str
    origin: str
    since_us: int
    on_probation: bool
    complaints: list[str]
    refused: Refusal | None


@dataclass(slots=True, eq=False)
class _Offer:
    text: str
    origin: str
    done: asyncio.Future[Outcome]


@dataclass(slots=True, eq=False)
class _Trial:
    """What is on probation. `before` is how the agent was under the last good one, `start` just after the switch."""

    offer: _Offer
    before: Condition
    start: Condition
    until: float


class Reloader:
    """Use `run` as a task, and `offer`. `read` makes a configuration of a text, or raises BadInput."""

    def __init__(
        self,
        target: Target,
        last_good: LastGood,
        clock: Clock,
        read: Callable[[str], Config],
        on_step: Callable[[Step], None] = lambda _: None,
    ) -> None:
        self._target = target
        self._last_good = last_good
        self._clock = clock
        self._read = read
        self._step = on_step
        self._next: _Offer | None = None
        self._trial: _Trial | None = None
        self._wake = asyncio.Event()
        self._complaints: list[str] = []

    @property
    def status(self) -> Status:
        """Which configuration runs. May be called from any thread."""
        record = self._last_good.record
        entry = record.trial or record.good or Entry("", "", 0)
        return Status(
            entry.digest, entry.origin, entry.since_us, record.trial is not None, self._complaints, record.refused
        )

    async def offer(self, text: str, origin: str) -> Outcome:
        """Try a configuration; returns when it is decided. `origin` "file" is the file that people edit."""
        if self._next is not None:
            self._answer(self._next, "superseded", _ANOTHER)
        offer = self._next = _Offer(text, origin, asyncio.get_running_loop().create_future())
        self._wake.set()
        return await offer.done

    async def run(self, before: Condition | None = None) -> None:
        """Decide on offers, for ever. `before`: the agent has started with the one on trial; compare it with that."""
        trial = self._last_good.record.trial
        if trial is not None and before is not None:
            done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            self._begin_probation(_Offer(trial.text, trial.origin, done), before)
        while True:
            try:
                if self._trial is not None:
                    await self._probation(self._trial)
                else:
                    await self._wake.wait()
                await self._take()
            except OSError as error:  # nothing durable can be said just now: what runs goes on
                log.error("the configuration cannot be put on record: %s", error)
                await asyncio.sleep(_LOOK_S)

    async def _take(self) -> None:
        self._wake.clear()
        offer, self._next = self._next, None
        if offer is None:
            return
        try:
            await self._try(offer)
        except OSError as error:
            self._answer(offer, "refused", str(error))
            raise

    async def _try(self, offer: _Offer) -> None:
        record = self._last_good.record
        digest = digest_of(offer.text)
        seen = digest if offer.origin == "file" else record.seen
        running = record.trial or record.good
        if running is not None and running.digest == digest:
            await self._write(seen=seen)
            if self._trial is None:
                self._answer(offer, "unchanged")
            else:
                self._answer(self._trial.offer, "superseded", _ANOTHER)
                self._trial.offer = offer
            return
        try:
            config = self._read(offer.text)
            await self._target.check(config)
        except BadInput as error:
            log.error("a configuration from %s is refused, the old one goes on:\n%s", offer.origin, error)
            refused = Refusal(digest, offer.origin, str(error), self._clock.wall_us())
            await self._write(seen=seen, refused=refused)
            self._answer(offer, "refused", str(error))
            return
        self._step(Step.VALIDATED)
        await self._write(trial=Trial(offer.text, offer.origin, self._clock.wall_us()), seen=seen)
        self._step(Step.STAGED)
        before = self._target.condition()
        if self._trial is not None:
            before = self._trial.before
            self._answer(self._trial.offer, "superseded", _ANOTHER)
            self._trial = None
        log.info("switching to configuration %s from %s", digest, offer.origin)
        try:
            await self._target.switch(config, self._step)
        except BadInput as error:
            await self._roll_back(offer, str(error))
            return
        self._step(Step.SWITCHED)
        self._begin_probation(offer, before)

    def _begin_probation(self, offer: _Offer, before: Condition) -> None:
        until = self._clock.monotonic() + self._target.config.reload.probation_s
        self._trial = _Trial(offer, before, self._target.condition(), until)

    async def _probation(self, trial: _Trial) -> None:
        """Watch what is on trial until it has proven itself, has not, or another one is offered."""
        memory_max = self._target.config.limits.memory_bytes
        while True:
            now = self._target.condition()
            self._complaints = worse(trial.before, trial.start, now, memory_max)
            left = trial.until - self._clock.monotonic()
            if left <= 0 or now.memory > memory_max:
                break
            try:
                async with asyncio.timeout(min(left, _LOOK_S)):
                    await self._wake.wait()
            except TimeoutError:
                continue
            return
        complaints, self._complaints = self._complaints, []
        if complaints:
            await self._roll_back(trial.offer, "; ".join(complaints))
            return
        self._step(Step.HEALTHY)
        recorded = self._last_good.record.trial
        assert recorded is not None
        good = Entry(recorded.text, recorded.origin, recorded.since_us)
        await self._write(good=good, trial=None, refused=None)
        self._trial = None
        self._step(Step.COMMITTED)
        log.info("configuration %s has done well and stays", good.digest)
        self._answer(trial.offer, "committed")

    async def _roll_back(self, offer: _Offer, why: str) -> None:
        digest = digest_of(offer.text)
        good = self._last_good.record.good
        assert good is not None
        log.error("configuration %s does not do well, %s is gone back to: %s", digest, good.digest, why)
        await self._write(trial=None, refused=Refusal(digest, offer.origin, why, self._clock.wall_us()))
        self._trial = None
        self._step(Step.RECORDED)
        try:
            await self._target.switch(self._read(good.text), lambda _: None)
        except BadInput as error:
            log.error("the last good configuration cannot run as it did: %s", error)
        self._step(Step.ROLLED_BACK)
        self._answer(offer, "rolled back", why)

    async def _write(self, **changes: Entry | Trial | Refusal | str | None) -> None:
        await asyncio.to_thread(self._last_good.write, **changes)

    def _answer(self, offer: _Offer, state: State, why: str = "") -> None:
        if not offer.done.done():
            offer.done.set_result(Outcome(digest_of(offer.text), state, why))
