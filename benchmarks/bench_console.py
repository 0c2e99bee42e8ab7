"""The pages under load, in headless Chromium, on a real Kafka and a real console.

- `alerts/100000`: with so many open alerts on Kafka, how long the alerts page takes from its address to its first row.
- `map/10000`: with so many vehicles at 1 Hz, how long the map's main thread works for each update that reaches it: by
  the browser's own account (TaskDuration of DevTools, in the thread's own time) over the messages that came with
  positions, second by second; the median. All that it does in a second is `busy_ms_per_s`. And what its heap grows by,
  from the first quarter of that time to the last; how many cores the console itself takes for it; and how old what it
  shows is, by its own word.

All is seen from outside, so that it holds for whatever the pages are made of.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from crc32c import crc32c
from tidegate_cloud.admin import topics
from tidegate_cloud.broker.node import Broker
from tidegate_protocols.alerts import ALERT, Alert
from tidegate_protocols.batch import batch_from_rows
from tidegate_protocols.codec import backend
from tidegate_protocols.codec.varint import put_varint, zigzag
from tidegate_protocols.errors import BadInput
from tidegate_protocols.frame import CRC_SIZE, encode_frame
from tidegate_protocols.ids import partition_of
from tidegate_protocols.schema import Channel, Schema
from tidegate_protocols.topics import ALERTS, DEVICE_PARTITIONS, FRAMES, PARTITIONER, SCHEMAS

from benchmarks.common import Row, percentile, run

VEHICLES = 10_000
ALERTS_COUNT = 100_000
_FIRST_S = 90.0
_CHROMIUM = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
_PLACES = 500
_SEQ, _TIME_US = 100_000, time.time_ns() // 1000
_SCHEMA = Schema("truck", tuple(Channel(name) for name in ("lat", "lon", "speed", "heading")))
_LINK = re.compile(r"(https?://\S+)(/login#\S+)")


@contextmanager
def _console() -> Iterator[tuple[str, str]]:
    """(Kafka, the address that logs in)."""
    with tempfile.TemporaryDirectory() as directory:
        broker = Broker(Path(directory) / "kafka")
        broker.start()
        try:
            client = topics.connect(broker.bootstrap)
            topics.apply(client, topics.plan(client))
            topics.settle(client)
            yield broker.bootstrap, directory
        finally:
            broker.kill()


def _serve(bootstrap: str, directory: str) -> tuple[subprocess.Popen[bytes], str]:
    log = Path(directory) / "console.log"
    command = [sys.executable, "-W", "ignore", "-m", "tidegate_cli.main", "console", "--bootstrap", bootstrap, "--port",
               "0", "--login-link"]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=os.environ.copy())
    deadline = time.monotonic() + 120
    while "ready:" not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise BadInput(f"the console did not start: {log.read_text()[-500:]}")
        time.sleep(0.1)
    found = _LINK.search(log.read_text())
    assert found is not None
    return process, "".join(found.groups())


def _put_alerts(bootstrap: str, count: int) -> None:
    client = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "queue.buffering.max.messages": 500_000})
    now_us = time.time_ns() // 1000
    for number in range(count):
        device = f"van-{number % 5000}"
        alert = Alert(
            id=f"{number:032x}", device=device, rule="geofence", subject="yard", state="open", severity="warning",
            kind="geofence", title="Entered Reefer Yard", started_us=now_us - number, opened_us=now_us - number,
            changed_us=now_us - number, version=1, event=f"{number:032x}", events=1, lat=51.2, lon=2.9,
        )  # fmt: skip
        client.produce(ALERTS.name, ALERT.encode(alert), alert.id, partition_of(device.encode(), DEVICE_PARTITIONS))
        client.poll(0)
    client.flush(60)


def _drive(bootstrap: str, count: int, go: Any, stop: Any) -> None:
    """Every vehicle once a second, in frames as agents send them; in a process of its own.

    Vehicles go to and fro, many from the same places. What a frame says of a place is encoded once; whose it is, its
    number, its time and its checksum are new each second: encoding 10,000 frames a second is not what is measured.
    """
    backend.load()
    names = [f"van-{number:05}" for number in range(count)]
    bodies = []
    for step in (0, 1, 2, 1):
        for place in range(_PLACES):
            row = (51.0 + place % 25 / 25 + step * 1e-4, 2.5 + place // 25 / 25, 11.1, float(step * 90))
            batch = batch_from_rows(names[0], _SCHEMA, [(_TIME_US, row)], epoch=1, seq=_SEQ)
            frame = encode_frame(batch, codec="bitpack")
            head, _, body = frame[:-CRC_SIZE].partition(names[0].encode() + _counted(_SEQ, _TIME_US))
            bodies.append(body)
    client = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "queue.buffering.max.messages": 500_000,
                       **PARTITIONER})  # fmt: skip
    client.produce(SCHEMAS.name, _SCHEMA.canonical_json, _SCHEMA.fingerprint.hex())
    client.flush(30)
    go.wait()
    began = time.monotonic()
    tick = 0
    while not stop.is_set():
        for n, device in enumerate(names):
            if n % 500 == 0:  # spread over the second, as vehicles are
                time.sleep(max(0.0, began + tick + n / count - time.monotonic()))
            counted = _counted(_SEQ + tick, time.time_ns() // 1000)
            frame = head + device.encode() + counted + bodies[tick % 4 * _PLACES + n % _PLACES]
            client.produce(FRAMES.name, frame + crc32c(frame).to_bytes(CRC_SIZE, "little"), device)
            client.poll(0)
        tick += 1
    client.flush(30)


def _counted(seq: int, ts_us: int) -> bytes:
    """A header's epoch, sequence number, number of scans (1) and first time."""
    out = bytearray()
    for value in (1, seq, 1, zigzag(ts_us)):
        put_varint(out, value)
    return bytes(out)


