"""The root command: quick, lazy, and true to its own words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from tidegate_cli.main import COMMANDS, Entry, load, tidegate
from tidegate_cli.reference import reference

ROOT = Path(__file__).resolve().parents[2]


def modules_after(*arguments: str) -> set[str]:
    """The top-level modules that are loaded once `tidegate ARGUMENTS` has run."""
    program = (
        "import json, sys\n"
        "from tidegate_cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = {
    "numba",
    "fastavro",
    "shapely",
    "litestar",
    "confluent_kafka",
    "uvicorn",
    "jgo",
    "tidegate_cloud",
    "tidegate_sim",
}


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("agent", "--help"), ("agent", "check", "--help")])
def test_a_device_loads_nothing_of_the_cloud(arguments: tuple[str, ...]) -> None:
    assert not modules_after(*arguments) & HEAVY


def test_the_root_help_names_every_command() -> None:
    text = CliRunner().invoke(tidegate, ["--help"]).stdout
    for name, entry in COMMANDS.items():
        assert f" {name} " in text
        assert entry.help in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads_and_explains_itself(name: str) -> None:
    command = load(name, COMMANDS[name])
    assert command.name == name
    result = CliRunner().invoke(tidegate, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.stdout


def test_a_missing_library_names_the_extra() -> None:
    entry = Entry("no_such_library.cli:thing", "Nothing.", "Try it", "edge")
    with pytest.raises(click.ClickException, match=r"needs no_such_library.*pip install 'tidegate\[edge\]'"):
        load("thing", entry)


def test_an_unknown_command_is_refused() -> None:
    result = CliRunner().invoke(tidegate, ["sing"])
    assert result.exit_code == 2
    assert "No such command 'sing'" in result.stderr


def test_the_reference_is_what_the_commands_say() -> None:
    written = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert written == reference(), "docs/cli.md is out of date: python -m tidegate_cli.reference > docs/cli.md"
