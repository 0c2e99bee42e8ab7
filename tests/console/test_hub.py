"""The stream: who resumes gets exactly what was missed, who is slow is told, and nobody makes the others wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate_cloud.console import hub as hub_module
from tidegate_cloud.console.hub import Full, Hub
from tidegate_cloud.console.picture import AlertRecord, Delta, Picture
from tidegate_cloud.console.sinks import QueueSink
from tidegate_cloud.console.tokens import Token, parse
from tidegate_cloud.console.wire import as_events
from tidegate_protocols.alerts import Alert, Transition

from tests.support.wait import until_async

TOPIC = bytes(range(16))
NOW_S = 1_700_000_000


class Standing:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.us = NOW_S * 1_000_000

    def now_us(self) -> int:
        return self.us

    def monotonic(self) -> float:
        return self.us / 1e6


class Said(NamedTuple):
    kind: str
    data: Any
    token: str


def an_alert(name: str, version: int = 1) -> Alert:
    return Alert(
        id=name, device="van-1", rule="limit", subject="s", state="open", severity="warning", kind="limit", title="t",
        started_us=1, opened_us=2, changed_us=3, version=version, event="e", events=version,
    )  # fmt: skip


def record(offset: int, partition: int = 0, name: str | None = None, *, gone: bool = False) -> AlertRecord:
    name = name or f"a{partition}-{offset}"
    return AlertRecord(partition, offset, name, None if gone else an_alert(name))


def begun(*alerts: AlertRecord, topic: bytes = TOPIC) -> Delta:
    return Delta(topic_id=topic, alerts=list(alerts), fences=b'{"type":"FeatureCollection","features":[]}')


class Reader:
    """A client: what it was sent, as events. `gate` holds it back as a full socket would."""

    def __init__(self) -> None:
        self.text = b""
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, data: bytes) -> None:
        self.text += data
        await self.gate.wait()

    @property
    def events(self) -> list[Said]:
        said = []
        for block in self.text.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
            if "event" in fields:
                said.append(Said(fields["event"], msgspec.json.decode(fields["data"]), fields.get("id", "")))
        return said

    def of(self, kind: str) -> list[Any]:
        return [event.data for event in self.events if event.kind == kind]

    @property
    def resume(self) -> Token:
        return parse([event.token for event in self.events if event.token][-1])


class Scene:
    """A hub, and the clients that follow it."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    @property
    def token(self) -> Token:
        return parse(self.hub.picture.token(NOW_S))

    @asynccontextmanager
    async def reader(self, token: Token | None = None, reader: Reader | None = None) -> AsyncIterator[Reader]:
        reader = reader or Reader()
        task = asyncio.create_task(self.hub.serve(token, reader.send))
        await until_async(lambda: reader.text, what="the stream to begin")
        try:
            yield reader
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def a_scene(
    *, queue_max: int = 100, changes_max: int = 1000, process: bytes = b"process1", clients_max: int = 100
) -> Scene:
    scene = Scene(Hub(Picture(process, changes_max), Standing(), queue_max=queue_max, clients_max=clients_max))
    scene.hub.publish(begun())
    return scene


def ids(alerts: list[Any]) -> list[str]:
    return [alert["id"] for alert in alerts]


async def heard(reader: Reader, what: Callable[[Reader], Any]) -> None:
    await until_async(lambda: what(reader), timeout=5, what=f"more than {[event.kind for event in reader.events]}")


