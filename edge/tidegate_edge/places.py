"""The configuration file's text, and where the agent's data lie, also where the text is unsound otherwise."""

from __future__ import annotations

import os
import tomllib
from contextlib import suppress
from pathlib import Path

from tidegate_protocols.errors import BadInput


def read_file(path: Path) -> str:
    """The text of a configuration file. Raises BadInput."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise BadInput(f"is not UTF-8: byte {error.start}", where=str(path)) from None


def data_dir_of(text: str) -> Path | None:
    """Where the agent's data lie by a text that may be unsound otherwise; by systemd's word where it does not say."""
    with suppress(tomllib.TOMLDecodeError, RecursionError):
        agent = tomllib.loads(text).get("agent")
        if isinstance(agent, dict) and isinstance(agent.get("data_dir"), str):
            return Path(agent["data_dir"])
    state = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(state) if state else None
