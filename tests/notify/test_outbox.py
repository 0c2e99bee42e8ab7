"""What is sent, when, and how often, without a network: once per line and channel, whatever comes between."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_cloud.notify.config import ChannelConfig, Config, QuietHours, ReceiverConfig
from tidegate_cloud.notify.outbox import FINAL, Job, Outbox
from tidegate_protocols.alerts import Notification, Transition

SECOND = 1_000_000
NOON = 1_700_000_000 * SECOND  # 22:13:20 UTC
MAIL = ChannelConfig(name="mail", apprise="json://localhost")
HOOK = ChannelConfig(name="hook", webhook="http://localhost/", secret="s")
CONFIG = Config(receivers={"desk": ReceiverConfig([MAIL, HOOK]), "oncall": ReceiverConfig([MAIL])})


def a_line(action: str = "told", at_s: float = 0, **more: Any) -> Transition:
    fields: dict[str, Any] = {
        "alert": "a1", "version": 1, "device": "van-1", "action": action, "from_state": "open", "to_state": "open",
        "ts_us": NOON + round(at_s * SECOND), "who": "system", "why": "", "cause": "1.1", "title": "T",
        "severity": "warning", "level": 1, "tell": ["oncall"] if action == "told" else [],
    }  # fmt: skip
    return Transition(**(fields | more))


class Box:
    """An outbox of partition 0 and what it wrote; times are seconds after noon."""

    def __init__(self, config: Config = CONFIG, known: dict[str, Notification] | None = None) -> None:
        self.outbox = Outbox(config, seed=1)
        self.topic: dict[str, Notification] = dict(known or {})
        self.outbox.take(0, 0, self.topic.values())
        self.offset = 0

    def line(self, line: Transition, at_s: float) -> list[tuple[str, str]]:
        found = self.outbox.line(0, self.offset, line, NOON + round(at_s * SECOND))
        self.offset += 1
        self.topic |= {record.id: record for _, record in found}
        return [(record.channel, record.state) for _, record in found]

    def send(self, at_s: float, error: str = "", **how: Any) -> list[str]:
        """Send what is due, with success or with this error; the channels that were tried."""
        now_us, tried = NOON + round(at_s * SECOND), []
        for job in self.outbox.due(now_us):
            self._keep(self.outbox.begin(job, now_us))
            if job.under_way:
                tried.append(job.record.channel)
                self._keep(self.outbox.failed(job, now_us, error, **how) if error else self.outbox.sent(job, now_us))
        return tried

    def begin(self, at_s: float) -> Job:
        (job,) = self.outbox.due(NOON + round(at_s * SECOND))
        self._keep(self.outbox.begin(job, NOON + round(at_s * SECOND)))
        return job

    def _keep(self, written: tuple[int, Notification]) -> None:
        self.topic[written[1].id] = written[1]

    @property
    def states(self) -> list[str]:
        return [record.state for record in self.topic.values()]


def test_each_channel_of_each_receiver_gets_it_once():
    box = Box()
    box.line(a_line(tell=["desk", "oncall", "desk"]), 1)
    assert sorted(box.send(1)) == ["desk/hook", "desk/mail", "oncall/mail"]
    assert box.states == ["sent"] * 3
    assert box.send(100) == []
    assert box.outbox.position(0) == 1


def test_the_same_line_again_asks_for_nothing():
    box = Box()
    box.line(a_line(), 1)
    box.send(1)
    assert box.line(a_line(), 2) == []
    assert box.send(2) == []
    later = Box(known=box.topic)  # another instance, or this one after a restart
    assert later.line(a_line(version=7), 3) == []
    assert later.send(3) == []


def test_what_is_not_done_holds_the_offset_and_is_read_again():
    box = Box()
    box.line(a_line(), 1)
    box.line(a_line(alert="a2"), 1)
    job = box.outbox.due(NOON + SECOND)[0]
    box.outbox.begin(job, NOON + SECOND)
    box.outbox.sent(job, NOON + SECOND)
    assert box.outbox.position(0) == 1
    box.send(1)
    assert box.outbox.position(0) == 2


def test_a_kill_between_sending_and_knowing_sends_it_again_under_the_same_id():
    box = Box()
    box.line(a_line(), 1)
    job = box.begin(1)
    assert box.states == ["sending"]
    later = Box(known=box.topic)
    later.line(a_line(), 2)
    assert later.send(2) == ["oncall/mail"]
    ((name, record),) = later.topic.items()
    assert (name, record.state, record.attempts) == (job.id, "sent", 2)


def test_failures_are_tried_again_ever_later_until_it_is_given_up():
    box = Box()
    box.line(a_line(), 0)
    waits, now = [], 0.0
    while box.outbox.pending:
        assert box.send(now, "answered 500") == ["oncall/mail"]
        (record,) = box.topic.values()
        if record.next_us is not None:
            waits.append((record.next_us - NOON) / SECOND - now)
            assert box.send(now + waits[-1] - 0.01) == []
            now += waits[-1]
    assert record.state == "failed"
    assert record.error == "answered 500"
    assert now > 6 * 3600
    assert all(1 <= wait <= 300 for wait in waits)
    assert waits[0] <= 2 < waits[5]
    assert len({round(wait, 6) for wait in waits[10:]}) > 10  # by chance, each


def test_back_off_goes_on_after_a_restart():
    box = Box()
    box.line(a_line(), 0)
    box.send(0, "answered 503", after_s=30.0)
    later = Box(known=box.topic)
    later.line(a_line(), 5)
    assert later.send(29) == []
    assert later.send(30) == ["oncall/mail"]


def test_what_will_never_be_taken_is_not_tried_again():
    box = Box()
    box.line(a_line(), 0)
    box.send(0, "answered 404", for_good=True)
    assert (box.states, box.outbox.pending) == (["failed"], 0)


def test_who_acts_first_spares_others_the_message():
    for action, state in (("acknowledged", "acknowledged"), ("snoozed", "snoozed"), ("resolved", "resolved"),
                          ("muted", "open"), ("joined", "open")):  # fmt: skip
        box = Box()
        box.line(a_line(), 1)
        assert box.line(a_line(action, to_state=state), 1) == [("oncall/mail", "overtaken")]
        assert box.send(2) == []
        assert box.line(a_line(cause="1.2"), 3) == [("oncall/mail", "overtaken")]  # asked before it was known
        box.line(a_line("reopened"), 4)
        box.line(a_line(cause="5.1"), 5)
        assert box.send(5) == ["oncall/mail"]


def test_a_message_under_way_is_not_overtaken_but_its_next_attempt_is():
    box = Box()
    box.line(a_line(), 1)
    job = box.begin(1)
    assert box.line(a_line("acknowledged", to_state="acknowledged"), 1) == []
    _, record = box.outbox.failed(job, NOON + 2 * SECOND, "answered 500")
    assert (record.state, record.error) == ("overtaken", "answered 500; meanwhile acknowledged")


def test_a_refusal_and_a_comment_overtake_nothing():
    box = Box()
    box.line(a_line(), 1)
    assert box.line(a_line("refused", to_state="acknowledged"), 1) == []
    assert box.line(a_line("commented"), 1) == []
    assert box.send(1) == ["oncall/mail"]


def test_that_it_is_over_is_told_where_it_was_told_that_it_is():
    over = a_line(to_state="resolved", cause="1.over", tell=["oncall", "desk"])
    box = Box()
    box.line(a_line(), 1)
    box.send(1)
    box.line(a_line("resolved", to_state="resolved"), 2)
    assert sorted(box.line(over, 2)) == [("desk/hook", "overtaken"), ("desk/mail", "overtaken")]
    later = Box(known=box.topic)
    later.line(over, 3)
    assert later.send(3) == ["oncall/mail"]


def test_what_came_back_is_not_told_to_be_over():
    box = Box()
    box.line(a_line(), 1)
    box.send(1)
    box.line(a_line(to_state="resolved", cause="1.over"), 2)
    assert box.line(a_line("reopened"), 2) == [("oncall/mail", "overtaken")]


def test_an_unknown_receiver_is_a_failure_that_is_seen():
    box = Box()
    assert box.line(a_line(tell=["boss"]), 1) == [("boss/", "failed")]
    (record,) = box.topic.values()
    assert "no receiver of this name" in record.error


def test_what_was_asked_for_long_ago_is_not_sent():
    box = Box()
    assert box.line(a_line(), 90_000) == [("oncall/mail", "too-old")]
    assert box.send(90_000) == []


QUIET = Config(receivers={"oncall": ReceiverConfig([MAIL], QuietHours(begin="22:00", end="06:00"))})


def test_quiet_hours_hold_what_is_not_critical_until_they_are_over():
    box = Box(QUIET)
    box.line(a_line(), 1)
    assert box.send(1) == []
    assert box.states == ["held"]
    begin_s = 7 * 3600 + 46 * 60 + 40  # 06:00
    assert box.send(begin_s - 1) == []
    assert box.send(begin_s) == ["oncall/mail"]


def test_what_is_critical_comes_through_at_any_hour():
    box = Box(QUIET)
    box.line(a_line(severity="critical"), 1)
    assert box.send(1) == ["oncall/mail"]


def test_what_is_held_can_be_overtaken():
    box = Box(QUIET)
    box.line(a_line(), 1)
    box.send(1)
    assert box.line(a_line("acknowledged", to_state="acknowledged"), 2) == [("oncall/mail", "overtaken")]


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["told", "told", "over", "acknowledged", "reopened", "resolved"]), st.integers(1, 3),
        st.sampled_from(["send", "fail", "kill", "kill-sending", "none"]),
    ),
    max_size=15,
)  # fmt: skip


@settings(deadline=None)
@given(_STEPS)
def test_over_any_failures_and_kills_a_message_is_taken_once_unless_killed_while_it_went_out(steps: Any):
    log: list[Transition] = []
    box, taken, uncertain = Box(), dict[str, int](), set[str]()
    for number, (action, alert, then) in enumerate(steps):
        told = action in ("told", "over")
        state = {"over": "resolved", "told": "open", "reopened": "open"}.get(action, action)
        log.append(a_line("told" if told else action, number, alert=f"a{alert}", cause=f"{number}.1", to_state=state,
                          tell=["desk"] if told else []))  # fmt: skip
        box.line(log[-1], number)
        if then in ("send", "fail"):
            before = {name: record.state for name, record in box.topic.items()}
            box.send(number, "answered 500" if then == "fail" else "")
            for name, record in box.topic.items():
                taken[name] = taken.get(name, 0) + (record.state == "sent" and before.get(name) != "sent")
        if then.startswith("kill"):
            for job in box.outbox.due(NOON + number * SECOND) if then == "kill-sending" else []:
                box._keep(box.outbox.begin(job, NOON + number * SECOND))
                uncertain.add(job.id)
            start = box.outbox.position(0)
            box = Box(known=box.topic)
            box.outbox.take(0, start, box.topic.values())
            box.offset = start
            for line in log[start:]:
                box.line(line, number)
    assert all(count <= 1 for count in taken.values())
    box.send(10**4)
    box.send(10**5)
    assert box.outbox.pending == 0
    assert all(record.state in FINAL or name in uncertain for name, record in box.topic.items())


def test_records_name_no_address():
    box = Box(Config(receivers={"desk": ReceiverConfig([ChannelConfig(name="m", apprise="mailto://u:s3cret@h")])}))
    box.line(a_line(tell=["desk"]), 1)
    box.send(1, "failed")
    assert "s3cret" not in str(msgspec.to_builtins(list(box.topic.values())))
