"""`tidegate notify`: tell people, try whether they can be told, and see what became of messages."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
from confluent_kafka import KafkaException
from rich.console import Console
from rich.table import Table
from tidegate_protocols.alerts import NOTIFICATION, Notification
from tidegate_protocols.errors import BadInput
from tidegate_protocols.topics import NOTIFICATIONS

from tidegate_cloud.engine.service import serve, service_options
from tidegate_cloud.kafka import Offsets, Part, read_to, reader

from .channels import Channel, SendFailed, open_channel
from .config import Config, load
from .message import Message

_config_option: Callable[[Any], Any] = click.option(
    "--config", "path", type=click.Path(path_type=Path, dir_okay=False), default=Path("notify.toml"),
    show_default=True, envvar="TIDEGATE_NOTIFY_CONFIG", help="The file of receivers.",
)  # fmt: skip


@click.group(invoke_without_command=True)
@service_options
@_config_option
@click.option("--group", default="tidegate-notify", show_default=True, help="Consumer group of all notifiers.")
@click.pass_context
def notify(ctx: click.Context, bootstrap: str, metrics_port: int, log_level: str, path: Path, group: str) -> None:
    """Tell people what the alert log asks for. Any number of these share the work."""
    if ctx.invoked_subcommand is not None:
        return
    from .service import Notifier

    config = load(path)
    notifier = Notifier(config, _channels(config, path), bootstrap=bootstrap, group=group)
    serve(
        f"notify {group}", notifier, registry=notifier.metrics.registry, metrics_port=metrics_port,
        log_level=log_level,
    )  # fmt: skip


@notify.command()
@_config_option
@click.argument("receivers", nargs=-1)
def check(path: Path, receivers: tuple[str, ...]) -> None:
    """Check the file, and whether RECEIVERS (names that policies use) are in it. Sends nothing."""
    config = load(path)
    _channels(config, path)
    missing = [name for name in receivers if name not in config.receivers]
    if missing:
        raise click.ClickException(f"{path}: no receiver {missing[0]!r}; there are {', '.join(config.receivers)}")
    for name, receiver in config.receivers.items():
        click.echo(f"{name}: {', '.join(channel.name for channel in receiver.channels)}")


@notify.command()
@_config_option
@click.argument("receiver")
@click.option("--channel", "only", help="Only this one of its channels.")
def test(path: Path, receiver: str, only: str | None) -> None:
    """Send a test message to each channel of RECEIVER, quiet hours or not, and say which of them took it."""
    config = load(path)
    channels = {key: channel for key, channel in _channels(config, path).items() if key[0] == receiver}
    if receiver not in config.receivers:
        raise click.ClickException(f"{path}: no receiver {receiver!r}; there are {', '.join(config.receivers)}")
    channels = {key: channel for key, channel in channels.items() if only in (None, key[1])}
    if not channels:
        raise click.ClickException(f"{path}: receiver {receiver!r} has no channel {only!r}")
    now_s = time.time()
    message = Message(
        id=uuid.uuid4().hex, alert="", device="", group="", rule="", severity="notice", state="open",
        title="This is how alerts will reach you", level=1, count=0, started_us=None, asked_us=int(now_s * 1e6),
        receiver=receiver, link=config.public_url, test=True,
    )  # fmt: skip
    failed = 0
    for (_, name), channel in channels.items():
        try:
            channel.send(message, now_s)
        except SendFailed as error:
            failed += 1
            click.echo(f"{receiver}/{name}: failed: {error}")
        else:
            click.echo(f"{receiver}/{name}: sent")
    if failed:
        raise click.exceptions.Exit(1)


@notify.command("ls")
@click.option(
    "--bootstrap", envvar="TIDEGATE_BOOTSTRAP", default="127.0.0.1:9092", show_default=True, metavar="HOST:PORT",
    help="Kafka.",
)  # fmt: skip
@click.option("--state", help="Only these: sending, sent, retrying, held, failed, overtaken, too-old.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="The newest so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def list_messages(bootstrap: str, state: str | None, limit: int, as_json: bool) -> None:
    """List messages and what became of them, oldest first."""
    found = [record for record in _messages(bootstrap) if state in (None, record.state)]
    found = sorted(found, key=lambda record: (record.ts_us, record.id))[-limit:]
    if as_json:
        for record in found:
            click.echo(json.dumps(msgspec.to_builtins(record)))
        return
    table = Table("when (UTC)", "to", "state", "tries", "message", "error", box=None)
    for record in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.ts_us / 1e6))
        table.add_row(when, record.channel, record.state, str(record.attempts), record.title, record.error)
    Console().print(table if found else "No messages.")


def _messages(bootstrap: str) -> list[Notification]:
    """The newest record of every message. Raises ClickException."""
    newest: dict[str, Notification] = {}
    try:
        parts = [Part(NOTIFICATIONS.name, number) for number in range(NOTIFICATIONS.partitions)]
        ends = Offsets(bootstrap, "tidegate-notify-ls").latest(parts)
        client = reader(bootstrap, "tidegate-notify-ls")
        try:
            for message in read_to(client, ends):
                try:
                    record = NOTIFICATION.decode(message.value() or b"")
                except BadInput as error:
                    click.echo(f"left out: {error}", err=True)
                else:
                    newest[record.id] = record
        finally:
            client.close()
    except KafkaException as error:
        raise click.ClickException(f"Kafka at {bootstrap}: {error.args[0].str()}") from None
    return list(newest.values())


def _channels(config: Config, path: Path) -> dict[tuple[str, str], Channel]:
    """Every channel, by receiver and name. Raises BadInput naming the one that cannot be used."""
    opened: dict[tuple[str, str], Channel] = {}
    for receiver, settings in config.receivers.items():
        for channel in settings.channels:
            try:
                opened[receiver, channel.name] = open_channel(channel)
            except BadInput as error:
                raise error.at(f"{path}, receivers.{receiver}, channel {channel.name!r}") from None
    return opened
