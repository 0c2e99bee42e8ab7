"""A week of events a second time, into an engine that goes on or one that has forgotten everything: nobody is told."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec
from tidegate_cloud.alerts import AlertLogic
from tidegate_cloud.alerts.group_logic import GroupLogic
from tidegate_cloud.engine import MicroBatch, Record
from tidegate_cloud.engine.inprocess import Ran, step
from tidegate_cloud.notify.config import ChannelConfig, Config, ReceiverConfig
from tidegate_cloud.notify.outbox import Outbox
from tidegate_protocols.alerts import ALERT, TRANSITION, Notification, Transition
from tidegate_protocols.events import EVENT
from tidegate_protocols.policies import BUILT_IN, POLICY, Level
from tidegate_protocols.topics import ALERT_LOG, ALERT_MEMBERS, ALERTS, COMMANDS, EVENTS, POLICIES

from tests.support.alerts import NOON, SECOND, an_event

HOUR_S = 3600
WEEK_S = 7 * 24 * HOUR_S
PAIRS = (("entered", "exited", "yard"), ("above", "within", "temp"), ("anomalous", "settled", "battery"))
LEVELS = [Level(to=["desk"]), Level(after_s=900, to=["oncall"])]
RULES = [msgspec.structs.replace(policy, tell=LEVELS) for policy in BUILT_IN]
CONFIG = Config(
    receivers={
        name: ReceiverConfig([ChannelConfig(name="mail", apprise="json://localhost")]) for name in ("desk", "oncall")
    }
)


def a_week(devices: int = 12) -> list[Record]:
    """What the operators found: conditions that last from a minute to some hours, on each device at its own times."""
    rng = random.Random(5)
    found = []
    for number in range(devices):
        device, at_s, seq = f"van-{number}", rng.uniform(0, 6 * HOUR_S), 0
        while at_s < WEEK_S:
            begin, end, subject = rng.choice(PAIRS)
            for kind in (begin, end):
                found.append(an_event(kind, seq, device=device, subject=subject, at_s=at_s))
                at_s, seq = at_s + rng.expovariate(1 / HOUR_S) + 60, seq + 1
            at_s += rng.expovariate(1 / (8 * HOUR_S))
    found.sort(key=lambda event: event.ts_us)
    return [
        Record(EVENTS.name, 0, offset, event.ts_us + SECOND, event.device.encode(), EVENT.encode(event))
        for offset, event in enumerate(found)
    ]


class Engine:
    """Both stages, and what each left; the second is given what the first wrote `delay_us` after it happened."""

    def __init__(self, delay_us: int = SECOND) -> None:
        self.alerts, self.groups = AlertLogic(), GroupLogic()
        self.of_alerts, self.of_groups = Ran(), Ran()
        self._delay_us = delay_us
        self._given = self._asked = 0
        for logic in (self.alerts, self.groups):
            logic.broadcast(
                [Record(POLICIES.name, 0, n, NOON, p.id.encode(), POLICY.encode(p)) for n, p in enumerate(RULES)]
            )
            logic.take(0, {})

    def read(self, records: list[Record], until_us: int) -> None:
        """Read these, and let the time come to `until_us`."""
        step(self.alerts, records, self.of_alerts)
        step(self.alerts, MicroBatch(ticks={0: until_us}), self.of_alerts)
        members = self.of_alerts.of(ALERT_MEMBERS.name)
        fresh = [
            Record(ALERT_MEMBERS.name, 0, offset, ALERT.decode(member.value or b"").changed_us + self._delay_us,
                   member.key, member.value)
            for offset, member in enumerate(members) if offset >= self._given
        ]  # fmt: skip
        self._given = len(members)
        step(self.groups, fresh, self.of_groups)
        step(self.groups, MicroBatch(ticks={0: until_us + self._delay_us}), self.of_groups)
        commands = self.of_groups.of(COMMANDS.name)
        sides = [
            Record(COMMANDS.name, 0, offset, until_us, command.key, command.value)
            for offset, command in enumerate(commands) if offset >= self._asked
        ]  # fmt: skip
        self._asked = len(commands)
        step(self.alerts, MicroBatch(sides=sides), self.of_alerts)

    def read_week(self, records: list[Record], hours: int) -> Engine:
        """So many hours together."""
        step_us = hours * HOUR_S * SECOND
        for end_us in range(NOON + step_us, NOON + (WEEK_S + 24 * HOUR_S) * SECOND, step_us):
            self.read([r for r in records if end_us - step_us <= r.append_us < end_us], end_us)
        return self

    def log(self) -> list[Transition]:
        """The alert log, in the order of time."""
        written = [*self.of_alerts.of(ALERT_LOG.name), *self.of_groups.of(ALERT_LOG.name)]
        return sorted((TRANSITION.decode(each.value or b"") for each in written), key=lambda line: line.ts_us)

    @property
    def shown(self) -> dict[bytes | None, bytes | None]:
        """`fleet.alerts` as it stands."""
        return {record.key: record.value for record in self.of_alerts.of(ALERTS.name)}


class Notifier:
    """Reads the log, and sends what is due; `known` is its topic."""

    def __init__(self, known: Iterable[Notification] = (), offset: int = 0) -> None:
        self.known = {record.id: record for record in known}
        self._outbox = Outbox(CONFIG, seed=1)
        self._outbox.take(0, offset, list(self.known.values()))
        self._offset = offset

    def read(self, log: Iterable[Transition], at_us: int = 0) -> list[str]:
        """Each line when it was written, or all at one time; who was sent something."""
        sent = []
        for line in log:
            now_us = at_us or line.ts_us + SECOND
            self._keep(self._outbox.line(0, self._offset, line, now_us))
            self._offset += 1
            for job in self._outbox.due(now_us):
                self._keep([self._outbox.begin(job, now_us)])
                if job.under_way:
                    sent.append(job.record.channel)
                    self._keep([self._outbox.sent(job, now_us)])
        return sent

    def _keep(self, written: Iterable[tuple[int, Notification]]) -> None:
        self.known.update((record.id, record) for _, record in written)


def test_a_week_again_gives_the_same_ids_and_tells_nobody():
    records = a_week()
    engine = Engine().read_week(records, 1)
    log, shown = engine.log(), engine.shown
    notifier = Notifier()
    sent = notifier.read(log)
    assert {"desk/mail", "oncall/mail"} == set(sent)
    assert len(sent) > 100
    assert {line.to_state for line in log} == {"open", "resolved"}

    # The same events appended once more, to the engine that knows them: not a line.
    late_us = (WEEK_S + 36 * HOUR_S) * SECOND
    again = [r._replace(offset=r.offset + len(records), append_us=r.append_us + late_us) for r in records]
    engine.read(again, NOON + 2 * late_us)
    assert engine.log() == log
    assert engine.shown == shown

    # An engine that has forgotten everything reads the week at one go, long after: the same alerts, the same story.
    fresh = Engine(late_us).read_week(records, 12)
    assert fresh.shown == shown
    story = [line for line in fresh.log() if not line.tell]
    assert story == [line for line in log if not line.tell]
    # The notifier that told people of it the first time tells nobody, nor does one that knows what Kafka holds.
    for reader in (notifier, Notifier(notifier.known.values(), len(log))):
        before = dict(reader.known)
        assert reader.read(fresh.log(), NOON + 2 * late_us) == []
        assert reader.known == before
