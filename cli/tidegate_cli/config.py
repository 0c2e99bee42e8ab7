"""`tidegate config`: what agents run, pushed in waves. It may know both ends: layers are checked as an agent would."""

from __future__ import annotations

import getpass
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from tidegate_cloud.rollouts import asking, keys, layers, plan
from tidegate_cloud.rollouts.controller import Controller
from tidegate_cloud.rollouts.ledger import ref_of
from tidegate_protocols.errors import BadInput
from tidegate_protocols.ota import FILE_MAX
from tidegate_protocols.rollouts import FileRef, Gate, Layer, Order, RolloutCommand, RolloutStep, Window, check_layer_id

from . import config_show

_bootstrap = click.option(
    "--bootstrap", envvar="TIDEGATE_BOOTSTRAP", default="127.0.0.1:9092", show_default=True, metavar="HOST:PORT",
    help="Kafka.",
)  # fmt: skip
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_who = click.option("--who", default=getpass.getuser, show_default="who you are here", help="Who asks.")
_why = click.option("--why", default="", help="Why, for the log.")
_wait = click.option("--wait", "wait_s", default=15.0, show_default=True, help="Seconds to wait for an answer.")
_folder = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


@click.group()
def config() -> None:
    """Push configuration to agents, and follow it.

    A layer is a TOML file for some of them: base (all), group/NAME, agent/NAME. What an agent runs is its own file with
    base, its group's layer and its own laid over it.
    """


def _push_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--timeout-s", default=900.0, show_default=True, help="Silence of one that was there: failed."),
        click.option("--heard-s", default=900.0, show_default=True, help="Not heard for longer: away, not waited for."),
        click.option("--on-failure", type=click.Choice(["rollback", "stop"]), default="rollback", show_default=True),
        click.option(
            "--window", "windows", multiple=True, metavar="DAYS@HH:MM-HH:MM@ZONE",
            help="Tell agents only then, such as mon-fri@22:00-05:00@Europe/Berlin. Repeatable.",
        ),
        click.option("--pace", default=0, help="At most so many agents a minute; 0: no limit."),
        click.option("--alerts-ratio", default=2.0, show_default=True, help="New alerts, against before; 0: any."),
        click.option("--hold-s", default=60.0, show_default=True, help="How long a gate must hold."),
        click.option("--success", default=0.95, show_default=True, help="Share of the answers that must be good."),
        click.option(
            "--waves", default="1%,10%,50%,100%", show_default=True,
            help="Sizes, the canary first: 5 or 10%; with ! at the end a person lets it begin.",
        ),
        click.option("--title", default="", help="What it is for, in a few words."),
        click.option(
            "--file", "files", multiple=True, metavar="NAME=PATH",
            help="A file that goes with it (a calibration table, a certificate). Repeatable.",
        ),
        click.argument("path", type=click.Path(path_type=Path, dir_okay=False, exists=True)),
        click.argument("layer"),
    ):  # fmt: skip
        command = option(command)
    return command


@config.command()
@_push_options
@click.option("--dry-run", is_flag=True, help="Say which agents would change and how, and push nothing.")
@_who
@_why
@_wait
@_bootstrap
@_json
def push(layer: str, path: Path, dry_run: bool, who: str, why: str, wait_s: float, bootstrap: str, as_json: bool,
         **given: Any) -> None:  # fmt: skip
    """Push FILE as LAYER, in waves.

    \b
    tidegate config push group/vans vans.toml --waves 5,10%,100%! --why "shorter windows"
    """
    order, contents = _order(layer, path, given)
    if dry_run:
        config_show.dry_run(_controller(bootstrap), order, as_json)
        return
    if contents:
        order = msgspec.structs.replace(order, places=asking.put_files(bootstrap, contents))
    body = msgspec.json.encode(order).decode()
    command = RolloutCommand(id=_key(), action="push", who=who, why=why, body=body)
    _answer(asking.ask(bootstrap, command, wait_s), as_json)


@config.command()
@click.argument("layer")
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@_bootstrap
@_json
def diff(layer: str, path: Path, bootstrap: str, as_json: bool) -> None:
    """Show how FILE differs from LAYER as it stands, and which agents it would change."""
    order, _ = _order(layer, path, {})
    config_show.dry_run(_controller(bootstrap), order, as_json)


def _order(layer: str, path: Path, given: dict[str, Any]) -> tuple[Order, list[bytes]]:
    """The order for a push, and the contents of its files. Raises BadInput."""
    check_layer_id(layer)
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot be read: {error}", where=str(path)) from None
    refs: dict[str, FileRef] = {}
    contents = []
    for text in given.get("files", ()):
        name, _, source = text.partition("=")
        if not source:
            raise BadInput(f"{text!r} is not NAME=PATH", where="--file")
        data = _file(Path(source))
        refs[name] = ref_of(data)
        contents.append(data)
    try:
        layers.check(Layer(id=layer, content=content, files=refs))
    except BadInput as error:
        raise error.at(str(path)) from None
    if not given:
        return Order(layer=layer, content=content), []
    ratio = given["alerts_ratio"]
    order = Order(
        layer=layer, content=content, title=given["title"], files=refs,
        waves=[size.strip() for size in given["waves"].split(",")],
        gate=Gate(success=given["success"], hold_s=given["hold_s"], alerts_ratio=ratio if ratio > 0 else None),
        timeout_s=given["timeout_s"], heard_s=given["heard_s"], pace=given["pace"],
        windows=[_window(text) for text in given["windows"]], on_failure=given["on_failure"],
    )  # fmt: skip
    plan.check_windows(order.windows)
    plan.cut(order, "R-0", ["x"], set())
    return order, contents


