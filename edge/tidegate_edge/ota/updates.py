"""From a record of device.desired to a configuration that runs, or to the reason why not.

    verify (a child process) → fetch what is not here → lay over the agent's own file → offer → report

The switch itself, its probation and its way back are `reload`'s: this offers it a text and is told the outcome. So
"may not install" and "keep running the last good" are two things: whatever is wrong with a record, the signature's
date or the link, what runs goes on.

A record that cannot be installed now but may be later (the clock is not set, Kafka does not give a file, its signature
is past its date on a clock that jumped) is looked at again every `_AGAIN_S`, and when the agent starts.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import msgspec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.ota import CHUNK, CONFIG, Desired, Place, Reported, decode_desired

from ..clock import Clock, is_set
from ..last_good import digest_of
from ..reload import Outcome, Status
from .layer import laid_over
from .line import Line
from .memory import Memory, State
from .verify import Answer, File, Question

log = logging.getLogger(__name__)

_AGAIN_S = 60.0
_VERIFY_S = 60.0
_WAITS = "waits: "  # how the words begin of what may still be installed


@dataclass(frozen=True, slots=True)
class Wellness:
    """What a report says of the agent beside its configuration."""

    healthy: bool
    trouble: str
    epoch: int


class Reload(Protocol):
    """What offers are made to (`reload.Reloader`)."""

    async def offer(self, text: str, origin: str) -> Outcome: ...

    @property
    def status(self) -> Status: ...


class Updates:
    """Use `run` as a task. `own` reads the agent's own file; `wellness` says how the agent is.

    `bootstrap`: root metadata that was installed with the agent.
    """

    def __init__(
        self,
        agent: str,
        bootstrap: bytes,
        memory: Memory,
        line: Callable[[Callable[[bytes, int], None]], Line],
        reload: Reload,
        own: Callable[[], str],
        wellness: Callable[[], Wellness],
        clock: Clock,
        *,
        max_bytes: int,
        heartbeat_s: float,
    ) -> None:
        self._agent = agent
        self._bootstrap = bootstrap
        self._memory = memory
        self._line = line(self._told)
        self._reload = reload
        self._own = own
        self._wellness = wellness
        self._clock = clock
        self._max_bytes = max_bytes
        self._heartbeat_s = heartbeat_s
        self._wake = asyncio.Event()
        self._newest: tuple[bytes, int] | None = None
        self._again = False
        self._reported: Reported | None = None

    def _told(self, value: bytes, offset: int) -> None:
        self._newest = (value, offset)
        self._wake.set()

    async def run(self) -> None:
        """Follow what is desired, for ever."""
        record = self._memory.record
        self._line.start(record.offset)
        try:
            if record.desired:
                await self._guarded(record.desired)
            await self._report(want=record.offset < 0)
            while True:
                await self._sleep()
                newest, self._newest = self._newest, None
                if newest is not None:
                    value, offset = newest
                    await self._write(desired=value, offset=offset)
                    await self._guarded(value)
                elif (self._again and self._memory.record.desired) or self._has_drifted():
                    await self._guarded(self._memory.record.desired)
                await self._report(want=self._line.missed)
                self._line.missed = False
        finally:
            await asyncio.to_thread(self._line.stop)

    async def _sleep(self) -> None:
        wait = min(_AGAIN_S, self._heartbeat_s) if self._again else min(10.0, self._heartbeat_s)
        try:
            async with asyncio.timeout(wait):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _has_drifted(self) -> bool:
        """People edited the agent's own file: what was pushed goes over that, too."""
        status = self._reload.status
        return bool(self._memory.record.running) and status.origin == "file" and not status.on_probation

    async def _guarded(self, value: bytes) -> None:
        try:
            await self._deal_with(value)
        except OSError as error:  # the disk: nothing was switched, and it is tried again
            log.error("a pushed configuration waits: %s", error)
            self._again = True

    async def _deal_with(self, value: bytes) -> None:
        self._again = False
        try:
            desired = decode_desired(value)
        except BadInput as error:
            log.error("what was pushed cannot be read: %s", error)
            return
        if not is_set(self._clock.wall_us()):
            await self._refuse(desired.number, "the clock is not set: no date can be checked", again=True)
            return
        answer = await self._verify(value)
        if answer.refusal == "older":
            log.warning("what was pushed is left alone: %s", answer.why)
            return
        if answer.refusal:
            again = answer.refusal == "expired"
            await self._refuse(desired.number, f"{answer.refusal}: {answer.why}", again=again)
            return
        layer = answer.files[CONFIG]
        record = self._memory.record
        if (answer.number, layer.sha256) == (record.number, record.layer) and record.state == "running":
            if not self._has_drifted():
                return  # a fresh signature under what runs already
        elif answer.number == record.number and record.state in ("rolled-back", "refused") and not self._was_waiting():
            return  # tried, and found wanting: only a new number is news
        try:
            await self._fetch(desired, answer)
            folder = await asyncio.to_thread(
                self._memory.lay_out, answer.number,
                {name: file.sha256 for name, file in answer.files.items() if name != CONFIG},
            )  # fmt: skip
            text = laid_over(self._own(), await asyncio.to_thread(self._memory.read, layer.sha256), folder)
        except BadInput as error:
            await self._refuse(answer.number, str(error), again="device.files" in str(error) or "Kafka" in str(error))
            return
        await self._switch(answer, layer, text)

    def _was_waiting(self) -> bool:
        return self._memory.record.why.startswith(_WAITS)

    async def _verify(self, value: bytes) -> Answer:
        question = Question(value, self._bootstrap, dict(self._line.roots), self._memory.record.number)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tidegate_edge.ota.verify", str(self._memory.tuf), self._agent,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(_VERIFY_S):
                out, err = await child.communicate(msgspec.msgpack.encode(question))
            return msgspec.json.decode(out, type=Answer)
        except (TimeoutError, msgspec.MsgspecError):
            if child.returncode is None:
                child.kill()
                await child.wait()
                return Answer("damaged", f"it took longer than {_VERIFY_S:g} s to verify")
            said = err.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise OSError(f"the verifier ended with {child.returncode}: {' '.join(said)}") from None

    async def _fetch(self, desired: Desired, answer: Answer) -> None:
        """Get every file that is not here. Raises BadInput."""
        missing = {file.sha256: file for file in answer.files.values() if not self._memory.has(file.sha256)}
        size = sum(file.length for file in answer.files.values())
        if size > self._max_bytes:
            raise BadInput(f"{size} bytes of files; at most {self._max_bytes} are kept", where="ota.max_bytes")
        free = shutil.disk_usage(self._memory.folder).free
        if sum(file.length for file in missing.values()) > free // 2:
            raise BadInput(f"not enough room: {free} bytes are free", where=str(self._memory.folder))
        for sha256, file in missing.items():
            await self._fetch_one(sha256, file, desired.places.get(sha256, []))

    async def _fetch_one(self, sha256: str, file: File, places: list[Place]) -> None:
        if len(places) != max(1, -(-file.length // CHUNK)):
            raise BadInput("no place on device.files is told", where=f"file {sha256[:12]}")
        have = await asyncio.to_thread(self._memory.part, sha256)
        # A fetch that was cut off goes on after its last whole chunk.
        begin = have // CHUNK if have % CHUNK == 0 else 0
        while True:
            if begin == 0:
                await asyncio.to_thread(self._memory.drop_part, sha256)
            for number in range(begin, len(places)):
                chunk = await self._line.chunk(sha256, number, places[number])
                await asyncio.to_thread(self._memory.append, sha256, chunk)
            try:
                await asyncio.to_thread(self._memory.finish, sha256, file.length)
            except BadInput:
                if begin == 0:
                    raise
                begin = 0  # what was here already is not what was fetched: a power cut leaves such
            else:
                return

    async def _switch(self, answer: Answer, layer: File, text: str) -> None:
        origin = f"over the air, {answer.number}"
        refused = self._reload.status.refused
        record = self._memory.record
        under_way = record.state == "applying" and record.number == answer.number
        if under_way and refused is not None and refused.digest == digest_of(text):
            # It was decided before the agent was ended.
            await self._settle(answer, layer, "rolled back", refused.why)
            return
        await self._write(number=answer.number, state="applying", why="", since_us=self._clock.wall_us())
        await self._report()
        outcome = await self._reload.offer(text, origin)
        if outcome.state == "superseded":
            self._again = True  # the file was edited meanwhile: this goes over that
            return
        await self._settle(answer, layer, outcome.state, outcome.why)

    async def _settle(self, answer: Answer, layer: File, state: str, why: str) -> None:
        changes: dict[str, Any] = {"number": answer.number, "why": why, "since_us": self._clock.wall_us()}
        if state in ("committed", "unchanged"):
            changes |= {"state": "running", "running": answer.number, "layer": layer.sha256}
        else:
            changes["state"] = "refused" if state == "refused" else "rolled-back"
            log.error("what was pushed as %d does not stay: %s", answer.number, why)
        await self._write(**changes)
        record = self._memory.record
        keep = [record.layer] + [file.sha256 for file in answer.files.values()]
        await asyncio.to_thread(self._memory.forget, (record.running, answer.number), keep)

    async def _refuse(self, number: int, why: str, *, again: bool = False) -> None:
        """Not installed. With `again` it may be later: the number stays open."""
        self._again = again
        words = f"{_WAITS}{why}" if again else why
        record = self._memory.record
        if (record.number, record.state, record.why) != (number, "refused", words) and number >= record.number:
            log.error("what was pushed as %d is not installed: %s", number, why)
            state: State = "refused"
            await self._write(number=number, state=state, why=words, since_us=self._clock.wall_us())

    async def _write(self, **changes: Any) -> None:
        await asyncio.to_thread(lambda: self._memory.write(**changes))

    async def _report(self, *, want: bool = False) -> None:
        record, status, well = self._memory.record, self._reload.status, self._wellness()
        now_us = self._clock.wall_us()
        clock: Any = "unknown"
        if is_set(now_us):
            clock = "synchronised" if self._clock.is_synchronised() else "estimated"
        said = Reported(
            agent=self._agent, number=record.number, state=record.state, running=record.running, config=status.digest,
            since_us=record.since_us, heard_us=now_us, healthy=well.healthy, trouble=well.trouble, why=record.why,
            version=_version(), free_bytes=shutil.disk_usage(self._memory.folder).free, clock=clock,
            epoch=well.epoch, want=want,
        )  # fmt: skip
        last = self._reported
        if last is not None and not want and now_us - last.heard_us < self._heartbeat_s * 1e6:
            same = msgspec.structs.replace(said, heard_us=last.heard_us, free_bytes=last.free_bytes)
            if same == last:
                return
        if await asyncio.to_thread(self._line.report, said.encode()):
            self._reported = said


def _version() -> str:
    try:
        return version("tidegate")
    except PackageNotFoundError:
        return ""


def root_of(path: Path) -> bytes:
    """The root metadata that was installed. Raises BadInput."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"cannot be read: {error.strerror}", where="ota.root", hint="tidegate config keys init makes 1.root.json"
        ) from None
