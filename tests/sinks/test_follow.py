"""`tidegate history` on a real Kafka: each scan once, over doubled frames, previews, kills; asked through a console."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import httpx
import msgspec
from tidegate_protocols.batch import Lane
from tidegate_protocols.events import EVENT
from tidegate_protocols.topics import EVENTS

from tests.support import fleet
from tests.support.alerts import an_event
from tests.support.console import admin_of
from tests.support.kafka import KafkaNode, produce
from tests.support.service import services
from tests.support.wait import until

SECOND = 1_000_000


def test_history_holds_every_scan_once_and_a_console_asks_it(kafka: KafkaNode, tmp_path: Path):
    kafka.refresh_topics()
    begin_us = time.time_ns() // 1000 - 6 * 3600 * SECOND
    scans = [(begin_us + i * SECOND, (*fleet.where(0, i), True)) for i in range(600)]
    first, second, third = (fleet.a_batch("van-0", at, scans[at : at + 200]) for at in (0, 200, 400))
    fleet.send(kafka.bootstrap, first)  # its schema comes after it
    fleet.announce(kafka.bootstrap, fleet.POSITION)
    event = an_event("entered", 1, device="van-0")
    event = msgspec.structs.replace(event, ts_us=begin_us)
    with services(tmp_path) as group:
        history = group.add(
            "history", "history", "--bootstrap", kafka.bootstrap, "--dir", tmp_path / "h", "--port", "0"
        ).start(timeout=120)
        fleet.send(
            kafka.bootstrap, replace(third, lane=Lane.PREVIEW), second, fleet.a_batch("van-0", 100, scans[100:300])
        )
        produce(kafka.bootstrap, EVENTS.name, [(event.device, EVENT.encode(event))] * 2)

        def url() -> str:
            return next(word for word in reversed(history.output().split()) if word.startswith("http://"))

        def series() -> list[int]:
            query = {
                "device": "van-0", "channel": "cargo", "from_us": begin_us, "to_us": scans[-1][0] + 1, "max_points": 999
            }  # fmt: skip
            answer = httpx.get(f"{url()}/v1/series", params=query)
            return answer.json()["ts_us"] if answer.status_code == 200 else []

        until(lambda: len(series()) == 600, what="the preview behind what came in order")
        history.kill()
        history.start(timeout=120)
        fleet.send(kafka.bootstrap, third)
        rest = fleet.a_batch("van-0", 600, [(scans[-1][0] + SECOND, scans[0][1])])
        fleet.send(kafka.bootstrap, rest)

        def readings() -> int:
            return int(httpx.get(f"{url()}/v1/status").json()["readings"])

        until(lambda: readings() == 201 * 7, what="what came after the kill, and nothing again")
        assert series() == [ts for ts, _ in scans]
        assert httpx.get(f"{url()}/v1/series", headers={"origin": "http://evil.example"}).status_code == 403

        arguments = ("--bootstrap", kafka.bootstrap, "--port", "0", "--login-link", "--history", url())
        admin = admin_of(group.add("console", "console", *arguments).start())
        asked = {"channel": "cargo", "from_us": begin_us, "to_us": scans[-1][0] + 1}
        chart = admin.get("/api/v1/devices/van-0/series", params=asked | {"max_points": 20}).json()
        assert (chart["source"], chart["resolution_s"], chart["unit"]) == ("history", 30.0, "Cel")
        assert all(
            low <= mean <= high for low, mean, high in zip(chart["low"], chart["values"], chart["high"], strict=True)
        )
        assert [each["id"] for each in admin.get("/api/v1/events", params={"device": "van-0"}).json()] == [event.id]
        assert {each["name"] for each in admin.get("/api/v1/devices/van-0/channels").json()} >= {"cargo", "lat"}
        assert admin.get("/api/v1/devices/nobody/series", params=asked).status_code == 404
        assert history.stop() == 0
        answer = admin.get("/api/v1/devices/van-0/series", params=asked)
        assert answer.status_code == 503 or answer.json()["missing"]
