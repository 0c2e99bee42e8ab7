"""What the pipeline page is told: rates from Kafka's ends, services' own metrics, and what becomes of messages."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from tidegate_cloud.broker import free_port
from tidegate_cloud.console.groups import NOTICES_KEPT, Groups, Notices
from tidegate_cloud.console.pipeline import Scraper, TopicRates
from tidegate_protocols.alerts import NOTIFICATION, Notification


def test_rates_are_what_was_added_over_the_last_seconds():
    rates = TopicRates()
    assert rates.views() == []
    for second in range(25):
        rates.look(float(second), {"a": 100 + 7 * second, "b": 5})
    views = {view.name: view for view in rates.views()}
    assert (views["a"].records, views["a"].per_s, views["b"].per_s) == (100 + 7 * 24, 7.0, 0.0)
    rates.look(25.0, {"a": 0, "b": 5})  # made anew
    assert next(view.per_s for view in rates.views() if view.name == "a") == 0


async def test_a_service_is_asked_for_its_metrics_and_one_that_is_away_is_said_to_be():
    registry = CollectorRegistry()
    frames = Counter("tidegate_processor_frames", "f", registry=registry)
    events = Counter("tidegate_processor_events", "e", registry=registry)
    lag = Gauge("tidegate_processor_lag_records", "l", ["partition"], registry=registry)
    delay = Histogram("tidegate_processor_event_to_commit_seconds", "d", buckets=(0.1, 1.0), registry=registry)
    frames.inc(100)
    events.inc(10)
    lag.labels("0").set(3)
    lag.labels("1").set(4)
    for _ in range(99):
        delay.observe(0.05)
    delay.observe(0.5)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        scraper = Scraper(
            {
                "processor": f"http://127.0.0.1:{server.server_port}/metrics",
                "alerts": f"http://127.0.0.1:{free_port()}/metrics",
            }
        )
        await scraper.stages(10.0)
        frames.inc(50)
        stages = {stage.name: stage for stage in await scraper.stages(20.0)}
    finally:
        server.shutdown()
        thread.join()
    processor = stages["processor"]
    assert (processor.up, processor.in_total, processor.in_per_s, processor.lag) == (True, 150.0, 5.0, 7.0)
    assert (processor.delay_p50_s, processor.delay_p99_s, processor.dead_letters) == (0.1, 0.1, None)
    assert (stages["alerts"].up, stages["agent"].up) == (False, None)


def a_notice(number: int, state: str) -> Notification:
    return Notification(
        id=f"n{number}", alert="a1", receiver="night", channel="chat", state=state, title="t", asked_us=1, ts_us=number
    )  # type: ignore[arg-type]


def test_of_each_message_the_newest_word_is_kept_and_no_more_than_so_many():
    notices = Notices()
    for number in range(NOTICES_KEPT + 5):
        notices.take(f"n{number}", NOTIFICATION.encode(a_notice(number, "sending")))
    notices.take("n10", NOTIFICATION.encode(a_notice(10, "failed")))
    assert [notice.id for notice in notices.newest(frozenset({"failed"}), "", 10)] == ["n10"]
    assert len(notices.newest(frozenset(), "a1", 10**6)) == NOTICES_KEPT
    assert notices.newest(frozenset(), "other", 10) == []
    notices.take("n10", None)
    assert notices.newest(frozenset({"failed"}), "", 10) == []
    assert Groups().changes() == b"[]"
