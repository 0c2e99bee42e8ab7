"""What a benchmark prints last is one JSON object of the agreed form."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def bench(body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = textwrap.dedent("""
        from benchmarks.common import Row, run
        def measure(quick):
            {body}
        run("sample", measure, packages=["numpy", "no-such-package"])
    """).format(body=body)
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_last_line_is_the_report() -> None:
    done = bench('return [Row("c", "speed", 30 if quick else 60, "1/s", "zlib", 20), Row("c", "size", 2, "B")]',
                 "--quick", "--json", "-")  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["name"] == "sample"
    assert set(report["versions"]) == {"python", "tidegate", "numpy"}
    assert report["machine"]["cores"] >= 1
    assert report["rows"] == [
        {"case": "c", "metric": "speed", "value": 30, "unit": "1/s", "peer": "zlib", "peer_value": 20, "ratio": 1.5},
        {"case": "c", "metric": "size", "value": 2, "unit": "B", "peer": None, "peer_value": None, "ratio": None},
    ]
    assert "zlib" in done.stderr


def test_a_benchmark_that_measures_nothing_fails() -> None:
    done = bench("return []", "--json", "-")
    assert done.returncode == 1
    assert done.stderr == "Error: sample measured nothing\n"
    assert done.stdout == ""
