"""What is to be sent when, without I/O and without a clock: lines of the alert log in, jobs out, outcomes in.

A message is named by its line and its channel, so a line that comes again (a restart, an alert engine that starts anew)
asks for nothing that was there before. `fleet.notifications` holds what became of each; a message is written as
`sending` before it goes out, and as what became of it after. So after a kill between the two, and only then, it is sent
a second time, under the same id.

A message is overtaken, and not sent, when somebody acts on the alert, it is hidden, or it joins a group, before it went
out; and one that something is over, where nobody was told of it on that channel.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec
from tidegate_protocols.alerts import Notification, Transition, notification_id

from tidegate_cloud.silences import Quiet

from .config import Config, quiet_of
from .message import Message, message_of

State = Literal["sending", "sent", "retrying", "held", "failed", "overtaken", "too-old"]
FINAL = frozenset(("sent", "failed", "overtaken", "too-old"))
_FIRST_WAIT_S = 2.0
_LONGEST_WAIT_S = 300.0
_ALERTS_REMEMBERED = 100_000
_HAD = frozenset(("acknowledged", "snoozed", "resolved"))
_HIDES = frozenset(("muted", "joined"))


@dataclass(slots=True)
class Job:
    """A message that is not done. `offset`: of its line, which is read again after a restart until it is."""

    partition: int
    offset: int
    receiver: str
    channel: str
    message: Message
    record: Notification
    due_us: int
    under_way: bool = False

    @property
    def id(self) -> str:
        return self.record.id


class Outbox:
    """Of all partitions at hand. Every method returns the records to write, as (partition, record)."""

    def __init__(self, config: Config, seed: int | None = None) -> None:
        self._config = config
        self._quiet: dict[str, Quiet | None] = {
            name: quiet_of(name, receiver) for name, receiver in config.receivers.items()
        }
        self._random = random.Random(seed)
        self._jobs: dict[str, Job] = {}
        self._known: dict[int, dict[str, Notification]] = {}  # partition → id → what became of it
        self._told: dict[int, set[tuple[str, str]]] = {}  # partition → (alert, channel) that was told
        self._next: dict[int, int] = {}  # partition → offset of the next line
        self._state: OrderedDict[str, str] = OrderedDict()  # alert → its last state, or what hides it

    @property
    def pending(self) -> int:
        """Messages that are not done."""
        return len(self._jobs)

    def oldest_us(self) -> int | None:
        """When the oldest of them was asked for."""
        return min((job.record.asked_us for job in list(self._jobs.values())), default=None)

    def take(self, partition: int, offset: int, known: Iterable[Notification]) -> None:
        """A partition comes: reading begins at `offset`, and this is what `fleet.notifications` says."""
        self.drop(partition)
        self._known[partition] = {record.id: record for record in known}
        self._told[partition] = {
            (record.alert, record.channel) for record in self._known[partition].values() if record.state == "sent"
        }
        self._next[partition] = offset

    def drop(self, partition: int) -> None:
        """A partition goes."""
        for name in [name for name, job in self._jobs.items() if job.partition == partition]:
            del self._jobs[name]
        for kept in (self._known, self._told, self._next):
            kept.pop(partition, None)

    def position(self, partition: int) -> int:
        """Up to where everything is done: the offset to commit."""
        waiting = [job.offset for job in self._jobs.values() if job.partition == partition]
        return min(waiting, default=self._next[partition])

    def line(self, partition: int, offset: int, line: Transition, now_us: int) -> list[tuple[int, Notification]]:
        """The next line of a partition."""
        self._next[partition] = offset + 1
        written: list[tuple[int, Notification]] = []
        if line.action != "refused":
            gone = line.to_state in _HAD or line.action in _HIDES
            if line.action != "told":
                self._remember(line.alert, "" if not gone else line.to_state if line.to_state in _HAD else line.action)
                written += self._overtake(line, now_us)
        for receiver in dict.fromkeys(line.tell):
            written += self._ask(partition, offset, line, receiver, now_us)
        return written

    def due(self, now_us: int) -> list[Job]:
        """What is to be sent now, the longest due first. The caller writes each record, then sends, then says so."""
        jobs = [job for job in self._jobs.values() if not job.under_way and job.due_us <= now_us]
        return sorted(jobs, key=lambda job: (job.due_us, job.offset, job.id))

    def begin(self, job: Job, now_us: int) -> tuple[int, Notification]:
        """The job goes out: the record to write first. In quiet hours it does not (`under_way` stays False)."""
        hours = self._quiet.get(job.receiver)
        through = self._config.receivers[job.receiver].quiet
        if hours is not None and through is not None and job.message.severity not in through.let_through:
            until = hours.next_change(now_us) if hours.active(now_us) else None
            if until is not None:
                job.due_us = until
                return self._write(job, "held", now_us, next_us=until)
        job.under_way = True
        return self._write(job, "sending", now_us, attempts=job.record.attempts + 1)

    def sent(self, job: Job, now_us: int) -> tuple[int, Notification]:
        """It was taken."""
        self._told[job.partition].add((job.record.alert, job.record.channel))
        return self._done(job, "sent", now_us)

    def failed(
        self, job: Job, now_us: int, error: str, *, for_good: bool = False, after_s: float = 0.0
    ) -> tuple[int, Notification]:
        """It was not taken."""
        job.under_way = False
        if for_good or now_us - job.record.asked_us > self._config.give_up_after_s * 1e6:
            return self._done(job, "failed", now_us, error)
        wait_s = min(_FIRST_WAIT_S * 2 ** min(job.record.attempts - 1, 16), _LONGEST_WAIT_S)
        # Half of it fixed, half by chance: what failed together does not come back together.
        wait_s = max(after_s, wait_s * (0.5 + 0.5 * self._random.random()))
        job.due_us = now_us + int(wait_s * 1e6)
        if (gone := self._state.get(job.record.alert)) and job.message.state != "resolved":
            return self._done(job, "overtaken", now_us, f"{error}; meanwhile {gone}")
        return self._write(job, "retrying", now_us, next_us=job.due_us, error=error)

    def _ask(
        self, partition: int, offset: int, line: Transition, receiver: str, now_us: int
    ) -> Iterator[tuple[int, Notification]]:
        config = self._config.receivers.get(receiver)
        channels = [channel.name for channel in config.channels] if config is not None else [""]
        for name in channels:
            channel = f"{receiver}/{name}"
            job = self._job(partition, offset, line, receiver, channel, now_us)
            if job is None:
                continue
            self._jobs[job.id] = job
            if config is None:
                yield self._done(job, "failed", now_us, "no receiver of this name in the configuration")
            elif now_us - line.ts_us > self._config.max_age_s * 1e6:
                yield self._done(job, "too-old", now_us)
            elif line.to_state == "resolved":
                if (line.alert, channel) not in self._told[partition]:
                    yield self._done(job, "overtaken", now_us, "nobody was told of it here")
            elif gone := self._state.get(line.alert):
                yield self._done(job, "overtaken", now_us, gone)

    def _job(
        self, partition: int, offset: int, line: Transition, receiver: str, channel: str, now_us: int
    ) -> Job | None:
        """The message; None for one that is done, or under way."""
        name = notification_id(line, channel)
        known = self._known[partition].get(name)
        if name in self._jobs or (known is not None and known.state in FINAL):
            return None
        message = message_of(line, name, receiver, self._config.public_url)
        record = known or Notification(
            id=name, alert=line.alert, device=line.device, receiver=receiver, channel=channel, state="sending",
            title=message.subject, asked_us=line.ts_us, ts_us=now_us, level=line.level,
        )  # fmt: skip
        due_us = known.next_us if known is not None and known.next_us is not None else now_us
        return Job(partition, offset, receiver, channel.split("/", 1)[1], message, record, due_us)

    def _overtake(self, line: Transition, now_us: int) -> Iterator[tuple[int, Notification]]:
        gone = self._state.get(line.alert, "")
        for job in [job for job in self._jobs.values() if job.record.alert == line.alert and not job.under_way]:
            if job.message.state == "resolved":
                if line.action == "reopened":
                    yield self._done(job, "overtaken", now_us, "reopened")
            elif gone:
                yield self._done(job, "overtaken", now_us, gone)

    def _remember(self, alert: str, gone: str) -> None:
        self._state[alert] = gone
        self._state.move_to_end(alert)
        if len(self._state) > _ALERTS_REMEMBERED:
            self._state.popitem(last=False)

    def _done(self, job: Job, state: State, now_us: int, error: str = "") -> tuple[int, Notification]:
        self._jobs.pop(job.id, None)
        return self._write(job, state, now_us, error=error)

    def _write(
        self, job: Job, state: State, now_us: int, *, attempts: int | None = None, next_us: int | None = None,
        error: str = "",
    ) -> tuple[int, Notification]:  # fmt: skip
        job.record = msgspec.structs.replace(
            job.record, state=state, ts_us=now_us, next_us=next_us, error=error,
            attempts=job.record.attempts if attempts is None else attempts,
        )  # fmt: skip
        self._known[job.partition][job.id] = job.record
        return job.partition, job.record
