"""`tidegate alerts policies`: see, check and change how events become alerts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tidegate_protocols.policies import Policy

from tidegate_cloud.admin import registry
from tidegate_cloud.admin.topics import connect, need

from . import policy_store as store

_bootstrap: Callable[[Any], Any] = click.option(
    "--bootstrap", envvar="TIDEGATE_BOOTSTRAP", default="127.0.0.1:9092", show_default=True, metavar="HOST:PORT",
    help="Kafka.",
)  # fmt: skip
_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
_json: Callable[[Any], Any] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def policies() -> None:
    """See, check and change how events become alerts."""


@policies.command("ls")
@_bootstrap
@_json
def list_policies(bootstrap: str, as_json: bool) -> None:
    """List the policies that are in force, the built-in ones too."""
    current, written = _in_force(bootstrap)
    if as_json:
        click.echo(json.dumps([_plain(policy, written) for policy in current.values()], indent=2))
        return
    table = Table("policy", "version", "from", "enabled", "operator", "opens", "ends", "tells", box=None)
    for policy in current.values():
        tells = ", ".join(f"{'/'.join(level.to)} after {level.after_s:g} s" for level in policy.tell) or "nobody"
        row = (
            policy.id, str(policy.version), "people" if policy.id in written else "built in",
            "yes" if policy.enabled else "no", policy.operator, ", ".join(policy.opens), ", ".join(policy.ends), tells,
        )  # fmt: skip
        table.add_row(*(escape(cell) for cell in row))
    Console().print(table)


@policies.command()
@click.argument("name", metavar="ID")
@_bootstrap
def show(name: str, bootstrap: str) -> None:
    """Show one policy as JSON, as a file for `apply` may hold it."""
    current, written = _in_force(bootstrap)
    if name not in current:
        raise click.ClickException(f"there is no policy {name!r}; there are {', '.join(current)}")
    click.echo(json.dumps({k: v for k, v in _plain(current[name], written).items() if k != "built_in"}, indent=2))


@policies.command()
@_file
def check(file: Path) -> None:
    """Check a file of policies (TOML or JSON), without Kafka."""
    click.echo(f"{len(registry.load(store.KIND, file))} policies, each can be meant")


@policies.command()
@_file
@_bootstrap
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--prune", is_flag=True, help="Remove what people wrote and the file does not have.")
def apply(file: Path, bootstrap: str, dry_run: bool, prune: bool) -> None:
    """Put the policies of FILE (TOML or JSON) in force, and say field by field what that changes.

    Nothing is written unless all of it can be meant. Versions are counted by this command; those in the file do not
    matter. Alerts that are open stay; a built-in policy that is removed counts again as it was built in.
    """
    wanted = [record for record in registry.load(store.KIND, file) if isinstance(record, Policy)]
    current, written = _in_force(bootstrap)
    changes = store.plan(current, written, wanted, prune=prune)
    for change in changes:
        if change.action == "leave":
            continue
        number = f" (version {change.after.version})" if change.after is not None else ""
        click.echo(f"{change.action} {change.id}{number}")
        for name, before, after in change.differences():
            if change.before is None:
                if after not in (None, [], {}, ""):
                    click.echo(f"  {name}: {json.dumps(after, ensure_ascii=False)}")
            else:
                then = json.dumps(after, ensure_ascii=False) if change.after is not None else "nothing"
                click.echo(f"  {name}: {json.dumps(before, ensure_ascii=False)} → {then}")
    due = sum(change.action != "leave" for change in changes)
    if due and not dry_run:
        store.apply(bootstrap, changes)
    click.echo(f"{due} of {len(changes)} {'would change' if dry_run else 'changed'}")


def _in_force(bootstrap: str) -> tuple[dict[str, Policy], frozenset[str]]:
    need(connect(bootstrap), store.KIND.topic)
    return store.in_force(bootstrap)


def _plain(policy: Policy, written: frozenset[str]) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(policy)
    return fields | {"built_in": policy.id not in written}
