"""The file that says who is reached how. It holds secrets, so it stays on the machine and never travels through Kafka.

Addresses and secrets may be given as ``env:NAME`` or ``file:PATH``.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from tidegate_protocols.errors import BadInput
from tidegate_protocols.policies import Matcher, Silence

from tidegate_cloud.silences import Quiet

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class QuietHours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a receiver is left alone. What is let through at any time: severities."""

    begin: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    days: list[str] = []
    time_zone: str = ""
    let_through: tuple[str, ...] = ("critical",)


class ChannelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One way to reach a receiver: an Apprise address, or a webhook with its secrets (all of them sign)."""

    name: str
    apprise: str = ""
    webhook: str = ""
    secret: str | list[str] = []


class ReceiverConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is told: a person, a desk, a program."""

    channels: list[ChannelConfig]
    quiet: QuietHours | None = None


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file.

    public_url      where people reach the console, for links; empty: no links
    give_up_after_s how long a message is tried
    max_age_s       what was asked for longer ago than this is not sent at all
    concurrency     messages under way at once
    """

    receivers: dict[str, ReceiverConfig]
    public_url: str = ""
    give_up_after_s: float = 6 * 3600.0
    max_age_s: float = 24 * 3600.0
    concurrency: int = 8


def load(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read and check the file. Raises BadInput naming the receiver and the channel, never what is secret."""
    try:
        text = path.read_text("utf-8")
        config = msgspec.convert(tomllib.loads(text), Config)
    except OSError as error:
        raise BadInput(error.strerror or str(error), where=str(path)) from None
    except UnicodeDecodeError:
        raise BadInput("not UTF-8 text", where=str(path)) from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"not TOML: {error}", where=str(path)) from None
    except msgspec.ValidationError as error:
        raise BadInput(str(error), where=str(path)) from None
    values = os.environ if environ is None else environ
    try:
        _check(config)
        receivers = {
            name: msgspec.structs.replace(
                receiver, channels=[_resolved(channel, path.parent, values) for channel in receiver.channels]
            )
            for name, receiver in config.receivers.items()
        }
    except BadInput as error:
        raise error.at(str(path)) from None
    return msgspec.structs.replace(config, receivers=receivers)


def quiet_of(receiver: str, config: ReceiverConfig) -> Quiet | None:
    """The receiver's quiet hours, ready for use. Raises BadInput."""
    hours = config.quiet
    if hours is None:
        return None
    silence = Silence(
        id=receiver, matchers=[Matcher(name="device", op="~", value="*")], starts_us=0, days=hours.days,
        from_time=hours.begin, to_time=hours.end, time_zone=hours.time_zone,
    )  # fmt: skip
    try:
        return Quiet(silence)
    except BadInput as error:
        raise BadInput(error.what, where="quiet", hint=error.hint) from None


def _check(config: Config) -> None:
    if not config.receivers:
        raise BadInput("no receivers", hint="[receivers.desk] with [[receivers.desk.channels]]")
    for name, low, high in (
        ("give_up_after_s", 1, 7 * 86_400.0), ("max_age_s", 60, 30 * 86_400.0), ("concurrency", 1, 64)
    ):  # fmt: skip
        if not low <= getattr(config, name) <= high:
            raise BadInput(f"{getattr(config, name)} is not within {low} and {high:g}", where=name)
    for receiver, settings in config.receivers.items():
        where = f"receivers.{receiver}"
        if _NAME.fullmatch(receiver) is None:
            raise BadInput("not a name", where=where, hint="1 to 64 of A-Z a-z 0-9 . _ -")
        if not settings.channels:
            raise BadInput("no channels", where=where)
        if settings.quiet is not None:
            try:
                quiet_of(receiver, settings)
            except BadInput as error:
                raise error.at(where) from None
        names = [channel.name for channel in settings.channels]
        for channel in settings.channels:
            _check_channel(channel, f"{where}, channel {channel.name!r}", names.count(channel.name))


def _check_channel(channel: ChannelConfig, where: str, count: int) -> None:
    if _NAME.fullmatch(channel.name) is None:
        raise BadInput("not a name", where=where, hint="1 to 64 of A-Z a-z 0-9 . _ -")
    if count > 1:
        raise BadInput("the name is there twice", where=where)
    if bool(channel.apprise) == bool(channel.webhook):
        raise BadInput("either apprise or webhook is wanted", where=where)
    if channel.webhook and not channel.secret:
        raise BadInput("a webhook needs a secret", where=where, hint="whsec_… or any text, best as env:NAME")
    if channel.apprise and channel.secret:
        raise BadInput("secret goes with webhook", where=where)


def _resolved(channel: ChannelConfig, folder: Path, environ: Mapping[str, str]) -> ChannelConfig:
    """The channel with what `env:` and `file:` stand for."""
    try:
        secrets = [channel.secret] if isinstance(channel.secret, str) else channel.secret
        found = msgspec.structs.replace(
            channel, apprise=_value(channel.apprise, folder, environ), webhook=_value(channel.webhook, folder, environ),
            secret=[_value(secret, folder, environ) for secret in secrets],
        )  # fmt: skip
    except BadInput as error:
        raise error.at(f"channel {channel.name!r}") from None
    if found.webhook:
        parts = urlsplit(found.webhook)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInput("webhook is not an http(s) address", where=f"channel {channel.name!r}")
    return found


def _value(text: str, folder: Path, environ: Mapping[str, str]) -> str:
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        if not environ.get(name):
            raise BadInput(f"the environment variable {name} is not set")
        return environ[name]
    if text.startswith("file:"):
        path = folder / text.removeprefix("file:")
        try:
            found = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{path} cannot be read: {error}") from None
        if not found:
            raise BadInput(f"{path} is empty")
        return found
    return text
