"""The demo's MQTT broker: rumqttd, from PyPI's iotcore, on the loopback address only.

It keeps persistent sessions in memory, so they do not outlive it, and sends at most 100 messages ahead of a client's
acknowledgements. A site runs Mosquitto or another broker of its own.
Why this one: docs/decisions/embedded-mqtt-broker.md.

    python -m tidegate_cli.mqtt_broker --port 1883
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

import click
from tidegate_cloud.broker.ports import answers, is_free

_MAX_PAYLOAD = 1 << 20
_MAX_INFLIGHT = 1000


def _announce(port: int) -> None:
    while not answers(port):
        time.sleep(0.05)
    click.echo(f"ready: MQTT on 127.0.0.1:{port}")


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=1883, show_default=True)
def mqtt_broker(port: int) -> None:
    """Run an MQTT broker on 127.0.0.1 until it is told to end."""
    from iotcore.iotcore import IotCoreBroker

    if not is_free(port):
        raise click.ClickException(f"MQTT: port {port} on 127.0.0.1 is in use; choose another one with --port")
    # It logs a record of level error for every packet.
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    threading.Thread(target=_announce, args=(port,), daemon=True).start()
    # The broker has no way to be asked to end, and holds nothing on disk: leave at once.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    serve = IotCoreBroker(
        listen="127.0.0.1", port=port, max_payload_size=_MAX_PAYLOAD, max_inflight_count=_MAX_INFLIGHT
    )
    # It blocks outside Python, where signals would wait for ever; so it gets a thread and this one waits for signals.
    thread = threading.Thread(target=serve.run_forever, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(1)
    raise click.ClickException("the MQTT broker ended by itself")


if __name__ == "__main__":
    mqtt_broker()
