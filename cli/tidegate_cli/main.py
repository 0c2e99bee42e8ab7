"""`tidegate`: the root command. A subcommand's module is imported when it is called, and not before.

On a device only the edge's libraries are installed, and there `tidegate agent` must start quickly and without the rest.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from tidegate_protocols.errors import BadInput

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Entry:
    """A subcommand: where it lives, what it is for, and the extra that brings what it imports."""

    path: str
    help: str
    section: str
    extra: str


_TRY, _EDGE, _CLOUD, _TOOLS = "Try it", "On the device", "After Kafka", "Look and test"

COMMANDS: dict[str, Entry] = {
    "demo": Entry("tidegate_cli.demo:demo", "Run the whole way on this machine.", _TRY, "demo"),
    "status": Entry("tidegate_cli.status:status", "Say what runs, what waits and how far behind it is.", _TRY, "cloud"),
    "agent": Entry("tidegate_edge.cli:agent", "Carry readings from serial ports and MQTT to Kafka.", _EDGE, "edge"),
    "broker": Entry("tidegate_cloud.broker.cli:broker", "Run a one-node Apache Kafka, fetched by pip.", _CLOUD, "demo"),
    "topics": Entry("tidegate_cloud.admin.cli:topics", "Create and correct the topics.", _CLOUD, "cloud"),
    "registry": Entry(
        "tidegate_cloud.admin.cli:registry", "Keep fences, rules, devices and alert policies.", _CLOUD, "cloud"
    ),
    "processor": Entry("tidegate_cloud.engine.cli:processor", "Turn frames into events.", _CLOUD, "cloud"),
    "alerts": Entry("tidegate_cloud.alerts.cli:alerts", "Turn events into alerts.", _CLOUD, "cloud"),
    "rollouts": Entry("tidegate_cloud.rollouts.cli:rollouts", "Tell agents what to run, in waves.", _CLOUD, "cloud"),
    "config": Entry("tidegate_cli.config:config", "Push configuration to agents, and follow it.", _CLOUD, "cloud"),
    "notify": Entry(
        "tidegate_cloud.notify.cli:notify", "Tell people of alerts: e-mail, chat, push, webhooks.", _CLOUD, "cloud"
    ),
    "console": Entry("tidegate_cloud.console.cli:console", "Serve the operators' page.", _CLOUD, "cloud"),
    "history": Entry(
        "tidegate_cloud.sinks.cli:history", "Keep readings and events for longer than Kafka does.", _CLOUD, "cloud"
    ),
    "users": Entry("tidegate_cloud.console.users:users", "Keep the people who may use the console.", _CLOUD, "cloud"),
    "replay": Entry(
        "tidegate_cloud.engine.replay_cli:replay", "Run the log through the operators again.", _CLOUD, "cloud"
    ),
    "lag": Entry("tidegate_cloud.engine.lag_cli:lag", "Say whether consumers keep up.", _CLOUD, "cloud"),
    "dlq": Entry("tidegate_cloud.engine.dlq_cli:dlq", "Look into dead letters, retry or drop them.", _CLOUD, "cloud"),
    "sim": Entry("tidegate_sim.cli:sim", "Devices that do not exist, recorded journeys, and load.", _TOOLS, "sim"),
    "frame": Entry("tidegate_cli.frame:frame", "Look into frames.", _TOOLS, "cloud"),
}


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are asked for, and whose errors are sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        return None if entry is None else load(cmd_name, entry)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BadInput as error:
            raise click.ClickException(str(error)) from None

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from rich.console import Console  # megabytes that an agent would keep

        console = Console(width=min(Console().width, 100), highlight=False)
        with console.capture() as captured:
            _print_help(console, ctx)
        formatter.write(captured.get())


def load(name: str, entry: Entry) -> click.Command:
    """Import a subcommand. Raises ClickException when what it needs is not installed."""
    module, attribute = entry.path.split(":")
    try:
        command = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        missing = error.name or "a module"
        if missing.split(".")[0].startswith("tidegate_"):
            raise
        raise click.ClickException(
            f"tidegate {name} needs {missing}, which is not installed: pip install 'tidegate[{entry.extra}]'"
        ) from None
    assert isinstance(command, click.Command), f"{entry.path} is not a command"
    return command


def _print_help(console: Console, ctx: click.Context) -> None:
    from rich.panel import Panel
    from rich.table import Table

    console.print(f"[bold]{ctx.command_path}[/] \\[OPTIONS] COMMAND …\n")
    console.print("From a serial port or an MQTT topic to an alert on a screen, with nothing lost in between.\n")
    for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
        table = Table.grid(padding=(0, 2))
        table.add_column(style="cyan", no_wrap=True, min_width=10)
        for name, entry in COMMANDS.items():
            if entry.section == section:
                table.add_row(name, entry.help)
        console.print(Panel(table, title=section, title_align="left", border_style="dim"))
    console.print("Every command explains itself: tidegate COMMAND --help")


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    from importlib.metadata import PackageNotFoundError, version

    if wanted:
        try:
            found = version("tidegate")
        except PackageNotFoundError:
            found = "(not installed)"
        click.echo(f"tidegate, version {found}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
    help="Show the version and exit.",
)  # fmt: skip
def tidegate() -> None:
    """From a serial port or an MQTT topic to an alert on a screen, with nothing lost in between."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script `tidegate`."""
    tidegate(args=arguments, prog_name="tidegate")


if __name__ == "__main__":
    main()
