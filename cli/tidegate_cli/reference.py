"""The reference of every command, written from the commands themselves: ``python -m tidegate_cli.reference``.

Prints docs/cli.md; a test holds the file to it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from .main import COMMANDS, tidegate

_HEAD = """\
# The command line

Written by `python -m tidegate_cli.reference`; a test keeps it true.

Every service prints one line that begins with `ready:` when it is up, and ends in order on SIGTERM and on Ctrl-C. An
error is one sentence on stderr, and the exit status is then not 0.
"""


def reference() -> str:
    """The whole page, Markdown."""
    parts = [_HEAD]
    context = click.Context(tidegate, info_name="tidegate")
    for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
        rows = [f"| [`tidegate {name}`](#tidegate-{name}) | {entry.help} |"
                for name, entry in COMMANDS.items() if entry.section == section]  # fmt: skip
        parts.append("\n".join([f"{section}:\n", "| command | what for |", "|---|---|", *rows, ""]))
    for name in COMMANDS:
        command = tidegate.get_command(context, name)
        assert command is not None
        parts.extend(_command(command, click.Context(command, info_name=name, parent=context), depth=2))
    return "\n".join(parts)


def _command(command: click.Command, context: click.Context, depth: int) -> Iterator[str]:
    lines = [f"{'#' * depth} {context.command_path}", ""]
    usage = " ".join(command.collect_usage_pieces(context))
    lines += ["```", f"{context.command_path} {usage}".rstrip(), "```", ""]
    if command.help:
        lines += [_paragraphs(command.help), ""]
    records = [
        record for parameter in command.get_params(context)
        if "--help" not in parameter.opts and (record := parameter.get_help_record(context)) is not None
    ]  # fmt: skip
    if records:
        lines += ["| option | |", "|---|---|"]
        lines += [f"| `{_cell(option)}` | {_cell(text)} |" for option, text in records]
        lines.append("")
    yield "\n".join(lines)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden:
                yield from _command(child, click.Context(child, info_name=name, parent=context), depth + 1)


def _paragraphs(text: str) -> str:
    return "\n\n".join(
        " ".join(line.strip() for line in part.splitlines()) for part in text.strip().split("\n\n")
    ).replace("\b ", "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