def _first_rows(context: Any, base: str, times: int) -> Iterator[float]:
    """From the address of the alerts page to its first row, ms."""
    for _ in range(times):
        page = context.new_page()
        began = time.monotonic()
        page.goto(f"{base}/alerts", wait_until="commit")
        page.get_by_text("Entered Reefer Yard").first.wait_for(timeout=60_000)
        yield (time.monotonic() - began) * 1000
        page.close()


def _updates(context: Any, base: str, seconds: int) -> tuple[list[float], list[float], float, list[float]]:
    """Second by second: main-thread time per update and in all, ms; by how much the heap grew, MiB; and how far behind
    the console was, ms.
    """
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    count = 0

    def heard(message: dict[str, Any]) -> None:
        nonlocal count
        is_event = message.get("eventName") == "positions"
        is_frame = message.get("response", {}).get("opcode") == 2
        count += is_event or is_frame

    for name in ("Network.eventSourceMessageReceived", "Network.webSocketFrameReceived"):
        devtools.on(name, heard)
    devtools.send("Network.enable")
    # Thread ticks are what the main thread worked; wall time would hold what it waited for a core as well.
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(base)
    deadline = time.monotonic() + _FIRST_S
    while not count and time.monotonic() < deadline:
        page.wait_for_timeout(500)
    page.wait_for_timeout(5_000)  # the first picture, and what is compiled for it
    spent, busy, heaps, behind = [], [], [], []
    known = _metrics(devtools)
    for _ in range(seconds):
        before, updates = known, count
        page.wait_for_timeout(1000)
        known = _metrics(devtools)
        heaps.append(known["JSHeapUsedSize"])
        worked = (known["TaskDuration"] - before["TaskDuration"]) * 1000
        took = known["Timestamp"] - before["Timestamp"]
        busy.append(worked / took)
        if count > updates:
            spent.append(worked / (count - updates))
        behind.append(context.request.get(f"{base}/api/v1/status").json()["health"]["behind_ms"])
    page.close()
    quarter = max(1, len(heaps) // 4)
    return spent, busy, (min(heaps[-quarter:]) - min(heaps[:quarter])) / 2**20, behind


def _cpu_s(pid: int) -> float:
    """What a process has worked so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _metrics(devtools: Any) -> dict[str, float]:
    return {each["name"]: each["value"] for each in devtools.send("Performance.getMetrics")["metrics"]}


def measure(quick: bool) -> list[Row]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise BadInput("the pages need a browser to be shown in", hint="apt install chromium")
    from playwright.sync_api import sync_playwright

    # Quick or not, the cases are the same; only how long they are looked at is not.
    repeats, seconds = (3, 8) if quick else (9, 600)
    rows = []
    with _console() as (bootstrap, directory), sync_playwright() as playwright:
        _put_alerts(bootstrap, ALERTS_COUNT)
        process, address = _serve(bootstrap, directory)
        spawn = multiprocessing.get_context("spawn")
        go, stop = spawn.Event(), spawn.Event()
        driving = spawn.Process(target=_drive, args=(bootstrap, VEHICLES, go, stop))
        driving.start()
        try:
            browser = playwright.chromium.launch(executable_path=chromium, args=_CHROMIUM)
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            page = context.new_page()
            page.goto(address)
            page.get_by_role("button", name="Not now").click()
            page.get_by_role("status").first.wait_for(state="attached", timeout=60_000)
            page.close()
            base = address.partition("/login")[0]
            times = list(_first_rows(context, base, repeats))
            rows.append(Row(f"alerts/{ALERTS_COUNT}", "first_row_ms", percentile(times, 0.5), "ms"))
            go.set()
            began, worked = time.monotonic(), _cpu_s(process.pid)
            spent, busy, grown, behind = _updates(context, base, seconds)
            cores = (_cpu_s(process.pid) - worked) / (time.monotonic() - began)
            if not spent:
                raise BadInput("no positions reached the page")
            rows.append(Row(f"map/{VEHICLES}", "update_ms", percentile(spent, 0.5), "ms"))
            rows.append(Row(f"map/{VEHICLES}", "busy_ms_per_s", percentile(busy, 0.5), "ms"))
            rows.append(Row(f"map/{VEHICLES}", "heap_growth_mib", grown, "MiB"))
            rows.append(Row(f"map/{VEHICLES}", "console_cores", cores, "cores"))
            rows.append(Row(f"map/{VEHICLES}", "behind_p90_ms", percentile(behind, 0.9), "ms"))
            browser.close()
        finally:
            stop.set()
            go.set()
            driving.join()
            process.terminate()
            process.wait(30)
    return rows


if __name__ == "__main__":
    run("console", measure, packages=["litestar", "uvicorn", "playwright"])