async def test_what_changes_is_sent_in_order_with_where_to_resume():
    scene = a_scene()
    async with scene.reader(scene.token) as reader:
        scene.hub.publish(Delta(alerts=[record(0), record(0, 5)]))
        scene.hub.publish(Delta(alerts=[record(1, name="a0-0", gone=True)]))
        await heard(reader, lambda r: r.of("alert-removed"))
    assert [(event.kind, event.data["id"]) for event in reader.events] == [
        ("alert", "a0-0"), ("alert", "a5-0"), ("alert-removed", "a0-0"),
    ]  # fmt: skip
    assert [parse(event.token).offsets[:6] for event in reader.events] == [
        (1, 0, 0, 0, 0, 0), (1, 0, 0, 0, 0, 1), (2, 0, 0, 0, 0, 1),
    ]  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(
    before=st.lists(st.integers(0, 3), max_size=8), missed=st.lists(st.integers(0, 3), max_size=8),
    after=st.lists(st.integers(0, 3), max_size=8), same=st.booleans(),
)  # fmt: skip
def test_who_comes_back_gets_exactly_what_was_missed_from_this_console_or_another(
    before: list[int], missed: list[int], after: list[int], same: bool
):
    async def play() -> None:
        next_offset = [0, 0, 0, 0]

        def records(partitions: list[int]) -> list[AlertRecord]:
            made = []
            for partition in partitions:
                made.append(record(next_offset[partition], partition))
                next_offset[partition] += 1
            return made

        first = a_scene()
        early, gap, late = records(before), records(missed), records(after)
        async with first.reader(first.token) as reader:
            first.hub.publish(Delta(alerts=early))
            await heard(reader, lambda r: len(r.of("alert")) == len(early))
        token = reader.resume if early else first.token
        other = first if same else a_scene(process=b"process2")
        if not same:  # it read the partitions in another order
            other.hub.publish(Delta(alerts=sorted(early, key=lambda r: -r.partition)))
        other.hub.publish(Delta(alerts=gap))
        async with other.reader(token) as again:
            other.hub.publish(Delta(alerts=late))
            await heard(again, lambda r: len(r.of("alert")) >= len(gap) + len(late))
        assert sorted(ids(again.of("alert"))) == sorted(r.id for r in [*gap, *late])
        if gap or late:
            assert again.resume.offsets == (*next_offset, *[0] * 20)

    asyncio.run(play())


async def test_who_was_further_on_with_another_console_is_not_sent_the_past_again():
    ahead, late = a_scene(), a_scene(process=b"process2")
    ahead.hub.publish(Delta(alerts=[record(0), record(1), record(2)]))
    late.hub.publish(Delta(alerts=[record(0)]))
    async with late.reader(ahead.token) as reader:
        late.hub.publish(Delta(alerts=[record(1), record(2), record(3)]))
        await heard(reader, lambda r: r.of("alert"))
    assert ids(reader.of("alert")) == ["a0-3"]
    assert reader.resume.offsets[0] == 4


@pytest.mark.parametrize("why", ["topic", "history", "age"])
async def test_who_cannot_be_given_all_of_it_is_told_to_reload(why: str):
    scene = a_scene(changes_max=3)
    token = scene.token
    if why == "topic":
        scene.hub.publish(begun(topic=bytes(16)))
    elif why == "history":
        scene.hub.publish(Delta(alerts=[record(i) for i in range(4)]))
    else:
        token = Token(token.topic_id, token.process, NOW_S - 13 * 3600, token.offsets, token.seq)
    reader = Reader()
    await scene.hub.serve(token, reader.send)
    assert [event.kind for event in reader.events] == ["reload"]
    assert reader.of("reload")[0]["reason"]
    assert reader.events[0].token == ""


async def test_history_reaches_exactly_as_far_as_it_is_kept():
    scene = a_scene(changes_max=3)
    scene.hub.publish(Delta(alerts=[record(0)]))
    token = scene.token
    scene.hub.publish(Delta(alerts=[record(i) for i in (1, 2, 3)]))
    async with scene.reader(token) as reader:
        await heard(reader, lambda r: len(r.of("alert")) == 3)
    assert ids(reader.of("alert")) == ["a0-1", "a0-2", "a0-3"]


