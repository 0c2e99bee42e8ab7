"""Resolve extras in a fresh virtual environment and write what was installed: ``resolve.py NAME EXTRA…``.

Writes ``constraints/NAME.txt``. Every version is exact; the files hold no index's address, so pip asks whatever it is
set up for.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).parent


def main(name: str, extras: list[str]) -> None:
    """Install Tidegate with `extras` and freeze."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        pip = [str(Path(folder) / "bin" / "python"), "-m", "pip"]
        subprocess.run([*pip, "install", "--quiet", "--editable", f"{HERE.parent}[{','.join(extras)}]"], check=True)
        frozen = subprocess.run([*pip, "freeze", "--exclude-editable"], check=True, capture_output=True, text=True)
    lines = sorted(line for line in frozen.stdout.splitlines() if "==" in line)
    head = f"# Exact versions for tidegate[{','.join(extras)}]: pip install -c constraints/{name}.txt …\n"
    (HERE / f"{name}.txt").write_text(head + "\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: resolve.py NAME EXTRA…")
    main(sys.argv[1], sys.argv[2:])
