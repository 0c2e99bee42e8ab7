"""`tidegate users`: who may use the console, straight on Kafka. Whoever may write there is trusted anyway."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import click
from confluent_kafka import KafkaException
from rich.console import Console
from rich.table import Table
from tidegate_protocols.accounts import LINK, USER, Link, User
from tidegate_protocols.errors import BadInput
from tidegate_protocols.topics import ACCOUNTS

from tidegate_cloud.kafka import Offsets, Part, read_to, reader, write

from .security.accounts import LINK_US
from .security.passwords import digest, secret

_FLUSH_S = 15.0
_bootstrap = click.option(
    "--bootstrap", envvar="TIDEGATE_BOOTSTRAP", default="127.0.0.1:9092", show_default=True, help="Kafka."
)
_role = click.Choice(["viewer", "operator", "admin"])


@click.group()
def users() -> None:
    """Keep the people who may use the console."""


@users.command("ls")
@_bootstrap
def listed(bootstrap: str) -> None:
    """List them."""
    table = Table("name", "full name", "role", "password", box=None, header_style="dim")
    for user in _read(bootstrap):
        table.add_row(user.name, user.full_name, user.role, "set" if user.password else "none yet")
    Console(highlight=False, soft_wrap=True, markup=False).print(table)


@users.command()
@click.argument("name")
@click.option("--role", type=_role, default="operator", show_default=True)
@click.option("--full-name", default="", help="As alerts name the person.")
@_bootstrap
def add(name: str, role: str, full_name: str, bootstrap: str) -> None:
    """Add a person, and print the path of a link that logs in once.

    The path goes behind a console's address.
    """
    import msgspec

    from .security.routes import Name

    try:
        msgspec.convert(name, Name)
    except msgspec.ValidationError:
        raise BadInput(f"{name!r}", where="name", hint="lower-case letters, digits, . _ -") from None
    if any(user.name == name for user in _read(bootstrap)):
        raise BadInput(f"there is a user {name!r} already", where="users add")
    made = User(name=name, full_name=full_name, role=role, changed_us=_now_us())  # type: ignore[arg-type]
    _write(bootstrap, f"user/{name}", USER.encode(made))
    click.echo(_link(bootstrap, name))


@users.command()
@click.argument("name")
@_bootstrap
def link(name: str, bootstrap: str) -> None:
    """Print the path of a link that logs this person in once, within the hour."""
    _known(bootstrap, name)
    click.echo(_link(bootstrap, name))


@users.command()
@click.argument("name")
@_bootstrap
def remove(name: str, bootstrap: str) -> None:
    """Remove a person: no session and no token of theirs is good any more."""
    _known(bootstrap, name)
    _write(bootstrap, f"user/{name}", None)


def _known(bootstrap: str, name: str) -> None:
    if not any(user.name == name for user in _read(bootstrap)):
        raise BadInput(f"there is no user {name!r}", where="users", hint="`tidegate users ls` lists them")


def _link(bootstrap: str, name: str) -> str:
    text, now_us = secret(), _now_us()
    record = Link(user=name, created_us=now_us, expires_us=now_us + LINK_US)
    _write(bootstrap, f"link/{digest(text)}", LINK.encode(record))
    return f"/login#{text}"


def _read(bootstrap: str) -> list[User]:
    return sorted(_records(bootstrap), key=lambda user: user.name)


def _records(bootstrap: str) -> Iterator[User]:
    name = f"tidegate-users-{uuid.uuid4().hex[:8]}"
    consumer = reader(bootstrap, name)
    newest: dict[str, User] = {}
    try:
        ends = Offsets(bootstrap, name).latest([Part(ACCOUNTS.name, 0)])
        for message in read_to(consumer, ends):
            kind, _, key = (message.key() or b"").decode("utf-8", "replace").partition("/")
            value = message.value()
            if kind == "user" and value is None:
                newest.pop(key, None)
            elif kind == "user" and value is not None:
                newest[key] = USER.decode(value)
    except KafkaException as error:
        raise BadInput(f"Kafka refused: {error.args[0].str()}", where=ACCOUNTS.name) from None
    finally:
        consumer.close()
    return iter(newest.values())


def _write(bootstrap: str, key: str, value: bytes | None) -> None:
    failed, why = write(bootstrap, "tidegate-users", ACCOUNTS.name, [(key, value)], wait_s=_FLUSH_S)
    if failed:
        raise BadInput(f"not written: {why}", where=ACCOUNTS.name)


def _now_us() -> int:
    return time.time_ns() // 1000
