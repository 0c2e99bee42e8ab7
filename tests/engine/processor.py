"""A processor as a process of its own, with the operators of these tests: ``python -m tests.engine.processor``."""

from __future__ import annotations

import argparse

from tidegate_cloud.engine.metrics import RunnerMetrics
from tidegate_cloud.engine.runner import Runner
from tidegate_cloud.engine.service import serve
from tidegate_cloud.engine.telemetry import COUNTERS, TelemetryLogic

from tests.engine.folding import Fold

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--instance", default="1")
    parser.add_argument("--group", default="tidegate-processor")
    parser.add_argument("--longest-s", type=float, default=2.0)
    arguments = parser.parse_args()
    metrics = RunnerMetrics("processor", COUNTERS)
    runner = Runner(
        TelemetryLogic([Fold("one"), Fold("two")], silent_after_s=1e6),
        bootstrap=arguments.bootstrap,
        group=arguments.group,
        instance=arguments.instance,
        metrics=metrics,
        longest_s=arguments.longest_s,
    )
    serve("processor", runner, registry=metrics.registry, metrics_port=0, log_level="info")