async def test_a_client_that_takes_nothing_is_told_to_reload_and_holds_nobody_up():
    scene = a_scene(queue_max=10)
    slow, quick = Reader(), Reader()
    slow.gate.clear()
    task = asyncio.create_task(scene.hub.serve(scene.token, slow.send))
    await until_async(lambda: slow.text)
    async with scene.reader(scene.token, quick):
        for i in range(60):
            scene.hub.publish(Delta(alerts=[record(i)]))
            await heard(quick, lambda r, i=i: len(r.of("alert")) == i + 1)
        assert len(slow.text) < 5_000
        slow.gate.set()
        await asyncio.wait_for(task, 5)
    assert slow.events[-1].kind == "reload"
    assert len(slow.of("alert")) <= 10
    assert len(quick.of("alert")) == 60
    assert scene.hub.clients == 0


async def test_positions_are_conflated_to_the_newest_for_whoever_was_busy():
    scene = a_scene()
    slow = Reader()
    async with scene.reader(scene.token, slow):
        slow.gate.clear()
        scene.hub.publish(Delta(devices=[("a", b'{"id":"a","n":0}')]))
        await heard(slow, lambda r: r.of("positions"))
        for n in range(1, 50):
            scene.hub.publish(Delta(devices=[("a", b'{"id":"a","n":%d}' % n), ("b", b'{"id":"b","n":%d}' % n)]))
        slow.gate.set()
        await heard(slow, lambda r: len(r.of("positions")) == 2)
    assert slow.of("positions") == [[{"id": "a", "n": 0}], [{"id": "b", "n": 49}, {"id": "a", "n": 49}]]


async def test_who_wants_names_only_is_told_of_devices_that_became_known_or_were_named_anew():
    scene = a_scene()
    sink = QueueSink(as_events)
    client = scene.hub.join(None, sink, brief=True)

    async def told() -> list[dict[str, Any]]:
        events = await asyncio.wait_for(sink.take(), 5)
        return [each for event in events if event.kind == "positions" for each in msgspec.json.decode(event.data)]

    scene.hub.publish(Delta(devices=[("a", b'{"id":"a","n":0}')]))
    assert await told() == [{"id": "a", "n": 0}]
    scene.hub.publish(Delta(devices=[("a", b'{"id":"a","n":1}')]))
    scene.hub.publish(Delta(devices=[("b", b'{"id":"b","n":1}')]))
    assert await told() == [{"id": "b", "n": 1}]
    scene.hub.publish(Delta(devices=[("a", b'{"id":"a","n":2}'), ("b", b'{"id":"b","n":2}')], named={"a"}))
    assert await told() == [{"id": "a", "n": 2}]
    scene.hub.leave(client)


async def test_after_a_pause_positions_go_at_once_and_then_at_most_four_times_a_second():
    scene = a_scene()
    loop = asyncio.get_running_loop()
    async with scene.reader(scene.token) as reader:
        scene.hub.publish(Delta(devices=[("a", b"{}")]))
        await heard(reader, lambda r: r.of("positions"))
        shown_at = scene.hub._shown_at
        while len(reader.of("positions")) < 4:
            seen = len(reader.of("positions"))
            scene.hub.publish(Delta(devices=[("a", b"{}")]))
            await heard(reader, lambda r, seen=seen: len(r.of("positions")) > seen)
            assert scene.hub._shown_at - shown_at >= hub_module.FLUSH_S
            shown_at = scene.hub._shown_at
        assert loop.time() >= shown_at


async def test_who_was_slow_is_told_and_gets_positions_less_often_until_it_keeps_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub_module, "_SLOW_S", 0.05)
    monkeypatch.setattr(hub_module, "_RECOVERED_S", 0.3)
    monkeypatch.setattr(hub_module, "FLUSH_S", 0.01)
    scene = a_scene()
    slow = Reader()
    async with scene.reader(scene.token, slow):
        slow.gate.clear()
        scene.hub.publish(Delta(devices=[("a", b'{"n":0}')]))
        await heard(slow, lambda r: r.of("positions"))
        held = asyncio.get_running_loop().time() + 0.1
        scene.hub.publish(Delta(devices=[("a", b'{"n":1}')], alerts=[record(0)]))
        await until_async(lambda: asyncio.get_running_loop().time() > held and scene.hub.slow_clients == 1)
        slow.gate.set()
        await heard(slow, lambda r: r.of("alert") and len(r.of("positions")) == 2)
        kinds = [event.kind for event in slow.events]
        assert kinds.index("behind") < kinds.index("alert")
        told = slow.of("behind")[0]
        assert told["behind_ms"] >= 50
        assert told["interval_ms"] == 50
        await heard(slow, lambda r: r.of("behind")[-1]["behind_ms"] == 0)
        assert scene.hub.slow_clients == 0


