"""A processor as a process of its own, with the operators of these tests: ``python -m tests.engine.processor``."""

from __future__ import annotations

import argparse

from tidegate_cloud.engine.metrics import RunnerMetrics
from tidegate_cloud.engine.runner import Runner
from tidegate_cloud.engine.service import serve
from tidegate_cloud.engine.telemetry import COUNTERS, TelemetryLogic

from tests.engine.folding import Broken, Fold

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--instance", default="1")
    parser.add_argument("--group", default="tidegate-processor")
    parser.add_argument("--longest-s", type=float, default=2.0)
    parser.add_argument("--state-version", type=int, default=TelemetryLogic.state_version)
    parser.add_argument("--broken", action="store_true", help="an operator raises on every record")
    arguments = parser.parse_args()
    metrics = RunnerMetrics("processor", COUNTERS)
    logic = TelemetryLogic([Broken("one") if arguments.broken else Fold("one"), Fold("two")], silent_after_s=1e6)
    logic.state_version = arguments.state_version
    runner = Runner(
        logic,
        bootstrap=arguments.bootstrap,
        group=arguments.group,
        instance=arguments.instance,
        metrics=metrics,
        longest_s=arguments.longest_s,
    )
    serve("processor", runner, registry=metrics.registry, metrics_port=0, log_level="info")
