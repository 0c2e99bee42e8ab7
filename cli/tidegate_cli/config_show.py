"""What `tidegate config` prints: rollouts, waves, agents, layers, keys; as tables, or as JSON."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tidegate_cloud.rollouts import keys
from tidegate_cloud.rollouts.controller import Controller
from tidegate_cloud.rollouts.layers import difference
from tidegate_cloud.rollouts.machine import FAILED, answer_of
from tidegate_protocols.errors import BadInput
from tidegate_protocols.rollouts import Order, Rollout, RolloutStep

_NAMED = 20  # agents that are named in a table; --json names all
_COLOURS = {
    "running": "cyan", "done": "green", "stopped": "red", "rolling-back": "red", "rolled-back": "yellow",
    "paused": "yellow", "waiting": "yellow", "aborted": "yellow",
}  # fmt: skip


def _table(*columns: str, title: str | None = None) -> Table:
    return Table(*columns, title=title, box=None, header_style="dim")


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False))


def _console() -> Console:
    return Console(highlight=False)


def _ago(at_us: int) -> str:
    seconds = max(0, time.time() - at_us / 1e6)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def dry_run(controller: Controller, order: Order, as_json: bool) -> None:
    """Which agents a push would change, and how."""
    current = controller.layers.get(order.layer)
    lines = difference("" if current is None else current.content, order.content, order.layer)
    changed = controller.changes(order)
    if as_json:
        _print_json({"layer": order.layer, "diff": lines, "agents": changed})
        return
    console = _console()
    for line in lines:
        style = "green" if line.startswith("+") else "red" if line.startswith("-") else "dim"
        console.print(Text(line, style=style))
    if not lines:
        console.print("No line changes.")
    named = ", ".join(changed[:_NAMED]) + (", …" if len(changed) > _NAMED else "")
    console.print(f"{len(changed)} agents would run something else{': ' + named if named else ''}", markup=False)


def all_rollouts(controller: Controller, as_json: bool) -> None:
    """Every rollout, the newest first."""
    found = sorted(controller.rollouts.values(), key=lambda rollout: -rollout.created_us)
    if as_json:
        _print_json([_summary(controller, rollout) for rollout in found])
        return
    if not found:
        _console().print("No rollout yet: tidegate config push LAYER FILE")
        return
    table = _table("rollout", "layer", "state", "wave", "have it", "failed", "away", "since", "why it stands so")
    for rollout in found:
        counts = _answers(controller, rollout)
        table.add_row(
            rollout.id, rollout.order.layer, Text(rollout.state, style=_COLOURS.get(rollout.state, "")),
            f"{rollout.wave + 1} of {len(rollout.waves)}", f"{counts['took']} of {sum(counts.values())}",
            str(sum(counts[answer] for answer in FAILED)), str(counts["away"]), _ago(rollout.changed_us),
            rollout.reason,
        )  # fmt: skip
    _console().print(table)


def _answers(controller: Controller, rollout: Rollout, wave: int | None = None) -> Counter[str]:
    fleet, now_us = controller.fleet, time.time_ns() // 1000
    members = controller.members(rollout.id)
    chosen = members if wave is None else members[wave : wave + 1]
    back = rollout.state in ("rolling-back", "rolled-back")
    return Counter(
        answer_of(rollout, fleet.told.get(agent), fleet.heard.get(agent), now_us, back=back)
        for part in chosen
        for agent in part
    )


def _summary(controller: Controller, rollout: Rollout) -> dict[str, Any]:
    answers = dict(_answers(controller, rollout))
    value: dict[str, Any] = msgspec.to_builtins(rollout)
    return value | {"answers": answers}


def one_rollout(controller: Controller, name: str, steps: list[RolloutStep], as_json: bool) -> None:
    """One rollout: its waves, who did not take it, its log. Raises BadInput."""
    rollout = controller.rollouts.get(name)
    if rollout is None:
        raise BadInput(f"there is no rollout {name!r}", hint="tidegate config status lists them")
    failed = _failed(controller, rollout)
    if as_json:
        log = [msgspec.to_builtins(step) for step in steps]
        _print_json(_summary(controller, rollout) | {"failed": failed, "log": log})
        return
    console = _console()
    console.print(Text(f"{rollout.id} {rollout.state}: {rollout.reason}", style=_COLOURS.get(rollout.state, "")))
    back = rollout.state in ("rolling-back", "rolled-back")
    table = _table("wave", "agents", "are back" if back else "run it", "applying", "failed", "away", "to be told")
    for number, wave in enumerate(rollout.waves):
        counts = _answers(controller, rollout, number)
        now = " ◀" if number == rollout.wave and rollout.state not in ("done", "rolled-back") else ""
        table.add_row(
            f"{number + 1} {wave.name}{' (needs a person)' if wave.manual else ''}{now}", str(wave.size),
            str(counts["took"]), str(counts["told"] + counts["applying"]),
            str(sum(counts[answer] for answer in FAILED)), str(counts["away"]), str(counts["waiting"]),
        )  # fmt: skip
    console.print(table)
    if failed:
        table = _table("agent", "wave", "what happened", "in its words", "heard", title="Did not take it")
        for entry in failed[:_NAMED]:
            table.add_row(
                entry["agent"], str(entry["wave"] + 1), entry["answer"], entry["why"], _ago(entry["heard_us"])
            )
        console.print(table)
    table = _table("when", "what", "who", "why")
    for step in steps:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(step.ts_us / 1e6))
        table.add_row(when, step.action, step.who, step.why)
    console.print(table)


def _failed(controller: Controller, rollout: Rollout) -> list[dict[str, Any]]:
    fleet, now_us = controller.fleet, time.time_ns() // 1000
    found = []
    for wave, members in enumerate(controller.members(rollout.id)):
        for agent in members:
            heard = fleet.heard.get(agent)
            answer = answer_of(rollout, fleet.told.get(agent), heard, now_us)
            if answer in FAILED:
                why = "" if heard is None else heard.said.why or heard.said.trouble
                heard_us = 0 if heard is None else heard.at_us
                found.append({"agent": agent, "wave": wave, "answer": answer, "why": why, "heard_us": heard_us})
    return found


def all_agents(controller: Controller, as_json: bool) -> None:
    """What every agent said last."""
    heard = controller.fleet.heard
    if as_json:
        _print_json([msgspec.to_builtins(heard[name].said) | {"at_us": heard[name].at_us} for name in sorted(heard)])
        return
    if not heard:
        _console().print("No agent has reported yet. An agent reports when its file has [ota]: docs/ota.md")
        return
    table = _table("agent", "group", "runs", "told", "state", "healthy", "clock", "heard", "why")
    for name in sorted(heard):
        said, told = heard[name].said, controller.fleet.told.get(name)
        table.add_row(
            name, controller.fleet.groups.get(name, ""), str(said.running or "its own file"),
            "" if told is None else str(told.number), said.state, "yes" if said.healthy else f"no: {said.trouble}",
            said.clock, _ago(heard[name].at_us), said.why,
        )  # fmt: skip
    _console().print(table)


def one_agent(controller: Controller, name: str, as_json: bool) -> None:
    """What an agent should run. Raises BadInput."""
    told = controller.fleet.told.get(name)
    heard = controller.fleet.heard.get(name)
    if told is None and heard is None:
        raise BadInput(f"no agent {name!r} is known", hint="tidegate config agents lists them")
    content = controller.content_of(name, told.rollout if told else "").data.decode()
    if as_json:
        said = None if heard is None else msgspec.to_builtins(heard.said)
        number = None if told is None else told.number
        _print_json({"agent": name, "told": number, "said": said, "content": content})
    else:
        click.echo(content, nl=False)


def layers_of(controller: Controller, name: str | None, as_json: bool) -> None:
    """Layers, or one of them. Raises BadInput."""
    if name is None:
        if as_json:
            _print_json([msgspec.to_builtins(layer) for _, layer in sorted(controller.layers.items())])
            return
        table = _table("layer", "version", "brought by", "lines", "files")
        for layer in sorted(controller.layers.values(), key=lambda each: each.id):
            lines = str(len(layer.content.splitlines()))
            table.add_row(layer.id, str(layer.version), layer.rollout, lines, ", ".join(layer.files))
        _console().print(table if controller.layers else "No layer yet: tidegate config push LAYER FILE")
        return
    layer_found = controller.layers.get(name)
    if layer_found is None:
        raise BadInput(f"there is no layer {name!r}", hint="tidegate config layers lists them")
    if as_json:
        _print_json(msgspec.to_builtins(layer_found))
    else:
        click.echo(layer_found.content, nl=False)


def root(folder: Path, as_json: bool) -> None:
    """What the newest root allows. Raises BadInput."""
    newest = keys.newest_root(folder)
    present = keys.present(folder)
    value = {
        "version": newest.version, "expires": newest.expires.isoformat(),
        "roles": {
            name: {"keys": role.keyids, "threshold": role.threshold, "here": [k for k in role.keyids if k in present]}
            for name, role in newest.roles.items()
        },
    }  # fmt: skip
    if as_json:
        _print_json(value)
        return
    console = _console()
    console.print(f"Root {newest.version}, until {newest.expires:%Y-%m-%d}.")
    table = _table("role", "keys", "must sign", "private keys here")
    for name, role in newest.roles.items():
        here = sum(keyid in present for keyid in role.keyids)
        table.add_row(name, ", ".join(role.keyids), str(role.threshold), str(here))
    console.print(table)