async def test_who_takes_nothing_at_all_is_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub_module, "STUCK_S", 0.2)
    scene = a_scene()
    stuck = Reader()
    stuck.gate.clear()
    task = asyncio.create_task(scene.hub.serve(scene.token, stuck.send))
    scene.hub.publish(Delta(alerts=[record(0)]))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert (scene.hub.cut, scene.hub.clients) == (1, 0)


async def test_positions_that_were_missed_come_after_a_reconnect_and_no_others():
    scene = a_scene()
    scene.hub.publish(Delta(devices=[("a", b'{"id":"a"}'), ("b", b'{"id":"b"}')]))
    token = scene.token
    scene.hub.publish(Delta(devices=[("b", b'{"id":"b","n":2}')]))
    async with scene.reader(token) as reader:
        await heard(reader, lambda r: r.of("positions"))
    assert reader.of("positions") == [[{"id": "b", "n": 2}]]
    assert reader.of("fences") == []
    stranger = Token(token.topic_id, b"process9", token.at_s, token.offsets, 10**6)
    async with scene.reader(stranger) as reader:
        await heard(reader, lambda r: r.of("positions"))
    assert ids(reader.of("positions")[0]) == ["b", "a"]
    assert len(reader.of("fences")) == 1


async def test_health_and_refusals_reach_everyone():
    scene = a_scene()
    refused = Transition(
        alert="a", version=2, device="van-1", action="refused", from_state="acknowledged", to_state="acknowledged",
        ts_us=5, who="Mo", why="it is acknowledged by Ines", cause="c2",
    )  # fmt: skip
    async with scene.reader(scene.token) as one, scene.reader() as two:
        scene.hub.health(b'{"behind_ms":0}')
        scene.hub.publish(Delta(transitions=[refused]))
        for reader in (one, two):
            await heard(reader, lambda r: r.of("refused") and r.of("health"))
            assert reader.of("refused")[0]["command"] == "c2"
            assert reader.of("refused")[0]["why"] == "it is acknowledged by Ines"


async def test_there_are_so_many_clients_and_no_more():
    scene = a_scene(clients_max=1)
    async with scene.reader():
        with pytest.raises(Full):
            await scene.hub.serve(None, Reader().send)


async def test_clients_that_keep_up_are_given_the_very_same_bytes():
    scene = a_scene()
    given: list[list[bytes]] = [[], []]

    async def take(pieces: list[bytes], data: bytes) -> None:
        pieces.append(data)

    tasks = [
        asyncio.create_task(scene.hub.serve(scene.token, lambda data, pieces=pieces: take(pieces, data)))
        for pieces in given
    ]
    await until_async(lambda: scene.hub.clients == 2)
    for i in range(3):
        scene.hub.publish(Delta(alerts=[record(i)], devices=[("a", b"{}")]))
        await until_async(lambda i=i: all(b"a0-%d" % i in b"".join(pieces) for pieces in given))
    scene.hub.close()
    await asyncio.gather(*tasks)
    assert given[0] == given[1]
    assert all(one is other for one, other in zip(*given, strict=True))


async def test_closing_ends_every_stream_and_clients_go_on_elsewhere_with_what_they_have():
    scene = a_scene()
    reader = Reader()
    task = asyncio.create_task(scene.hub.serve(None, reader.send))
    await until_async(lambda: reader.of("fences"))
    scene.hub.close()
    await asyncio.wait_for(task, 5)
    assert "reload" not in [event.kind for event in reader.events]
    assert reader.resume.topic_id == TOPIC
