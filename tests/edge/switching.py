"""An agent that dies at a step of its switch to another configuration, as by a power cut. For tests, as a process."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tidegate_edge.boot import Boot
from tidegate_edge.reload import Step


async def _run(path: Path, death: Step) -> None:
    def on_step(step: Step) -> None:
        if step == death:
            os._exit(9)

    boot = await Boot.start(path, on_step=on_step)
    running = asyncio.create_task(boot.run())
    waiting = await boot.agent.until_ready(10)
    print(f"ready: switching, {waiting}", flush=True)
    await running


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1]), Step(sys.argv[2])))
