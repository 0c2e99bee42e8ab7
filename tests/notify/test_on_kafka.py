"""The notifier as a service: real Kafka, real HTTP; killed in the middle, away from its receiver, started twice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import httpx
from tidegate_protocols.alerts import NOTIFICATION, TRANSITION, Notification
from tidegate_protocols.topics import ALERT_LOG, NOTIFICATIONS

from tests.notify.test_outbox import NOON, a_line
from tests.support.kafka import KafkaNode, consume_all, newest_by_key, produce
from tests.support.receivers import webhook_server
from tests.support.service import services
from tests.support.wait import until

ALERTS = 20
NOW_US = time.time_ns() // 1000


def told(numbers: Iterable[int], ts_us: int = NOW_US) -> list[tuple[str, bytes]]:
    """Lines of the alert log by which the desk is told."""
    lines = [a_line(alert=f"a{n}", device=f"van-{n}", tell=["desk"], ts_us=ts_us) for n in numbers]
    return [(line.device, TRANSITION.encode(line)) for line in lines]


def test_each_message_is_taken_once_over_kills_and_an_outage_of_its_receiver(fresh_kafka: KafkaNode, tmp_path: Path):
    kafka = fresh_kafka

    def records() -> list[Notification]:
        newest = newest_by_key(consume_all(kafka.bootstrap, NOTIFICATIONS.name))
        return [NOTIFICATION.decode(value) for value in newest.values()]

    with webhook_server() as hook, services(tmp_path) as site:
        config = tmp_path / "notify.toml"
        config.write_text(f"[receivers.desk]\nchannels = [{{ name = 'hook', webhook = '{hook.url}', secret = 's' }}]\n")
        service = site.add(
            "notify", "notify", "--bootstrap", kafka.bootstrap, "--config", config, "--metrics-port", "0"
        ).start()
        produce(kafka.bootstrap, ALERT_LOG.name, told([1000], NOON))
        until(lambda: [record.state for record in records()] == ["too-old"], what="what is of 2023 to be left")
        assert hook.posted == []

        hook.answers += [(503, {})] * 5
        produce(kafka.bootstrap, ALERT_LOG.name, told(range(ALERTS)))
        until(lambda: sum(record.state == "sent" for record in records()) == ALERTS, 60, what="all of them sent")
        assert len(hook.posted) == ALERTS + 5
        ids = [json.loads(post.body)["id"] for post in hook.posted]
        assert len(set(ids)) == ALERTS
        metrics = [word for word in service.output().split() if word.endswith("/metrics")][-1]
        text = httpx.get(metrics).text
        assert 'tidegate_notify_failures_total{receiver="desk"} 5.0' in text
        assert f'tidegate_notify_messages_total{{receiver="desk",state="sent"}} {float(ALERTS)}' in text

        # Killed while the receiver has a message and has not answered: that one comes again, under its id.
        hook.answering.clear()
        produce(kafka.bootstrap, ALERT_LOG.name, told([500]))
        until(lambda: len(hook.posted) == ALERTS + 6, what="the message to be under way")
        service.kill()
        hook.answering.set()
        service.start()
        until(lambda: sum(record.state == "sent" for record in records()) == ALERTS + 1, 60, what="sent in the end")
        assert hook.posted[-1].headers["webhook-id"] == hook.posted[-2].headers["webhook-id"]
        assert len(hook.posted) == ALERTS + 7

        # The whole log once more, as an alert engine that starts anew would write it: nobody is told again.
        produce(kafka.bootstrap, ALERT_LOG.name, told(range(ALERTS)))
        until(lambda: kafka.lag("tidegate-notify", ALERT_LOG.name) == 0, what="the replay to be read")
        assert len(hook.posted) == ALERTS + 7
        assert service.stop() == 0
        assert len(hook.posted) == ALERTS + 7