def _file(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", where=str(path)) from None
    if len(data) > FILE_MAX:
        raise BadInput(f"{len(data)} bytes; at most {FILE_MAX} are allowed", where=str(path))
    return data


_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _window(text: str) -> Window:
    try:
        days, times, *zone = text.split("@")
        start, end = times.split("-")
        first, _, last = days.partition("-")
        from_, to = _DAYS.index(first), _DAYS.index(last or first)
        chosen = [(from_ + i) % 7 for i in range((to - from_) % 7 + 1)]
        fields = {"days": chosen, "start": start, "end": end, "zone": zone[0] if zone else "UTC"}
        return msgspec.convert(fields, Window)
    except (ValueError, msgspec.ValidationError):
        raise BadInput(
            f"{text!r} is not a window", where="--window", hint="mon-fri@22:00-05:00@Europe/Berlin"
        ) from None


@config.command()
@click.argument("rollout", required=False)
@_bootstrap
@_json
def status(rollout: str | None, bootstrap: str, as_json: bool) -> None:
    """Say how rollouts stand; of one, its waves, its log, and the agents that did not take it."""
    controller = _controller(bootstrap)
    if rollout is None:
        config_show.all_rollouts(controller, as_json)
    else:
        config_show.one_rollout(controller, rollout, asking.steps(bootstrap, rollout), as_json)


@config.command()
@click.argument("agent", required=False)
@_bootstrap
@_json
def agents(agent: str | None, bootstrap: str, as_json: bool) -> None:
    """Say what agents run and how they are; of one, the configuration that it should run."""
    controller = _controller(bootstrap)
    if agent is None:
        config_show.all_agents(controller, as_json)
    else:
        config_show.one_agent(controller, agent, as_json)


@config.command("layers")
@click.argument("layer", required=False)
@_bootstrap
@_json
def layers_command(layer: str | None, bootstrap: str, as_json: bool) -> None:
    """List the layers; print one."""
    config_show.layers_of(_controller(bootstrap), layer, as_json)


def _action(name: str, text: str) -> None:
    @click.argument("rollout")
    @_who
    @_why
    @_wait
    @_bootstrap
    @_json
    def run(rollout: str, who: str, why: str, wait_s: float, bootstrap: str, as_json: bool) -> None:
        command = RolloutCommand(id=_key(), rollout=rollout, action=name, who=who, why=why)
        _answer(asking.ask(bootstrap, command, wait_s), as_json)

    run.__doc__ = text
    config.command(name)(run)


for _name, _text in (
    ("approve", "Let the next wave begin, also past a gate that failed."),
    ("pause", "Tell nobody else for now. Those that have it keep it."),
    ("resume", "Go on after a pause."),
    ("abort", "Tell nobody else, for good. Those that have it keep it until something follows."),
    ("rollback", "Bring back what was before, under a higher number, to everybody who was told."),
    ("retry", "Tell those that failed once more."),
):
    _action(_name, _text)


@config.group("keys")
def keys_group() -> None:
    """The keys that sign configurations (The Update Framework)."""


@keys_group.command()
@_folder
@click.option("--root-keys", default=1, show_default=True, help="How many root keys.")
@click.option("--root-threshold", default=1, show_default=True, help="How many of them must sign.")
@click.option("--online-threshold", default=1, show_default=True, help="How many keys sign each online role.")
def init(folder: Path, root_keys: int, root_threshold: int, online_threshold: int) -> None:
    """Make new keys and the root that says what each may sign."""
    path = keys.create(folder, root_keys=root_keys, root_threshold=root_threshold, online_threshold=online_threshold)
    click.echo(f"{path}: install this with each agent ([ota] root).")
    click.echo(f"{folder / 'root'}: take this to a safe place; only rotation needs it.")
    click.echo(f"{folder / 'online'}: for the server: tidegate rollouts --keys {folder}")


@keys_group.command()
@_folder
@click.argument("roles", nargs=-1, required=True, metavar="ROLE…")
def rotate(folder: Path, roles: tuple[str, ...]) -> None:
    """Replace the keys of ROLE (root, targets, snapshot, timestamp) in a new root version, signed by old and new.

    Restart the server after it. Agents follow by themselves.
    """
    click.echo(f"{keys.rotate(folder, roles)}: the new root. The server publishes it when it starts.")


@keys_group.command()
@_folder
@_json
def show(folder: Path, as_json: bool) -> None:
    """Show what the newest root allows, and which private keys are here."""
    config_show.root(folder, as_json)


def _controller(bootstrap: str) -> Controller:
    return asking.read(bootstrap)


def _answer(step: RolloutStep, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(step)))
    elif step.action == "refused":
        raise click.ClickException(step.why)
    else:
        about = f", {step.agents} agents" if step.agents else ""
        Console(highlight=False).print(f"{step.rollout} {step.action}{about}: {step.to_state}", markup=False)
    if step.action == "refused":
        raise SystemExit(1)


def _key() -> str:
    return uuid.uuid4().hex
